"""Protocol Buffers: what is a definition, and which messages follow it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import (
    any_pb2,  # noqa: F401  # they are looked for in the pool
    descriptor_pool,
    struct_pb2,  # noqa: F401
    timestamp_pb2,
)
from google.protobuf.descriptor_pb2 import (
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ams_grpc.schemas import protobuf, protoc
from ams_grpc.schemas.errors import DefinitionError, MessageError
from ams_grpc.schemas.protobuf import Compiled, ProtobufSchema, compile_text

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""The machine may be busy: no example has to be quick."""

EVERYTHING = """
syntax = "proto3";
package shop;
option java_package = "com.example";

message Order {
  message Item { string name = 1; Item part = 2; }
  enum State { NEW = 0; PAID = 1; }
  string id = 1;
  int64 total = 2;
  bytes raw = 3;
  State state = 4;
  Item first_item = 5;
  repeated Item items = 6;
  map<string, Item> by_name = 7;
  oneof payment { string card = 8; bool cash = 9; }
  optional double discount = 10;
  repeated int32 numbers = 11;
}
"""


@pytest.fixture(scope="module")
def order() -> ProtobufSchema:
    return ProtobufSchema(compile_text(EVERYTHING))


def new(schema: ProtobufSchema, **fields: Any) -> Message:
    return GetMessageClass(schema.descriptor)(**fields)


# --- messages -------------------------------------------------------------------------------------


def test_a_message_of_every_kind_of_field_is_taken(order: ProtobufSchema) -> None:
    message = new(
        order,
        id="1",
        total=-1,
        raw=b"\xff",
        state=1,
        first_item={"name": "shoe", "part": {"name": "lace"}},
        items=[{"name": "shoe"}, {}],
        by_name={"shoe": {"name": "shoe"}},
        card="visa",
        discount=0.5,
        numbers=[1, 2, 3],
    )

    order.check_binary(message.SerializeToString())
    order.check_binary(b"")


INT32 = FieldDescriptorProto.TYPE_INT32
STRING = FieldDescriptorProto.TYPE_STRING
MESSAGE = FieldDescriptorProto.TYPE_MESSAGE
SINGLE = FieldDescriptorProto.LABEL_OPTIONAL

UNKNOWN = b"\xa2\x06\x01x"
"""A field of the number 100."""


def part(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content)]) + content


@pytest.mark.parametrize(
    "data",
    [
        UNKNOWN,
        part(5, UNKNOWN),
        part(5, part(2, part(2, UNKNOWN))),
        part(6, UNKNOWN),
        part(7, part(1, b"key") + part(2, UNKNOWN)),
        part(7, part(1, b"key") + UNKNOWN),
        part(2, b"\x01"),
        b"\x08\x01",
        b"\x0a\x05abc",
        b"\x0a\x01\xff",
        b"\x0f",
        b"\x00",
        b"\xff" * 11,
    ],
    ids=[
        *("at the top", "in a message", "deeper", "in a list", "in a map's value", "in a map"),
        *("another wire type", "another one", "cut short", "no UTF-8", "no wire type", "number 0"),
        "a number that does not end",
    ],
)
def test_unknown_fields_and_wrong_bytes_are_refused_at_any_depth(
    order: ProtobufSchema, data: bytes
) -> None:
    with pytest.raises(MessageError):
        order.check_binary(data)


def test_unknown_values_of_an_enum_are_taken_in_proto3_and_refused_in_proto2(
    order: ProtobufSchema,
) -> None:
    closed = ProtobufSchema(
        compile_text('syntax = "proto2"; message A { enum E { X = 0; } optional E e = 4; }')
    )

    order.check_binary(b"\x20\x63")
    with pytest.raises(MessageError, match="enum values"):
        closed.check_binary(b"\x20\x63")


