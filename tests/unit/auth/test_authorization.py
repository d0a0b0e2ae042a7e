"""Who may do what: every role, every method, one's own project, another's, and one that is not."""

from __future__ import annotations

from typing import Any, Final

import pytest
from google.iam.v1 import iam_policy_pb2  # type: ignore[import-untyped]
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass

from ams_grpc.auth.authorization import Authorizer
from ams_grpc.auth.policies import stored_member
from ams_grpc.auth.principals import Principal
from ams_grpc.auth.roles import ACTIONS, MATRIX
from ams_grpc.broker.catalog import Subscription, SubscriptionConfig
from ams_grpc.broker.errors import (
    BrokerError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    not_found,
)
from ams_grpc.broker.iam import PERMISSIONS, Binding, Condition, Policy
from ams_grpc.broker.names import ResourceName, SnapshotName, SubscriptionName, TopicName
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2, schema_pb2
from ams_grpc.services.guard import TokenGuard
from ams_grpc.services.needs import RULES
from tests.access_table import CALLS, ROLES, Call
from tests.unit.auth.fakes import Clock, KnownAccounts, KnownPolicies

SERVICES: dict[str, ServiceDescriptor] = {
    service.full_name: service
    for file in (pubsub_pb2, schema_pb2, iam_policy_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
}
ORDERS, BILLING = TopicName("own", "orders"), SubscriptionName("own", "billing")
BEFORE = SnapshotName("own", "before")
PUBLISHER, SUBSCRIBER = "roles/pubsub.publisher", "roles/pubsub.subscriber"
ALWAYS = Condition("true")


class World:
    """Projects `own` and `other`, with a topic and a subscription each."""

    def __init__(self, policies: dict[ResourceName, Policy] | None = None) -> None:
        self.clock = Clock()
        self.accounts = KnownAccounts("own", "other")
        names: list[ResourceName] = [
            kind(project, identifier)
            for project in ("own", "other")
            for kind, identifier in (
                (TopicName, "orders"),
                (SubscriptionName, "billing"),
                (SnapshotName, "before"),
            )
        ]
        self.policies = KnownPolicies(dict.fromkeys(names, Policy()) | (policies or {}))
        find = self.policies.find
        self.authorizer = Authorizer(
            self.accounts,  # type: ignore[arg-type] # the part that deciding needs
            self.policies,
            {TopicName: find, SubscriptionName: find, SnapshotName: find},
            self.clock,
        )
        self.topic_of: dict[SubscriptionName, TopicName | None] = {
            SubscriptionName(project, "billing"): TopicName(project, "orders")
            for project in ("own", "other")
        }
        nobody: Any = None  # to tell who calls: the tests do
        self.guard = TokenGuard(nobody, self.authorizer, self.find_subscription)

    async def find_subscription(self, name: SubscriptionName) -> Subscription:
        if name not in self.topic_of:
            raise not_found(name)
        return Subscription(
            1, name, 1, 1, self.topic_of[name], None, 0, False, SubscriptionConfig()
        )

    async def outcome(self, principal: Principal, call: Call, project: str) -> str:
        """`in`, or the kind of the error."""
        method = method_of(call)
        request = ParseDict(call.of(project), GetMessageClass(method.input_type)())
        try:
            await self.guard.check(principal, tuple(RULES[method.full_name].needs(request)))
        except BrokerError as error:
            return type(error).__name__
        return "in"

    async def may(self, principal: Principal, permission: str, name: ResourceName) -> bool:
        try:
            await self.authorizer.check(principal, permission, name)
        except PermissionDenied:
            return False
        return True


def method_of(call: Call) -> MethodDescriptor:
    service, _, method = call.method.partition("/")
    return SERVICES[service].methods_by_name[method]


def member(*roles: str, uuid: str = "u-pat", project: str = "own") -> Principal:
    return Principal(uuid, "pat", frozenset(), {project: frozenset(roles)})


def listing(uuid: str = "u-pat") -> dict[ResourceName, Policy]:
    """Access lists with one user, on everything of the project `own`."""
    who = (stored_member(uuid),)
    return {
        ORDERS: Policy((Binding(PUBLISHER, who),)),
        BILLING: Policy((Binding(SUBSCRIBER, who),)),
    }


every_call = pytest.mark.parametrize("call", CALLS, ids=lambda call: call.id)
every_role = pytest.mark.parametrize("role", ROLES)


# --- the tables ---------------------------------------------------------------------------------


def test_there_is_a_rule_for_every_method_and_none_for_others() -> None:
    served = {
        method.full_name
        for service in SERVICES.values()
        if service.full_name.startswith(("google.pubsub", "google.iam"))
        for method in service.methods
    }
    assert RULES.keys() == served
    assert {method_of(call).full_name for call in CALLS} == served


def test_the_roles_are_those_of_the_table() -> None:
    assert MATRIX.keys() == set(ROLES)
    assert all(actions <= ACTIONS for actions in MATRIX.values())
    assert len(ACTIONS) == 61  # of AMS's 64 routes, three are for everybody


# --- roles ----------------------------------------------------------------------------------------


@every_role
@every_call
async def test_a_role_in_a_project_is_let_in_there_as_the_table_says(call: Call, role: str) -> None:
    is_listed = role == call.listed
    world = World(listing() if is_listed else None)

    assert await world.outcome(member(role), call, "own") == (
        "in" if role in call.roles or is_listed else "PermissionDenied"
    )


@every_role
@every_call
async def test_whoever_is_not_on_the_list_gets_no_messages_in_or_out(call: Call, role: str) -> None:
    assert await World().outcome(member(role), call, "own") == (
        "in" if role in call.roles else "PermissionDenied"
    )


@every_role
@every_call
async def test_another_project_and_one_that_is_missing_look_the_same(call: Call, role: str) -> None:
    for project in ("other", "missing"):
        outcome = await World(listing()).outcome(member(role), call, project)
        asks_for_nothing = call.id == "TestIamPermissions"
        assert outcome == ("in" if asks_for_nothing else "PermissionDenied")


@every_role
@every_call
async def test_a_service_role_counts_in_every_project_that_there_is(call: Call, role: str) -> None:
    principal = Principal("u-pat", "pat", frozenset({role}), {})
    lets_in = "in" if role in call.roles else "PermissionDenied"

    assert await World().outcome(principal, call, "other") == lets_in
    missing = await World().outcome(principal, call, "missing")
    if call.id == "TestIamPermissions":
        assert missing == "in"
    elif role in call.roles or role == call.listed:
        assert missing == "NotFound"
    else:
        assert missing == "PermissionDenied"


async def test_a_publisher_must_be_listed_also_when_an_administrator() -> None:
    both = member("publisher", "project_admin")
    assert not await World().may(both, "pubsub.topics.publish", ORDERS)
    assert await World(listing()).may(both, "pubsub.topics.publish", ORDERS)
    assert await World().may(both, "pubsub.topics.delete", ORDERS)


async def test_a_member_without_roles_may_do_nothing() -> None:
    for call in CALLS:
        if call.id != "TestIamPermissions":
            assert await World().outcome(member(), call, "own") == "PermissionDenied"


# --- bindings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "binding",
    [
        Binding(PUBLISHER, (stored_member("u-pat"),)),
        Binding("roles/pubsub.editor", (stored_member("u-pat"),)),
        Binding("roles/owner", ("allAuthenticatedUsers",)),
        Binding(PUBLISHER, ("allUsers",)),
    ],
)
async def test_a_binding_lets_members_in_without_a_role(binding: Binding) -> None:
    assert await World({ORDERS: Policy((binding,))}).may(member(), "pubsub.topics.publish", ORDERS)


