"""Topics with a schema: how they are set up, and what can be published to them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import pytest
from google.api_core import exceptions
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.field_mask_pb2 import FieldMask
from google.pubsub_v1 import types

from tests.clients.pubsub import PubSub, data_of, project_on
from tests.clients.schemas import AVRO, PROTO, avro_record, proto, schemas_of
from tests.server import Server

NO_MATCH = r"^400 Invalid data in message: Message failed schema validation\."
DELETED = r"^404 Schema associated with topic deleted\."


class OrderSchema:
    """A schema with some revisions, and a topic that follows it."""

    def __init__(
        self, pubsub: PubSub, first: str = avro_record("a"), type_: Any = AVRO, **settings: Any
    ) -> None:
        self.pubsub = pubsub
        self.client = schemas_of(pubsub)
        self.type = type_
        schema = types.Schema(type_=type_, definition=first)
        made = self.client.create_schema(parent=pubsub.path, schema=schema, schema_id="order")
        self.name = made.name
        self.revision_ids = [made.revision_id]
        settings = {"schema": self.name, "encoding": "JSON", **settings}
        self.topic = pubsub.topic(schema_settings=settings)
        self.subscription = pubsub.subscription(self.topic)

    def commit(self, definition: str) -> str:
        schema = types.Schema(name=self.name, type_=self.type, definition=definition)
        made = self.client.commit_schema(name=self.name, schema=schema)
        self.revision_ids.append(made.revision_id)
        return made.revision_id

    def delete_revision(self, revision_id: str) -> None:
        self.client.delete_schema_revision(name=f"{self.name}@{revision_id}")

    def settle(self, **settings: Any) -> types.Topic:
        """Change parts of the topic's settings."""
        changed: types.Topic = self.pubsub.publisher.update_topic(
            request={
                "topic": {"name": self.topic, "schema_settings": settings},
                "update_mask": FieldMask(paths=[f"schema_settings.{path}" for path in settings]),
            }
        )
        return changed

    def publish(self, *data: bytes) -> list[str]:
        return self.pubsub.publish(self.topic, *data)

    def followed(self, *data: bytes) -> str:
        """The revision that a message follows, as a subscriber gets to know."""
        self.publish(*data)
        [received] = self.pubsub.pull_all(self.subscription, 1)
        self.pubsub.acknowledge(self.subscription, received)
        return received.message.attributes["googclient_schemarevisionid"]


# --- publishing -----------------------------------------------------------------------------------

AVRO_ORDER = {
    "type": "record",
    "name": "Order",
    "fields": [{"name": "item", "type": "string"}, {"name": "price", "type": ["null", "double"]}],
}


def avro_binary(**fields: Any) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(AVRO_ORDER), fields)
    return stream.getvalue()


def proto_binary(**fields: Any) -> bytes:
    pool = descriptor_pool.DescriptorPool()
    file = descriptor_pb2.FileDescriptorProto(name="order.proto", syntax="proto3")
    message = file.message_type.add(name="Order")
    message.field.add(name="item", number=1, type="TYPE_STRING", label="LABEL_OPTIONAL")
    message.field.add(name="price", number=2, type="TYPE_DOUBLE", label="LABEL_OPTIONAL")
    message.field.add(name="unknown", number=3, type="TYPE_DOUBLE", label="LABEL_OPTIONAL")
    pool.Add(file)
    order = message_factory.GetMessageClass(pool.FindMessageTypeByName("Order"))
    return order(**fields).SerializeToString()


AVRO_TEXT = str(AVRO_ORDER).replace("'", '"')
PROTO_TEXT = proto("Order", "string item = 1; double price = 2;")

KINDS = [
    pytest.param(
        AVRO,
        AVRO_TEXT,
        "JSON",
        b'{"item": "shoe", "price": {"double": 1.5}}',
        b'{"item": "shoe"}',
        "price",
        id="AVRO-JSON",
    ),
    pytest.param(
        AVRO,
        AVRO_TEXT,
        "BINARY",
        avro_binary(item="shoe", price=1.5),
        avro_binary(item="shoe", price=1.5)[:-1],
        "price",
        id="AVRO-BINARY",
    ),
    pytest.param(
        PROTO,
        PROTO_TEXT,
        "JSON",
        b'{"item": "shoe", "price": 1.5}',
        b'{"item": "shoe", "prize": 1.5}',
        "prize",
        id="PROTO-JSON",
    ),
    pytest.param(
        PROTO,
        PROTO_TEXT,
        "BINARY",
        proto_binary(item="shoe", price=1.5),
        proto_binary(item="shoe", unknown=1.5),
        "fields",
        id="PROTO-BINARY",
    ),
]