def test_required_fields_are_required_at_any_depth_in_both_encodings() -> None:
    schema = ProtobufSchema(
        compile_text('syntax = "proto2"; message A { required int32 x = 1; optional A a = 2; }')
    )

    schema.check_binary(b"\x08\x01")
    schema.check_json(b'{"x": 1, "a": {"x": 2}}')
    for data in (b"", b"\x08\x01\x12\x00"):
        with pytest.raises(MessageError, match="required"):
            schema.check_binary(data)
    for text in (b"{}", b'{"x": 1, "a": {}}'):
        with pytest.raises(MessageError, match="required"):
            schema.check_json(text)


def test_groups_are_taken_and_looked_into() -> None:
    schema = ProtobufSchema(
        compile_text(
            'syntax = "proto2"; message A { repeated group G = 1 { optional int32 x = 2; } }'
        )
    )

    schema.check_binary(b"\x0b\x10\x01\x0c")
    for data in (b"\x0b\x18\x01\x0c", b"\x0b\x10\x01", b"\x0b\x10\x01\x14"):
        with pytest.raises(MessageError):
            schema.check_binary(data)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"firstItem": {"name": "a"}},
        {"first_item": {"part": {"part": {}}}},
        {"total": "-5"},
        {"total": -5},
        {"raw": "/w=="},
        {"state": "PAID"},
        {"state": 1},
        {"byName": {"a": {}}},
        {"cash": False, "discount": "NaN"},
        {"id": None},
    ],
    ids=str,
)
def test_the_json_of_proto3_is_taken(order: ProtobufSchema, value: Any) -> None:
    order.check_json(json.dumps(value).encode())


@pytest.mark.parametrize(
    "text",
    [
        '{"unknown": 1}',
        '{"items": [{"unknown": 1}]}',
        '{"total": 1.5}',
        '{"total": 9223372036854775808}',
        '{"id": 1}',
        '{"state": "SOLD"}',
        '{"numbers": 1}',
        '{"card": "a", "cash": true}',
        '{"raw": 1}',
        "[]",
        "1",
        "",
        "{} x",
        '{"firstItem":' + '{"part":' * 2000 + "{}" + "}" * 2001,
        '{"firstItem":' + '{"part":' * 200 + "{}" + "}" * 201,
    ],
)
def test_other_json_is_refused(order: ProtobufSchema, text: str) -> None:
    with pytest.raises(MessageError):
        order.check_json(text.encode())


@patient
@given(data=st.binary(max_size=60))
def test_random_bytes_are_refused_or_taken_and_nothing_else(
    order: ProtobufSchema, data: bytes
) -> None:
    for check in (order.check_binary, order.check_json):
        try:
            check(data)
        except MessageError:
            continue


def test_fields_named_like_methods_do_no_harm() -> None:
    names = ("ByteSize", "IsInitialized", "DiscardUnknownFields", "FromString", "SetInParent")
    fields = " ".join(f"int32 {name} = {n};" for n, name in enumerate(names, 1))
    schema = ProtobufSchema(compile_text(f'syntax = "proto3"; message A {{ {fields} }}'))

    schema.check_binary(b"\x08\x01\x10\x01\x18\x01\x20\x01\x28\x01")
    with pytest.raises(MessageError):
        schema.check_binary(UNKNOWN)
    with pytest.raises(MessageError):
        schema.check_json(b'{"nothing": 1}')
    awkward = ProtobufSchema(
        compile_text('syntax = "proto3"; message A { string DESCRIPTOR = 1; }')
    )
    with pytest.raises(MessageError):
        awkward.check_json(b'{"nothing": 1}')


# --- definitions as text ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        EVERYTHING,
        'edition = "2023"; message A { int32 x = 1 [features.field_presence = IMPLICIT]; }',
        "message A { required int32 x = 1; extensions 100 to 199; }",
        'syntax = "proto3"; /* größer */ message A { reserved 5; }',
    ],
)
def test_one_file_with_one_message_is_a_definition(text: str) -> None:
    compile_text(text)


def test_the_root_is_the_message_with_its_package() -> None:
    assert compile_text(EVERYTHING).root == "shop.Order"


IMPORTS = (
    *("google/protobuf/timestamp.proto", "/etc/passwd", "../../../../etc/passwd"),
    *("schema.proto", "compiled", "file:///etc/passwd"),
)