@pytest.mark.parametrize(
    "binding",
    [
        Binding(PUBLISHER, (stored_member("u-zoe"),)),
        Binding(PUBLISHER, ("user:pat", "user:pat@example.org", "domain:example.org")),
        Binding(PUBLISHER, (stored_member("u-pat"),), ALWAYS),
        Binding(PUBLISHER, ("allUsers",), ALWAYS),
        Binding("roles/pubsub.viewer", (stored_member("u-pat"),)),
        Binding(SUBSCRIBER, (stored_member("u-pat"),)),
    ],
)
async def test_other_bindings_do_not(binding: Binding) -> None:
    world = World({ORDERS: Policy((binding,))})
    assert not await world.may(member(), "pubsub.topics.publish", ORDERS)


async def test_a_binding_of_somebody_who_is_no_member_any_more_does_not_count() -> None:
    world = World(listing())
    assert not await world.may(member(project="other"), "pubsub.topics.publish", ORDERS)
    assert not await world.may(Principal("u-pat", "pat"), "pubsub.topics.publish", ORDERS)


async def test_a_binding_for_everybody_counts_for_strangers() -> None:
    world = World({ORDERS: Policy((Binding(PUBLISHER, ("allAuthenticatedUsers",)),))})
    assert await world.may(Principal("u-zoe", "zoe"), "pubsub.topics.publish", ORDERS)
    assert not await world.may(Principal("u-zoe", "zoe"), "pubsub.topics.get", ORDERS)


