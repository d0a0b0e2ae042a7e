"""IAM policies, as Google's own clients set, read and ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from google.api_core import exceptions
from google.iam.v1 import iam_policy_pb2, options_pb2, policy_pb2  # type: ignore[import-untyped]
from google.protobuf.field_mask_pb2 import FieldMask
from google.type import expr_pb2  # type: ignore[import-untyped]

from tests.clients.pubsub import PubSub

KINDS = ["topic", "subscription", "snapshot"]
every_kind = pytest.mark.parametrize("kind", KINDS)


def resource(pubsub: PubSub, kind: str) -> str:
    topic = pubsub.topic()
    if kind == "topic":
        return topic
    subscription = pubsub.subscription(topic)
    return subscription if kind == "subscription" else pubsub.snapshot(subscription)


def client(pubsub: PubSub, kind: str) -> Any:
    return pubsub.publisher if kind == "topic" else pubsub.subscriber


def get(pubsub: PubSub, name: str, version: int = 0) -> policy_pb2.Policy:
    options = options_pb2.GetPolicyOptions(requested_policy_version=version)
    return pubsub.publisher.get_iam_policy(
        request=iam_policy_pb2.GetIamPolicyRequest(resource=name, options=options)
    )


def put(
    pubsub: PubSub, name: str, policy: policy_pb2.Policy, mask: Sequence[str] = ()
) -> policy_pb2.Policy:
    return pubsub.publisher.set_iam_policy(
        request=iam_policy_pb2.SetIamPolicyRequest(
            resource=name, policy=policy, update_mask=FieldMask(paths=mask)
        )
    )


def binding(*members: str, role: str = "roles/pubsub.viewer", **fields: Any) -> policy_pb2.Binding:
    return policy_pb2.Binding(role=role, members=members, **fields)


@every_kind
def test_a_policy_is_read_changed_and_written_back(pubsub: PubSub, kind: str) -> None:
    name, service = resource(pubsub, kind), client(pubsub, kind)
    policy = service.get_iam_policy(request={"resource": name})
    policy.bindings.add(role="roles/pubsub.editor", members=["domain:google.com"])
    policy.bindings.add(role="roles/pubsub.viewer", members=["group:cloud-logs@google.com"])

    changed = service.set_iam_policy(request={"resource": name, "policy": policy})

    assert changed.bindings == policy.bindings
    assert changed.version == 1
    assert changed.etag != policy.etag
    assert service.get_iam_policy(request={"resource": name}) == changed


@every_kind
def test_a_resource_without_policy_shows_an_etag_alone(pubsub: PubSub, kind: str) -> None:
    assert get(pubsub, resource(pubsub, kind)) == policy_pb2.Policy(etag=b"\0\0\1")


def test_a_stale_etag_is_refused(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    read = get(pubsub, orders)
    read.bindings.append(binding("allUsers"))
    newer = put(pubsub, orders, read)

    with pytest.raises(exceptions.Aborted, match=r"^409 There were concurrent policy changes\."):
        put(pubsub, orders, read)

    assert get(pubsub, orders) == newer


def test_without_an_etag_the_policy_is_overwritten(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    put(pubsub, orders, policy_pb2.Policy(bindings=[binding("allUsers")]))

    cleared = put(pubsub, orders, policy_pb2.Policy())

    assert list(cleared.bindings) == []
    assert get(pubsub, orders) == cleared


def test_a_condition_needs_version_3_and_is_shown_to_those_who_ask_for_it(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    condition = expr_pb2.Expr(
        expression='request.time < timestamp("2030-01-01T00:00:00Z")',
        title="until 2030",
        description="no longer",
        location="here",
    )
    policy = policy_pb2.Policy(bindings=[binding("allUsers", condition=condition)])
    with pytest.raises(exceptions.InvalidArgument, match=r"needs policy\.version 3"):
        put(pubsub, orders, policy)
    policy.version = 3

    made = put(pubsub, orders, policy)

    assert made.bindings == policy.bindings
    assert made.version == 3
    assert get(pubsub, orders, version=3) == made
    plain = get(pubsub, orders)
    assert plain.version == 1
    assert plain.bindings[0].role.startswith("roles/pubsub.viewer_withcond_")
    assert not plain.bindings[0].HasField("condition")
    with pytest.raises(exceptions.InvalidArgument):
        put(pubsub, orders, plain)


def test_a_mask_says_what_is_replaced(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    made = put(pubsub, orders, policy_pb2.Policy(bindings=[binding("allUsers")]))

    assert put(pubsub, orders, policy_pb2.Policy(), ["etag"]).bindings == made.bindings
    assert list(put(pubsub, orders, policy_pb2.Policy(), ["bindings", "etag"]).bindings) == []
    for path in ("audit_configs", "nonsense"):
        with pytest.raises(exceptions.InvalidArgument):
            put(pubsub, orders, policy_pb2.Policy(), [path])


@pytest.mark.parametrize(
    "policy",
    [
        policy_pb2.Policy(bindings=[binding("allUsers", role="roles/nonsense")]),
        policy_pb2.Policy(bindings=[binding("somebody")]),
        policy_pb2.Policy(version=2),
        policy_pb2.Policy(version=-1),
    ],
    ids=["role", "member", "version", "negative-version"],
)
def test_a_wrong_policy_is_refused(pubsub: PubSub, policy: policy_pb2.Policy) -> None:
    orders = pubsub.topic()

    with pytest.raises(exceptions.InvalidArgument):
        put(pubsub, orders, policy)

    assert get(pubsub, orders) == policy_pb2.Policy(etag=b"\0\0\1")


def test_a_version_that_does_not_exist_cannot_be_asked_for(pubsub: PubSub) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        get(pubsub, pubsub.topic(), version=2)


@every_kind
def test_a_resource_that_is_made_again_starts_without_policy(pubsub: PubSub, kind: str) -> None:
    name = resource(pubsub, kind)
    put(pubsub, name, policy_pb2.Policy(bindings=[binding("allUsers")]))

    if kind == "snapshot":
        pubsub.subscriber.delete_snapshot(snapshot=name)
        pubsub.snapshot(f"{pubsub.path}/subscriptions/warehouse")
    elif kind == "subscription":
        pubsub.subscriber.delete_subscription(subscription=name)
        pubsub.subscription(f"{pubsub.path}/topics/orders")
    else:
        pubsub.publisher.delete_topic(topic=name)
        pubsub.topic()

    assert get(pubsub, name) == policy_pb2.Policy(etag=b"\0\0\1")


@pytest.mark.parametrize("kind", [*KINDS, "schema"])
def test_a_missing_resource_has_no_policy_and_nobody_any_permission(
    pubsub: PubSub, kind: str
) -> None:
    missing = f"{pubsub.path}/{kind}s/missing"

    with pytest.raises(exceptions.NotFound, match=r"Resource not found \(resource=missing\)\."):
        get(pubsub, missing)
    with pytest.raises(exceptions.NotFound):
        put(pubsub, missing, policy_pb2.Policy())
    answer = pubsub.publisher.test_iam_permissions(
        request={"resource": missing, "permissions": [f"pubsub.{kind}s.get"]}
    )
    assert list(answer.permissions) == []


@pytest.mark.parametrize("name", ["", "orders", "projects/p", "projects/p/queues/orders"])
def test_what_is_no_resource_is_refused(pubsub: PubSub, name: str) -> None:
    calls: list[Any] = [
        lambda: get(pubsub, name),
        lambda: put(pubsub, name, policy_pb2.Policy()),
        lambda: pubsub.publisher.test_iam_permissions(request={"resource": name}),
    ]
    for call in calls:
        with pytest.raises(exceptions.InvalidArgument, match="Invalid resource name given"):
            call()


@every_kind
def test_a_caller_learns_what_it_may_do(pubsub: PubSub, kind: str) -> None:
    known = [f"pubsub.{kind}s.get", f"pubsub.{kind}s.setIamPolicy"]

    answer = client(pubsub, kind).test_iam_permissions(
        request={
            "resource": resource(pubsub, kind),
            "permissions": [*known, f"pubsub.{kind}s.nonsense"],
        }
    )

    assert list(answer.permissions) == known


@pytest.mark.parametrize("permission", ["pubsub.topics.*", "storage.buckets.get", "publish"])
def test_a_permission_of_nothing_here_is_refused(pubsub: PubSub, permission: str) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.publisher.test_iam_permissions(
            request={"resource": pubsub.topic(), "permissions": [permission]}
        )
