"""Schemas and their revisions as stored, and what topics see of them."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from ams_grpc.broker.catalog import Topic, TopicConfig
from ams_grpc.broker.errors import Aborted, AlreadyExists, NotFound
from ams_grpc.broker.names import SchemaName, TopicName
from ams_grpc.broker.policies import Encoding, SchemaSettings
from ams_grpc.broker.schemas import Definition, Schema, SchemaType
from ams_grpc.broker.topics import Topics
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.services.definitions import CompiledDefinitions
from ams_grpc.services.gate import SchemaGate
from ams_grpc.services.messages import payload_of
from ams_grpc.storage import Storage
from tests.storage.world import PATIENCE_S, ManualClock, busy_writer, publish, topic

ORDER = SchemaName("shop", "order")
AVRO = Definition(SchemaType.AVRO, '"größer"\r\n')
PROTO = Definition(SchemaType.PROTOCOL_BUFFER, "", b"\x00\xff", "shop.Order")


def nth(number: int) -> Definition:
    return Definition(SchemaType.AVRO, f'"{number}"')


async def schema(storage: Storage, revisions: int = 1) -> Schema:
    made = await storage.schemas.create_schema(ORDER, nth(1))
    for number in range(2, revisions + 1):
        await storage.schemas.add_revision(made, nth(number))
        made = await storage.schemas.schema(ORDER)
    return made


async def topic_with(storage: Storage, of: Schema, name: str = "orders") -> Topic:
    settings = SchemaSettings(of.name, Encoding.JSON, schema_id=of.id)
    return await topic(storage, name, schema_settings=settings)


async def read(storage: Storage, of: Topic) -> Topic:
    return await storage.catalog.topic(of.name)


class TestSchemas:
    @pytest.mark.parametrize("definition", [AVRO, PROTO])
    async def test_one_is_read_as_it_was_made(
        self, storage: Storage, clock: ManualClock, definition: Definition
    ) -> None:
        made = await storage.schemas.create_schema(ORDER, definition)

        assert await storage.schemas.schema(ORDER) == made
        assert (made.name, made.type, made.newest.definition) == (
            ORDER,
            definition.type,
            definition,
        )
        assert made.newest.created_us == clock.us
        assert re.fullmatch("[0-9a-f]{8}", made.newest.id)
        assert await storage.schemas.definition(made.newest.number) == definition

    async def test_one_that_exists_is_not_made_again(self, storage: Storage) -> None:
        made = await schema(storage)
        with pytest.raises(AlreadyExists, match="order"):
            await storage.schemas.create_schema(ORDER, AVRO)
        assert await storage.schemas.schema(ORDER) == made

    async def test_one_that_is_missing_is_not_found(self, storage: Storage) -> None:
        with pytest.raises(NotFound, match="order"):
            await storage.schemas.schema(ORDER)

    async def test_one_made_again_is_another_one(self, storage: Storage) -> None:
        old = await schema(storage, revisions=2)
        await storage.schemas.delete_schema(old)

        new = await schema(storage)

        assert new.id > old.id
        assert new.newest.number > old.newest.number
        assert await storage.schemas.definition(old.newest.number) is None
        assert await storage.schemas.revision_ids(old.id) == []

    @pytest.mark.parametrize("with_definitions", [True, False])
    async def test_a_page_shows_the_newest_revision_of_each(
        self, storage: Storage, *, with_definitions: bool
    ) -> None:
        names = [SchemaName("shop", f"schema-{letter}") for letter in "bca"]
        for name in names:
            made = await storage.schemas.create_schema(name, nth(1))
            await storage.schemas.add_revision(made, nth(2))
        await storage.schemas.create_schema(SchemaName("shop2", "other"), nth(1))

        page = await storage.schemas.schemas(
            "shop", str(names[2]), 5, with_definitions=with_definitions
        )

        assert [each.name for each in page] == [names[0], names[1]]
        [newest] = page[0].revisions
        expected = nth(2) if with_definitions else Definition(SchemaType.AVRO)
        assert newest.definition == expected


class TestRevisions:
    async def test_they_are_read_newest_first(self, storage: Storage) -> None:
        made = await schema(storage, revisions=4)

        texts = [revision.definition.text for revision in made.revisions]
        assert texts == ['"4"', '"3"', '"2"', '"1"']
        assert len({revision.id for revision in made.revisions}) == 4
        assert await storage.schemas.revision_ids(made.id) == [
            (revision.number, revision.id) for revision in made.revisions
        ]

    async def test_each_is_later_than_the_last_whatever_the_clock_says(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        made = await schema(storage)
        clock.advance(-5_000_000)

        later = await storage.schemas.add_revision(made, AVRO)

        assert later.created_us == made.newest.created_us + 1

    async def test_a_number_is_never_used_again(self, storage: Storage) -> None:
        made = await schema(storage, revisions=2)
        await storage.schemas.delete_revision(made, made.newest)

        new = await storage.schemas.add_revision(await storage.schemas.schema(ORDER), AVRO)

        assert new.number > made.newest.number

    async def test_a_change_that_rests_on_an_old_version_is_refused(self, storage: Storage) -> None:
        old = await schema(storage)
        await storage.schemas.add_revision(old, AVRO)

        for change in (
            storage.schemas.add_revision(old, AVRO),
            storage.schemas.delete_revision(old, old.newest),
            storage.schemas.delete_schema(old),
        ):
            with pytest.raises(Aborted):
                await change
        assert len((await storage.schemas.schema(ORDER)).revisions) == 2

    async def test_of_two_changes_at_once_one_succeeds(self, storage: Storage) -> None:
        made = await schema(storage)
        async with busy_writer(storage.commits):
            results = asyncio.gather(
                storage.schemas.add_revision(made, nth(2)),
                storage.schemas.add_revision(made, nth(3)),
                return_exceptions=True,
            )
            await asyncio.sleep(0)
        assert sorted(type(result).__name__ for result in await results) == ["Aborted", "Revision"]


class TestTopics:
    async def test_every_change_of_the_schema_makes_what_is_known_of_its_topics_stale(
        self, storage: Storage
    ) -> None:
        made = await schema(storage)
        users = [await topic_with(storage, made, name) for name in ("orders", "bills")]
        other = await topic(storage, "plain")

        async def add() -> None:
            await storage.schemas.add_revision(await storage.schemas.schema(ORDER), AVRO)

        async def remove() -> None:
            current = await storage.schemas.schema(ORDER)
            await storage.schemas.delete_revision(current, current.newest)

        async def delete() -> None:
            await storage.schemas.delete_schema(await storage.schemas.schema(ORDER))

        for change in (add, remove, delete):
            await change()
            for place, user in enumerate(users):
                with pytest.raises(Aborted):
                    await publish(storage, user, b"\x12\x00")
                users[place] = await read(storage, user)
                await publish(storage, users[place], b"\x12\x00")
        assert await read(storage, other) == other

    async def test_what_was_appended_in_the_same_transaction_before_the_change_is_stored(
        self, storage: Storage
    ) -> None:
        made = await schema(storage)
        orders = await topic_with(storage, made)
        async with busy_writer(storage.commits):
            before = storage.commits.append(orders, b"\x12\x00", 1)
            change = asyncio.ensure_future(storage.schemas.add_revision(made, AVRO))
            await asyncio.sleep(0)
            after = storage.commits.append(orders, b"\x12\x00", 1)

        assert (await before).first_seq >= 0
        await change
        with pytest.raises(Aborted):
            await after

    async def test_a_deleted_schema_is_shown_as_none(self, storage: Storage) -> None:
        made = await schema(storage)
        orders = await topic_with(storage, made)

        await storage.schemas.delete_schema(made)
        await schema(storage)  # of the same name

        [listed] = await storage.catalog.topics("shop", "", 10)
        for shown in (await read(storage, orders), listed):
            assert shown.config.schema_settings is not None
            assert shown.config.schema_settings.schema is None
            assert shown.config.schema_settings.encoding is Encoding.JSON

    async def test_changing_something_else_does_not_bring_it_back(self, storage: Storage) -> None:
        made = await schema(storage)
        orders = await topic_with(storage, made)
        await storage.schemas.delete_schema(made)
        orders = await read(storage, orders)

        await storage.catalog.update_topic(orders, orders.config)

        shown = await read(storage, orders)
        assert shown.config.schema_settings is not None
        assert shown.config.schema_settings.schema is None

    async def test_a_schema_that_is_gone_cannot_be_given_to_a_topic(self, storage: Storage) -> None:
        made = await schema(storage)
        plain = await topic(storage, "plain")
        await storage.schemas.delete_schema(made)
        await schema(storage)

        with pytest.raises(NotFound, match="Schema could not be found"):
            await topic_with(storage, made)
        settings = SchemaSettings(made.name, Encoding.JSON, schema_id=made.id)
        with pytest.raises(NotFound, match="Schema could not be found"):
            await storage.catalog.update_topic(plain, TopicConfig(schema_settings=settings))
        assert await read(storage, plain) == plain
        with pytest.raises(NotFound):
            await storage.catalog.topic(TopicName("shop", "orders"))

    async def test_a_topic_that_takes_its_schema_away_is_not_told_of_changes(
        self, storage: Storage
    ) -> None:
        made = await schema(storage)
        orders = await topic_with(storage, made)
        orders = await storage.catalog.update_topic(orders, TopicConfig())

        await storage.schemas.add_revision(made, AVRO)

        assert await read(storage, orders) == orders


class Nobody:
    """Subscriptions that there are none of."""

    async def topic_changed(self, _topic_id: int) -> None:
        return None


CHANGES = 12


async def test_while_the_schema_changes_each_message_follows_what_is_there_when_it_is_stored(
    storage: Storage,
) -> None:
    """Publishers and changes at once: the log shows who came first, and what was checked then."""
    definition = Definition(SchemaType.AVRO, '"int"')
    made = await storage.schemas.create_schema(ORDER, definition)
    orders = await topic_with(storage, made)
    nobody: Any = Nobody()
    gate = SchemaGate(storage.schemas, CompiledDefinitions())
    topics = Topics(storage.catalog, storage.commits, nobody, gate, schemas=storage.schemas)
    payload = payload_of([b"\x0a\x011"])
    number_of = {made.newest.id: made.newest.number}
    newest_at: list[tuple[int, int]] = []  # from this seq on, that number is the newest

    async def publish_all_the_time() -> None:
        while len(newest_at) < CHANGES:
            await topics.publish(orders.name, payload, 1)

    async def change_the_schema() -> None:
        added = await storage.schemas.add_revision(await storage.schemas.schema(ORDER), definition)
        number_of[added.id] = added.number
        newest_at.append((await storage.log.next_seq(orders.id), added.number))
        current = await storage.schemas.schema(ORDER)
        await storage.schemas.delete_revision(current, current.revisions[-1])
        await topics.publish(orders.name, payload, 1)

    async with asyncio.timeout(PATIENCE_S):
        publishers = [asyncio.ensure_future(publish_all_the_time()) for _ in range(4)]
        for _ in range(CHANGES):
            await change_the_schema()
        await asyncio.gather(*publishers)

    followed: list[tuple[int, str]] = []
    for batch in await storage.log.read(orders.id, 0, 1 << 30):
        messages = pb.PublishRequest.FromString(batch.payload).messages
        followed += [
            (batch.first_seq + place, message.attributes["googclient_schemarevisionid"])
            for place, message in enumerate(messages)
        ]
    assert len(followed) >= CHANGES
    for seq, revision_id in followed:
        newest = max((number for start, number in newest_at if start <= seq), default=0)
        assert number_of[revision_id] >= newest
