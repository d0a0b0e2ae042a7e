"""Schemas, those of topics, and what can be published then."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

import grpc
import pytest
from google.protobuf import empty_pb2

from ams_grpc.pb.google.pubsub.v1 import schema_pb2
from tests.rest.conftest import Ams, Town

ORDER: Final = {
    "type": "object",
    "properties": {"id": {"type": "integer"}, "email": {"type": "string", "format": "email"}},
    "required": ["id", "email"],
}
USER: Final = {
    "type": "record",
    "name": "User",
    "fields": [{"name": "age", "type": "int"}, {"name": "name", "type": "string"}],
}
GOOD: Final = '{"id":1,"email":"a@b.co"}'
AGE_7_BOB: Final = b"\x0e\x06bob"


def encoded(data: str | bytes) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


class Schemas:
    """Of a fresh project."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.ams: Ams = town.ams
        self.prefix = f"projects/{town.project}/schemas"

    def path(self, name: str) -> str:
        return self.town.path(f"/schemas/{name}")

    def make(
        self, name: str = "order", type_: str = "JSON", schema: Any = ORDER, **more: Any
    ) -> Any:
        return self.ams.ok("POST", self.path(name), json={"type": type_, "schema": schema, **more})

    def topic(self, schema: str = "", name: str = "orders") -> str:
        path = self.town.path(f"/topics/{name}")
        self.ams.ok("PUT", path, json={"schema": f"{self.prefix}/{schema}"} if schema else {})
        return path

    def shown(self, topic: str) -> str | None:
        schema: str | None = self.ams.ok("GET", topic).get("schema")
        return schema

    def published(self, topic: str, *data: str, **attributes: str) -> Any:
        """The ids, or the message of the refusal."""
        messages = [{"data": each, "attributes": attributes} for each in data]
        reply = self.ams.call("POST", f"{topic}:publish", json={"messages": messages})
        if reply.status_code == 200:
            return reply.json()["messageIds"]
        error = reply.json()["error"]
        assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
        return error["message"]


@pytest.fixture
def own(town: Town) -> Schemas:
    return Schemas(town)


# --- the registry -------------------------------------------------------------------------------


def test_a_schema_is_made_shown_listed_and_deleted(own: Schemas) -> None:
    made = own.make()
    assert list(made) == ["uuid", "name", "type", "schema"]
    assert (made["name"], made["type"], made["schema"]) == (f"{own.prefix}/order", "json", ORDER)
    assert list(made["schema"]) == ["properties", "required", "type"]  # AMS: sorted
    second = own.make("a-user", "avro", USER)

    assert own.ams.ok("GET", own.path("order")) == made
    assert own.ams.ok("GET", own.town.path("/schemas")) == {"schemas": [made, second]}
    assert own.ams.ok("DELETE", own.path("order")) is None
    for method in ("GET", "DELETE"):
        assert own.ams.refused(method, own.path("order"))[::2] == (404, "Schema doesn't exist")
    assert own.ams.ok("GET", own.town.path("/schemas")) == {"schemas": [second]}


@pytest.mark.parametrize(
    "body, code, message",
    [
        ("{", 400, "Invalid Schema Arguments"),
        ('{"schema": []}', 400, "Invalid Schema Arguments"),
        ('{"type": "xml", "schema": {}}', 400, "Schema type can only be 'json' or 'avro'"),
        ('{"type": "json"}', 400, "schema is invalid"),
        ('{"type": "json", "schema": {"required": "id"}}', 400, "required must be of an array"),
        (
            '{"type": "json", "schema": {}, "attributes": {"site": {"must": true}}}',
            400,
            "attributes.site: a rule is an object of required, values and pattern",
        ),
    ],
)
def test_bad_definitions(own: Schemas, body: str, code: int, message: str) -> None:
    assert own.ams.refused("POST", own.path("new"), body=body)[::2] == (code, message)
    assert own.ams.ok("GET", own.town.path("/schemas")) == {"schemas": []}


