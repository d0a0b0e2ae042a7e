"""Schemas, through Google's own SchemaServiceClient: definitions, revisions, views, deletion."""

from __future__ import annotations

import re
from typing import Any

import pytest
from google.api_core import exceptions
from google.protobuf import descriptor_pb2
from google.pubsub_v1 import SchemaServiceClient, types

from tests.clients.pubsub import PubSub
from tests.clients.schemas import AVRO, BASIC, FULL, PROTO, avro, avro_record, proto, schemas_of

REVISION_ID = re.compile(r"[0-9a-f]{8}")


@pytest.fixture
def schemas(pubsub: PubSub) -> SchemaServiceClient:
    return schemas_of(pubsub)


def create(
    schemas: SchemaServiceClient, pubsub: PubSub, schema_id: str = "order", **fields: Any
) -> types.Schema:
    schema = types.Schema(**fields or {"type_": AVRO, "definition": avro_record("a")})
    return schemas.create_schema(parent=pubsub.path, schema=schema, schema_id=schema_id)


def commit(
    schemas: SchemaServiceClient, name: str, definition: str, type_: Any = AVRO
) -> types.Schema:
    schema = types.Schema(name=name, type_=type_, definition=definition)
    return schemas.commit_schema(name=name, schema=schema)


# --- one schema -----------------------------------------------------------------------------------


@pytest.mark.parametrize("type_, definition", [(AVRO, avro_record("a")), (PROTO, proto("A"))])
def test_a_schema_is_returned_as_it_was_defined(
    pubsub: PubSub, schemas: SchemaServiceClient, type_: Any, definition: str
) -> None:
    made = create(schemas, pubsub, type_=type_, definition=definition, name="ignored")

    assert made.name == f"{pubsub.path}/schemas/order"
    assert (made.type_, made.definition) == (type_, definition)
    assert REVISION_ID.fullmatch(made.revision_id)
    assert made.revision_create_time is not None
    assert schemas.get_schema(name=made.name) == made
    assert schemas.get_schema(name=f"{made.name}@{made.revision_id}") == made


def test_the_basic_view_leaves_the_definition_out(
    pubsub: PubSub, schemas: SchemaServiceClient
) -> None:
    made = create(schemas, pubsub)

    shown = schemas.get_schema(request={"name": made.name, "view": BASIC})

    assert shown.definition == ""
    assert shown.revision_id == made.revision_id
    assert shown.type_ == AVRO


def test_a_schema_that_exists_is_not_created_again(
    pubsub: PubSub, schemas: SchemaServiceClient
) -> None:
    create(schemas, pubsub)

    with pytest.raises(exceptions.AlreadyExists, match=r"\(resource=order\)\.$"):
        create(schemas, pubsub)


@pytest.mark.parametrize("schema_id", ["ab", "goog-order", "a@b", "1abc", "a" * 256])
def test_a_schema_needs_a_valid_id(
    pubsub: PubSub, schemas: SchemaServiceClient, schema_id: str
) -> None:
    with pytest.raises(exceptions.InvalidArgument, match="Invalid resource name given"):
        create(schemas, pubsub, schema_id)


def test_what_is_missing_is_not_found(pubsub: PubSub, schemas: SchemaServiceClient) -> None:
    missing = f"{pubsub.path}/schemas/order"

    for call in (
        lambda: schemas.get_schema(name=missing),
        lambda: list(schemas.list_schema_revisions(name=missing)),
        lambda: commit(schemas, missing, avro_record("a")),
        lambda: schemas.rollback_schema(name=missing, revision_id="00000000"),
        lambda: schemas.delete_schema_revision(name=f"{missing}@00000000"),
        lambda: schemas.delete_schema(name=missing),
    ):
        with pytest.raises(
            exceptions.NotFound, match=r"^404 Resource not found \(resource=order\)"
        ):
            call()


@pytest.mark.parametrize("name", ["order@", "order@a@b", "order@a/b", "or"])
def test_the_name_of_a_revision_has_one_at_sign(
    pubsub: PubSub, schemas: SchemaServiceClient, name: str
) -> None:
    with pytest.raises(exceptions.InvalidArgument, match="Invalid resource name given"):
        schemas.get_schema(name=f"{pubsub.path}/schemas/{name}")


# --- definitions ----------------------------------------------------------------------------------