@pytest.mark.parametrize("path", IMPORTS)
def test_imports_read_nothing(path: str) -> None:
    with pytest.raises(DefinitionError) as refusal:
        compile_text(f'syntax = "proto3"; import "{path}"; message A {{}}')

    assert "root:" not in str(refusal.value)
    assert "/tmp" not in str(refusal.value).replace(path, "")  # noqa: S108  # no path of ours


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        'syntax = "proto3";',
        'syntax = "proto3"; message A {} message B {}',
        'syntax = "proto3"; message A {} enum E { X = 0; }',
        'syntax = "proto3"; message A {} service S { rpc R(A) returns (A); }',
        'syntax = "proto2"; message A { extensions 1; } extend A { optional int32 x = 1; }',
        'syntax = "proto4"; message A {}',
        'edition = "2024"; message A {}',
        'syntax = "proto3"; message A { B b = 1; }',
        'syntax = "proto3"; message A { int32 x = 1; int32 y = 1; }',
        'syntax = "proto3"; message A {\x00}',
        "message A {" * 20_000,
        'syntax = "proto3"; ' + "message A {" * 500 + "}" * 500,
        'syntax = "proto3"; option (a) = {' + "b {" * 50_000,
        'syntax = "proto3"; message A { ' + "map<" * 50_000,
        "/*" * 100_000,
        '"' * 200_000,
    ],
    ids=lambda text: repr(text[:40]),
)
def test_what_is_no_definition_is_refused(text: str) -> None:
    with pytest.raises(DefinitionError):
        compile_text(text)


def test_a_definition_that_imports_is_refused_even_if_the_compiler_found_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = compiled(file("schema.proto", "google/protobuf/timestamp.proto")).descriptors
    monkeypatch.setattr(protobuf, "compile_proto", lambda _text: found)

    with pytest.raises(DefinitionError, match="imports are not supported"):
        compile_text("")


def test_a_large_definition_is_compiled() -> None:
    fields = " ".join(f"int32 f{n} = {n};" for n in range(1, 12_000))
    compile_text(f'syntax = "proto3"; message A {{ {fields} }}')


def test_a_compiler_that_takes_too_long_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protoc, "TIMEOUT_S", 0.0)

    with pytest.raises(DefinitionError, match="takes too long"):
        compile_text('syntax = "proto3"; message A {}')


@pytest.mark.parametrize(
    "code, reason",
    [
        ("bytearray(1 << 29)", "compiling it failed"),
        ("while True: pass", "too much time or memory"),
        ("open('out', 'wb').write(bytes(1 << 27))", "failed|too much"),
    ],
)
def test_the_compilers_process_may_use_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, reason: str
) -> None:
    """The limits hold for whatever runs in it, here: a program in the compiler's place."""
    child = Path(protoc.__file__).with_name("protoc_child.py").read_text()
    before, limits, _ = child.partition("        resource.setrlimit(limit, (most, most))\n")
    changed = tmp_path / "child.py"
    changed.write_text(
        before.replace("RLIMIT_CPU: 5", "RLIMIT_CPU: 1")
        + limits
        + f"    os.chdir(folder)\n    {code}\n    open('compiled', 'wb')\n\nmain(sys.argv[1])\n"
    )
    monkeypatch.setattr(protoc, "_CHILD", changed)

    with pytest.raises(DefinitionError, match=reason):
        compile_text('syntax = "proto3"; message A {}')


# --- compiled definitions ---------------------------------------------------------------------------


def field(
    name: str, number: int, kind: Any = INT32, type_name: str | None = None
) -> FieldDescriptorProto:
    return FieldDescriptorProto(
        name=name, number=number, type=kind, type_name=type_name, label=SINGLE
    )


def file(name: str, *imports: str, package: str = "", fields: Any = ()) -> FileDescriptorProto:
    made = FileDescriptorProto(name=name, package=package, syntax="proto3", dependency=imports)
    made.message_type.add(name="A", field=fields)
    return made


