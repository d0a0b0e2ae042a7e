"""How messages become objects."""

from __future__ import annotations

import io
import json
import threading
from datetime import UTC, datetime
from typing import Any

import fastavro
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from ams_grpc.exports import conversion
from ams_grpc.exports.avro import MessageFormat, TopicSchemaFormat, UnfitSchema
from ams_grpc.exports.records import AvroSchema, Format, UnfitMessage
from ams_grpc.exports.text import TextFormat
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb

SUBSCRIPTION = "projects/project/subscriptions/orders-sub"
SCHEMA: AvroSchema = {
    "type": "record",
    "name": "Order",
    "namespace": "shop",
    "fields": [
        {"name": "number", "type": "int"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "note", "type": ["null", "string"], "default": None},
    ],
}


async def written(format_: Format, *blocks: list[bytes]) -> bytes:
    """An object of these messages; its size is what was announced."""
    content = format_.head
    for messages in blocks:
        records = [await format_.record(message) for message in messages]
        most = len(content) + sum(map(len, records)) + format_.overhead
        content += format_.block(records)
        assert len(content) <= most
    return content


def message(data: bytes = b"", **fields: Any) -> bytes:
    return pb.PubsubMessage(data=data, **fields).SerializeToString()


def read(content: bytes) -> tuple[Any, list[Any]]:
    """Schema and records of an Avro file."""
    reader = fastavro.reader(io.BytesIO(content))
    return reader.writer_schema, list(reader)


def avro(schema: Any, value: object) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return out.getvalue()


def of_topic(
    *, metadata: bool = False, schema: AvroSchema = SCHEMA, older: AvroSchema | None = None
) -> TopicSchemaFormat:
    async def schema_of(revision: str) -> AvroSchema | None:
        return older if revision == OLDER["googclient_schemarevisionid"] else None

    return TopicSchemaFormat(schema, schema_of, SUBSCRIPTION if metadata else None)


# --- text ---------------------------------------------------------------------------------------


async def test_text_has_newlines_between_messages_and_none_at_the_end() -> None:
    text = await written(
        TextFormat(), [message(b"1"), message(b"")], [message(b"2\n3", attributes={"a": "b"})]
    )

    assert text == b"1\n\n2\n3"


# --- Avro ---------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.binary(max_size=200), min_size=1, max_size=200), max_size=4))
async def test_avro_files_are_what_others_read(blocks: list[list[bytes]]) -> None:
    content = await written(MessageFormat(None), *([*map(message, block)] for block in blocks))

    schema, records = read(content)

    assert schema == {
        "type": "record",
        "name": "com.google.pubsub.PubsubMessage",
        "fields": [{"name": "data", "type": "bytes"}],
    }
    assert [record["data"] for record in records] == [data for block in blocks for data in block]


async def test_metadata_are_all_that_a_message_has() -> None:
    published = Timestamp(seconds=1_700_000_000, nanos=123_456_000)
    one = message(
        b"1",
        message_id="17",
        publish_time=published,
        attributes={"a": "b"},
        ordering_key="k",
    )

    schema, records = read(await written(MessageFormat(SUBSCRIPTION), [one, message(b"2")]))

    assert schema["name"] == "com.google.pubsub.PubsubMessageWithMetadata"
    assert [field["name"] for field in schema["fields"]] == [
        "subscription_name",
        "message_id",
        "publish_time",
        "attributes",
        "data",
    ]
    assert records[0] == {
        "subscription_name": SUBSCRIPTION,
        "message_id": "17",
        "publish_time": datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC),
        "attributes": {"a": "b", "ordering_key": "k"},
        "data": b"1",
    }
    assert records[1]["attributes"] == {}


# --- the topic's schema -------------------------------------------------------------------------

ORDER = {"number": 7, "at": 1_700_000_000_000_000, "note": "x"}
AS_READ = ORDER | {"at": datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)}
OLDER = {"googclient_schemarevisionid": "0badcafe"}
JSON = {"googclient_schemaencoding": "JSON"}


@pytest.mark.parametrize("parsed", [False, True])
async def test_binary_messages_are_records_as_they_are(parsed: bool) -> None:
    schema: Any = fastavro.parse_schema(SCHEMA) if parsed else SCHEMA

    found, records = read(await written(of_topic(schema=schema), [message(avro(SCHEMA, ORDER))]))

    assert found["name"] == "shop.Order"
    assert records == [AS_READ]


