"""What the tests of the storage share."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import psycopg
from sqlalchemy import Connection, event

from ams_grpc.broker.broker import Broker, BrokerSettings
from ams_grpc.broker.catalog import Subscription, SubscriptionConfig, Topic, TopicConfig
from ams_grpc.broker.clock import SystemClock
from ams_grpc.broker.cursor import Cursor
from ams_grpc.broker.names import SnapshotName, SubscriptionName, TopicName
from ams_grpc.broker.profiles import STRICT
from ams_grpc.services.messages import annotated, decode, ordering_key
from ams_grpc.storage import Storage
from ams_grpc.storage.commit import GroupCommit
from ams_grpc.storage.engine import Database, connect
from ams_grpc.storage.migrate import upgrade

DAY_US: Final = 86_400_000_000
PATIENCE_S: Final = 30.0


class ManualClock:
    """Time stands still until the test moves it."""

    def __init__(self) -> None:
        self.us = 1_800_000_000_000_000

    def monotonic(self) -> float:
        return self.us / 1e6

    def now_us(self) -> int:
        return self.us

    def advance(self, us: int) -> None:
        self.us += us


class Trouble:
    """Makes transactions of one database fail while it is on, at their begin or their commit."""

    def __init__(self, error: Callable[[], Exception]) -> None:
        self.error = error
        self.at_begin = False
        self.at_commit = False
        self.after_commit = False

    def begin(self, _connection: Connection) -> None:
        if self.at_begin:
            raise self.error()

    def commit(self, connection: Connection) -> None:
        if self.after_commit:
            dbapi: Any = connection.connection.dbapi_connection
            dbapi.commit()
        if self.at_commit or self.after_commit:
            raise self.error()


def trouble_on(database: Database) -> Trouble:
    def error() -> Exception:
        if database.is_sqlite:
            return sqlite3.OperationalError("disk I/O error")
        return psycopg.OperationalError("the connection is closed")

    trouble = Trouble(error)
    event.listen(database.writer, "begin", trouble.begin)
    event.listen(database.writer, "commit", trouble.commit)
    return trouble


@asynccontextmanager
async def commits_on(
    address: str, clock: ManualClock, **options: Any
) -> AsyncIterator[tuple[GroupCommit, Database]]:
    """A group commit alone, and the database under it."""
    database = connect(address)
    try:
        upgrade(database)
        async with GroupCommit(database, clock, **options) as commits:
            yield commits, database
    finally:
        database.close()


@asynccontextmanager
async def busy_writer(commits: GroupCommit) -> AsyncIterator[None]:
    """Inside, the writer is in the middle of a transaction, so what is handed in gathers."""
    release, begun = threading.Event(), threading.Event()

    def wait(_connection: Connection) -> None:
        begun.set()
        release.wait(PATIENCE_S)

    running = asyncio.ensure_future(commits.run(wait))
    await eventually(begun.is_set)
    try:
        yield
    finally:
        release.set()
        await asyncio.wait([running])


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.002)


async def topic(storage: Storage, name: str = "orders", **config: Any) -> Topic:
    return await storage.catalog.create_topic(TopicName("shop", name), TopicConfig(**config))


async def subscription(
    storage: Storage, of: Topic, name: str = "billing", **config: Any
) -> Subscription:
    return await storage.catalog.create_subscription(
        SubscriptionName("shop", name), of.name, SubscriptionConfig(**config)
    )


async def publish(storage: Storage, to: Topic, *payloads: bytes) -> list[int]:
    """Publish one by one, each in a row of its own; returns their seqs."""
    return [(await storage.commits.append(to, payload, 1)).first_seq for payload in payloads]


async def stored(storage: Storage, of: Topic, seq: int = 0) -> list[tuple[int, int, bytes]]:
    """What a topic stores: (first seq, count, payload)."""
    batches = await storage.log.read(of.id, seq, 1 << 30)
    return [(batch.first_seq, batch.count, batch.payload) for batch in batches]


async def cursor(storage: Storage, of: Subscription) -> Cursor:
    """A subscription's cursor, as it would be loaded after a restart."""
    return Cursor(of.id, await storage.catalog.cursor(of))


async def acknowledge(storage: Storage, of: Subscription, *seqs: int) -> None:
    loaded = await cursor(storage, of)
    loaded.mark_done(seqs)
    storage.commits.save(loaded)
    await storage.commits.flushed()


async def snapshot(
    storage: Storage, of: Subscription, name: str = "before", *, expire_us: int
) -> SnapshotName:
    state = await storage.catalog.cursor(of)
    made = await storage.catalog.create_snapshot(
        SnapshotName("shop", name), of, state, expire_us, {}
    )
    return made.name


def broker_on(storage: Storage) -> Broker:
    """A broker on a storage, as the server has it, without transforms and checks of messages."""
    return Broker(
        catalog=storage.catalog,
        schemas=storage.schemas,
        reader=storage.log,
        commits=storage.commits,
        upkeep=storage.upkeep,
        consumption=storage.consumption,
        decode=decode,
        read_key=ordering_key,
        annotate=annotated,
        clock=SystemClock(),
        secret=storage.server_secret,
        settings=BrokerSettings(STRICT),
    )
