"""What becomes of methods, and of the fields of their requests.

Each method is called with a request that is right. Before that, it is called with copies that are
wrong in one field each: when such a call fails, or answers something else, the field counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import grpc
from google.iam.v1 import iam_policy_pb2, options_pb2, policy_pb2  # type: ignore[import-untyped]
from google.protobuf.descriptor import FieldDescriptor as Kinds
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.pb.google.pubsub.v1 import schema_pb2 as schemas
from scripts.compatibility.fates import (
    REFUSED,
    WORKS,
    Descriptor,
    Fate,
    FieldDescriptor,
    UnknownFateError,
    is_map,
)
from scripts.compatibility.resources import EXAMPLES
from scripts.compatibility.service import METHODS, Service, is_unimplemented

_EXISTS: Final = grpc.StatusCode.ALREADY_EXISTS
_READING: Final = ("Get", "List", "Validate", "Test")
_NOT_THERE: Final = Fate(REFUSED, "the method is not there")
_P: Final = "projects/tour"
_AVRO: Final = '{"type": "record", "name": "R", "fields": [{"name": "a", "type": "string"}]}'


class Tour:
    """One call after the other; keeps what became of methods and fields."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.methods: dict[str, Fate] = {}
        self.fields: dict[str, Fate] = {}

    async def call(self, name: str, request: Message) -> Any:
        """The reply; an empty one if there is no such method. Raises grpc.aio.AioRpcError."""
        if type(request) not in EXAMPLES:
            await self._wrong_calls(name, request)
        try:
            reply = await self._service.call(name, request)
        except grpc.aio.AioRpcError as error:
            if error.code() is _EXISTS:  # a call that was to be wrong was right
                return None
            if not is_unimplemented(error):
                raise _not_right(error, f"{name}({request})") from None
            self.methods[name] = _NOT_THERE
            for field in request.DESCRIPTOR.fields:
                self.fields[f"{request.DESCRIPTOR.name}.{field.name}"] = _NOT_THERE
            return GetMessageClass(METHODS[name].output_type)()
        self.methods[name] = Fate(WORKS)
        return reply

    async def _wrong_calls(self, name: str, request: Message) -> None:
        usual = await self._outcome(name, request) if name.startswith(_READING) else None
        for field in request.DESCRIPTOR.fields:
            path = f"{request.DESCRIPTOR.name}.{field.name}"
            for wrong in _wrong(request, field):
                if self.fields.get(path) == Fate(WORKS):
                    break
                outcome = await self._outcome(name, wrong)
                failed = isinstance(outcome, grpc.StatusCode) and outcome is not _EXISTS
                counts = failed if usual is None else outcome != usual
                self.fields[path] = Fate(WORKS) if counts else Fate("")

    async def _outcome(self, name: str, request: Message) -> Message | grpc.StatusCode:
        try:
            reply: Message = await self._service.call(name, request)
        except grpc.aio.AioRpcError as error:
            return error.code()
        self.methods[name] = Fate(WORKS)
        return reply


def _not_right(error: grpc.aio.AioRpcError, what: str) -> UnknownFateError:
    return UnknownFateError(f"{what} was to be right: {error.code().name}: {error.details()}")


def _wrong(request: Message, field: FieldDescriptor, depth: int = 1) -> Iterator[Message]:
    """Copies of a request, each with something else in one field."""

    def copy() -> Message:
        made = type(request)()
        made.CopyFrom(request)
        return made

    if request.ListFields() and any(field is each for each, _ in request.ListFields()):
        cleared = copy()
        cleared.ClearField(field.name)
        yield cleared
    if is_map(field):
        other = copy()
        getattr(other, field.name)["Upper!"] = "x"
        yield other
    elif field.message_type and not field.is_repeated:
        if depth:
            part = getattr(request, field.name)
            for inner in field.message_type.fields:
                for wrong in _wrong(part, inner, depth - 1):
                    other = copy()
                    getattr(other, field.name).CopyFrom(wrong)
                    yield other
    else:
        for value in _other_values(field):
            other = copy()
            if field.is_repeated:
                getattr(other, field.name).append(value)
            else:
                setattr(other, field.name, value)
            yield other