async def test_json_messages_become_records() -> None:
    text = json.dumps(ORDER | {"note": {"string": "x"}}, indent=2).encode()

    _, records = read(await written(of_topic(), [message(text, attributes=JSON)]))

    assert records == [AS_READ]


async def test_metadata_come_after_the_fields_of_the_schema() -> None:
    data = avro(SCHEMA, ORDER)

    schema, records = read(
        await written(
            of_topic(metadata=True),
            [
                message(
                    data, message_id="17", attributes=JSON | {"googclient_schemaencoding": "BINARY"}
                )
            ],
        )
    )

    assert [field["name"] for field in schema["fields"]][2:5] == [
        "note",
        "subscription_name",
        "message_id",
    ]
    assert records[0]["message_id"] == "17"
    assert records[0]["number"] == 7


async def test_messages_of_another_revision_are_converted() -> None:
    older: AvroSchema = {
        "type": "record",
        "name": "Order",
        "namespace": "shop",
        "fields": [
            {"name": "gone", "type": "string"},
            {"name": "number", "type": "int"},
            {"name": "at", "type": "long"},
        ],
    }
    data = avro(older, {"gone": "y", "number": 7, "at": 1_700_000_000_000_000})
    one = message(data, attributes=OLDER)

    _, records = read(await written(of_topic(older=older), [one]))

    assert records == [AS_READ | {"note": None}]


async def test_a_revision_that_is_not_valid_is_a_problem_of_the_message() -> None:
    with pytest.raises(UnfitMessage, match="revision"):
        await of_topic(older={"type": "nothing"}).record(message(b"", attributes=OLDER))


async def test_a_revision_that_is_gone_is_a_problem_of_the_message() -> None:
    one = message(avro(SCHEMA, ORDER), attributes=OLDER)

    with pytest.raises(UnfitMessage, match="revision"):
        await of_topic().record(one)


@given(st.binary(max_size=40), st.booleans())
async def test_what_does_not_follow_the_schema_is_a_problem_of_the_message(
    data: bytes, is_json: bool
) -> None:
    format_ = of_topic()
    try:
        record = await format_.record(message(data, attributes=JSON if is_json else {}))
    except UnfitMessage:
        return
    read(format_.head + format_.block([record]))  # what is written can be read


# --- hostile data -------------------------------------------------------------------------------

NULLS: AvroSchema = {
    "type": "record",
    "name": "R",
    "fields": [{"name": "nulls", "type": {"type": "array", "items": "null"}}],
}
MANY_NULLS = bytes([0x80, 0x80, 0x80, 0x80, 0x80, 0x40, 0])  # 2^40 of them, and the end


@pytest.mark.parametrize("revision", [{}, {"googclient_schemarevisionid": "0badcafe"}])
async def test_a_message_that_claims_no_end_of_nulls_costs_nothing(
    revision: dict[str, str],
) -> None:
    one = message(MANY_NULLS + b"rest", attributes=revision)

    format_ = of_topic(schema=NULLS, older=json.loads(json.dumps(NULLS)))
    try:
        record = await format_.record(one)
    except UnfitMessage:
        return
    assert record == MANY_NULLS


async def test_arrays_without_bytes_are_not_converted() -> None:
    newer = json.loads(json.dumps(NULLS))
    newer["fields"].append({"name": "more", "type": "int", "default": 1})

    with pytest.raises(UnfitMessage, match="Arrays"):
        await of_topic(schema=newer, older=NULLS).record(message(MANY_NULLS, attributes=OLDER))


def items(*fields: dict[str, object]) -> AvroSchema:
    item = {"type": "record", "name": "Item", "fields": list(fields)}
    return {"type": "array", "items": item}


FLAG: dict[str, object] = {"name": "flag", "type": "boolean"}


