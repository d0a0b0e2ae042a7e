"""Which changes of a definition make a new revision, and which do not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ams_grpc.schemas.avro import AvroSchema
from ams_grpc.schemas.errors import IncompatibleError
from ams_grpc.schemas.protobuf import Compiled, ProtobufSchema, compile_text

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""The machine may be busy: no example has to be quick."""

INT32 = FieldDescriptorProto.TYPE_INT32
MESSAGE = FieldDescriptorProto.TYPE_MESSAGE
SINGLE = FieldDescriptorProto.LABEL_OPTIONAL


def avro_conflict(one: Any, other: Any) -> str:
    try:
        AvroSchema(json.dumps(one)).check_compatible(AvroSchema(json.dumps(other)))
    except IncompatibleError as error:
        return str(error)
    return ""


def proto_conflict(one: str, other: str) -> str:
    left, right = (ProtobufSchema(compile_text(text)) for text in (one, other))
    try:
        left.check_compatible(right)
    except IncompatibleError as error:
        return str(error)
    return ""


# --- Avro -----------------------------------------------------------------------------------------


def record(*fields: Any, **attributes: Any) -> dict[str, Any]:
    return {"type": "record", "name": "R", "fields": list(fields), **attributes}


def field(name: str, type_: Any = "int", **attributes: Any) -> dict[str, Any]:
    return {"name": name, "type": type_, **attributes}


def enum(*symbols: str, **attributes: Any) -> dict[str, Any]:
    return {"type": "enum", "name": "E", "symbols": list(symbols), **attributes}


A = field("a")
WITH_DEFAULT = field("b", default=1)

FITTING: list[tuple[str, Any, Any]] = [
    ("nothing", record(A), record(A)),
    ("a field with a default", record(A), record(A, WITH_DEFAULT)),
    ("the order of fields", record(A, WITH_DEFAULT), record(WITH_DEFAULT, A)),
    ("documentation", record(A), record(A, doc="text")),
    (
        "names, with aliases on both sides",
        record(field("a", aliases=["b"]), aliases=["S"]),
        record(field("b", aliases=["a"]), name="S", aliases=["R"]),
    ),
    ("the order of a union", ["null", "int"], ["int", "null"]),
    ("string and bytes", "string", "bytes"),
    ("symbols, with defaults", enum("A", default="A"), enum("A", "B", default="A")),
    (
        "deep inside",
        record(field("a", ["null", "R"]), WITH_DEFAULT),
        record(field("a", ["null", "R"])),
    ),
]


@pytest.mark.parametrize("one, other", [pytest.param(*c[1:], id=c[0]) for c in FITTING])
def test_avro_may_change(one: Any, other: Any) -> None:
    assert avro_conflict(one, other) == ""
    assert avro_conflict(other, one) == ""


CLASHING: list[tuple[str, Any, Any, str]] = [
    ("a field without default", record(A), record(A, field("b")), "R.b has no default"),
    ("int to long", record(A), record(field("a", "long")), "R.a: type long"),
    ("a type", record(A), record(field("a", "string")), "not compatible"),
    ("the name", record(A), record(A, name="S"), "not compatible"),
    ("a field's name", record(A), record(field("b")), "has no default"),
    ("a name with one alias", record(A), record(A, name="S", aliases=["R"]), "not compatible"),
    ("symbols", enum("A"), enum("A", "B"), "B is missing in the enum E"),
    ("symbols, default too late", enum("A"), enum("A", "B", default="A"), "B is missing"),
    ("a wider union", ["null", "int"], ["null", "int", "string"], "type string"),
    ("a union from a type", "int", ["null", "int"], "type null"),
    (
        "a fixed's size",
        {"type": "fixed", "name": "F", "size": 1},
        {"type": "fixed", "name": "F", "size": 2},
        "not compatible",
    ),
    (
        "items",
        {"type": "array", "items": "int"},
        {"type": "array", "items": "string"},
        "not compatible",
    ),
    (
        "deep inside",
        record(field("a", ["null", "R"]), field("b", enum("A"))),
        record(field("a", ["null", "R"]), field("b", enum("B"))),
        "is missing in the enum",
    ),
]


@pytest.mark.parametrize("one, other, reason", [pytest.param(*c[1:], id=c[0]) for c in CLASHING])
def test_avro_may_not_change(one: Any, other: Any, reason: str) -> None:
    assert reason in avro_conflict(one, other)
    assert avro_conflict(other, one)


def test_definitions_with_huge_unions_are_not_compared_for_ever() -> None:
    def union(prefix: str) -> Any:
        return [
            "int",
            *({"type": "fixed", "name": f"{prefix}{n}", "size": 1} for n in range(8_000)),
        ]

    assert "too complex" in avro_conflict(union("F"), union("F"))


