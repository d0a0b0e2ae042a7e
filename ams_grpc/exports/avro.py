"""Avro files: object containers, block by block (Avro specification, "Object Container Files").

Blocks are put together here, out of records that are encoded one by one: so a record that fails
leaves nothing behind, and the size of a file is known before it is written.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from io import BytesIO
from typing import Any, Final

import fastavro

from ams_grpc.broker.policies import SECOND_US
from ams_grpc.exports.conversion import Definition, convert
from ams_grpc.exports.records import AvroSchema, UnfitMessage
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb

_SYNC_BYTES: Final = 16
_LONGEST_NUMBER: Final = 10
_BLOCK_OVERHEAD: Final = 2 * _LONGEST_NUMBER + _SYNC_BYTES

_ENCODING: Final = "googclient_schemaencoding"
_REVISION: Final = "googclient_schemarevisionid"

_DATA: Final = {"name": "data", "type": "bytes"}
_METADATA: Final = (
    {"name": "subscription_name", "type": "string"},
    {"name": "message_id", "type": "string"},
    {"name": "publish_time", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "attributes", "type": {"type": "map", "values": "string"}},
)
_METADATA_NAMES: Final = {field["name"] for field in _METADATA}
_NAMESPACE: Final = "com.google.pubsub"
_MESSAGE: Final = {
    "type": "record",
    "namespace": _NAMESPACE,
    "name": "PubsubMessage",
    "fields": [_DATA],
}
_MESSAGE_WITH_METADATA: Final = {
    "type": "record",
    "namespace": _NAMESPACE,
    "name": "PubsubMessageWithMetadata",
    "fields": [*_METADATA, _DATA],
}


class UnfitSchema(Exception):
    """No file can be written by this schema."""


class _Container:
    """The parts of a file: all that formats of Avro share."""

    overhead: Final = _BLOCK_OVERHEAD

    def __init__(self, schema: Any) -> None:
        self._sync = secrets.token_bytes(_SYNC_BYTES)
        head = BytesIO()
        fastavro.writer(head, schema, [], sync_marker=self._sync)
        self.head = head.getvalue()

    def block(self, records: Sequence[bytes]) -> bytes:
        body = b"".join(records)
        return b"".join((_number(len(records)), _number(len(body)), body, self._sync))


class MessageFormat(_Container):
    """Records ``PubsubMessage``; with metadata, of ``metadata_of``, a subscription's name.

    They are so simple that they are encoded here, which takes a third of the time.
    """

    def __init__(self, metadata_of: str | None) -> None:
        super().__init__(_MESSAGE if metadata_of is None else _MESSAGE_WITH_METADATA)
        self._metadata_of = None if metadata_of is None else _text(metadata_of)

    async def record(self, message: bytes) -> bytes:
        parsed = pb.PubsubMessage.FromString(message)
        if self._metadata_of is None:
            return _bytes(parsed.data)
        return _metadata(parsed, self._metadata_of) + _bytes(parsed.data)


class TopicSchemaFormat(_Container):
    """Records of the topic's schema, with the metadata as further fields behind its own.

    A message of another revision is converted, by Avro's rules of schema resolution. Raises
    UnfitSchema.
    """

    def __init__(
        self,
        schema: AvroSchema,
        schema_of: Callable[[str], Awaitable[AvroSchema | None]],
        metadata_of: str | None,
    ) -> None:
        definition: Any = _definition(schema)
        try:
            super().__init__(definition if metadata_of is None else _with_metadata(definition))
            self._reader = Definition(definition)
        except UnfitSchema:
            raise
        except Exception as error:  # fastavro raises whatever the definition leads it to
            raise UnfitSchema(
                f"the topic's schema is not valid ({type(error).__name__})"
            ) from error
        self._metadata_of = None if metadata_of is None else _text(metadata_of)
        self._schema_of = schema_of
        self._writers = {"": self._reader}

    async def record(self, message: bytes) -> bytes:
        parsed = pb.PubsubMessage.FromString(message)
        writer = await self._writer(parsed.attributes.get(_REVISION, ""))
        is_json = parsed.attributes.get(_ENCODING) == "JSON"
        record = await convert(parsed.data, writer, self._reader, is_json=is_json)
        if self._metadata_of is None:
            return record
        return record + _metadata(parsed, self._metadata_of)

    async def _writer(self, revision: str) -> Definition:
        """The schema by which a message was written."""
        writer = self._writers.get(revision)
        if writer is None:
            definition = await self._schema_of(revision)
            if definition is None:
                raise UnfitMessage("The revision of its schema is not there any more.")
            try:
                writer = Definition(_definition(definition))
            except Exception as error:
                raise UnfitMessage("The revision of its schema is not valid.") from error
            if writer.parsed == self._reader.parsed:
                writer = self._reader  # so nothing has to be converted
            self._writers[revision] = writer
        return writer


def _metadata(parsed: pb.PubsubMessage, subscription: bytes) -> bytes:
    """The fields ``_METADATA``.

    Pub/Sub: whatever else a message has, such as an ordering key, is among the attributes.
    """
    attributes = dict(parsed.attributes)
    if parsed.ordering_key:
        attributes["ordering_key"] = parsed.ordering_key
    published = parsed.publish_time
    parts = [
        subscription,
        _text(parsed.message_id),
        _number(published.seconds * SECOND_US + published.nanos // 1_000),
    ]
    if attributes:
        parts.append(_number(len(attributes)))
        for key, value in attributes.items():
            parts += (_text(key), _text(value))
    parts.append(_NO_MORE)
    return b"".join(parts)


def _with_metadata(definition: Any) -> Any:
    if not isinstance(definition, dict) or definition.get("type") != "record":
        raise UnfitSchema("metadata can only be added to a topic's schema that is a record")
    if taken := {field["name"] for field in definition["fields"]} & _METADATA_NAMES:
        raise UnfitSchema(f"the topic's schema has a field '{min(taken)}' of its own")
    return definition | {"fields": [*definition["fields"], *_METADATA]}


def _definition(schema: AvroSchema) -> AvroSchema:
    """A schema as its author wrote it, without what fastavro adds in parsing."""
    if isinstance(schema, dict):
        return {
            key: _definition(value) if isinstance(value, (dict, list)) else value
            for key, value in schema.items()
            if not key.startswith("__")
        }
    if isinstance(schema, list):
        return [_definition(part) if isinstance(part, (dict, list)) else part for part in schema]
    return schema


_NO_MORE: Final = b"\0"  # of a map


def _text(text: str) -> bytes:
    return _bytes(text.encode())


def _bytes(data: bytes) -> bytes:
    return _number(len(data)) + data


def _number(number: int) -> bytes:
    """A number of at least 0 as Avro writes a long."""
    if number < 64:
        return _SMALL[number]
    number <<= 1
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


_SMALL: Final = [bytes([2 * number]) for number in range(64)]