@pytest.mark.parametrize(
    "given, shown",
    [
        ("1e308", "1e+308"),
        ("18446744073709551615", "18446744073709551615"),
        ("123456789012345678901234567890", "1.2345678901234568e+29"),  # AMS: numbers are doubles
        ("-2.0", "-2"),
        ("0.5", "0.5"),
    ],
)
def test_numbers_of_a_definition(own: Schemas, given: str, shown: str) -> None:
    body = f'{{"type": "json", "schema": {{"maximum": {given}}}}}'
    for reply in (
        own.ams.call("POST", own.path("limit"), body=body),
        own.ams.call("GET", own.path("limit")),
        own.ams.call("GET", own.town.path("/schemas")),
    ):
        assert (reply.status_code, f'"maximum": {shown}\n' in reply.text) == (200, True), reply.text


@pytest.mark.parametrize("odd", ["1e400", "-1e400", "NaN", "[" * 300 + "]" * 300])
def test_what_no_definition_can_have(own: Schemas, odd: str) -> None:
    body = f'{{"type": "json", "schema": {{"default": {odd}}}}} and more'
    refused = own.ams.refused("POST", own.path("odd"), body=body)
    assert refused == (400, "INVALID_ARGUMENT", "Invalid Schema Arguments")
    assert own.ams.ok("GET", own.town.path("/schemas")) == {"schemas": []}


@pytest.mark.parametrize(
    "definition",
    [
        '{"type": "array", "items": ' * 45 + '"int"' + "}" * 45,
        '{"type": "array", "items": "int", "doc": ' + "[" * 900 + "]" * 900 + "}",
        (
            '{"type": "record", "name": "R", "fields": ['
            '{"name": "x", "type": "double", "default": 1e308}]}'
        ),
        '"string"',
    ],
    ids=["nested", "nested very deeply", "large number", "no object"],
)
def test_every_definition_that_pub_sub_takes_is_shown(own: Schemas, definition: str) -> None:
    kept = own.make("kept")
    with grpc.insecure_channel(own.ams.grpc) as channel:
        create = channel.unary_unary(
            "/google.pubsub.v1.SchemaService/CreateSchema",
            request_serializer=schema_pb2.CreateSchemaRequest.SerializeToString,
            response_deserializer=schema_pb2.Schema.FromString,
        )
        schema = schema_pb2.Schema(type=schema_pb2.Schema.AVRO, definition=definition)
        project = f"projects/{own.town.project}"
        create(
            schema_pb2.CreateSchemaRequest(parent=project, schema=schema, schema_id="odd"),
            timeout=30,
        )
    shown = json.loads(definition)
    for found in (
        own.ams.ok("GET", own.path("odd")),
        own.ams.ok("GET", own.town.path("/schemas"))["schemas"][1],
    ):
        assert found.get("schema") == (shown if isinstance(shown, dict) else None)
    assert own.ams.ok("GET", own.path("kept")) == kept


def test_what_is_lenient_in_definitions(own: Schemas) -> None:
    own.make("anything", schema={})
    assert own.ams.ok("POST", own.path("anything:validate"), body="[1]")
    made = own.ams.ok("POST", own.path("nothing"), body='{"type": "AVRO"} and more')
    assert made["type"] == "avro"
    assert own.ams.refused("POST", own.path("nothing"), body='{"type": "xml"}') == (
        409,
        "ALREADY_EXISTS",
        "Schema already exists",
    )


def test_an_update_changes_what_it_names(own: Schemas) -> None:
    made = own.make()
    topic = own.topic("order")

    renamed = own.ams.ok("PUT", own.path("order"), json={"name": f"{own.prefix}/order-2"})
    assert renamed == made | {"name": f"{own.prefix}/order-2"}
    assert own.shown(topic) == f"{own.prefix}/order-2"
    changed = own.ams.ok("PUT", own.path("order-2"), json={"schema": {"type": "array"}, "name": ""})
    assert changed == renamed | {"schema": {"type": "array"}}
    assert own.published(topic, encoded("[]")) == ["0"]
    assert own.published(topic, encoded(GOOD)).startswith("Message 0 data is not valid,(root): Inv")
    changed = own.ams.ok("PUT", own.path("order-2"), json={"type": "AVRO", "schema": USER})
    assert (changed["type"], changed["uuid"]) == ("avro", made["uuid"])
    assert own.published(topic, encoded(AGE_7_BOB)) == ["1"]