@pytest.mark.parametrize("type_, definition, encoding, good, bad, reason", KINDS)
def test_messages_that_follow_the_schema_arrive_stamped_and_others_are_refused(
    pubsub: PubSub, type_: Any, definition: str, encoding: str, good: bytes, bad: bytes, reason: str
) -> None:
    order = OrderSchema(pubsub, definition, type_, encoding=encoding)

    with pytest.raises(exceptions.InvalidArgument, match=NO_MATCH) as refusal:
        order.publish(good, bad, good)
    ids = order.publish(good, good)

    kind = "AVRO" if type_ == AVRO else "PROTO"
    assert refusal.value.reason == f"INVALID_{encoding}_{kind}_MESSAGE"
    assert refusal.value.domain == "pubsub.googleapis.com"
    told = refusal.value.metadata["message"]
    assert told.startswith("Message failed schema validation: messages[1], ")
    assert reason in told
    received = pubsub.pull_all(order.subscription, 2)
    assert [each.message.message_id for each in received] == ids
    assert data_of(received) == [good, good]
    for each in received:
        assert dict(each.message.attributes) == {
            "googclient_schemaencoding": encoding,
            "googclient_schemaname": order.name,
            "googclient_schemarevisionid": order.revision_ids[0],
        }


def test_what_a_publisher_writes_into_the_stamps_is_overwritten(pubsub: PubSub) -> None:
    order = OrderSchema(pubsub)
    attributes = {"colour": "red", "googclient_schemaname": "mine"}

    pubsub.publish_messages(
        order.topic,
        types.PubsubMessage(data=b'{"a": 1}', attributes=attributes, ordering_key="key"),
    )

    [received] = pubsub.pull_all(order.subscription, 1)
    assert received.message.attributes["googclient_schemaname"] == order.name
    assert received.message.attributes["colour"] == "red"
    assert len(received.message.attributes) == 4
    assert received.message.ordering_key == "key"


def test_a_message_without_data_is_validated_as_empty_data(pubsub: PubSub) -> None:
    only_attributes = types.PubsubMessage(attributes={"a": "b"})
    order = OrderSchema(pubsub, PROTO_TEXT, PROTO, encoding="BINARY")

    assert len(pubsub.publish_messages(order.topic, only_attributes)) == 1
    order.settle(encoding="JSON")
    with pytest.raises(exceptions.InvalidArgument, match=NO_MATCH):
        pubsub.publish_messages(order.topic, only_attributes)


def test_a_large_request_is_validated_like_a_small_one(pubsub: PubSub) -> None:
    order = OrderSchema(pubsub)
    good = [b'{"a": %d}' % number for number in range(999)]

    with pytest.raises(exceptions.InvalidArgument, match=NO_MATCH) as refusal:
        order.publish(*good, b'{"a": "text"}')

    assert "messages[999]" in refusal.value.metadata["message"]
    order.publish(*good, b'{"a": 999, "padding": "%s"}' % (b"x" * 100_000))
    assert len(pubsub.pull_all(order.subscription, 1000)) == 1000


def test_the_clients_publisher_gets_the_refusal(pubsub: PubSub) -> None:
    order = OrderSchema(pubsub)

    future = pubsub.publisher.publish(order.topic, b"{}")

    with pytest.raises(exceptions.InvalidArgument, match=NO_MATCH):
        future.result(timeout=30)


# --- revisions ------------------------------------------------------------------------------------

ONE, TWO = b'{"a": 1}', b'{"a": 1, "b": 2}'


def test_a_message_follows_the_newest_revision_that_it_can(pubsub: PubSub) -> None:
    order = OrderSchema(pubsub)
    assert order.followed(TWO) == order.revision_ids[0]

    second = order.commit(avro_record("a", b=1))

    assert order.followed(TWO) == second
    assert order.followed(ONE) == order.revision_ids[0]