@pytest.mark.parametrize(
    "limit, count, default", [("MAX_STEPS", 1000, ""), ("MAX_RECORD_BYTES", 10, "x" * 1000)]
)
async def test_a_message_that_grows_without_measure_is_unfit(
    monkeypatch: pytest.MonkeyPatch, limit: str, count: int, default: str
) -> None:
    added: dict[str, object] = {"name": "added", "type": "string", "default": default}
    older, newer = items(FLAG), items(FLAG, added)
    one = message(avro(older, [{"flag": True}] * count), attributes=OLDER)
    expected = avro(newer, [{"flag": True, "added": default}] * count)
    assert await of_topic(schema=newer, older=older).record(one) == expected

    monkeypatch.setattr(f"ams_grpc.exports.conversion.{limit}", 1000)
    with pytest.raises(UnfitMessage, match="too"):
        await of_topic(schema=newer, older=older).record(one)


async def test_what_comes_along_without_bytes_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: list[dict[str, object]] = [{"name": f"n{n}", "type": "null"} for n in range(50)]
    added: dict[str, object] = {"name": "added", "type": "int", "default": 1}
    older, newer = items(FLAG, *nothing), items(FLAG, added)
    one = message(avro(older, [{"flag": True}] * 100), attributes=OLDER)
    monkeypatch.setattr("ams_grpc.exports.conversion.MAX_STEPS", 1000)

    with pytest.raises(UnfitMessage, match="too many"):
        await of_topic(schema=newer, older=older).record(one)


async def test_records_that_double_without_bytes_are_not_converted() -> None:
    last: object = "null"
    for number in range(40):
        fields = [{"name": "a", "type": last}, {"name": "b", "type": f"R{number - 1}"}]
        last = {"type": "record", "name": f"R{number}", "fields": fields[: 2 if number else 1]}
    older: AvroSchema = {
        "type": "record",
        "name": "R",
        "fields": [{"name": "nothings", "type": last}],
    }
    newer: AvroSchema = {
        "type": "record",
        "name": "R",
        "fields": [{"name": "more", "type": "int", "default": 1}],
    }

    with pytest.raises(UnfitMessage, match="do not follow the topic's schema"):
        await of_topic(schema=newer, older=older).record(message(b"", attributes=OLDER))


@pytest.mark.parametrize("kind", ["same", "older", "json"])
async def test_long_messages_are_not_read_on_the_event_loop(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    on: list[threading.Thread] = []
    real_end, real_json = conversion.Definition.record_in, fastavro.json_reader

    def record_in(self: conversion.Definition, data: bytes) -> bytes:
        on.append(threading.current_thread())
        return real_end(self, data)

    def json_reader(*arguments: Any) -> Any:
        on.append(threading.current_thread())
        return real_json(*arguments)

    monkeypatch.setattr(conversion.Definition, "record_in", record_in)
    monkeypatch.setattr(fastavro, "json_reader", json_reader)
    older: AvroSchema = {"type": "array", "items": "int"}
    newer: AvroSchema = {"type": "array", "items": "long"} if kind == "older" else older
    values = [1] * 10_000
    if kind == "json":
        one = message(json.dumps(values).encode(), attributes=JSON)
    else:
        one = message(avro(older, values), attributes=OLDER if kind == "older" else {})

    assert await of_topic(schema=newer, older=older).record(one) == avro(newer, values)

    assert on
    assert threading.main_thread() not in on


async def test_moments_that_python_has_not_are_only_numbers() -> None:
    order = ORDER | {"at": 2**62}
    plain = json.loads(json.dumps(SCHEMA).replace(', "logicalType": "timestamp-micros"', ""))
    text = json.dumps(order | {"note": None}).encode()

    record = await of_topic().record(message(text, attributes=JSON))

    assert record == avro(plain, order | {"note": None})


@pytest.mark.parametrize(
    "schema",
    [
        "string",
        {"type": "record", "name": "R", "fields": [{"name": "message_id", "type": "string"}]},
    ],
)
def test_metadata_need_a_record_that_has_room_for_them(schema: AvroSchema) -> None:
    with pytest.raises(UnfitSchema):
        of_topic(metadata=True, schema=schema)


@pytest.mark.parametrize("metadata", [False, True])
@pytest.mark.parametrize("schema", [{"type": "nothing"}, {"fields": []}])
def test_a_schema_that_is_none_is_refused(schema: AvroSchema, metadata: bool) -> None:
    with pytest.raises(UnfitSchema):
        of_topic(schema=schema, metadata=metadata)
