"""What AMS does to schemas, as stored: replaced in place, renamed, and taken from topics."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from alembic import command
from sqlalchemy import text

from ams_grpc.broker.errors import Aborted, AlreadyExists
from ams_grpc.broker.names import SchemaName
from ams_grpc.broker.policies import Encoding, SchemaSettings
from ams_grpc.broker.schemas import Definition, Replacement, Schema, SchemaType
from ams_grpc.storage import Storage
from ams_grpc.storage.engine import connect
from ams_grpc.storage.migrate import alembic_config
from tests.storage.world import publish, topic

ORDER = SchemaName("shop", "order")
OTHER = SchemaName("shop", "other")
JSON = Definition(SchemaType.JSON, '{"type":"object"}')
AVRO = Definition(SchemaType.AVRO, '{"type":"int"}')
UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def settings(of: Schema, *, ams: bool = True, first_revision: int = 0) -> SchemaSettings:
    return SchemaSettings(
        of.name, Encoding.JSON, schema_id=of.id, first_revision=first_revision, ams=ams
    )


async def test_one_is_read_as_it_was_made(storage: Storage) -> None:
    made = await storage.schemas.create_schema(ORDER, JSON, '{"site":{}}')
    first = await storage.schemas.create_schema(SchemaName("shop", "a"), AVRO)
    await storage.schemas.create_schema(SchemaName("shop2", "a"), AVRO)

    assert await storage.schemas.schema(ORDER) == made
    assert UUID.fullmatch(made.uuid)
    assert made.uuid != first.uuid
    assert await storage.schemas.attribute_rules(made.id) == '{"site":{}}'
    assert await storage.schemas.attribute_rules(first.id + 100) == ""
    assert await storage.schemas.schemas_of("shop") == [made, first]  # oldest first


async def test_a_replaced_definition_is_the_only_revision_and_topics_follow(
    storage: Storage,
) -> None:
    made = await storage.schemas.create_schema(ORDER, JSON)
    of_ams = await topic(storage, "ams", schema_settings=settings(made))
    bound = settings(made, ams=False, first_revision=made.newest.number)
    of_pubsub = await topic(storage, "pubsub", schema_settings=bound)

    changed = await storage.schemas.replace_schema(made, Replacement(OTHER, AVRO, "{}"))

    assert await storage.schemas.schema(OTHER) == changed
    assert (changed.type, changed.uuid, changed.attributes) == (AVRO.type, made.uuid, "{}")
    [newest] = changed.revisions
    assert newest.definition == AVRO
    assert newest.number > made.newest.number
    assert await storage.schemas.definition(made.newest.number) is None
    expected = SchemaSettings(OTHER, Encoding.JSON, schema_id=made.id)
    for user, then in (
        (of_ams, replace(expected, encoding=Encoding.BINARY, ams=True)),
        (of_pubsub, expected),
    ):
        assert (await storage.catalog.topic(user.name)).config.schema_settings == then
        with pytest.raises(Aborted):  # it was checked for what is no more
            await publish(storage, user, b"\x12\x00")


async def test_a_new_name_leaves_revisions_and_their_bounds(storage: Storage) -> None:
    made = await storage.schemas.create_schema(ORDER, AVRO)
    await storage.schemas.add_revision(made, AVRO)
    made = await storage.schemas.schema(ORDER)
    bound = settings(made, ams=False, first_revision=made.newest.number)
    orders = await topic(storage, "orders", schema_settings=bound)

    renamed = await storage.schemas.replace_schema(made, Replacement(OTHER, None, ""))

    assert renamed.revisions == made.revisions
    assert await storage.schemas.schema(OTHER) == renamed
    shown = (await storage.catalog.topic(orders.name)).config.schema_settings
    assert shown == replace(bound, schema=OTHER)


async def test_a_name_that_is_taken_and_an_old_version_change_nothing(storage: Storage) -> None:
    made = await storage.schemas.create_schema(ORDER, JSON)
    await storage.schemas.create_schema(OTHER, JSON)
    orders = await topic(storage, "orders", schema_settings=settings(made))

    with pytest.raises(AlreadyExists):
        await storage.schemas.replace_schema(made, Replacement(OTHER, AVRO, ""))
    stale = replace(made, version=made.version + 1)
    with pytest.raises(Aborted):
        await storage.schemas.replace_schema(stale, Replacement(ORDER, AVRO, ""))
    assert await storage.schemas.schema(ORDER) == made
    assert await storage.catalog.topic(orders.name) == orders


async def test_topics_may_lose_a_schema_that_is_deleted(storage: Storage) -> None:
    made = await storage.schemas.create_schema(ORDER, JSON)
    orders = await topic(storage, "orders", schema_settings=settings(made))

    await storage.schemas.delete_schema(made, detach=True)

    assert (await storage.catalog.topic(orders.name)).config.schema_settings is None
    with pytest.raises(Aborted):
        await publish(storage, orders, b"\x12\x00")


def test_schemas_that_were_there_before_get_a_uuid(database_url: str) -> None:
    config = alembic_config()
    database = connect(database_url)
    try:
        with database.writer.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "0008")
            connection.execute(
                text(
                    "INSERT INTO schemas (name, project, type, version, created_us)"
                    " VALUES ('projects/shop/schemas/old', 'shop', 'AVRO', 1, 1)"
                )
            )
            command.upgrade(config, "0009")
            [(uuid, attributes)] = connection.execute(text("SELECT uuid, attributes FROM schemas"))
    finally:
        database.close()
    assert UUID.fullmatch(uuid)
    assert attributes == ""