def test_a_new_revision_counts_as_soon_as_it_is_committed(pubsub: PubSub) -> None:
    order = OrderSchema(pubsub, proto("A"), PROTO)
    new = b'{"a": "x", "b": "y"}'
    with pytest.raises(exceptions.InvalidArgument, match=NO_MATCH):
        order.publish(new)

    second = order.commit(proto("A", "string a = 1; string b = 2;"))

    assert order.followed(new) == second


def test_a_deleted_revision_counts_no_more(pubsub: PubSub) -> None:
    order = OrderSchema(pubsub)
    second = order.commit(avro_record("a", b=1))
    assert order.followed(ONE) == order.revision_ids[0]
    assert order.followed(TWO) == second

    order.delete_revision(order.revision_ids[0])

    with pytest.raises(exceptions.InvalidArgument, match=NO_MATCH):
        order.publish(ONE)
    assert order.followed(TWO) == second


def test_a_topic_may_admit_a_range_of_revisions(pubsub: PubSub) -> None:
    order = OrderSchema(pubsub)
    second = order.commit(avro_record("a", b=1))
    third = order.commit(avro_record("a", c=1))

    order.settle(last_revision_id=second)
    assert order.followed(b'{"a": 1, "b": 2, "c": 3}') == second
    order.settle(first_revision_id=second)
    with pytest.raises(exceptions.InvalidArgument, match=NO_MATCH):
        order.publish(ONE)
    order.settle(last_revision_id="")
    assert order.followed(b'{"a": 1, "c": 3}') == third


def test_a_bound_keeps_its_place_when_its_revision_is_deleted(pubsub: PubSub) -> None:
    order = OrderSchema(pubsub)
    second = order.commit(avro_record("a", b=1))
    order.settle(last_revision_id=second)

    order.delete_revision(second)
    order.commit(avro_record("a", c=1))

    assert order.followed(b'{"a": 1, "b": 2, "c": 3}') == order.revision_ids[0]
    shown = pubsub.publisher.get_topic(topic=order.topic).schema_settings
    assert shown.last_revision_id == second


# --- settings -------------------------------------------------------------------------------------

BAD: list[tuple[dict[str, str], Any, str]] = [
    ({"schema": "order"}, exceptions.InvalidArgument, "Invalid resource name given"),
    ({"schema": "projects/p/schemas/x@12345678"}, exceptions.InvalidArgument, "Invalid resource"),
    ({"schema": "_deleted-schema_"}, exceptions.InvalidArgument, "Invalid resource name given"),
    ({"schema": "projects/p/schemas/missing"}, exceptions.NotFound, "Schema could not be found"),
    (
        {"encoding": "ENCODING_UNSPECIFIED"},
        exceptions.InvalidArgument,
        "Invalid schema encoding provided",
    ),
    (
        {"first_revision_id": "00000000"},
        exceptions.NotFound,
        "First revision could not be found",
    ),
    ({"last_revision_id": "00000000"}, exceptions.NotFound, "Last revision could not be found"),
]


@pytest.mark.parametrize("settings, error, text", BAD)
def test_settings_that_cannot_be_are_refused_by_create_and_update(
    pubsub: PubSub, settings: dict[str, str], error: Any, text: str
) -> None:
    order = OrderSchema(pubsub)
    settings = {"schema": order.name, "encoding": "JSON", **settings}

    with pytest.raises(error, match=text):
        pubsub.topic("another", schema_settings=settings)
    with pytest.raises(error, match=text):
        order.settle(**settings)
    assert list(pubsub.publisher.list_topics(project=pubsub.path)) == [
        types.Topic(name=order.topic, schema_settings={"schema": order.name, "encoding": "JSON"})
    ]


def test_the_first_revision_is_not_after_the_last(pubsub: PubSub) -> None:
    order = OrderSchema(pubsub)
    second = order.commit(avro_record("a"))

    with pytest.raises(
        exceptions.InvalidArgument,
        match="First revision creation time is after last revision creation time",
    ):
        order.settle(first_revision_id=second, last_revision_id=order.revision_ids[0])


def test_a_topic_that_exists_is_said_to_exist_even_if_the_schema_is_missing(
    pubsub: PubSub,
) -> None:
    pubsub.topic()

    with pytest.raises(exceptions.AlreadyExists):
        pubsub.topic(schema_settings={"schema": f"{pubsub.path}/schemas/x-1", "encoding": "JSON"})


