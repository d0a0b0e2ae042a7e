"""Avro: what is a definition, and which messages follow it. fastavro is the judge."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ams_grpc.schemas.avro import AvroSchema
from ams_grpc.schemas.errors import DefinitionError, MessageError

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""The machine may be busy: no example has to be quick."""

# --- any definition, and any value of it ------------------------------------------------------------

INTS = st.integers(-(2**31), 2**31 - 1)
LONGS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
PRIMITIVES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": INTS,
    "long": LONGS,
    "float": FLOATS,
    "double": FLOATS,
    "bytes": st.binary(max_size=5),
    "string": st.text(max_size=5),
}


@st.composite
def definitions(
    draw: st.DrawFn, depth: int = 3, name: str = "N"
) -> tuple[Any, st.SearchStrategy[Any]]:
    """A definition, and its values as fastavro takes them: unions as pairs of branch and value.

    Names are those of the parts around a type, with one letter more.
    """
    kinds = ["primitive", "fixed", "enum"]
    kinds += ["array", "map", "union", "record"] if depth else []
    match draw(st.sampled_from(kinds)):
        case "primitive":
            primitive = draw(st.sampled_from(sorted(PRIMITIVES)))
            return primitive, PRIMITIVES[primitive]
        case "fixed":
            size = draw(st.integers(0, 3))
            definition = {"type": "fixed", "name": name, "size": size}
            return definition, st.binary(min_size=size, max_size=size)
        case "enum":
            symbols = ["A", "B", "C"][: draw(st.integers(1, 3))]
            definition = {"type": "enum", "name": name, "symbols": symbols}
            return definition, st.sampled_from(symbols)
        case "array":
            items, values = draw(definitions(depth - 1, f"{name}a"))
            return {"type": "array", "items": items}, st.lists(values, max_size=3)
        case "map":
            items, values = draw(definitions(depth - 1, f"{name}a"))
            return {"type": "map", "values": items}, st.dictionaries(
                st.text(max_size=3), values, max_size=3
            )
        case "union":
            return draw(_unions(depth, name))
        case _:
            count = draw(st.integers(0, 3))
            parts = [draw(definitions(depth - 1, f"{name}{'abc'[n]}")) for n in range(count)]
            fields = [{"name": f"f{n}", "type": part[0]} for n, part in enumerate(parts)]
            definition = {"type": "record", "name": name, "fields": fields}
            return definition, st.fixed_dictionaries(
                {f"f{n}": part[1] for n, part in enumerate(parts)}
            )


@st.composite
def _unions(draw: st.DrawFn, depth: int, name: str) -> tuple[Any, st.SearchStrategy[Any]]:
    branches: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {}
    for letter in "abc"[: draw(st.integers(1, 3))]:
        branch = draw(definitions(depth - 1, name + letter))
        label = _label(branch[0])
        if label != "union":
            branches.setdefault(label, branch)
    assume(branches)

    def pairs(label: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.none() if label == "null" else values.map(lambda value: (label, value))

    return [branch[0] for branch in branches.values()], st.one_of(
        [pairs(label, branch[1]) for label, branch in branches.items()]
    )


def _label(definition: Any) -> str:
    if isinstance(definition, list):
        return "union"
    if isinstance(definition, dict):
        return str(definition.get("name", definition["type"]))
    return str(definition)


messages = definitions().flatmap(lambda pair: st.tuples(st.just(pair[0]), pair[1]))


def parsed(definition: Any) -> Any:
    return fastavro.parse_schema(json.loads(json.dumps(definition)))


def binary(definition: Any, value: Any) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, parsed(definition), value)
    return stream.getvalue()


def in_json(definition: Any, value: Any) -> Any:
    """The value in Avro's JSON encoding."""
    match definition:
        case list():
            if value is None:
                return None
            label, inner = value
            [branch] = [each for each in definition if _label(each) == label]
            return {label: in_json(branch, inner)}
        case {"type": "array", "items": items}:
            return [in_json(items, each) for each in value]
        case {"type": "map", "values": values}:
            return {key: in_json(values, each) for key, each in value.items()}
        case {"type": "record", "fields": fields}:
            return {each["name"]: in_json(each["type"], value[each["name"]]) for each in fields}
        case _:
            return value.decode("latin-1") if isinstance(value, bytes) else value


