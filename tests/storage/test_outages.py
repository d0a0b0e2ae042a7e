"""The database goes away, and comes back; or it is slow, or hangs."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import NoReturn

import psycopg
import pytest
from sqlalchemy import Connection, event, text

from ams_grpc.broker.catalog import Topic, TopicConfig
from ams_grpc.broker.errors import StorageUnavailable
from ams_grpc.broker.names import TopicName
from ams_grpc.broker.ports import Appended
from ams_grpc.storage import Storage, open_storage
from ams_grpc.storage.commit import APPEND_OVERHEAD_BYTES
from ams_grpc.storage.engine import READERS, Database, connect
from ams_grpc.storage.migrate import migrate
from ams_grpc.storage.reading import Readers
from tests.postgres import ThrowAwayPostgres
from tests.storage.world import (
    ManualClock,
    Trouble,
    acknowledge,
    busy_writer,
    cursor,
    eventually,
    publish,
    stored,
    subscription,
    topic,
)


async def test_a_publisher_hears_of_the_outage_and_can_publish_again_after_it(
    trouble: list[Trouble], storage: Storage
) -> None:
    orders = await topic(storage)
    trouble[0].at_begin = True
    with pytest.raises(StorageUnavailable):
        await storage.commits.append(orders, b"a", 1)
    with pytest.raises(StorageUnavailable):
        await storage.catalog.create_topic(TopicName("shop", "bills"), TopicConfig())
    with pytest.raises(StorageUnavailable):
        await storage.ping()
    assert storage.commits.failed_commits >= 2

    trouble[0].at_begin = False
    await eventually(lambda: storage.commits.is_available)

    await storage.ping()
    assert await publish(storage, orders, b"b") == [0]


async def test_a_call_that_finds_the_disk_refusing_takes_the_whole_transaction_with_it(
    storage: Storage,
) -> None:
    orders = await topic(storage)

    def refuse(_connection: object) -> NoReturn:
        raise StorageUnavailable("a payload is not on disk")

    async with busy_writer(storage.commits):
        publishing = storage.commits.append(orders, b"a", 1)
        calling = asyncio.ensure_future(storage.commits.run(refuse))
        await asyncio.sleep(0)

    for refused in (publishing, calling):
        with pytest.raises(StorageUnavailable):
            await refused
    assert await stored(storage, orders) == []


async def test_cursors_survive_an_outage_and_are_written_without_new_traffic(
    trouble: list[Trouble], storage: Storage
) -> None:
    billing = await subscription(storage, await topic(storage))
    mine = await cursor(storage, billing)
    mine.mark_done([0, 5])
    trouble[0].at_begin = True
    storage.commits.save(mine)
    with pytest.raises(StorageUnavailable):
        await storage.commits.flushed()
    mine.mark_done([7])  # and nobody saves it again

    trouble[0].at_begin = False
    await eventually(lambda: storage.commits.is_available)
    await storage.commits.flushed()

    assert await storage.catalog.cursor(billing) == mine.state()


async def test_after_a_commit_of_unknown_outcome_the_broker_is_told_to_look(
    trouble: list[Trouble], storage: Storage
) -> None:
    orders, bills = await topic(storage, "orders"), await topic(storage, "bills")
    uncertain: list[Sequence[int]] = []
    storage.commits.on_uncertain = uncertain.append
    trouble[0].after_commit = True
    answers = [storage.commits.append(orders, b"a", 1), storage.commits.append(bills, b"b", 1)]
    for answer in answers:
        with pytest.raises(StorageUnavailable):
            await answer
    assert uncertain == []

    trouble[0].after_commit = False
    await eventually(lambda: uncertain)

    assert uncertain == [[orders.id, bills.id]]
    assert await storage.log.next_seq(orders.id) == 1
    assert await publish(storage, orders, b"c") == [1]


async def test_a_failure_before_the_commit_is_not_uncertain(
    trouble: list[Trouble], storage: Storage
) -> None:
    orders = await topic(storage)
    uncertain: list[Sequence[int]] = []
    storage.commits.on_uncertain = uncertain.append
    trouble[0].at_begin = True
    with pytest.raises(StorageUnavailable):
        await storage.commits.append(orders, b"a", 1)
    trouble[0].at_begin = False
    await eventually(lambda: storage.commits.is_available)

    assert uncertain == []
    assert await publish(storage, orders, b"b") == [0]


async def test_an_outage_is_logged_once_with_its_cause(
    trouble: list[Trouble], storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    orders = await topic(storage)
    caplog.clear()
    trouble[0].at_begin = True
    for _ in range(4):
        with pytest.raises(StorageUnavailable):
            await storage.commits.append(orders, b"a", 1)
    trouble[0].at_begin = False
    await eventually(lambda: storage.commits.is_available)

    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]
    assert "disk I/O error" in caplog.text or "connection is closed" in caplog.text


async def test_a_full_disk_is_an_outage(
    sqlite_url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = [1 << 30]

    def connect_to_small_disk(address: str) -> Database:
        database = connect(address)
        event.listen(
            database.writer,
            "connect",
            lambda dbapi, _: dbapi.execute(f"PRAGMA max_page_count = {limit[0]}"),
        )
        return database

    monkeypatch.setattr("ams_grpc.storage.storage.connect", connect_to_small_disk)
    async with open_storage(sqlite_url, clock) as storage:
        orders = await topic(storage)
        billing = await subscription(storage, orders)
        await publish(storage, orders, b"a")

        def fill(connection: Connection) -> None:
            limit[0] = connection.exec_driver_sql("PRAGMA page_count").scalar_one() + 1
            connection.exec_driver_sql(f"PRAGMA max_page_count = {limit[0]}")

        await storage.commits.run(fill)
        with pytest.raises(StorageUnavailable):
            await storage.commits.append(orders, b"x" * 60_000, 1)
        assert await stored(storage, orders) == [(0, 1, b"a")]
        await acknowledge(storage, billing, 0)  # needs no space

        limit[0] = 1 << 30
        with pytest.raises(StorageUnavailable):
            await storage.commits.append(orders, b"x" * 60_000, 1)
        await storage.commits.append(orders, b"x" * 60_000, 1)
        assert await storage.log.next_seq(orders.id) == 2


async def test_publishing_survives_a_restart_of_postgresql(
    throw_away_postgres: ThrowAwayPostgres, clock: ManualClock
) -> None:
    address = throw_away_postgres.create_database("ams")
    migrate(address)
    async with open_storage(address, clock) as storage:
        orders = await topic(storage)
        billing = await subscription(storage, orders)
        mine = await cursor(storage, billing)
        await publish(storage, orders, b"a")

        throw_away_postgres.kill()
        mine.mark_done([0])
        storage.commits.save(mine)
        for _ in range(2):
            with pytest.raises(StorageUnavailable):
                await storage.commits.append(orders, b"lost", 1)
        with pytest.raises(StorageUnavailable):
            await storage.catalog.topic(orders.name)
        with pytest.raises(StorageUnavailable):
            await storage.ping()

        throw_away_postgres.start()
        await eventually(lambda: storage.commits.is_available)
        await storage.commits.flushed()
        await storage.ping()
        assert (await storage.catalog.cursor(billing)).floor == 1
        assert await publish(storage, orders, b"b") == [1]
        assert await stored(storage, orders) == [(0, 1, b"a"), (1, 1, b"b")]


async def test_nobody_notices_a_restart_of_an_idle_postgresql(
    throw_away_postgres: ThrowAwayPostgres, clock: ManualClock
) -> None:
    address = throw_away_postgres.create_database("ams")
    migrate(address)
    async with open_storage(address, clock) as storage:
        orders = await topic(storage)
        await publish(storage, orders, b"a")
        for take_away in (throw_away_postgres.stop, throw_away_postgres.kill):
            take_away()
            throw_away_postgres.start()
            assert await storage.catalog.topic(orders.name) == orders
            await publish(storage, orders, b"b")
        assert storage.commits.failed_commits == 0


async def test_a_database_that_hangs_is_given_up(
    throw_away_postgres: ThrowAwayPostgres, clock: ManualClock
) -> None:
    address = throw_away_postgres.create_database("ams")
    migrate(address)
    async with open_storage(address, clock, commit_timeout_s=0.3) as storage:
        orders = await topic(storage)

        def backend(connection: Connection) -> int:
            return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())

        process = await storage.commits.run(backend)
        os.kill(process, signal.SIGSTOP)
        try:
            # The first attempt hangs and is given up; one on a new connection follows.
            await publish(storage, orders, b"a")
        finally:
            os.kill(process, signal.SIGCONT)
        assert await stored(storage, orders) == [(0, 1, b"a")]


async def test_a_reader_that_hangs_is_given_up(
    throw_away_postgres: ThrowAwayPostgres, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Readers.run, "__defaults__", (0.3,))
    address = throw_away_postgres.create_database("ams")
    migrate(address)
    async with open_storage(address, clock) as storage:
        orders = await topic(storage)

        def sleep(connection: Connection) -> None:
            connection.execute(text("SELECT pg_sleep(3600)"))

        for _ in range(READERS + 1):
            with pytest.raises(StorageUnavailable):
                await storage.readers.run(sleep)
        assert await storage.catalog.topic(orders.name) == orders


async def test_a_conflict_with_another_transaction_is_tried_again(
    trouble: list[Trouble], storage: Storage
) -> None:
    orders = await topic(storage)
    conflicts = [psycopg.errors.DeadlockDetected(), psycopg.errors.SerializationFailure()]

    def next_conflict() -> Exception:
        trouble[0].at_begin = len(conflicts) > 1
        return conflicts.pop()

    trouble[0].error = next_conflict
    trouble[0].at_begin = True

    assert await publish(storage, orders, b"a") == [0]
    assert conflicts == []


async def test_a_hung_database_does_not_hold_up_the_end(address: str, clock: ManualClock) -> None:
    async with AsyncExitStack() as afterwards:
        async with open_storage(address, clock, close_timeout_s=0.05) as storage:
            orders = await topic(storage)
            await afterwards.enter_async_context(busy_writer(storage.commits))
            answer = storage.commits.append(orders, b"a", 1)
        with pytest.raises(StorageUnavailable):
            await answer
    with pytest.raises(StorageUnavailable):
        await storage.commits.append(orders, b"a", 1)
    with pytest.raises(StorageUnavailable):
        await storage.commits.flushed()
    with pytest.raises(StorageUnavailable):
        await storage.commits.run(lambda connection: None)


class TestTheQueue:
    """It holds three small appends; then there is a line, as long again."""

    SIZE = 1 + APPEND_OVERHEAD_BYTES

    def append(self, storage: Storage, to: Topic, number: int) -> list[asyncio.Future[Appended]]:
        return [storage.commits.append(to, bytes([n]), 1) for n in range(number)]

    async def test_those_beyond_its_bound_wait_in_order(
        self, address: str, clock: ManualClock
    ) -> None:
        async with open_storage(address, clock, max_queued_bytes=3 * self.SIZE) as storage:
            orders = await topic(storage)
            async with busy_writer(storage.commits):
                answers = self.append(storage, orders, 6)
                assert storage.commits.queued_bytes == 3 * self.SIZE
            await asyncio.gather(*answers)
            assert await stored(storage, orders) == [
                (0, 3, bytes([0, 1, 2])),
                (3, 3, bytes([3, 4, 5])),
            ]
            assert storage.commits.queued_bytes == 0

    async def test_those_that_wait_too_long_are_refused(
        self, address: str, clock: ManualClock
    ) -> None:
        async with open_storage(
            address, clock, max_queued_bytes=3 * self.SIZE, queue_timeout_s=0.01
        ) as storage:
            orders = await topic(storage)
            async with busy_writer(storage.commits):
                answers = self.append(storage, orders, 5)
                for refused in answers[3:]:
                    with pytest.raises(StorageUnavailable):
                        await refused
            await asyncio.gather(*answers[:3])
            assert await publish(storage, orders, b"a", b"b") == [3, 4]

    async def test_a_full_line_refuses_at_once(self, address: str, clock: ManualClock) -> None:
        async with open_storage(address, clock, max_queued_bytes=3 * self.SIZE) as storage:
            orders = await topic(storage)
            async with busy_writer(storage.commits):
                answers = self.append(storage, orders, 7)
                assert [answer.done() for answer in answers] == [False] * 6 + [True]
                with pytest.raises(StorageUnavailable):
                    await answers[6]
            await asyncio.gather(*answers[:6])

    async def test_one_that_is_larger_than_all_of_it_goes_alone(
        self, address: str, clock: ManualClock
    ) -> None:
        async with open_storage(address, clock, max_queued_bytes=100) as storage:
            orders = await topic(storage)
            assert await publish(storage, orders, b"x" * 1000, b"y" * 1000) == [0, 1]

    async def test_one_that_gave_up_in_line_publishes_nothing(
        self, address: str, clock: ManualClock
    ) -> None:
        async with open_storage(address, clock, max_queued_bytes=3 * self.SIZE) as storage:
            orders = await topic(storage)
            async with busy_writer(storage.commits):
                answers = self.append(storage, orders, 5)
                answers[3].cancel()
            await asyncio.gather(*answers[:3], answers[4])
            assert await storage.log.next_seq(orders.id) == 4

    async def test_when_all_in_the_queue_give_up_those_in_line_move_up(
        self, address: str, clock: ManualClock
    ) -> None:
        async with open_storage(address, clock, max_queued_bytes=3 * self.SIZE) as storage:
            orders = await topic(storage)
            answers = self.append(storage, orders, 5)
            for answer in answers[:3]:
                answer.cancel()
            async with asyncio.timeout(5):
                await asyncio.gather(*answers[3:])
            assert storage.commits.queued_bytes == 0
            assert await storage.log.next_seq(orders.id) == 2

    async def test_the_end_leaves_nobody_in_line(self, address: str, clock: ManualClock) -> None:
        async with AsyncExitStack() as afterwards:
            async with open_storage(
                address, clock, max_queued_bytes=3 * self.SIZE, close_timeout_s=0.05
            ) as storage:
                orders = await topic(storage)
                await afterwards.enter_async_context(busy_writer(storage.commits))
                answers = self.append(storage, orders, 5)
            for answer in answers:
                with pytest.raises(StorageUnavailable):
                    await answer