COMPILED = descriptor_pb2.FileDescriptorSet(
    file=[
        descriptor_pb2.FileDescriptorProto(
            name="money.proto",
            package="shop",
            syntax="proto3",
            message_type=[descriptor_pb2.DescriptorProto(name="Money")],
        ),
        descriptor_pb2.FileDescriptorProto(
            name="order.proto",
            package="shop",
            syntax="proto3",
            dependency=["money.proto"],
            message_type=[
                descriptor_pb2.DescriptorProto(
                    name="Order",
                    field=[
                        descriptor_pb2.FieldDescriptorProto(
                            name="price",
                            number=1,
                            type=descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE,
                            type_name=".shop.Money",
                            label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
                        )
                    ],
                ),
                descriptor_pb2.DescriptorProto(name="Bill"),
            ],
        ),
    ]
)


def compiled(root: str, *files: int) -> types.CompiledProtoSchema:
    chosen = [COMPILED.file[place] for place in files]
    content = descriptor_pb2.FileDescriptorSet(file=chosen).SerializeToString()
    return types.CompiledProtoSchema(root_message=root, compiled_bytes=content)


def test_a_compiled_definition_may_have_several_files_and_messages(
    pubsub: PubSub, schemas: SchemaServiceClient
) -> None:
    given = compiled("shop.Order", 1, 0)

    made = create(schemas, pubsub, type_=PROTO, compiled_proto_schema=given)

    assert made.compiled_proto_schema == given
    assert made.definition == ""
    shown = schemas.get_schema(request={"name": made.name, "view": BASIC})
    assert "compiled_proto_schema" not in shown


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("no type", {"definition": avro_record("a")}, "^400 Invalid schema type"),
    ("nothing", {"type_": AVRO}, "^400 Could not parse schema definition"),
    ("no proto", {"type_": PROTO}, "^400 Could not parse schema definition"),
    ("no JSON", {"type_": AVRO, "definition": "{"}, "^400 Could not parse schema definition"),
    ("no Avro", {"type_": AVRO, "definition": '"date"'}, "^400 Could not parse schema definition"),
    ("syntax", {"type_": PROTO, "definition": "message {"}, r"1:9: Expected message name"),
    (
        "two messages",
        {"type_": PROTO, "definition": 'syntax="proto3"; message A {} message B {}'},
        "one top-level message",
    ),
    (
        "an import",
        {"type_": PROTO, "definition": 'import "google/protobuf/any.proto"; message A {}'},
        "^400 Could not parse schema definition",
    ),
    (
        "too large",
        {"type_": AVRO, "definition": '"string"' + " " * 307_200},
        "The value for definition is too large. You passed 307208 in the request",
    ),
    (
        "both forms",
        {"type_": PROTO, "definition": proto("A"), "compiled_proto_schema": compiled("a", 0)},
        "mutually exclusive",
    ),
    (
        "compiled Avro",
        {"type_": AVRO, "compiled_proto_schema": compiled("shop.Money", 0)},
        "compiled_proto_schema is for Protocol Buffers",
    ),
    (
        "a root beside Avro",
        {
            "type_": AVRO,
            "definition": avro_record("a"),
            "compiled_proto_schema": types.CompiledProtoSchema(root_message="A"),
        },
        "compiled_proto_schema is for Protocol Buffers",
    ),
    (
        "a root beside text",
        {
            "type_": PROTO,
            "definition": proto("A"),
            "compiled_proto_schema": types.CompiledProtoSchema(root_message="A"),
        },
        "mutually exclusive",
    ),
    (
        "a long root",
        {
            "type_": PROTO,
            "compiled_proto_schema": types.CompiledProtoSchema(
                root_message="A" * 1_025, compiled_bytes=b"\x0a\x00"
            ),
        },
        "The value for root_message is too large. You passed 1025 in the request",
    ),
    (
        "no root",
        {"type_": PROTO, "compiled_proto_schema": compiled("shop.Nothing", 0)},
        "the root message is not in the definition",
    ),
    (
        "missing dependency",
        {"type_": PROTO, "compiled_proto_schema": compiled("shop.Order", 1)},
        "a file that is imported is missing",
    ),
    (
        "not compiled",
        {
            "type_": PROTO,
            "compiled_proto_schema": types.CompiledProtoSchema(
                root_message="A", compiled_bytes=b"\xff\xff"
            ),
        },
        "the bytes are no FileDescriptorSet",
    ),
]


@pytest.mark.parametrize("fields, text", [pytest.param(*bad[1:], id=bad[0]) for bad in BAD])
def test_what_is_no_definition_is_refused_by_create_commit_and_validate(
    pubsub: PubSub, schemas: SchemaServiceClient, fields: dict[str, Any], text: str
) -> None:
    of_type = PROTO if fields.get("type_") == PROTO else AVRO
    definition = proto("A") if of_type == PROTO else avro_record("a")
    existing = create(schemas, pubsub, "existing", type_=of_type, definition=definition)
    schema = types.Schema(**fields)

    for call in (
        lambda: create(schemas, pubsub, **fields),
        lambda: schemas.commit_schema(name=existing.name, schema=schema),
        lambda: schemas.validate_schema(parent=pubsub.path, schema=schema),
    ):
        with pytest.raises(exceptions.InvalidArgument, match=text):
            call()
    assert [each.name for each in schemas.list_schemas(parent=pubsub.path)] == [existing.name]