# --- resources of others, reached through one's own -------------------------------------------------


def request(method: str, **fields: Any) -> Call:
    return Call(f"google.pubsub.v1.{method}", fields, frozenset())


@pytest.mark.parametrize(
    "call",
    [
        request(
            "Subscriber/CreateSubscription",
            name="projects/own/subscriptions/spy",
            topic="projects/other/topics/orders",
        ),
        request("Subscriber/CreateSubscription", topic="projects/other/topics/orders"),
        request(
            "Subscriber/CreateSubscription",
            name="projects/own/subscriptions/spam",
            topic="projects/own/topics/orders",
            deadLetterPolicy={"deadLetterTopic": "projects/other/topics/orders"},
        ),
        request(
            "Subscriber/UpdateSubscription",
            subscription={
                "name": "projects/own/subscriptions/billing",
                "deadLetterPolicy": {"deadLetterTopic": "projects/other/topics/orders"},
            },
        ),
        request(
            "Subscriber/CreateSnapshot",
            name="projects/own/snapshots/spy",
            subscription="projects/other/subscriptions/billing",
        ),
        request(
            "Subscriber/Seek",
            subscription="projects/own/subscriptions/billing",
            snapshot="projects/other/snapshots/before",
        ),
        request(
            "Publisher/CreateTopic",
            name="projects/own/topics/new",
            schemaSettings={"schema": "projects/other/schemas/secret"},
        ),
        request(
            "SchemaService/ValidateMessage",
            parent="projects/own",
            name="projects/other/schemas/secret",
        ),
    ],
    ids=lambda call: call.id,
)
async def test_nothing_of_another_project_is_reached_through_ones_own(call: Call) -> None:
    assert await World().outcome(member("project_admin"), call, "") == "PermissionDenied"


DETACH: Final = request(
    "Publisher/DetachSubscription", subscription="projects/own/subscriptions/billing"
)
DELETE: Final = request(
    "Subscriber/DeleteSubscription", subscription="projects/own/subscriptions/billing"
)
FOREIGN: Final = TopicName("other", "orders")


def on_foreign_topic(*bindings: Binding) -> World:
    """The subscription of `own` is on the topic of `other`, whose policy has these bindings."""
    world = World({FOREIGN: Policy(bindings)})
    world.topic_of[BILLING] = FOREIGN
    return world


async def test_who_has_a_topic_detaches_subscriptions_of_others_from_it() -> None:
    owner = member("project_admin", project="other")
    assert await on_foreign_topic().outcome(owner, DETACH, "") == "in"
    assert await on_foreign_topic().outcome(owner, DELETE, "") == "PermissionDenied"
    editor = Binding("roles/pubsub.editor", (stored_member("u-pat"),))
    assert await on_foreign_topic(editor).outcome(member(project="other"), DETACH, "") == "in"
    assert await on_foreign_topic().outcome(member("project_admin"), DETACH, "") == "in"