def compiled(*files: FileDescriptorProto, root: str = "A") -> Compiled:
    return Compiled(FileDescriptorSet(file=files).SerializeToString(), root)


def test_files_may_come_in_any_order() -> None:
    imported = FileDescriptorProto(name="b", package="b")
    for files in ((file("a", "b"), imported), (imported, file("a", "b"))):
        ProtobufSchema(compiled(*files))


def test_a_set_may_bring_googles_own_types_along() -> None:
    own = FileDescriptorProto.FromString(timestamp_pb2.DESCRIPTOR.serialized_pb)
    at = field("at", 1, MESSAGE, ".google.protobuf.Timestamp")
    schema = ProtobufSchema(compiled(file("a", own.name, fields=[at]), own))

    schema.check_json(b'{"at": "2026-01-01T00:00:00Z"}')
    with pytest.raises(MessageError):
        schema.check_json(b'{"at": "yesterday"}')


def test_a_set_may_not_bring_types_that_only_look_like_googles() -> None:
    fake = FileDescriptorProto(name="t", package="google.protobuf", syntax="proto3")
    fake.message_type.add(name="Timestamp").field.append(field("x", 1))

    with pytest.raises(DefinitionError, match="is not Google's"):
        ProtobufSchema(compiled(fake, root="google.protobuf.Timestamp"))


@pytest.mark.parametrize(
    "given",
    [
        Compiled(b"", "A"),
        Compiled(b"\xff", "A"),
        compiled(file("a"), root=""),
        compiled(file("a"), root="B"),
        compiled(file("a", "missing")),
        compiled(file("a", "a")),
        compiled(file("a", "b"), file("b", "a", package="b")),
        compiled(file("a"), file("b")),
        compiled(file("a", fields=[field("x y", 1)])),
        compiled(file("a", fields=[field("x", 0)])),
        compiled(file("a", fields=[field("x", 1, MESSAGE, ".B")])),
        Compiled(bytes(3_000_000), "A"),
        compiled(*(file(f"{n}", f"{n + 1}", package=f"p{n}") for n in range(600)), file("600")),
    ],
)
def test_what_is_no_set_of_files_is_refused(given: Compiled) -> None:
    with pytest.raises(DefinitionError):
        ProtobufSchema(given)


def test_a_chain_of_messages_that_is_too_long_is_refused() -> None:
    chain = FileDescriptorProto(name="a")
    for n in range(3000):
        chain.message_type.add(name=f"M{n}").field.append(field("x", 1, MESSAGE, f".M{n + 1}"))
    chain.message_type.add(name="M3000")

    with pytest.raises(DefinitionError, match="nested too deep"):
        ProtobufSchema(compiled(chain, root="M0"))


def test_definitions_do_not_meet_each_other_or_ours() -> None:
    for package in ("google.pubsub.v1", "x"):
        for kind in (INT32, STRING):
            fields = [field("x", 1, kind)]
            given = file("google/pubsub/v1/pubsub.proto", package=package, fields=fields)
            ProtobufSchema(compiled(given, root=f"{package}.A"))


# --- memory -----------------------------------------------------------------------------------------


def bomb() -> ProtobufSchema:
    """A message of two bytes on the wire has a place for a thousand fields in memory."""
    fields = [field(f"f{n}", n) for n in range(2, 1000)]
    inner = field("a", 1, MESSAGE, ".A")
    inner.label = FieldDescriptorProto.LABEL_REPEATED
    return ProtobufSchema(compiled(file("a", fields=[inner, *fields])))


def test_a_message_that_would_explode_in_memory_is_refused_before_it_is_parsed() -> None:
    schema = bomb()

    schema.check_binary(b"\x0a\x00" * 1000)
    with pytest.raises(MessageError, match="too many messages inside"):
        schema.check_binary(b"\x0a\x00" * 4_000_000)
    with pytest.raises(MessageError, match="too many messages inside"):
        schema.check_binary(b"\x0b\x0c" * 4_000_000)  # the same, as groups