def test_a_valid_definition_is_validated_and_not_stored(
    pubsub: PubSub, schemas: SchemaServiceClient
) -> None:
    for type_, definition in ((AVRO, '"string"'), (PROTO, proto("A"))):
        schema = types.Schema(type_=type_, definition=definition)
        reply = schemas.validate_schema(parent=pubsub.path, schema=schema)
        assert reply == types.ValidateSchemaResponse()

    assert list(schemas.list_schemas(parent=pubsub.path)) == []


# --- revisions ------------------------------------------------------------------------------------


def test_each_commit_is_a_revision_and_the_newest_is_the_schema(
    pubsub: PubSub, schemas: SchemaServiceClient
) -> None:
    first = create(schemas, pubsub)
    second = commit(schemas, first.name, avro_record("a", b=1))
    again = commit(schemas, first.name, avro_record("a", b=1))

    assert len({first.revision_id, second.revision_id, again.revision_id}) == 3
    times: list[Any] = [each.revision_create_time for each in (first, second, again)]
    assert times[0] < times[1] < times[2]
    assert schemas.get_schema(name=first.name) == again
    assert schemas.get_schema(name=f"{first.name}@{second.revision_id}") == second


def test_revisions_are_listed_newest_first_without_definitions_unless_asked(
    pubsub: PubSub, schemas: SchemaServiceClient
) -> None:
    made = [create(schemas, pubsub)]
    made += [commit(schemas, made[0].name, avro_record("a")) for _ in range(4)]
    made.reverse()

    basic = list(schemas.list_schema_revisions(name=made[0].name))
    full = list(
        schemas.list_schema_revisions(request={"name": made[0].name, "view": FULL, "page_size": 2})
    )

    assert [each.revision_id for each in basic] == [each.revision_id for each in made]
    assert [each.definition for each in basic] == [""] * 5
    assert full == made


def test_schemas_are_listed_by_name_with_their_newest_revisions(
    pubsub: PubSub, schemas: SchemaServiceClient
) -> None:
    names = [create(schemas, pubsub, f"schema-{number:02}").name for number in range(25)]
    newest = commit(schemas, names[3], avro_record("a", b=1))

    basic = list(schemas.list_schemas(request={"parent": pubsub.path, "page_size": 10}))
    full = list(schemas.list_schemas(request={"parent": pubsub.path, "view": FULL}))

    assert [each.name for each in basic] == names
    assert {each.definition for each in basic} == {""}
    assert [each.name for each in full] == names
    assert full[3] == newest


def test_a_rollback_is_a_new_revision_with_an_old_definition(
    pubsub: PubSub, schemas: SchemaServiceClient
) -> None:
    first = create(schemas, pubsub)
    commit(schemas, first.name, avro_record("a", b=1))

    back = schemas.rollback_schema(name=first.name, revision_id=first.revision_id)

    assert back.definition == first.definition
    assert back.revision_id != first.revision_id
    assert len(list(schemas.list_schema_revisions(name=first.name))) == 3
    with pytest.raises(exceptions.NotFound, match=r"^404 Revision not found$"):
        schemas.rollback_schema(name=first.name, revision_id="00000000")
    with pytest.raises(exceptions.InvalidArgument, match=r"\(argument=revision_id\)"):
        schemas.rollback_schema(name=first.name, revision_id="")


def test_there_are_at_most_20_revisions(pubsub: PubSub, schemas: SchemaServiceClient) -> None:
    first = create(schemas, pubsub)
    for _ in range(19):
        schemas.rollback_schema(name=first.name, revision_id=first.revision_id)

    full = "^429 Already at maximum number of schema revisions$"
    with pytest.raises(exceptions.ResourceExhausted, match=full):
        commit(schemas, first.name, avro_record("a"))
    with pytest.raises(exceptions.ResourceExhausted, match=full):
        schemas.rollback_schema(name=first.name, revision_id=first.revision_id)


