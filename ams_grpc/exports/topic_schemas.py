"""The Avro schema that a topic's messages follow, for objects that are to follow it, too."""

from __future__ import annotations

import json

from ams_grpc.broker.schemas import SchemaCatalog, SchemaType
from ams_grpc.exports.records import AvroSchema, SchemaOfTopic


def schema_of_topic(catalog: SchemaCatalog) -> SchemaOfTopic:
    """Looks in the catalog each time: a revision may come or go at any moment."""

    async def find(topic_id: int, revision_id: str) -> AvroSchema | None:
        settings = await catalog.settings_of_topic(topic_id)
        if settings is None or settings.schema is None:
            return None
        for number, known_id in await catalog.revision_ids(settings.schema_id):  # newest first
            if known_id == revision_id or (not revision_id and settings.admits(number)):
                definition = await catalog.definition(number)
                if definition is None or definition.type is not SchemaType.AVRO:
                    return None
                parsed: AvroSchema = json.loads(definition.text)
                return parsed
        return None

    return find