def test_a_large_message_that_is_harmless_is_taken() -> None:
    schema = bomb()
    data = b"\x0a\x02\x10\x01" * 1000 + b"\x10\x01" * 100_000

    schema.check_binary(data)


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\xff\xff\xff\xff\x7f", b"\x0a\x00\x0c", b"\x0b"])
def test_large_messages_of_wrong_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(MessageError):
        bomb().check_binary(data * 1_000_000)


def nested(fields: str, inner: int = 1000) -> ProtobufSchema:
    """A message with ``fields``, which may be of the type B, that has so many fields."""
    numbers = " ".join(f"int32 f{n} = {n};" for n in range(1, inner + 1))
    text = f'syntax = "proto3"; message A {{ message B {{ {numbers} }} {fields} }}'
    return ProtobufSchema(compile_text(text))


HEAVY_JSON: list[tuple[str, str, bytes]] = [
    ("in a list", "repeated B b = 1;", b'{"b": [%s]}' % b",".join([b"{}"] * 10_000)),
    (
        "by its other name",
        'repeated B b = 1 [json_name = "other"];',
        b'{"other": [%s]}' % b",".join([b"{}"] * 10_000),
    ),
    (
        "in a map",
        "map<string, B> b = 1;",
        b'{"b": {%s}}' % b",".join(b'"%d": {}' % n for n in range(1000)),
    ),
    (
        "at a depth",
        "repeated A a = 1; B b = 2;",
        b'{"a": [%s]}' % b",".join([b'{"a": [{"b": {}}]}'] * 1000),
    ),
    (
        "of a map's entries",
        "repeated M m = 1; message M { map<string, B> b = 1; }",
        b'{"m": [%s]}' % b",".join([b'{"b": {"x": {}}}'] * 1000),
    ),
]


@pytest.mark.parametrize("fields, data", [pytest.param(*c[1:], id=c[0]) for c in HEAVY_JSON])
def test_json_that_would_explode_is_refused_before_it_is_parsed(fields: str, data: bytes) -> None:
    with pytest.raises(MessageError, match="too many messages inside"):
        nested(fields).check_json(data)


def test_ten_megabytes_of_json_that_would_explode_are_refused() -> None:
    data = b'{"b": [%s]}' % b",".join([b"{}"] * 3_300_000)

    for inner in (1, 1000):
        with pytest.raises(MessageError, match="too many messages inside"):
            nested("repeated B b = 1;", inner).check_json(data)


@pytest.mark.parametrize(
    "fields, data",
    [
        ("repeated B b = 1;", b'{"b": [%s]}' % b",".join([b"{}"] * 200)),
        ("map<string, B> b = 1;", b'{"b": {%s}}' % b",".join(b'"%d": {}' % n for n in range(200))),
        (
            "repeated M m = 1; message M { string name = 1; double price = 2; }",
            b'{"m": [%s]}' % b",".join([b'{"name": "x", "price": 1}'] * 50_000),
        ),
        ("repeated int32 n = 1; B b = 2;", b'{"n": [%s], "b": {}}' % b",".join([b"1"] * 50_000)),
        (
            "map<string, int32> n = 1;",
            b'{"n": {%s}}' % b",".join(b'"%d":1' % n for n in range(9999)),
        ),
    ],
    ids=["heavy ones", "in a map", "light ones", "numbers", "a map of numbers"],
)
def test_large_json_that_is_harmless_is_taken(fields: str, data: bytes) -> None:
    nested(fields).check_json(data)


def test_json_with_all_of_many_fields_is_taken_unless_looking_for_them_takes_long() -> None:
    def every(inner: int) -> bytes:
        return b'{"b": {%s}}' % b",".join(b'"f%d": 1' % n for n in range(1, inner + 1))

    nested("B b = 1;", 2000).check_json(every(2000))
    with pytest.raises(MessageError, match="or fields"):
        nested("B b = 1;", 9000).check_json(every(9000))