@patient
@given(messages)
def test_what_fastavro_writes_follows_the_definition(message: tuple[Any, Any]) -> None:
    definition, value = message
    schema = AvroSchema(json.dumps(definition))

    schema.check_binary(binary(definition, value))
    schema.check_json(json.dumps(in_json(definition, value)).encode())


@patient
@given(messages, st.data())
def test_data_cut_short_does_not(message: tuple[Any, Any], data: st.DataObject) -> None:
    definition, value = message
    whole = binary(definition, value)
    assume(whole)

    part = whole[: data.draw(st.integers(0, len(whole) - 1))]

    with pytest.raises(MessageError):
        AvroSchema(json.dumps(definition)).check_binary(part)


@patient
@given(messages, st.binary(max_size=40))
def test_what_is_taken_for_a_message_fastavro_can_read(
    message: tuple[Any, Any], data: bytes
) -> None:
    definition, _ = message
    schema = AvroSchema(json.dumps(definition))
    try:
        schema.check_binary(data)
    except MessageError:
        return
    assume(b"null" not in json.dumps(definition).encode())  # fastavro would read them one by one

    fastavro.schemaless_reader(io.BytesIO(data), parsed(definition), None)


@patient
@given(definitions(), st.binary(max_size=100))
def test_random_bytes_are_refused_or_taken_and_nothing_else(
    pair: tuple[Any, Any], data: bytes
) -> None:
    schema = AvroSchema(json.dumps(pair[0]))
    for check in (schema.check_binary, schema.check_json):
        try:
            check(data)
        except MessageError:
            continue


# --- by example -----------------------------------------------------------------------------------

RECORD = {
    "type": "record",
    "name": "Order",
    "namespace": "shop",
    "fields": [
        {"name": "item", "type": "string"},
        {"name": "price", "type": ["null", "double"], "default": None},
        {"name": "next", "type": ["null", "Order"], "default": None},
    ],
}


@pytest.mark.parametrize(
    "message",
    [
        '{"item": "shoe", "price": null, "next": null}',
        '{"next": null, "price": {"double": 1}, "item": "shoe", "extra": [1]}',
        '{"item":"","price":null,"next":{"shop.Order":{"item":"","price":null,"next":null}}}',
    ],
)
def test_avros_json_encoding_is_taken(message: str) -> None:
    AvroSchema(json.dumps(RECORD)).check_json(message.encode())


@pytest.mark.parametrize(
    "message, reason",
    [
        ('{"item": "shoe", "price": null}', "Field was not found in JSON object: next"),
        ('{"item": 1, "price": null, "next": null}', "item: not of type string"),
        ('{"item": "", "price": 1.5, "next": null}', 'price: a union is null, or {"type": value}'),
        ('{"item": "", "price": {"int": 1}, "next": null}', "price: a union has no branch"),
        ('{"item": "", "price": {"null": null}, "next": null}', "price: a union has no branch"),
        (
            '{"item":"","price":null,"next":{"shop.Order":{"item":"","price":null,"next":1}}}',
            "next.next: a union is null",
        ),
        ('{"item": "", "price": null, "next": {"Order": {}}}', "next: a union has no branch"),
        ('{"item": "", "price": null, "next": null} x', "not JSON: unexpected content"),
        ("", "not JSON"),
        ("[]", "no object, as a record is"),
    ],
)
def test_a_reason_names_the_field(message: str, reason: str) -> None:
    with pytest.raises(MessageError) as refusal:
        AvroSchema(json.dumps(RECORD)).check_json(message.encode())

    assert str(refusal.value).startswith(reason)