def _other_values(field: FieldDescriptor) -> list[Any]:
    if field.message_type:
        return []
    if field.enum_type:
        return [*(value.number for value in field.enum_type.values), 99]
    if field.cpp_type == Kinds.CPPTYPE_STRING:
        return [b"nonsense" if field.type == Kinds.TYPE_BYTES else "nonsense"]
    if field.cpp_type == Kinds.CPPTYPE_BOOL:
        return [True, False]
    return [-1]


async def fates_of_methods(service: Service) -> tuple[dict[str, Fate], dict[str, Fate]]:
    """The fates of all methods, and of all fields of their requests.

    Raises UnknownFateError for a method that the tour passes over.
    """
    tour = Tour(service)
    await _topics_and_subscriptions(tour)
    await _schemas(tour)
    await _policies(tour)
    await _the_end(tour)
    for name in METHODS:
        if name not in tour.methods:
            raise UnknownFateError(f"tour.py does not call {name}")
    return tour.methods, tour.fields


def requests() -> list[Descriptor]:
    """The requests of all methods that are no resources themselves."""
    kinds = {kind.DESCRIPTOR.full_name for kind in EXAMPLES}
    found = {method.input_type.full_name: method.input_type for method in METHODS.values()}
    return [request for name, request in found.items() if name not in kinds]


_TOPIC: Final = f"{_P}/topics/topic"
_SUBSCRIPTION: Final = f"{_P}/subscriptions/subscription"
_SNAPSHOT: Final = f"{_P}/snapshots/snapshot"
_SCHEMA: Final = f"{_P}/schemas/schema"


async def _topics_and_subscriptions(tour: Tour) -> None:
    labels = FieldMask(paths=["labels"])
    topic = pb.Topic(name=_TOPIC, labels={"a": "b"})
    subscription = pb.Subscription(name=_SUBSCRIPTION, topic=_TOPIC)
    pushed = f"{_P}/subscriptions/pushed"

    await tour.call("CreateTopic", topic)
    await tour.call("GetTopic", pb.GetTopicRequest(topic=_TOPIC))
    await tour.call("UpdateTopic", pb.UpdateTopicRequest(topic=topic, update_mask=labels))
    await tour.call("ListTopics", pb.ListTopicsRequest(project=_P))
    await tour.call("CreateSubscription", subscription)
    await tour.call("CreateSubscription", pb.Subscription(name=pushed, topic=_TOPIC))
    await tour.call("GetSubscription", pb.GetSubscriptionRequest(subscription=_SUBSCRIPTION))
    await tour.call(
        "UpdateSubscription",
        pb.UpdateSubscriptionRequest(subscription=subscription, update_mask=labels),
    )
    await tour.call("ListSubscriptions", pb.ListSubscriptionsRequest(project=_P))
    await tour.call("ListTopicSubscriptions", pb.ListTopicSubscriptionsRequest(topic=_TOPIC))

    messages = [pb.PubsubMessage(data=b"x")] * 100
    await tour.call("Publish", pb.PublishRequest(topic=_TOPIC, messages=messages))
    pulled = await tour.call("Pull", pb.PullRequest(subscription=_SUBSCRIPTION, max_messages=1))
    ack_ids = [received.ack_id for received in pulled.received_messages]
    await tour.call(
        "ModifyAckDeadline",
        pb.ModifyAckDeadlineRequest(
            subscription=_SUBSCRIPTION, ack_ids=ack_ids, ack_deadline_seconds=60
        ),
    )
    await tour.call(
        "Acknowledge", pb.AcknowledgeRequest(subscription=_SUBSCRIPTION, ack_ids=ack_ids)
    )
    await tour.call(
        "StreamingPull",
        pb.StreamingPullRequest(subscription=_SUBSCRIPTION, stream_ack_deadline_seconds=10),
    )

    await tour.call(
        "CreateSnapshot", pb.CreateSnapshotRequest(name=_SNAPSHOT, subscription=_SUBSCRIPTION)
    )
    snapshot = await tour.call("GetSnapshot", pb.GetSnapshotRequest(snapshot=_SNAPSHOT))
    await tour.call(
        "UpdateSnapshot", pb.UpdateSnapshotRequest(snapshot=snapshot, update_mask=labels)
    )
    await tour.call("ListSnapshots", pb.ListSnapshotsRequest(project=_P))
    await tour.call("ListTopicSnapshots", pb.ListTopicSnapshotsRequest(topic=_TOPIC))
    to_snapshot = pb.SeekRequest(subscription=_SUBSCRIPTION, snapshot=_SNAPSHOT)
    await tour.call("Seek", to_snapshot)
    to_time = pb.SeekRequest(subscription=_SUBSCRIPTION)
    to_time.time.GetCurrentTime()
    await tour.call("Seek", to_time)

    config = pb.PushConfig(push_endpoint="https://example.com/push")
    await tour.call(
        "ModifyPushConfig", pb.ModifyPushConfigRequest(subscription=pushed, push_config=config)
    )
    shown = await tour.call("GetSubscription", pb.GetSubscriptionRequest(subscription=pushed))
    if shown.push_config.push_endpoint == config.push_endpoint:
        tour.fields["ModifyPushConfigRequest.push_config"] = Fate(WORKS)