def test_values_of_googles_own_types_count_in_json() -> None:
    given = ("any", "struct", "timestamp")
    known = [descriptor_pool.Default().FindFileByName(f"google/protobuf/{n}.proto") for n in given]
    copies = [FileDescriptorProto.FromString(each.serialized_pb) for each in known]
    parts = [
        field("any", 1, MESSAGE, ".google.protobuf.Any"),
        field("value", 2, MESSAGE, ".google.protobuf.Value"),
        field("at", 3, MESSAGE, ".google.protobuf.Timestamp"),
        field("b", 4, MESSAGE, ".B"),
    ]
    parts[3].label = FieldDescriptorProto.LABEL_REPEATED
    main = file("a", *(each.name for each in copies), fields=parts)
    heavy = main.message_type.add(name="B")
    heavy.field.extend(field(f"f{n}", n) for n in range(1, 1000))
    schema = ProtobufSchema(compiled(*copies, main))

    def any_of(name: str, inside: str) -> bytes:
        return b'{"any": {"@type": "x.com/%s", %s}}' % (name.encode(), inside.encode())

    schema.check_json(b'{"value": [1, {"a": null}, "x"], "at": "2026-01-01T00:00:00Z"}')
    schema.check_json(any_of("A", '"b": [{}, {}], "at": "2026-01-01T00:00:00Z"'))
    schema.check_json(any_of("google.protobuf.Value", '"value": [1, 2]'))
    schema.check_json(any_of("google.protobuf.Any", '"value": {"@type": "x.com/B", "f1": 1}'))
    empty = ",".join(["{}"] * 1000)
    for data in (
        b'{"value": [%s]}' % b",".join([b"1"] * 50_000),
        b'{"value": {"x": [%s]}}' % b",".join([b"{}"] * 50_000),
        any_of("A", f'"b": [{empty}]'),
        any_of("google.protobuf.Any", f'"value": {{"@type": "x.com/A", "b": [{empty}]}}'),
        any_of("google.protobuf.Value", f'"value": [{",".join(["1"] * 50_000)}]'),
    ):
        with pytest.raises(MessageError, match="too many messages inside"):
            schema.check_json(data)


def test_the_entry_of_a_map_counts_in_json_where_it_is_a_message_like_others() -> None:
    text = """syntax = "proto3";
    message A { message H { %s } message B { repeated H h = 1; } map<string, B> m = 1; }"""
    made = compile_text(text % " ".join(f"int32 f{n} = {n};" for n in range(1, 1000)))
    entry = ProtobufSchema(Compiled(made.descriptors, "A.MEntry"))

    entry.check_json(b'{"key": "x", "value": {"h": [{}, {}]}}')
    with pytest.raises(MessageError, match="too many messages inside"):
        entry.check_json(b'{"key": "x", "value": {"h": [%s]}}' % b",".join([b"{}"] * 1000))


def test_extensions_count_in_json_by_any_of_their_names() -> None:
    numbers = " ".join(f"optional int64 f{n} = {n};" for n in range(1, 1000))
    schema = ProtobufSchema(
        compile_text(
            f'syntax = "proto2"; message A {{ message B {{ {numbers} }} extensions 100 to 200; '
            "extend A { repeated B ext = 100; optional int64 n = 101; } }"
        )
    )

    schema.check_json(b'{"[A.ext]": [{}, {}], "[A.n]": 1}')
    schema.check_json(b'{"[A.ext.x]": [{"f1": 1}]}')
    for name in (b"[A.ext]", b"[A.ext.x]"):
        with pytest.raises(MessageError, match="too many messages inside"):
            schema.check_json(b'{"%s": [%s]}' % (name, b",".join([b"{}"] * 10_000)))
    with pytest.raises(MessageError, match="or fields"):
        schema.check_json(b"{%s}" % b",".join(b'"[A.n.x%d]": 1' % n for n in range(20_000)))


def test_a_reason_does_not_list_all_of_many_fields() -> None:
    with pytest.raises(MessageError) as refusal:
        nested("B b = 1;").check_json(b'{"b": {"nothing": 1}}')

    assert 'no field named "nothing"' in str(refusal.value)
    assert len(str(refusal.value)) <= 1000