@pytest.mark.parametrize(
    "definition, good, bad",
    [
        ("int", ["2147483647", "-2147483648"], ["2147483648", "1.0", "true", '"1"', "null"]),
        ("long", ["9223372036854775807"], ["9223372036854775808", "1e3", "NaN"]),
        ("double", ["1", "1.5", "1e300"], ['"1"', "true", "NaN"]),
        ("boolean", ["true"], ["1", "null"]),
        ("bytes", ['"\\u0000\\u00ff"', '""'], ['"\\u0100"', "[1]"]),
        (
            {"type": "fixed", "name": "Two", "size": 2},
            ['"\\u00ffa"'],
            ['"a"', '"abc"', '"a\\u0100"'],
        ),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, ['"A"'], ['"B"', "0", "[]"]),
        ({"type": "array", "items": "int"}, ["[]", "[1]"], ["{}", '["1"]']),
        ({"type": "map", "values": "int"}, ["{}", '{"a": 1}'], ["[]", '{"a": "1"}']),
    ],
)
def test_json_values_have_their_type(definition: Any, good: list[str], bad: list[str]) -> None:
    schema = AvroSchema(json.dumps(definition))
    for message in good:
        schema.check_json(message.encode())
    for message in bad:
        with pytest.raises(MessageError):
            schema.check_json(message.encode())


@pytest.mark.parametrize(
    "definition, good, bad",
    [
        ("int", [b"\xfe\xff\xff\xff\x0f"], [b"\x80\x80\x80\x80\x10", b"", b"\x80"]),
        (
            "long",
            [b"\xfe" + b"\xff" * 8 + b"\x01"],
            [b"\xff" * 10 + b"\x01", b"\xff" * 9 + b"\x7f"],
        ),
        ("boolean", [b"\x00", b"\x01"], [b"\x02", b""]),
        ("string", [b"\x02a", b"\x00", b"\x02a and more"], [b"\x02\xff", b"\x04a", b"\x01"]),
        ("bytes", [b"\x02\xff"], [b"\x04a", b"\x01"]),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, [b"\x02"], [b"\x04", b"\x01"]),
        (["null", "int"], [b"\x00", b"\x02\x02"], [b"\x04", b"\x01", b"\x02"]),
        ({"type": "fixed", "name": "Two", "size": 2}, [b"ab"], [b"a"]),
        (
            {"type": "array", "items": "int"},
            [b"\x00", b"\x02\x02\x00", b"\x01\x02\x02\x00"],
            [b"\x02\x02", b"\x04\x02"],
        ),
    ],
)
def test_binary_values_have_their_type(
    definition: Any, good: list[bytes], bad: list[bytes]
) -> None:
    schema = AvroSchema(json.dumps(definition))
    for message in good:
        schema.check_binary(message)
    for message in bad:
        with pytest.raises(MessageError):
            schema.check_binary(message)


# --- definitions ----------------------------------------------------------------------------------


def record(*fields: Any, **attributes: Any) -> dict[str, Any]:
    return {"type": "record", "name": "R", "fields": list(fields), **attributes}


FIXED = {"type": "fixed", "name": "F", "size": 2}

GOOD: list[Any] = [
    "string",
    {"type": "string"},
    {"type": {"type": "string"}},
    {"type": "string", "logicalType": "no such thing", "whatever": [1]},
    record(),
    record({"name": "f", "type": ["null", "R"]}),
    record({"name": "f", "type": {"type": "array", "items": "R"}}),
    record({"name": "f", "type": FIXED}, {"name": "g", "type": "F"}),
    record({"name": "f", "type": FIXED}, {"name": "g", "type": "a.b.F"}, namespace="a.b"),
    record({"name": "f", "type": "int", "default": 1}),
    record({"name": "f", "type": ["null", "int"], "default": 1}),
    record({"name": "f", "type": FIXED, "default": "\u00ff\u0000"}),
    record({"name": "f", "type": {"type": "map", "values": "int"}, "default": {"a": 1}}),
    record({"name": "f", "type": ["null", "R"], "default": None}, aliases=["a.Old", "Older"]),
    record({"name": "f", "type": record(name="S"), "default": {}}),
    {"type": "enum", "name": "E", "symbols": [], "doc": "nothing"},
    {"type": "enum", "name": "E", "symbols": ["A"], "default": "A"},
]


@pytest.mark.parametrize("definition", GOOD, ids=str)
def test_definitions_of_the_specification_are_taken(definition: Any) -> None:
    AvroSchema(json.dumps(definition))