@pytest.mark.parametrize(
    "body, code, message",
    [
        ({"type": 5}, 400, "Invalid Schema Arguments"),
        ({"name": "order-2"}, 400, "wrong schema name declaration"),
        ({"name": "projects/any/schemas/a b"}, 400, "Invalid schema name"),
        ({"name": "projects/any/schemas/taken", "type": "xml"}, 409, "Schema already exists"),
        ({"type": "xml"}, 400, "Schema type can only be 'json' or 'avro'"),
        ({"schema": {"type": "no"}, "attributes": {}}, 400, None),
        ({"type": "avro"}, 400, None),
    ],
)
def test_bad_updates_change_nothing(
    own: Schemas, body: Any, code: int, message: str | None
) -> None:
    made = own.make()
    own.make("taken")
    refused = own.ams.refused("PUT", own.path("order"), json=body)
    assert refused[0] == code
    assert message in {None, refused[2]}
    assert own.ams.ok("GET", own.path("order")) == made
    assert own.ams.refused("PUT", own.path("none"), json=body)[::2] == (404, "Schema doesn't exist")


def test_a_message_is_validated_without_being_published(own: Schemas) -> None:
    own.make()
    own.make("user", "avro", USER)
    good = {"message": "Message validated successfully"}

    assert own.ams.ok("POST", own.path("order:validate"), body=GOOD) == good
    assert own.ams.ok("POST", own.path("user:validate"), json={"data": encoded(AGE_7_BOB)}) == good
    for path, body, message in (
        ("order", "", "Message 0 data is not valid JSON format,EOF"),
        (
            "order",
            "{}",
            "Message 0 data is not valid.1)(root): id is required.2)(root): email is required.",
        ),
        ("user", "{", "Invalid Request Body"),
        ("user", '{"data": 5}', "Invalid Request Body"),
        ("user", "{}", "Invalid Schema Payload Arguments"),
        (
            "user",
            '{"data": "*"}',
            "Message 0 is not in valid base64 enocding,illegal base64 data at input byte 0",
        ),
        ("user", '{"data": "Dg=="}', "Message 0 is not valid.name: the data ends too early"),
    ):
        assert own.ams.refused("POST", own.path(f"{path}:validate"), body=body)[::2] == (
            400,
            message,
        )


# --- topics -------------------------------------------------------------------------------------


def test_a_topic_with_a_schema_takes_what_follows_it(own: Schemas) -> None:
    own.make()
    topic = own.topic("order")
    wrong = "***"

    assert own.published(topic, encoded(GOOD), encoded(GOOD)) == ["0", "1"]
    for data, said in (
        (
            ['{"id":"x","email":"a@b.co"}'],
            "0 data is not valid,id: Invalid type. Expected: integer, given: string",
        ),
        ([GOOD, '{"email":"a@b.co"}'], "1 data is not valid,(root): id is required"),
        (["{}"], "0 data is not valid.1)(root): id is required.2)(root): email is required."),
        (
            ["nope"],
            "0 data is not valid JSON format,invalid character 'o' in literal null (expecting 'u')",
        ),
    ):
        assert own.published(topic, *map(encoded, data)) == f"Message {said}"
    enocding = "is not in valid base64 enocding,illegal base64 data at input byte 0"
    assert own.published(topic, wrong) == f"Message 0 {enocding}"
    assert own.published(topic, encoded(GOOD), wrong, encoded("{}")) == f"Message 1 {enocding}"
    assert own.published(topic, encoded("[]"), wrong).startswith("Message 0 data is not valid,")
    broken_up = "\n".join((encoded(GOOD)[:8], encoded(GOOD)[8:]))
    assert own.published(topic, broken_up) == ["2"]


