"""IAM policies: who can be given what, and what readers see."""

from __future__ import annotations

import pytest

from ams_grpc.broker import iam
from ams_grpc.broker.errors import InvalidArgument
from ams_grpc.broker.iam import Binding, Condition, Policy

VIEWER = "roles/pubsub.viewer"
ALWAYS = Condition("true", title="always")


def check(*bindings: Binding, version: int = 1) -> None:
    iam.check_bindings(bindings, version)


# --- roles --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "role",
    [
        "roles/pubsub.publisher",
        "roles/pubsub.subscriber",
        "roles/pubsub.viewer",
        "roles/pubsub.editor",
        "roles/pubsub.admin",
        "roles/viewer",
        "roles/editor",
        "roles/owner",
    ],
)
def test_roles_of_pubsub_and_basic_roles_can_be_given(role: str) -> None:
    check(Binding(role, ("allUsers",)))


@pytest.mark.parametrize(
    "role",
    ["", "viewer", "roles/", "roles/pubsub.nonsense", "roles/storage.admin", "roles/pubsub.Viewer"],
)
def test_unknown_roles_are_refused(role: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check(Binding(role, ("allUsers",)))

    assert caught.value.message == (
        "You have passed an invalid argument to the service "
        f"(argument=policy.bindings: unknown role {role})."
    )
    assert caught.value.field == "policy.bindings"


# --- members ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "member",
    [
        "allUsers",
        "allAuthenticatedUsers",
        "user:ada",
        "user:ada@example.com",
        "group:cloud-logs@google.com",
        "serviceAccount:app@my-project.iam.gserviceaccount.com",
        "serviceAccount:my-project.svc.id.goog[namespace/account]",
        "domain:google.com",
        "projectOwner:my-project",
        "projectEditor:my-project",
        "projectViewer:my-project",
        "principal://iam.googleapis.com/locations/global/workforcePools/p/subject/s",
        "principalSet://iam.googleapis.com/locations/global/workforcePools/p/group/g",
        "deleted:user:ada@example.com?uid=123456789012345678901",
        "deleted:serviceAccount:app@p.iam.gserviceaccount.com?uid=1",
        "deleted:group:admins@example.com?uid=1",
        "deleted:principal://iam.googleapis.com/locations/global/workforcePools/p/subject/s",
    ],
)
def test_whoever_can_be_named_can_be_a_member(member: str) -> None:
    check(Binding(VIEWER, (member,)))


