"""Schemas made as AMS has them, and the official clients: their topics, and what SchemaService shows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import grpc
import pytest
from google.api_core import exceptions
from google.protobuf.message_factory import GetMessageClass
from google.pubsub_v1 import types

from ams_grpc.pb.ams.v1 import accounts_pb2, pubsub_pb2, schemas_pb2
from tests.clients.pubsub import PubSub, project_on
from tests.clients.schemas import AVRO, FULL, schemas_of
from tests.server import Server, free_port

TOKEN: Final = "r" * 64
ORDER: Final = {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}}
USER: Final = {"type": "record", "name": "User", "fields": [{"name": "age", "type": "int"}]}
SERVICES: Final = (
    accounts_pb2.DESCRIPTOR.services_by_name["Projects"],
    pubsub_pb2.DESCRIPTOR.services_by_name["Topics"],
    schemas_pb2.DESCRIPTOR.services_by_name["Schemas"],
)
METHODS: Final = {method.name: method for service in SERVICES for method in service.methods}


class Ams:
    """Generic stubs of ams.v1: ``ams(method, field=value, ...)``."""

    def __init__(self, channel: grpc.Channel, project: str) -> None:
        self.channel = channel
        self.project = project

    def __call__(self, name: str, **fields: Any) -> Any:
        method = METHODS[name]
        request = GetMessageClass(method.input_type)
        reply = GetMessageClass(method.output_type)
        call = self.channel.unary_unary(
            f"/{method.containing_service.full_name}/{name}",
            request_serializer=request.SerializeToString,
            response_deserializer=reply.FromString,
        )
        metadata = (("authorization", f"Bearer {TOKEN}"),)
        return call(request(project=self.project, **fields), metadata=metadata, timeout=30)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(
        tmp_path_factory.mktemp("ams"),
        arguments=("--ams-address", f"127.0.0.1:{free_port()}"),
        settings={"ADMIN_TOKEN": TOKEN},
    ) as server:
        yield server


@pytest.fixture
def pubsub(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[PubSub]:
    with project_on(server, monkeypatch) as project:
        yield project


@pytest.fixture
def ams(pubsub: PubSub) -> Ams:
    ams = Ams(pubsub.channel, pubsub.project)
    ams("CreateProject")
    return ams


def test_a_topic_of_ams_takes_what_follows_its_json_schema_and_leaves_it_as_it_is(
    pubsub: PubSub, ams: Ams
) -> None:
    site = {"site": {"required": True}}
    ams(
        "CreateSchema",
        schema_id="order",
        type="json",
        schema=json.dumps(ORDER),
        attributes=json.dumps(site),
    )
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    ams("AttachSchema", topic="orders", schema=f"{pubsub.path}/schemas/order")

    good = types.PubsubMessage(data=b'{"id": 1}', attributes={"site": "x"})
    bad = types.PubsubMessage(data=b'{"id": "1"}', attributes={"site": "x"})
    pubsub.publish_messages(topic, good)
    for messages, said in (
        (
            [good, bad],
            "Message 1 data is not valid,id: Invalid type. Expected: integer, given: string",
        ),
        (
            [types.PubsubMessage(data=good.data)],
            "Message 0 attributes are not valid,site: is required",
        ),
    ):
        with pytest.raises(exceptions.InvalidArgument) as refusal:
            pubsub.publish_messages(topic, *messages)
        assert refusal.value.message == said

    [received] = pubsub.pull_all(subscription, 1)
    assert (received.message.data, received.message.attributes) == (good.data, good.attributes)


def test_avro_of_ams_is_binary(pubsub: PubSub, ams: Ams) -> None:
    ams("CreateSchema", schema_id="user", type="Avro", schema=json.dumps(USER))
    ams("CreateTopic", topic="users", schema=f"{pubsub.path}/schemas/user")
    topic = f"{pubsub.path}/topics/users"

    pubsub.publish(topic, b"\x0e")
    with pytest.raises(exceptions.InvalidArgument) as refusal:
        pubsub.publish(topic, b"\x0e", b"\x80")
    assert refusal.value.message == "Message 1 is not valid.age: the data ends too early"
    settings = pubsub.publisher.get_topic(topic=topic).schema_settings
    assert (settings.schema, settings.encoding) == (
        f"{pubsub.path}/schemas/user",
        types.Encoding.BINARY,
    )


def test_the_schemas_of_both_are_in_one_registry(pubsub: PubSub, ams: Ams) -> None:
    client = schemas_of(pubsub)
    made = ams("CreateSchema", schema_id="order", type="json", schema=json.dumps(ORDER))
    ams("CreateSchema", schema_id="user", type="avro", schema=json.dumps(USER))
    definition = types.Schema(type_=AVRO, definition=json.dumps(USER))
    client.create_schema(parent=pubsub.path, schema=definition, schema_id="member")

    shown = list(client.list_schemas(request={"parent": pubsub.path, "view": FULL}))
    assert [(each.name.rpartition("/")[2], each.type_) for each in shown] == [
        ("member", AVRO),
        ("order", types.Schema.Type.TYPE_UNSPECIFIED),  # Pub/Sub has no name for its type
        ("user", AVRO),
    ]
    assert json.loads(shown[1].definition) == ORDER
    listed = ams("ListSchemas").schemas
    assert [(each.name, each.type) for each in listed] == [
        (made.name, "json"),
        (f"{pubsub.path}/schemas/user", "avro"),
        (f"{pubsub.path}/schemas/member", "avro"),
    ]
    changed = ams("UpdateSchema", schema_id="member", schema=json.dumps({**USER, "name": "Member"}))
    [revision] = client.list_schema_revisions(name=f"{pubsub.path}/schemas/member")
    assert revision.revision_id
    assert changed.uuid == listed[2].uuid
    with pytest.raises(exceptions.InvalidArgument, match="Invalid schema type"):
        client.commit_schema(name=made.name, schema=types.Schema(type_=AVRO, definition='"int"'))


def test_a_topic_of_pubsub_may_follow_a_json_schema(pubsub: PubSub, ams: Ams) -> None:
    ams("CreateSchema", schema_id="order", type="json", schema=json.dumps(ORDER))
    settings = {"schema": f"{pubsub.path}/schemas/order", "encoding": "JSON"}
    with pytest.raises(exceptions.InvalidArgument, match="Invalid schema encoding"):
        pubsub.topic(schema_settings=settings | {"encoding": "BINARY"})
    topic = pubsub.topic(schema_settings=settings)
    subscription = pubsub.subscription(topic)

    pubsub.publish(topic, b'{"id": 1}')
    with pytest.raises(exceptions.InvalidArgument, match=r"Message 0 data is not valid,\(root\)"):
        pubsub.publish(topic, b"{}")
    [received] = pubsub.pull_all(subscription, 1)
    assert received.message.attributes["googclient_schemaname"] == settings["schema"]
    ams("DeleteSchema", schema_id="order")
    pubsub.publish(topic, b"{}")