def test_schemas_come_to_topics_and_go(own: Schemas) -> None:
    own.make()
    topic = own.topic()
    attach = {"schema": "projects/any/schemas/order"}  # AMS: the path's project counts

    assert own.published(topic, "free") == ["0"]
    assert own.ams.ok("POST", f"{topic}:attachSchema", json=attach) is None
    assert own.shown(topic) == f"{own.prefix}/order"
    assert "valid" in own.published(topic, encoded("{}"))
    for nothing in ("", "{}", '{"schema": ""}', '{"other": "x"}'):
        own.ams.ok("POST", f"{topic}:attachSchema", json=attach)
        assert own.ams.ok("POST", f"{topic}:attachSchema", body=nothing) is None
        assert own.shown(topic) is None
    own.ams.ok("POST", f"{topic}:attachSchema", json=attach)
    for _ in range(2):
        assert own.ams.ok("POST", f"{topic}:detachSchema") is None
        assert own.shown(topic) is None
    own.ams.ok("POST", f"{topic}:attachSchema", json=attach)
    own.ams.ok("DELETE", own.path("order"))
    assert own.shown(topic) is None
    assert own.published(topic, "free") == ["1"]


@pytest.mark.parametrize(
    "body, code, message",
    [
        ({"schema": 5}, 400, "Invalid Request Body"),
        ({"schema": "order"}, 400, "wrong schema name declaration"),
        ({"schema": "projects/p/schemas/none"}, 404, "Schema doesn't exist"),
    ],
)
def test_bad_references(own: Schemas, body: Any, code: int, message: str) -> None:
    topic, missing = own.topic(), own.town.path("/topics/none")
    assert own.ams.refused("POST", f"{topic}:attachSchema", json=body)[::2] == (code, message)
    assert own.ams.refused("PUT", missing, json=body)[::2] == (code, message)
    for verb in ("attachSchema", "detachSchema"):
        refused = own.ams.refused("POST", f"{missing}:{verb}", json=body)
        assert refused[::2] == (404, "Topic doesn't exist")


def test_attributes_have_rules_of_their_own(own: Schemas) -> None:
    rules = {"site": {"required": True, "pattern": "^[A-Z]+$"}, "kind": {"values": ["a", "b"]}}
    made = own.make(schema={}, attributes=rules)
    assert made["attributes"] == rules
    topic = own.topic("order")
    data = encoded("1")

    assert own.published(topic, data, site="CERN", kind="a", more="x") == ["0"]
    assert own.published(topic, data, kind="c") == (
        'Message 0 attributes are not valid.1)kind: must be one of the following: "a", "b".'
        "2)site: is required."
    )
    own.ams.ok("PUT", own.path("order"), json={"attributes": {}})
    assert "attributes" not in own.ams.ok("GET", own.path("order"))
    assert own.published(topic, data, kind="c") == ["1"]


def test_what_is_received_is_what_was_published(own: Schemas) -> None:
    own.make()
    topic, subscription = own.topic("order"), own.town.path("/subscriptions/billing")
    own.ams.ok("PUT", subscription, json={"topic": topic.removeprefix("/")})
    assert own.published(topic, encoded(GOOD), kind="a") == ["0"]

    [received] = own.ams.ok("POST", f"{subscription}:pull", json={})["receivedMessages"]
    shown = received["message"]
    assert (shown["data"], shown["attributes"]) == (encoded(GOOD), {"kind": "a"})


def test_a_schema_that_was_deleted_through_pubsub_leaves_its_topics_shut(own: Schemas) -> None:
    own.make()
    topic = own.topic("order")
    with grpc.insecure_channel(own.ams.grpc) as channel:
        delete = channel.unary_unary(
            "/google.pubsub.v1.SchemaService/DeleteSchema",
            request_serializer=schema_pb2.DeleteSchemaRequest.SerializeToString,
            response_deserializer=empty_pb2.Empty.FromString,
        )
        delete(schema_pb2.DeleteSchemaRequest(name=f"{own.prefix}/order"), timeout=30)

    assert own.shown(topic) is None
    refused = own.ams.refused("POST", f"{topic}:publish", json={"messages": [{"data": ""}]})
    assert refused == (500, "INTERNAL_SERVER_ERROR", "Could not load schema for topic")
    own.ams.ok("POST", f"{topic}:detachSchema")
    assert own.published(topic, "free") == ["0"]