def test_a_schema_can_be_given_to_a_topic_and_taken_away(pubsub: PubSub) -> None:
    order = OrderSchema(pubsub)
    plain = pubsub.topic("plain")
    pubsub.publish(plain, b"anything")

    def update(**fields: Any) -> None:
        pubsub.publisher.update_topic(
            request={
                "topic": {"name": plain, **fields},
                "update_mask": FieldMask(paths=["schema_settings"]),
            }
        )

    update(schema_settings={"schema": order.name, "encoding": "JSON"})
    with pytest.raises(exceptions.InvalidArgument, match=NO_MATCH):
        pubsub.publish(plain, b"anything")
    update()
    pubsub.publish(plain, b"anything")
    assert pubsub.publisher.get_topic(topic=plain) == types.Topic(name=plain)


def test_the_schema_may_be_in_another_project(pubsub: PubSub) -> None:
    order = OrderSchema(pubsub)
    elsewhere = f"{pubsub.path}-too/topics/orders"
    settings = {"schema": order.name, "encoding": "JSON"}

    pubsub.publisher.create_topic(request=types.Topic(name=elsewhere, schema_settings=settings))

    with pytest.raises(exceptions.InvalidArgument, match=NO_MATCH):
        pubsub.publish(elsewhere, b"anything")
    pubsub.publish(elsewhere, ONE)


# --- deletion -------------------------------------------------------------------------------------


@pytest.mark.parametrize("publish_before", [True, False])
def test_when_the_schema_is_deleted_publishing_fails_and_the_topic_says_so(
    pubsub: PubSub, *, publish_before: bool
) -> None:
    order = OrderSchema(pubsub)
    if publish_before:
        order.publish(ONE)

    order.client.delete_schema(name=order.name)

    with pytest.raises(exceptions.NotFound, match=DELETED):
        order.publish(ONE)
    shown = types.Topic(
        name=order.topic, schema_settings={"schema": "_deleted-schema_", "encoding": "JSON"}
    )
    assert pubsub.publisher.get_topic(topic=order.topic) == shown
    assert list(pubsub.publisher.list_topics(project=pubsub.path)) == [shown]


def recreate(order: OrderSchema) -> None:
    order.client.delete_schema(name=order.name)
    schema = types.Schema(type_=AVRO, definition=avro_record("a"))
    order.client.create_schema(parent=order.pubsub.path, schema=schema, schema_id="order")


def test_a_schema_of_the_same_name_does_not_take_the_place_of_the_deleted_one(
    pubsub: PubSub,
) -> None:
    order = OrderSchema(pubsub)
    recreate(order)

    changed = pubsub.publisher.update_topic(
        request={
            "topic": {"name": order.topic, "labels": {"colour": "red"}},
            "update_mask": FieldMask(paths=["labels"]),
        }
    )

    assert changed.labels == {"colour": "red"}
    assert changed.schema_settings.schema == "_deleted-schema_"
    with pytest.raises(exceptions.NotFound, match=DELETED):
        order.publish(ONE)
    with pytest.raises(exceptions.InvalidArgument, match="Invalid resource name given"):
        order.settle(encoding="BINARY")


def test_the_topic_can_be_given_the_new_schema(pubsub: PubSub) -> None:
    order = OrderSchema(pubsub)
    recreate(order)

    order.settle(schema=order.name)

    order.publish(ONE)


@pytest.fixture
def server(tmp_path: Path, database_url: str) -> Iterator[Server]:
    with Server(tmp_path, database_url) as server:
        yield server


@pytest.fixture
def own(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[PubSub]:
    with project_on(server, monkeypatch) as project:
        yield project


def test_schemas_and_the_settings_of_topics_survive_a_crash(server: Server, own: PubSub) -> None:
    order = OrderSchema(own)
    second = order.commit(avro_record("a", b=1))
    order.publish(ONE)

    server.kill()
    server.start()

    order.publish(TWO)
    with pytest.raises(exceptions.InvalidArgument, match=NO_MATCH):
        order.publish(b"{}")
    received = own.pull_all(order.subscription, 2)
    assert [each.message.attributes["googclient_schemarevisionid"] for each in received] == [
        order.revision_ids[0],
        second,
    ]
