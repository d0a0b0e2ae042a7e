"""What each method needs its caller to be allowed: the only such table.

A need is a permission on a resource that the request names, and the action of AMS that includes
it, where that is not the one which stands for the permission (``auth.permissions``). All needs of a
method must be met.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

from ams_grpc.auth.authorization import ProjectName, Target
from ams_grpc.broker.names import (
    ResourceName,
    SchemaName,
    SnapshotName,
    SubscriptionName,
    TopicName,
    parse_project,
    parse_resource,
)


@dataclass(frozen=True, slots=True)
class Need:
    """A permission, on a resource; action empty: the one that stands for the permission.

    ``on_topic``: as good is this permission on the topic of the subscription that is the target.
    """

    permission: str
    target: Target
    action: str = ""
    on_topic: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a method needs, by its request. ``changes``: it goes into the audit log, as ``given`` says.

    ``needs`` raises InvalidArgument for what is no name.
    """

    needs: Callable[[Any], Iterable[Need]]
    changes: bool = False
    given: Callable[[Any], str] = lambda _request: ""


def _on(
    kind: type[ResourceName], field: str, verb: str, action: str = "", *, changes: bool = False
) -> Rule:
    """One permission, on the resource that a field names."""
    read, permission = attrgetter(field), f"pubsub.{kind.kind}.{verb}"

    def needs(request: Any) -> Iterable[Need]:
        return (Need(permission, _name(kind, read(request)), action),)

    return Rule(needs, changes)


def _in(field: str, permission: str, action: str = "", *, changes: bool = False) -> Rule:
    """One permission, on the project that a field names."""
    read = attrgetter(field)

    def needs(request: Any) -> Iterable[Need]:
        return (Need(permission, ProjectName(parse_project(read(request))), action),)

    return Rule(needs, changes)


def _name(kind: type[ResourceName], value: Any) -> ResourceName:
    """A name, which the request may have parsed already. Of a schema, a revision does not matter."""
    if isinstance(value, ResourceName):
        return value
    if kind is SchemaName:
        value = value.partition("@")[0]
    return kind.parse(value)


# --- methods that concern more than one resource -------------------------------------------------


def _topic_needs(topic: Any, verb: str) -> Iterable[Need]:
    yield Need(f"pubsub.topics.{verb}", TopicName.parse(topic.name))
    schema = topic.schema_settings.schema
    if schema and schema != "_deleted-schema_":
        yield Need("pubsub.schemas.attach", _name(SchemaName, schema))


def _create_topic(request: Any) -> Iterable[Need]:
    return _topic_needs(request, "create")


def _update_topic(request: Any) -> Iterable[Need]:
    return _topic_needs(request.topic, "update")


def _dead_letter_needs(subscription: Any) -> Iterable[Need]:
    """Dead letters are published on behalf of whoever sets the policy."""
    topic = subscription.dead_letter_policy.dead_letter_topic
    if topic:
        yield Need("pubsub.topics.publish", TopicName.parse(topic))


def _create_subscription(request: Any) -> Iterable[Need]:
    topic = TopicName.parse(request.topic)
    if request.name:
        yield Need("pubsub.subscriptions.create", SubscriptionName.parse(request.name))
    else:  # one is made up, in the project of the topic
        yield Need("pubsub.subscriptions.create", ProjectName(topic.project))
    yield Need("pubsub.topics.attachSubscription", topic)
    yield from _dead_letter_needs(request)


def _update_subscription(request: Any) -> Iterable[Need]:
    name = SubscriptionName.parse(request.subscription.name)
    yield Need("pubsub.subscriptions.update", name)
    yield from _dead_letter_needs(request.subscription)


def _detach_subscription(request: Any) -> Iterable[Need]:
    """Pub/Sub: who has a topic can get rid of its subscriptions, which may be of other projects."""
    name = SubscriptionName.parse(request.subscription)
    yield Need("pubsub.subscriptions.delete", name, on_topic="pubsub.topics.detachSubscription")


def _create_snapshot(request: Any) -> Iterable[Need]:
    source = SubscriptionName.parse(request.subscription)
    if request.name:
        yield Need("pubsub.snapshots.create", SnapshotName.parse(request.name))
    else:
        yield Need("pubsub.snapshots.create", ProjectName(source.project))
    yield Need("pubsub.subscriptions.consume", source)


def _seek(request: Any) -> Iterable[Need]:
    name = SubscriptionName.parse(request.subscription)
    yield Need("pubsub.subscriptions.consume", name, "subscriptions:modifyOffset")
    if request.snapshot:
        yield Need("pubsub.snapshots.seek", SnapshotName.parse(request.snapshot))