async def _schemas(tour: Tour) -> None:
    avro = schemas.Schema(type=schemas.Schema.AVRO, definition=_AVRO)
    create = schemas.CreateSchemaRequest(parent=_P, schema=avro, schema_id="schema")
    await tour.call("CreateSchema", create)
    get = schemas.GetSchemaRequest(name=_SCHEMA, view=schemas.FULL)
    first = (await tour.call("GetSchema", get)).revision_id
    await tour.call("ListSchemas", schemas.ListSchemasRequest(parent=_P, view=schemas.FULL))
    named = schemas.Schema(name=_SCHEMA, type=schemas.Schema.AVRO, definition=_AVRO)
    await tour.call("CommitSchema", schemas.CommitSchemaRequest(name=_SCHEMA, schema=named))
    await tour.call(
        "ListSchemaRevisions",
        schemas.ListSchemaRevisionsRequest(name=_SCHEMA, view=schemas.FULL),
    )
    rollback = schemas.RollbackSchemaRequest(name=_SCHEMA, revision_id=first)
    third = (await tour.call("RollbackSchema", rollback)).revision_id
    for name, revision_id in ((_SCHEMA, third), (f"{_SCHEMA}@{first}", "")):
        await tour.call(
            "DeleteSchemaRevision",
            schemas.DeleteSchemaRevisionRequest(name=name, revision_id=revision_id),
        )
    await tour.call("ValidateSchema", schemas.ValidateSchemaRequest(parent=_P, schema=avro))
    message: dict[str, Any] = {"parent": _P, "message": b'{"a": "x"}', "encoding": schemas.JSON}
    await tour.call("ValidateMessage", schemas.ValidateMessageRequest(name=_SCHEMA, **message))
    await tour.call("ValidateMessage", schemas.ValidateMessageRequest(schema=avro, **message))


async def _policies(tour: Tour) -> None:
    policy = policy_pb2.Policy(
        bindings=[policy_pb2.Binding(role="roles/pubsub.viewer", members=["allUsers"])]
    )
    mask = FieldMask(paths=["bindings", "etag"])
    await tour.call(
        "SetIamPolicy",
        iam_policy_pb2.SetIamPolicyRequest(resource=_TOPIC, policy=policy, update_mask=mask),
    )
    options = options_pb2.GetPolicyOptions(requested_policy_version=1)
    await tour.call(
        "GetIamPolicy", iam_policy_pb2.GetIamPolicyRequest(resource=_TOPIC, options=options)
    )
    await tour.call(
        "TestIamPermissions",
        iam_policy_pb2.TestIamPermissionsRequest(
            resource=_TOPIC, permissions=["pubsub.topics.publish"]
        ),
    )


async def _the_end(tour: Tour) -> None:
    await tour.call("DetachSubscription", pb.DetachSubscriptionRequest(subscription=_SUBSCRIPTION))
    await tour.call("DeleteSnapshot", pb.DeleteSnapshotRequest(snapshot=_SNAPSHOT))
    await tour.call("DeleteSubscription", pb.DeleteSubscriptionRequest(subscription=_SUBSCRIPTION))
    await tour.call("DeleteTopic", pb.DeleteTopicRequest(topic=_TOPIC))
    await tour.call("DeleteSchema", schemas.DeleteSchemaRequest(name=_SCHEMA))