def test_a_deleted_revision_is_returned_and_gone(
    pubsub: PubSub, schemas: SchemaServiceClient
) -> None:
    first = create(schemas, pubsub)
    second = commit(schemas, first.name, avro_record("a", b=1))
    third = commit(schemas, first.name, avro_record("a"))

    assert schemas.delete_schema_revision(name=f"{first.name}@{third.revision_id}") == third
    assert schemas.get_schema(name=first.name) == second
    with pytest.raises(exceptions.NotFound, match=r"^404 Schema revision not found$"):
        schemas.get_schema(name=f"{first.name}@{third.revision_id}")
    deprecated = {"name": first.name, "revision_id": second.revision_id}
    assert schemas.delete_schema_revision(request=deprecated) == second
    with pytest.raises(exceptions.InvalidArgument, match=r"^400 Cannot delete last revision"):
        schemas.delete_schema_revision(name=f"{first.name}@{first.revision_id}")
    assert schemas.get_schema(name=first.name) == first


@pytest.mark.parametrize(
    "change", [avro_record("a", "b"), avro_record(), avro_record("a", a_type="long")]
)
def test_a_revision_that_does_not_fit_an_earlier_one_is_refused(
    pubsub: PubSub, schemas: SchemaServiceClient, change: str
) -> None:
    first = create(schemas, pubsub)

    with pytest.raises(exceptions.InvalidArgument) as refusal:
        commit(schemas, first.name, change)

    text = refusal.value.message
    assert text.startswith(
        "Compatibility checking failed to commit a schema revision for "
        f'(schema="{first.name}"). (reason="Revision is incompatible with previous revision: '
        f"{first.revision_id}. Failed with error: "
    )
    assert text.endswith(
        "). Refer to https://cloud.google.com/pubsub/docs/schemas for more information."
    )
    assert len(list(schemas.list_schema_revisions(name=first.name))) == 1


def test_a_revision_must_fit_all_earlier_ones_not_only_the_newest(
    pubsub: PubSub, schemas: SchemaServiceClient
) -> None:
    with_number, without, with_text = (
        f'syntax = "proto3"; message A {{ string a = 1; {field} }}'
        for field in ("int64 at = 2;", "", "string at = 2;")
    )
    first = create(schemas, pubsub, type_=PROTO, definition=with_number)
    commit(schemas, first.name, without, PROTO)

    with pytest.raises(exceptions.InvalidArgument) as refusal:
        commit(schemas, first.name, with_text, PROTO)

    assert f"previous revision: {first.revision_id}." in refusal.value.message
    assert "at of type string is not compatible with at of type int64" in refusal.value.message


def test_a_commit_keeps_type_and_name(pubsub: PubSub, schemas: SchemaServiceClient) -> None:
    first = create(schemas, pubsub)

    with pytest.raises(exceptions.InvalidArgument, match="Invalid schema type"):
        commit(schemas, first.name, proto("A"), PROTO)
    other = types.Schema(
        name=f"{pubsub.path}/schemas/other", type_=AVRO, definition=avro_record("a")
    )
    with pytest.raises(exceptions.InvalidArgument, match=r"schema\.name"):
        schemas.commit_schema(name=first.name, schema=other)


def test_a_deleted_schema_is_gone_with_its_revisions(
    pubsub: PubSub, schemas: SchemaServiceClient
) -> None:
    first = create(schemas, pubsub)
    with pytest.raises(exceptions.InvalidArgument, match="Invalid resource name given"):
        schemas.delete_schema(name=f"{first.name}@{first.revision_id}")

    schemas.delete_schema(name=first.name)

    assert list(schemas.list_schemas(parent=pubsub.path)) == []
    again = create(schemas, pubsub)
    assert again.revision_id != first.revision_id
    with pytest.raises(exceptions.NotFound, match="Schema revision not found"):
        schemas.get_schema(name=f"{first.name}@{first.revision_id}")


# --- ValidateMessage ------------------------------------------------------------------------------


def test_a_message_is_held_against_a_stored_schema_a_revision_or_a_given_one(
    pubsub: PubSub, schemas: SchemaServiceClient
) -> None:
    first = create(schemas, pubsub)
    commit(schemas, first.name, avro_record("a", b=1))

    def validate(message: bytes, **against: Any) -> None:
        schemas.validate_message(
            request={"parent": pubsub.path, "message": message, "encoding": "JSON", **against}
        )

    validate(b'{"a": 1}', name=f"{first.name}@{first.revision_id}")
    validate(b'{"a": 1}', schema={"type_": AVRO, "definition": avro_record("a")})
    validate(b'{"a": 1, "b": 2}', name=first.name)
    with pytest.raises(exceptions.InvalidArgument) as refusal:
        validate(b'{"a": 1}', name=first.name)
    assert refusal.value.message == (
        "Could not parse JSON Avro message: Field was not found in JSON object: b"
    )
    assert refusal.value.reason == "INVALID_JSON_AVRO_MESSAGE"
    assert refusal.value.domain == "pubsub.googleapis.com"


