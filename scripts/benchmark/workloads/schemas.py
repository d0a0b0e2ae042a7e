"""Publishing to topics that have a schema: each message is validated, and stamped."""

import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Final

import fastavro

from scripts.benchmark import servers, wire
from scripts.benchmark.api import Api
from scripts.benchmark.figures import Result
from scripts.benchmark.publishing import Load
from scripts.benchmark.trial import Trial, Workload
from scripts.benchmark.wire import pb, schema_pb2
from scripts.benchmark.workloads.publish import published

_CALLS: Final = 2000
_PER_CALL: Final = 100
_IN_FLIGHT: Final = 16

_AVRO: Final = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "customer", "type": "string"},
        {"name": "at", "type": "long"},
        {"name": "price", "type": ["null", "double"]},
        {"name": "paid", "type": "boolean"},
    ],
}
_PROTO: Final = """
syntax = "proto3";
message Order { string id = 1; string customer = 2; int64 at = 3; double price = 4; bool paid = 5; }
"""
_ID: Final = "b2d0c4e2-6c1f-4f0e-9a53-2f6d8f7d1c11"
_ORDER: Final[dict[str, Any]] = {
    "id": _ID,
    "customer": "customer-000000001",
    "at": 1_700_000_000_000,
    "price": 12.5,
    "paid": True,
}
_numbers: Final = count(1)


def _avro_json() -> bytes:
    return json.dumps({**_ORDER, "price": {"double": _ORDER["price"]}}).encode()


def _avro_binary() -> bytes:
    stream = io.BytesIO()
    customer = "customer-" + "0" * 40
    fastavro.schemaless_writer(
        stream, fastavro.parse_schema(_AVRO), {**_ORDER, "customer": customer}
    )
    return stream.getvalue()


def _proto_binary() -> bytes:
    """An Order, field by field; there is no generated class for it here."""
    texts = ((0x0A, _ID), (0x12, "customer-" + "0" * 40))
    strings = b"".join(bytes([tag, len(text)]) + text.encode() for tag, text in texts)
    return (
        strings + b"\x18\x80\x90\xc1\xfe\xbc\x31" + b"\x21" + bytes(6) + b"\x29\x40" + b"\x28\x01"
    )


@asynccontextmanager
async def _schema(
    api: Api, topic: str, schema: schema_pb2.Schema, encoding: str
) -> AsyncIterator[None]:
    """Have ``topic`` follow a new schema for the length of the block."""
    schema_id = f"bench-schema-{next(_numbers)}"
    name = f"{wire.PROJECT}/schemas/{schema_id}"
    create = schema_pb2.CreateSchemaRequest(parent=wire.PROJECT, schema_id=schema_id, schema=schema)
    await api.call(wire.CREATE_SCHEMA, create.SerializeToString())
    update = pb.UpdateTopicRequest(
        topic=pb.Topic(
            name=topic, schema_settings=pb.SchemaSettings(schema=name, encoding=encoding)
        )
    )
    update.update_mask.paths.append("schema_settings")
    await api.call(wire.UPDATE_TOPIC, update.SerializeToString())
    try:
        yield
    finally:
        delete = schema_pb2.DeleteSchemaRequest(name=name)
        await api.call(wire.DELETE_SCHEMA, delete.SerializeToString())


def _publish(
    schema: schema_pb2.Schema, encoding: str, data: Callable[[], bytes]
) -> Callable[[Trial], Awaitable[Result]]:
    async def measure(trial: Trial) -> Result:
        async with trial.topic() as (api, topic, _), _schema(api, topic, schema, encoding):
            load = Load(topic, trial.scaled(_CALLS), _IN_FLIGHT, _PER_CALL, data=data())
            return await published(trial, load)

    return measure


_OF_AVRO: Final = schema_pb2.Schema(type=schema_pb2.Schema.AVRO, definition=json.dumps(_AVRO))
_OF_PROTO: Final = schema_pb2.Schema(type=schema_pb2.Schema.PROTOCOL_BUFFER, definition=_PROTO)
_ABOUT: Final = "2,000 batches of 100 {} of 100 B, 16 in flight"

WORKLOADS: Final = (
    Workload(
        "schema-avro-json",
        _ABOUT.format("messages in Avro's JSON"),
        _publish(_OF_AVRO, "JSON", _avro_json),
    ),
    Workload(
        "schema-avro-binary",
        _ABOUT.format("Avro messages"),
        _publish(_OF_AVRO, "BINARY", _avro_binary),
    ),
    Workload(
        "schema-proto-binary",
        _ABOUT.format("protobuf messages"),
        _publish(_OF_PROTO, "BINARY", _proto_binary),
        kinds=(servers.OURS, servers.FLOOR),  # the emulator knows Avro alone
    ),
)