def test_cycles_of_different_lengths_are_compared() -> None:
    names = ["R", *(f"S{n}" for n in range(20))]

    def cycle(length: int) -> Any:
        inner: Any = ["null", "R"]
        for n in range(length):
            inner = ["null", record(field("next", inner), name=f"S{n}", aliases=names)]
        return record(field("next", inner), aliases=names)

    assert avro_conflict(cycle(7), cycle(10)) == ""


# --- Protocol Buffers -----------------------------------------------------------------------------


def proto3(fields: str, name: str = "A") -> str:
    return f'syntax = "proto3"; message {name} {{ {fields} }}'


def proto2(fields: str) -> str:
    return f'syntax = "proto2"; message A {{ {fields} }}'


PROTO_FITTING: list[tuple[str, str, str]] = [
    ("a field", proto3("string a = 1;"), proto3("string a = 1; int32 b = 2;")),
    ("an optional field", proto2("required string a = 1;"),
     proto2("required string a = 1; optional int32 b = 2;")),
    ("names", proto3("string a = 1;"), proto3("string b = 1;", "B")),
    ("into a oneof", proto3("string a = 1;"), proto3("oneof x { string a = 1; int32 b = 2; }")),
    ("a field of a message in it", proto3("message B { A a = 1; } B b = 1;"),
     proto3("message C { A a = 1; bool x = 2; } C b = 1;")),
    ("the syntax", proto2("optional string a = 1;"), proto3("string a = 1;")),
]  # fmt: skip


@pytest.mark.parametrize("one, other", [pytest.param(*c[1:], id=c[0]) for c in PROTO_FITTING])
def test_protocol_buffers_may_change(one: str, other: str) -> None:
    assert proto_conflict(one, other) == ""
    assert proto_conflict(other, one) == ""


PROTO_CLASHING: list[tuple[str, str, str, str]] = [
    ("a type", proto3("int64 at = 1;"), proto3("string at = 1;"),
     "at of type int64 is not compatible with at of type string"),
    ("a type of the same wire type", proto3("int64 at = 1;"), proto3("int32 at = 1;"),
     "of type int32"),
    ("to repeated", proto3("string a = 1;"), proto3("repeated string a = 1;"),
     "repeated string"),
    ("a map to messages", proto3("map<string, string> a = 1;"),
     proto3("message E { string k = 1; string v = 2; } repeated E a = 1;"), "type map"),
    ("a required field", proto2("optional string a = 1;"),
     proto2("optional string a = 1; required int32 b = 2;"), "A.b is required"),
    ("to required", proto2("optional string a = 1;"), proto2("required string a = 1;"),
     "A.a is required"),
    ("an enum's values", "enum E { X = 0; }", "enum E { X = 0; NEW = 5; }",
     "pkg.A.NEW = 5 is missing in pkg.A.E"),
    ("deep inside", proto3("message B { int32 x = 1; } map<string, B> a = 1;"),
     proto3("message B { bool x = 1; } map<string, B> a = 1;"), "x of type"),
]  # fmt: skip


@pytest.mark.parametrize(
    "one, other, reason", [pytest.param(*c[1:], id=c[0]) for c in PROTO_CLASHING]
)
def test_protocol_buffers_may_not_change(one: str, other: str, reason: str) -> None:
    if one.startswith("enum"):
        one, other = (
            f'syntax = "proto3"; package pkg; message A {{ {text} E e = 1; }}'
            for text in (one, other)
        )

    assert reason in proto_conflict(one, other)
    assert proto_conflict(other, one)


def test_definitions_that_meet_in_too_many_pairs_are_not_compared_for_ever() -> None:
    """Cycles of lengths without a common factor meet in every pair of their messages."""

    def cycle(length: int) -> ProtobufSchema:
        files = FileDescriptorSet()
        file = files.file.add(name="a.proto", syntax="proto3")
        for n in range(length):
            after = f".M{(n + 1) % length}"
            file.message_type.add(name=f"M{n}").field.add(
                name="next", number=1, type=MESSAGE, type_name=after, label=SINGLE
            )
        return ProtobufSchema(Compiled(files.SerializeToString(), "M0"))

    cycle(10).check_compatible(cycle(11))
    one, other = cycle(300), cycle(301)
    with pytest.raises(IncompatibleError, match="too complex"):
        one.check_compatible(other)


@patient
@given(st.lists(st.integers(1, 9), min_size=1, unique=True))
def test_fields_may_come_and_go(numbers: list[int]) -> None:
    """Without the compiler: what counts are the numbers."""
    full = compiled(range(1, 10))
    full.check_compatible(compiled(numbers))
    compiled(numbers).check_compatible(full)


def compiled(numbers: Any) -> ProtobufSchema:
    files = FileDescriptorSet()
    message = files.file.add(name="a.proto", syntax="proto3").message_type.add(name="A")
    for number in numbers:
        message.field.add(name=f"f{number}", number=number, type=INT32, label=SINGLE)
    return ProtobufSchema(Compiled(files.SerializeToString(), "A"))