BAD: list[tuple[Any, str]] = [
    ("date", "unknown type 'date'"),
    (1, "a type is a name, an object or an array"),
    ({}, "a type is a name"),
    ([], "a union is empty"),
    (["int", "int"], "two branches of one type"),
    (["int", ["null"]], "a union is directly in a union"),
    ([{"type": "array", "items": "int"}, {"type": "array", "items": "long"}], "two branches"),
    ({"type": "array"}, "a type is a name"),
    ({"type": "record", "fields": []}, "has no name"),
    ({"type": "record", "name": "R"}, "has no array of fields"),
    (record(name="1R"), "'1R' is no name"),
    (record(name="R-1"), "'R-1' is no name"),
    (record(name="int"), "name of a primitive type"),
    (record(namespace="a..b"), "is no name"),
    (record(namespace=1), "has no name"),
    (record("f"), "is no object"),
    (record({"type": "int"}), "has no valid name"),
    (record({"name": "a.b", "type": "int"}), "has no valid name"),
    (record({"name": "f", "type": "int"}, {"name": "f", "type": "int"}), "two fields f"),
    (record({"name": "f", "type": "R"}), "contains itself without an end"),
    (record({"name": "f", "type": record({"name": "g", "type": "R"}, name="S")}), "itself"),
    (record({"name": "f", "type": record()}), "R is defined twice"),
    (record({"name": "f", "type": "int", "default": "1"}), "default of the field R.f"),
    (record({"name": "f", "type": "int", "default": None}), "default of the field R.f"),
    (record({"name": "f", "type": ["null", "R"], "default": {"f": 1}}), "default of the field R.f"),
    (record(aliases="Old"), "aliases of R"),
    ({"type": "fixed", "name": "F"}, "no valid size"),
    ({"type": "fixed", "name": "F", "size": -1}, "no valid size"),
    ({"type": "fixed", "name": "F", "size": 2**31}, "no valid size"),
    ({"type": "fixed", "name": "F", "size": True}, "no valid size"),
    ({"type": "enum", "name": "E"}, "symbols of an enum"),
    ({"type": "enum", "name": "E", "symbols": ["A", "A"]}, "one of them twice"),
    ({"type": "enum", "name": "E", "symbols": ["a-b"]}, "symbols that are no names"),
    ({"type": "enum", "name": "E", "symbols": ["A"], "default": "B"}, "none of its symbols"),
]


@pytest.mark.parametrize("definition, reason", BAD, ids=lambda value: str(value)[:60])
def test_what_is_no_definition_is_refused_with_a_reason(definition: Any, reason: str) -> None:
    with pytest.raises(DefinitionError) as refusal:
        AvroSchema(json.dumps(definition))

    assert reason in str(refusal.value)


# --- hostile --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"type":' * 100_000,
        '{"type": "array", "items": ' * 200 + '"int"' + "}" * 200,
        json.dumps([record(name=f"R{n}") for n in range(30_000)]),
        '{"type": "string"',
        '"\ud800"'.encode("utf-8", "surrogatepass").decode("utf-8", "replace"),
    ],
    ids=["arrays", "objects", "nesting", "many types", "cut short", "surrogate"],
)
def test_a_hostile_definition_is_refused(text: str) -> None:
    with pytest.raises(DefinitionError):
        AvroSchema(text)


def test_a_long_chain_of_types_is_no_trouble() -> None:
    """Depth that nesting does not show: each record has a field of the record before it."""
    chain: list[Any] = [record({"name": "f", "type": "int"}, name="R0")]
    chain += [record({"name": "f", "type": f"R{n - 1}"}, name=f"R{n}") for n in range(1, 5000)]
    schema = AvroSchema(json.dumps(chain))
    last = b"\x8e\x4e"  # the branch 4999

    with pytest.raises(MessageError, match="nested deeper"):
        schema.check_binary(last + b"\x02")
    schema.check_binary(b"\x02\x02")


def test_messages_are_nested_100_deep_at_most() -> None:
    schema = AvroSchema(json.dumps(record({"name": "f", "type": ["null", "R"]})))

    schema.check_binary(b"\x02" * 100 + b"\x00")
    for data in (b"\x02" * 101 + b"\x00", b"\x02" * 9_000_000):
        with pytest.raises(MessageError, match="nested deeper"):
            schema.check_binary(data)
    for depth in (101, 400):
        with pytest.raises(MessageError, match="nested deeper"):
            schema.check_json(b'{"f":{"R":' * depth + b'{"f":null}' + b"}}" * depth)
    with pytest.raises(MessageError, match="not JSON"):
        schema.check_json(b'{"f":{"R":' * 1_000_000)