@pytest.mark.parametrize(
    "fields, error, text",
    [
        ({"encoding": "JSON"}, exceptions.InvalidArgument, "Either name or schema"),
        (
            {"schema": {"type_": AVRO, "definition": '"string"'}},
            exceptions.InvalidArgument,
            r"^400 No encoding provided\.",
        ),
        (
            {"name": "projects/p/schemas/missing", "encoding": "JSON"},
            exceptions.NotFound,
            r"\(resource=missing\)",
        ),
        (
            {
                "schema": {"type_": AVRO, "definition": '"string"'},
                "encoding": "BINARY",
                "message": b"\x04a",
            },
            exceptions.InvalidArgument,
            "^400 Could not parse binary Avro message",
        ),
        (
            {
                "schema": {"type_": PROTO, "definition": proto("A")},
                "encoding": "BINARY",
                "message": b"\x7a\x01a",
            },
            exceptions.InvalidArgument,
            "^400 Could not parse binary Protocol Buffer message",
        ),
    ],
)
def test_a_message_that_cannot_be_validated_is_an_error(
    pubsub: PubSub, schemas: SchemaServiceClient, fields: dict[str, Any], error: Any, text: str
) -> None:
    with pytest.raises(error, match=text):
        schemas.validate_message(request={"parent": pubsub.path, **fields})


def test_an_avro_definition_comes_back_byte_for_byte(
    pubsub: PubSub, schemas: SchemaServiceClient
) -> None:
    definition = f"\n\t{avro('a', doc='größer')}  \n"

    made = create(schemas, pubsub, type_=AVRO, definition=definition)

    assert schemas.get_schema(name=made.name).definition == definition


HOSTILE: list[tuple[Any, str]] = [
    (AVRO, "[" * 300_000),
    (AVRO, '{"type":' * 30_000),
    (AVRO, '{"type": "record", "name": "R", "fields": [{"name": "f", "type": "R"}]}'),
    (AVRO, '{"__fastavro_parsed__": true, "type": "record"}'),
    (PROTO, "message A {" * 25_000),
    (PROTO, 'import "/etc/passwd"; message A {}'),
    (PROTO, 'import "../../../../../../etc/passwd"; message A {}'),
    (PROTO, "/*" * 150_000),
]


@pytest.mark.parametrize("type_, definition", HOSTILE, ids=lambda value: str(value)[:30])
def test_hostile_definitions_are_refused_and_harm_nobody(
    pubsub: PubSub, schemas: SchemaServiceClient, type_: Any, definition: str
) -> None:
    with pytest.raises(exceptions.InvalidArgument, match="Could not parse schema definition") as no:
        create(schemas, pubsub, type_=type_, definition=definition)

    assert "root:" not in no.value.message
    assert pubsub.publish(pubsub.topic(), b"as ever")


def test_hostile_messages_are_refused_and_harm_nobody(
    pubsub: PubSub, schemas: SchemaServiceClient
) -> None:
    tree = '{"type": "record", "name": "R", "fields": [{"name": "f", "type": ["null", "R"]}]}'
    proto_tree = proto(
        "A", "repeated A a = 1; " + " ".join(f"int32 f{n} = {n};" for n in range(2, 99))
    )
    for type_, definition, encoding, message in (
        (AVRO, tree, "BINARY", b"\x02" * 5_000_000),
        (AVRO, tree, "JSON", b'{"f":{"R":' * 500_000),
        (PROTO, proto_tree, "BINARY", b"\x0a\x00" * 2_500_000),
        (PROTO, proto_tree, "BINARY", b"\x0b" * 5_000_000),
        (PROTO, proto_tree, "JSON", b'{"a":[' * 800_000),
        (PROTO, proto_tree, "JSON", b'{"a":[%s]}' % b",".join([b"{}"] * 1_600_000)),
        (AVRO, '"string"', "BINARY", b"\xff" * 5_000_000),
        (AVRO, '{"type": "array", "items": "null"}', "BINARY", b"\xfe\xff\xff\xff\x0f\x00"),
        (AVRO, '"string"', "JSON", b" " * 10_000_001),
    ):
        with pytest.raises(exceptions.InvalidArgument):
            schemas.validate_message(
                request={
                    "parent": pubsub.path,
                    "schema": {"type_": type_, "definition": definition},
                    "encoding": encoding,
                    "message": message,
                }
            )

    assert pubsub.publish(pubsub.topic(), b"as ever")