@pytest.mark.parametrize("role", ["publisher", "consumer", "push_worker"])
async def test_a_lesser_right_on_the_topic_detaches_nothing(role: str) -> None:
    lists = [Binding(each, (stored_member("u-pat"),)) for each in (PUBLISHER, SUBSCRIBER)]
    world = on_foreign_topic(*lists)
    assert await world.outcome(member(role, project="other"), DETACH, "") == "PermissionDenied"


@pytest.mark.parametrize("topic", [ORDERS, None, "no such subscription"])
async def test_what_is_on_no_topic_of_ones_own_looks_like_what_is_not_there(
    topic: TopicName | str | None,
) -> None:
    world = World()
    if isinstance(topic, str):
        del world.topic_of[BILLING]
    else:
        world.topic_of[BILLING] = topic
    owner = member("project_admin", project="other")
    assert await world.outcome(owner, DETACH, "") == "PermissionDenied"


# --- what is remembered -----------------------------------------------------------------------------


async def test_a_decision_is_remembered_until_rights_change_or_it_is_old() -> None:
    world = World(listing())
    pat = member("publisher")
    for _ in range(3):
        assert await world.may(pat, "pubsub.topics.publish", ORDERS)
    assert world.policies.asked == 1

    world.policies.by_name[ORDERS] = Policy()
    assert await world.may(pat, "pubsub.topics.publish", ORDERS)
    world.authorizer.forget()
    assert not await world.may(pat, "pubsub.topics.publish", ORDERS)

    world.policies.by_name = world.policies.by_name | listing()
    world.clock.s += 60
    assert await world.may(pat, "pubsub.topics.publish", ORDERS)


async def test_a_decision_under_way_while_rights_change_is_not_remembered() -> None:
    world = World(listing())
    pat = member("publisher")

    def taken_away() -> None:
        world.policies.by_name[ORDERS] = Policy()
        world.authorizer.forget()

    world.policies.meanwhile = taken_away
    assert await world.may(pat, "pubsub.topics.publish", ORDERS)  # a moment too early

    assert not await world.may(pat, "pubsub.topics.publish", ORDERS)


async def test_what_is_remembered_of_one_caller_is_not_taken_for_another() -> None:
    world = World(listing())
    assert await world.may(member("publisher"), "pubsub.topics.publish", ORDERS)
    assert not await world.may(member("publisher", uuid="u-z"), "pubsub.topics.publish", ORDERS)
    assert not await world.may(member(), "pubsub.topics.delete", ORDERS)


# --- asking for permissions -------------------------------------------------------------------------


async def permissions(principal: Principal, name: ResourceName, world: World) -> set[str]:
    asked = sorted(set().union(*PERMISSIONS.values()))
    return set(await world.authorizer.permissions(principal, name, asked))


async def test_the_truth_is_told_about_permissions() -> None:
    world = World(listing())
    assert await permissions(member("project_admin"), ORDERS, world) == PERMISSIONS["topics"]
    assert await permissions(member("publisher"), ORDERS, world) == {
        "pubsub.topics.get",
        "pubsub.topics.list",
        "pubsub.topics.publish",
    }
    assert await permissions(member("publisher"), ORDERS, World()) == {
        "pubsub.topics.get",
        "pubsub.topics.list",
    }
    assert await permissions(member(), BILLING, world) == {"pubsub.subscriptions.consume"}
    assert await permissions(member("project_admin"), TopicName("other", "orders"), world) == set()
    assert await permissions(member("project_admin"), TopicName("own", "missing"), world) == set()
    with pytest.raises(InvalidArgument):
        await world.authorizer.permissions(member(), ORDERS, ["pubsub.topics.*"])


async def test_a_missing_project_is_told_only_to_those_who_may_everywhere() -> None:
    with pytest.raises(NotFound, match="resource=missing"):
        await World().authorizer.check(
            Principal("u", "root", frozenset({"service_admin"})),
            "pubsub.topics.create",
            TopicName("missing", "orders"),
        )