@pytest.mark.parametrize(
    "member",
    [
        "",
        "ada@example.com",
        "allusers",
        "user:",
        "user:@example.com",
        "user:ada@",
        "user:ada@example.com\n",
        "user:ada @example.com",
        "user:a\0@example.com",
        "User:ada@example.com",
        "domain:",
        "domain:ada@example.com",
        "projectOwner:",
        "principal:iam.googleapis.com",
        "deleted:user:ada@example.com",
        "deleted:domain:example.com",
        "allUsers,user:ada@example.com",
    ],
)
def test_other_members_are_refused(member: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check(Binding(VIEWER, ("allUsers", member)))

    assert caught.value.message.endswith(f"(argument=policy.bindings: unknown member {member}).")


def test_a_binding_may_have_no_members_and_a_role_two_bindings() -> None:
    check(Binding(VIEWER), Binding(VIEWER, ("allUsers",)), Binding(VIEWER, ("allUsers",)))


# --- conditions ---------------------------------------------------------------------------------


def test_a_condition_needs_version_3() -> None:
    check(Binding(VIEWER, ("allUsers",), ALWAYS), version=3)

    for version in (0, 1):
        with pytest.raises(InvalidArgument, match=r"needs policy\.version 3"):
            check(Binding(VIEWER, ("allUsers",), ALWAYS), version=version)


def test_a_condition_has_an_expression() -> None:
    with pytest.raises(InvalidArgument, match="needs an expression"):
        check(Binding(VIEWER, ("allUsers",), Condition("", title="never")), version=3)


def test_a_reader_that_knows_of_no_conditions_sees_a_role_that_cannot_be_given() -> None:
    plain = Binding(VIEWER, ("allUsers",))
    policy = Policy((plain, Binding(VIEWER, ("user:a@b.c",), ALWAYS)), b"etag")

    seen = policy.without_conditions()

    assert seen.bindings[0] == plain
    assert seen.bindings[1].role.startswith(f"{VIEWER}_withcond_")
    assert seen.bindings[1] == Binding(seen.bindings[1].role, ("user:a@b.c",))
    assert seen.etag == policy.etag
    with pytest.raises(InvalidArgument, match="unknown role"):
        check(*seen.bindings)


def test_bindings_of_different_conditions_are_seen_as_different() -> None:
    never = Condition("false")
    policy = Policy((Binding(VIEWER, condition=ALWAYS), Binding(VIEWER, condition=never)), b"etag")

    roles = {binding.role for binding in policy.without_conditions().bindings}

    assert len(roles) == 2


# --- versions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 1, 3])
def test_there_are_versions_1_and_3(version: int) -> None:
    iam.check_version(version, "policy.version")


@pytest.mark.parametrize("version", [-1, 2, 4])
def test_other_versions_are_refused(version: int) -> None:
    with pytest.raises(InvalidArgument) as caught:
        iam.check_version(version, "policy.version")

    assert caught.value.field == "policy.version"


def test_a_policy_has_the_lowest_version_that_says_it_all() -> None:
    assert Policy().version == 0
    assert Policy(etag=b"set").version == 1
    assert Policy((Binding(VIEWER),), b"set").version == 1
    assert Policy((Binding(VIEWER), Binding(VIEWER, condition=ALWAYS)), b"set").version == 3


# --- sizes --------------------------------------------------------------------------------------


def members(count: int) -> tuple[str, ...]:
    return tuple(f"user:{number}@example.com" for number in range(count))


def test_a_policy_has_at_most_1500_members() -> None:
    check(Binding(VIEWER, members(1_000)), Binding(VIEWER, members(500)))

    with pytest.raises(InvalidArgument, match="at most 1500"):
        check(Binding(VIEWER, members(1_000)), Binding(VIEWER, members(501)))


def test_a_policy_has_at_most_1500_bindings() -> None:
    check(*[Binding(VIEWER)] * 1_500)

    with pytest.raises(InvalidArgument, match="at most 1500"):
        check(*[Binding(VIEWER)] * 1_501)


def test_the_texts_of_a_policy_are_bounded() -> None:
    room = 250_000 - len(VIEWER)
    for text in ("expression", "title", "description", "location"):
        texts = {"expression": "x"}
        texts[text] = "x" * (room - (text != "expression"))
        check(Binding(VIEWER, condition=Condition(**texts)), version=3)
        texts[text] += "x"

        with pytest.raises(InvalidArgument, match="at most 250000 characters"):
            check(Binding(VIEWER, condition=Condition(**texts)), version=3)


# --- permissions --------------------------------------------------------------------------------


@pytest.mark.parametrize("permission", ["pubsub.topics.publish", "pubsub.topics.nonsense"])
def test_permissions_of_pubsub_can_be_asked_for(permission: str) -> None:
    iam.check_permission(permission)


@pytest.mark.parametrize(
    "permission",
    [
        "",
        "*",
        "pubsub.*",
        "pubsub.topics.*",
        "pubsub.topics",
        "storage.buckets.get",
        "pubsub.a.b.c",
    ],
)
def test_other_permissions_are_refused(permission: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        iam.check_permission(permission)

    assert caught.value.field == "permissions"


def test_each_kind_of_resource_has_its_permissions() -> None:
    assert iam.PERMISSIONS["subscriptions"] == {
        "pubsub.subscriptions.create",
        "pubsub.subscriptions.get",
        "pubsub.subscriptions.list",
        "pubsub.subscriptions.update",
        "pubsub.subscriptions.delete",
        "pubsub.subscriptions.consume",
        "pubsub.subscriptions.getIamPolicy",
        "pubsub.subscriptions.setIamPolicy",
    }
    assert "pubsub.topics.attachSubscription" in iam.PERMISSIONS["topics"]
    assert "pubsub.snapshots.seek" in iam.PERMISSIONS["snapshots"]
    assert "pubsub.schemas.rollback" in iam.PERMISSIONS["schemas"]