def test_nested_arrays_are_checked_with_the_same_bound() -> None:
    inner: Any = "R"
    for _ in range(20):
        inner = {"type": "array", "items": inner}
    schema = AvroSchema(json.dumps(record({"name": "f", "type": inner})))

    with pytest.raises(MessageError, match="nested deeper"):
        schema.check_binary(b"\x02" * 10_000)


@pytest.mark.parametrize(
    "items",
    [
        "null",
        {"type": "fixed", "name": "F", "size": 0},
        record(),
        record({"name": "f", "type": "null"}, {"name": "g", "type": record(name="S")}),
    ],
    ids=["null", "fixed", "empty record", "record of nothing"],
)
def test_an_array_of_quintillions_of_nothing_is_refused(items: Any) -> None:
    """Whoever reads it would make each of them."""
    schema = AvroSchema(json.dumps({"type": "array", "items": items}))

    schema.check_binary(b"\xc0\x9a\x0c\x00")  # 100,000
    for count in (b"\xfe" + b"\xff" * 8 + b"\x01", b"\xff" * 9 + b"\x01\x00"):
        with pytest.raises(MessageError, match="too many values that take no bytes"):
            schema.check_binary(count + b"\x00")


def test_many_arrays_of_nothing_are_counted_together() -> None:
    nothings = {"type": "array", "items": {"type": "array", "items": "null"}}
    schema = AvroSchema(json.dumps(nothings))
    some = b"\xc0\x84\x3d\x00"  # 500,000

    for _ in range(3):  # each message by itself
        schema.check_binary(b"\x04" + some * 2 + b"\x00")
    with pytest.raises(MessageError, match="too many values that take no bytes"):
        schema.check_binary(b"\x06" + some * 3 + b"\x00")


@pytest.mark.parametrize("beside", [[], [{"name": "n", "type": "int"}]], ids=["only", "beside"])
def test_records_of_nothing_count_with_all_that_is_in_them(beside: list[Any]) -> None:
    def doubled(times: int) -> AvroSchema:
        nothings: Any = record(name="R0")
        for n in range(1, times + 1):
            fields = [{"name": "f", "type": nothings}, {"name": "g", "type": f"R{n - 1}"}]
            nothings = record(*fields, name=f"R{n}")
        return AvroSchema(json.dumps(record({"name": "r", "type": nothings}, *beside)))

    doubled(15).check_binary(b"\x02")
    with pytest.raises(MessageError, match="too many values that take no bytes"):
        doubled(59).check_binary(b"\x02")


def test_records_that_double_and_double_take_no_time() -> None:
    chain: list[Any] = [record({"name": "f", "type": "int"}, name="R0")]
    chain += [
        record({"name": "f", "type": f"R{n - 1}"}, {"name": "g", "type": f"R{n - 1}"}, name=f"R{n}")
        for n in range(1, 60)
    ]
    with pytest.raises(MessageError, match="too early"):
        AvroSchema(json.dumps(chain)).check_binary(b"\x76\x02")  # the branch 59


def test_a_default_that_has_to_be_tried_with_every_branch_at_every_depth_is_refused() -> None:
    value: Any = 1
    for _ in range(30):
        value = {"f": value}
    either: Any = ["null", record({"name": "f", "type": ["null", "R", "S"]}, name="S"), "R"]
    definition = record({"name": "f", "type": either, "default": value})

    with pytest.raises(DefinitionError, match="too complex"):
        AvroSchema(json.dumps(definition))


def test_a_gigantic_fixed_takes_no_memory() -> None:
    schema = AvroSchema(json.dumps({"type": "fixed", "name": "F", "size": 2**31 - 1}))

    with pytest.raises(MessageError, match="too early"):
        schema.check_binary(b"x")


@pytest.mark.parametrize("count", [b"\xfe" + b"\xff" * 8 + b"\x01", b"\xff" * 9 + b"\x01\x02"])
def test_an_array_with_a_huge_count_ends_with_its_data(count: bytes) -> None:
    for items in ("int", FIXED, "string"):
        schema = AvroSchema(json.dumps({"type": "array", "items": items}))
        with pytest.raises(MessageError):
            schema.check_binary(count + b"\x02ab")
