"""What is made in a project while that is being deleted or renamed: it goes along, or is not made."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from typing import Any, Final, TypeAlias
from uuid import uuid4

import pytest
from sqlalchemy import Connection, text

from ams_grpc.auth.records import Project
from ams_grpc.broker.ams_schemas import AmsSchemas
from ams_grpc.broker.catalog import SubscriptionConfig, TopicConfig
from ams_grpc.broker.errors import Aborted, NotFound, ProjectGone
from ams_grpc.broker.names import SchemaName, SnapshotName, SubscriptionName, TopicName
from ams_grpc.broker.schemas import Definition, SchemaType
from ams_grpc.pb.ams.v1 import pubsub_pb2, schemas_pb2
from ams_grpc.services.ams.push import PushDesk
from ams_grpc.services.ams.schemas import SchemaRoom, TopicSchemas
from ams_grpc.services.ams.subscriptions import SubscriptionResources
from ams_grpc.services.ams.topics import TopicResources
from ams_grpc.services.definitions import CompiledDefinitions
from ams_grpc.storage import Storage, failures, houses, open_storage, writer
from tests.storage.world import (
    DAY_US,
    PATIENCE_S,
    ManualClock,
    broker_on,
    busy_writer,
    cursor,
    eventually,
    publish,
    subscription,
    topic,
)

Make: TypeAlias = Callable[[Storage, bool], Awaitable[object]]
"""Makes something in the project `shop`, which has to be registered, or need not be."""
End: TypeAlias = Callable[[Storage], Awaitable[object]]

ORDERS, BILLING = TopicName("depot", "orders"), SubscriptionName("depot", "billing")
"""Of another project, which stays: what is made in `shop` has no other hold on it."""


async def make_topic(storage: Storage, registered: bool) -> None:
    name = TopicName("shop", "late")
    await storage.catalog.create_topic(name, TopicConfig(), registered=registered)


async def make_subscription(storage: Storage, registered: bool) -> None:
    name = SubscriptionName("shop", "late")
    await storage.catalog.create_subscription(
        name, ORDERS, SubscriptionConfig(), registered=registered
    )


async def make_snapshot(storage: Storage, registered: bool) -> None:
    name = SnapshotName("shop", "late")
    source = await storage.catalog.subscription(BILLING)
    state, expire_us = await storage.catalog.cursor(source), ManualClock().us + DAY_US
    await storage.catalog.create_snapshot(name, source, state, expire_us, {}, registered=registered)


async def make_schema(storage: Storage, registered: bool) -> None:
    name, definition = SchemaName("shop", "late"), Definition(SchemaType.AVRO, '"string"')
    await storage.schemas.create_schema(name, definition, registered=registered)


async def delete(storage: Storage) -> None:
    await storage.accounts.delete_project("shop")


async def rename(storage: Storage) -> None:
    await storage.accounts.change_project(
        "shop", lambda project: replace(project, name="store"), joins=False
    )


MAKERS: Final = (make_topic, make_subscription, make_snapshot, make_schema)
every_end = pytest.mark.parametrize("end", [delete, rename])
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


async def found_a_shop(storage: Storage) -> None:
    await storage.accounts.create_project(Project(uuid4().hex, "shop"), "")


async def is_inhabited(storage: Storage, project: str) -> bool:
    return await storage.readers.run(lambda connection: houses.is_inhabited(project, connection))


@pytest.fixture(autouse=True)
async def depot(storage: Storage) -> None:
    topic = await storage.catalog.create_topic(ORDERS, TopicConfig())
    await storage.catalog.create_subscription(BILLING, topic.name, SubscriptionConfig())


async def begun(storage: Storage, count: int) -> None:
    """Wait until so many writes are handed in."""
    await eventually(lambda: len(storage.commits._items) == count)


@every_end
async def test_nothing_is_made_in_a_project_that_ended_a_moment_ago(
    storage: Storage, end: End
) -> None:
    await found_a_shop(storage)
    async with busy_writer(storage.commits):
        ending = asyncio.ensure_future(end(storage))
        await begun(storage, 1)
        making = [asyncio.ensure_future(make(storage, True)) for make in MAKERS]
        await begun(storage, 1 + len(MAKERS))
    await ending
    for each in making:
        with pytest.raises(ProjectGone, match=r"^Resource not found \(resource=shop\)\.$"):
            await each
    assert not await is_inhabited(storage, "shop")


async def test_where_projects_are_but_a_part_of_names_none_is_needed(storage: Storage) -> None:
    for make in MAKERS:
        await make(storage, False)
    for list_of in (
        storage.catalog.topics,
        storage.catalog.subscriptions,
        storage.catalog.snapshots,
    ):
        assert [each.name.id for each in await list_of("shop", "", 10)] == ["late"]
    assert [each.name.id for each in await storage.schemas.schemas_of("shop")] == ["late"]


# --- two nodes, which SQLite does not have ------------------------------------------------------------


@pytest.fixture
async def node(storage: Storage, address: str, clock: ManualClock) -> AsyncIterator[Storage]:
    """A second node on the database of the first."""
    async with open_storage(address, clock) as opened:
        yield opened


@asynccontextmanager
async def uncommitted(
    storage: Storage, work: Awaitable[Any], *rest: Awaitable[Any]
) -> AsyncIterator[None]:
    """Inside, the work is done in a transaction; in the end the rest is, and it is committed."""
    done, release = threading.Event(), threading.Event()

    def wait(_connection: Connection) -> None:
        done.set()
        release.wait(PATIENCE_S)

    async with busy_writer(storage.commits):  # so that both are in one transaction
        working = asyncio.ensure_future(work)
        await begun(storage, 1)
        waiting = asyncio.ensure_future(storage.commits.run(wait))
        await begun(storage, 2)
        following = [asyncio.ensure_future(each) for each in rest]
        await begun(storage, 2 + len(rest))
    try:
        await asyncio.to_thread(done.wait, PATIENCE_S)
        yield
    finally:
        release.set()
        await asyncio.gather(working, waiting, *following)


async def waits_for_a_lock(storage: Storage, task: asyncio.Future[Any]) -> bool:
    """Whether what a task does has to wait for another transaction; False if it is done."""
    query = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with asyncio.timeout(PATIENCE_S):
        while not task.done():
            if await storage.readers.run(lambda connection: connection.scalar(query)):
                return True
    return False


@on_postgresql
@every_end
async def test_what_is_made_waits_for_the_end_of_its_project_and_is_not_made(
    storage: Storage, node: Storage, end: End
) -> None:
    for make in MAKERS:
        await found_a_shop(storage)
        async with uncommitted(node, end(node)):
            making = asyncio.ensure_future(make(storage, True))
            assert await waits_for_a_lock(storage, making), make
        with pytest.raises(ProjectGone):
            await making
        assert not await is_inhabited(storage, "shop")
        if end is rename:
            await storage.accounts.delete_project("store")


@on_postgresql
@every_end
async def test_the_end_of_a_project_waits_for_what_is_made_and_takes_it_along(
    storage: Storage, node: Storage, end: End
) -> None:
    for make in MAKERS:
        await found_a_shop(storage)
        async with uncommitted(storage, make(storage, True)):
            ending = asyncio.ensure_future(end(node))
            assert await waits_for_a_lock(storage, ending), make
        await ending
        assert not await is_inhabited(storage, "shop")
        assert await is_inhabited(storage, "store") is (end is rename)
        if end is rename:
            await storage.accounts.delete_project("store")


@pytest.fixture
def conflicts(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """Collects the errors for which transactions are begun anew."""
    found: list[BaseException] = []

    def is_conflict(error: BaseException) -> bool:
        if failures.is_conflict(error):
            found.append(error)
        return failures.is_conflict(error)

    monkeypatch.setattr(writer, "is_conflict", is_conflict)
    return found


@on_postgresql
@every_end
@pytest.mark.parametrize("project", ["shop", "depot"])
async def test_a_node_that_works_in_a_project_and_one_that_ends_it_do_not_wait_for_each_other(
    storage: Storage, node: Storage, conflicts: list[BaseException], end: End, project: str
) -> None:
    await found_a_shop(storage)
    orders = await topic(storage)
    read = await cursor(storage, await subscription(storage, orders))

    async def acknowledge_and_make() -> None:
        read.mark_done([0])
        storage.commits.save(read)
        name = TopicName(project, "late")
        await storage.catalog.create_topic(name, TopicConfig(), registered=project == "shop")

    async with uncommitted(storage, publish(storage, orders, b"a"), acknowledge_and_make()):
        ending = asyncio.ensure_future(end(node))
        assert await waits_for_a_lock(storage, ending)
    await ending
    assert not conflicts
    assert not await is_inhabited(storage, "shop")


async def deleted_amid_work(storage: Storage, node: Storage, enough: int) -> None:
    """One node works in a project until it is told that it is gone; the other one deletes it."""
    await found_a_shop(storage)
    shop = [await topic(storage, each) for each in ("a", "b", "c")]
    read = [await cursor(storage, await subscription(storage, each, each.name.id)) for each in shop]
    made, is_busy = itertools.count(1), asyncio.Event()

    async def make(maker: int) -> None:
        for number in itertools.count():
            name, of = SubscriptionName("shop", f"{maker}-{number}"), shop[number % len(shop)].name
            await storage.catalog.create_topic(
                TopicName("shop", name.id), TopicConfig(), registered=True
            )
            await storage.catalog.create_subscription(
                name, of, SubscriptionConfig(), registered=True
            )
            if next(made) >= enough:
                is_busy.set()

    async def publish_and_acknowledge(which: int) -> None:
        for seq in itertools.count():
            await storage.commits.append(shop[which], b"a", 1)
            read[which].mark_done([seq])
            storage.commits.save(read[which])

    async with asyncio.timeout(PATIENCE_S):
        work = asyncio.gather(
            *map(publish_and_acknowledge, range(3)), *map(make, range(4)), return_exceptions=True
        )
        await is_busy.wait()
        await delete(node)
        refusals = await work
    assert [type(each) for each in refusals] == [Aborted] * 3 + [ProjectGone] * 4, refusals


@on_postgresql
async def test_a_busy_project_goes_at_any_moment_and_nothing_is_left_of_it(
    storage: Storage, node: Storage, conflicts: list[BaseException]
) -> None:
    for enough in (1, 2, 3, 5, 8, 13, 21, 34):
        await deleted_amid_work(storage, node, enough)
        assert not await is_inhabited(storage, "shop")
    assert not conflicts


# --- through AMS's door -----------------------------------------------------------------------------


@pytest.fixture
async def rooms(storage: Storage) -> AsyncIterator[Sequence[Any]]:
    """What serves AMS, behind its guard: that has looked for the project a moment ago."""
    async with broker_on(storage) as broker:
        with closing(CompiledDefinitions()) as definitions:
            schemas = AmsSchemas(storage.schemas, definitions)
            find = TopicSchemas(broker.topics, schemas).find
            nobody: Any = None  # to be shown anything, or to be pushed to
            yield (
                TopicResources(broker.topics, storage.newest, nobody, find),
                SubscriptionResources(
                    broker.subscriptions,
                    broker.topics,
                    storage.newest,
                    nobody,
                    PushDesk(nobody, nobody, nobody, enabled=False),
                ),
                SchemaRoom(schemas),
            )


@on_sqlite
async def test_ams_says_that_the_project_is_not_there(
    storage: Storage, rooms: Sequence[Any]
) -> None:
    topics, subscriptions, schemas = rooms
    await storage.catalog.create_topic(TopicName("shop", "left"), TopicConfig())
    topic = pubsub_pb2.TopicSchemaRequest(project="shop", topic="late")
    subscription = pubsub_pb2.CreateSubscriptionRequest(
        project="shop", subscription="late", topic="projects/shop/topics/left"
    )
    schema = schemas_pb2.CreateSchemaRequest(
        project="shop", schema_id="late", type="json", schema="{}"
    )
    for making in (
        topics.CreateTopic(topic, None),
        subscriptions.CreateSubscription(subscription, None),
        schemas.CreateSchema(schema, None),
    ):
        with pytest.raises(NotFound, match=r"^project doesn't exist$"):
            await making