def _in_parent(request: Any, verb: str) -> Iterable[Need]:
    return (Need(f"pubsub.schemas.{verb}", ProjectName(parse_project(request.parent))),)


def _validate_message(request: Any) -> Iterable[Need]:
    yield from _in_parent(request, "validate")
    if request.name:
        yield Need("pubsub.schemas.validate", _name(SchemaName, request.name))


def _policy(verb: str) -> Callable[[Any], Iterable[Need]]:
    def needs(request: Any) -> Iterable[Need]:
        name = parse_resource(request.resource)
        return (Need(f"pubsub.{name.kind}.{verb}IamPolicy", name),)

    return needs


def _bindings(request: Any) -> str:
    return " ".join(f"{each.role}={','.join(each.members)}" for each in request.policy.bindings)


def _nothing(_request: Any) -> Iterable[Need]:
    return ()


# --- the table -----------------------------------------------------------------------------------

_PUBLISHER: Final = {
    "CreateTopic": Rule(_create_topic, changes=True),
    "UpdateTopic": Rule(_update_topic, changes=True),
    "Publish": _on(TopicName, "topic", "publish"),
    "GetTopic": _on(TopicName, "topic", "get"),
    "ListTopics": _in("project", "pubsub.topics.list"),
    "ListTopicSubscriptions": _on(TopicName, "topic", "get", "subscriptions:listByTopic"),
    "ListTopicSnapshots": _on(TopicName, "topic", "get", "subscriptions:listByTopic"),
    "DeleteTopic": _on(TopicName, "topic", "delete", changes=True),
    "DetachSubscription": Rule(_detach_subscription, changes=True),
}
_SUBSCRIBER: Final = {
    "CreateSubscription": Rule(_create_subscription, changes=True),
    "GetSubscription": _on(SubscriptionName, "subscription", "get"),
    "UpdateSubscription": Rule(_update_subscription, changes=True),
    "ListSubscriptions": _in("project", "pubsub.subscriptions.list"),
    "DeleteSubscription": _on(SubscriptionName, "subscription", "delete", changes=True),
    "ModifyAckDeadline": _on(
        SubscriptionName, "subscription", "consume", "subscriptions:modifyAckDeadline"
    ),
    "Acknowledge": _on(SubscriptionName, "subscription", "consume", "subscriptions:acknowledge"),
    "Pull": _on(SubscriptionName, "subscription", "consume"),
    "StreamingPull": _on(SubscriptionName, "subscription", "consume"),
    "ModifyPushConfig": _on(
        SubscriptionName,
        "subscription",
        "update",
        "subscriptions:modifyPushConfig",
        changes=True,
    ),
    "GetSnapshot": _on(SnapshotName, "snapshot", "get"),
    "ListSnapshots": _in("project", "pubsub.snapshots.list"),
    "CreateSnapshot": Rule(_create_snapshot, changes=True),
    "UpdateSnapshot": _on(SnapshotName, "snapshot.name", "update", changes=True),
    "DeleteSnapshot": _on(SnapshotName, "snapshot", "delete", changes=True),
    "Seek": Rule(_seek, changes=True),
}
_SCHEMAS: Final = {
    "CreateSchema": _in("parent", "pubsub.schemas.create", changes=True),
    "GetSchema": _on(SchemaName, "name", "get"),
    "ListSchemas": _in("parent", "pubsub.schemas.list"),
    "ListSchemaRevisions": _on(SchemaName, "name", "listRevisions"),
    "CommitSchema": _on(SchemaName, "name", "commit", changes=True),
    "RollbackSchema": _on(SchemaName, "name", "rollback", changes=True),
    "DeleteSchemaRevision": _on(SchemaName, "name", "delete", changes=True),
    "DeleteSchema": _on(SchemaName, "name", "delete", changes=True),
    "ValidateSchema": _in("parent", "pubsub.schemas.validate"),
    "ValidateMessage": Rule(_validate_message),
}
_POLICIES: Final = {
    "SetIamPolicy": Rule(_policy("set"), changes=True, given=_bindings),
    "GetIamPolicy": Rule(_policy("get")),
    "TestIamPermissions": Rule(_nothing),  # it answers what the caller may do
}

RULES: Final[Mapping[str, Rule]] = {
    f"{service}.{method}": rule
    for service, methods in (
        ("google.pubsub.v1.Publisher", _PUBLISHER),
        ("google.pubsub.v1.Subscriber", _SUBSCRIBER),
        ("google.pubsub.v1.SchemaService", _SCHEMAS),
        ("google.iam.v1.IAMPolicy", _POLICIES),
    )
    for method, rule in methods.items()
}
"""By the full name of the method. One that is missing here is refused to everybody."""
