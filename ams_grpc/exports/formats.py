"""Which format an export has: text by default, or Avro."""

from __future__ import annotations

from collections.abc import Awaitable

from ams_grpc.broker.catalog import Subscription
from ams_grpc.broker.policies import StorageExport
from ams_grpc.exports.buckets import SCHEMA_MISMATCH, DestinationError
from ams_grpc.exports.records import AvroSchema, Format, SchemaOfTopic
from ams_grpc.exports.text import TextFormat


async def format_of(
    export: StorageExport, subscription: Subscription, schema_of_topic: SchemaOfTopic
) -> Format:
    """How the next object of an export is written.

    Raises DestinationError when it is to follow the topic's schema, and there is none that it can.
    """
    if export.avro is None:
        return TextFormat()
    # Imported late: fastavro is for those who use it.
    from ams_grpc.exports.avro import (  # noqa: PLC0415
        MessageFormat,
        TopicSchemaFormat,
        UnfitSchema,
    )

    metadata_of = str(subscription.name) if export.avro.write_metadata else None
    if not export.avro.use_topic_schema:
        return MessageFormat(metadata_of)
    topic_id = subscription.topic_id
    schema = await schema_of_topic(topic_id, "")
    if schema is None:
        raise DestinationError("the topic has no Avro schema", SCHEMA_MISMATCH)

    def schema_of(revision: str) -> Awaitable[AvroSchema | None]:
        return schema_of_topic(topic_id, revision)

    try:
        return TopicSchemaFormat(schema, schema_of, metadata_of)
    except UnfitSchema as error:
        raise DestinationError(str(error), SCHEMA_MISMATCH) from error
