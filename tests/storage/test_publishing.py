"""Appending to a topic's log: seqs, publish times, rows, and who is refused."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from ams_grpc.broker.catalog import TopicConfig
from ams_grpc.broker.errors import Aborted, AlreadyExists
from ams_grpc.broker.names import TopicName
from ams_grpc.broker.ports import StoredBatch
from ams_grpc.storage import Storage, open_storage
from tests.storage.world import ManualClock, busy_writer, publish, stored, topic

FEW = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


async def test_seqs_begin_at_0_and_have_no_gaps(storage: Storage) -> None:
    orders = await topic(storage)

    assert await publish(storage, orders, b"a", b"b") == [0, 1]
    assert (await storage.commits.append(orders, b"cde", 3)).first_seq == 2
    assert await publish(storage, orders, b"f") == [5]


async def test_each_topic_counts_for_itself(storage: Storage) -> None:
    orders, bills = await topic(storage, "orders"), await topic(storage, "bills")

    answers = await asyncio.gather(
        storage.commits.append(orders, b"a", 1),
        storage.commits.append(bills, b"b", 1),
        storage.commits.append(orders, b"c", 1),
    )

    assert [answer.first_seq for answer in answers] == [0, 0, 1]


async def test_what_gathers_while_the_writer_is_busy_becomes_one_row(storage: Storage) -> None:
    orders = await topic(storage)
    async with busy_writer(storage.commits):
        answers = [storage.commits.append(orders, bytes([n]), 1) for n in range(100)]
    commits_before = storage.commits.commits

    assert [(await answer).first_seq for answer in answers] == list(range(100))
    assert await stored(storage, orders) == [(0, 100, bytes(range(100)))]
    assert storage.commits.commits <= commits_before + 1


async def test_a_row_gets_about_one_mebibyte(storage: Storage) -> None:
    orders = await topic(storage)
    sizes = [400_000, 400_000, 400_000, 3_000_000, 10]
    async with busy_writer(storage.commits):
        answers = [storage.commits.append(orders, b"x" * size, 2) for size in sizes]
    await asyncio.gather(*answers)

    rows = [(first, count, len(payload)) for first, count, payload in await stored(storage, orders)]
    assert rows == [(0, 4, 800_000), (4, 2, 400_000), (6, 2, 3_000_000), (8, 2, 10)]


async def test_the_publish_time_has_milliseconds_and_never_goes_back(
    storage: Storage, clock: ManualClock
) -> None:
    orders = await topic(storage)
    clock.us = 1_800_000_000_123_456
    first = await storage.commits.append(orders, b"a", 1)
    clock.advance(-5_000_000)
    second = await storage.commits.append(orders, b"b", 1)
    clock.advance(6_000_000)
    third = await storage.commits.append(orders, b"c", 1)

    assert first.publish_time_us == 1_800_000_000_123_000
    assert second.publish_time_us == 1_800_000_000_123_000
    assert third.publish_time_us == 1_800_000_001_123_000


async def test_a_publisher_with_an_outdated_topic_is_refused_and_nobody_else(
    storage: Storage,
) -> None:
    old = await topic(storage)
    new = await storage.catalog.update_topic(old, TopicConfig(labels={"a": "b"}))

    late, current = await asyncio.gather(
        storage.commits.append(old, b"late", 1),
        storage.commits.append(new, b"current", 1),
        return_exceptions=True,
    )

    assert isinstance(late, Aborted)
    assert not isinstance(current, BaseException)
    assert await stored(storage, new) == [(0, 1, b"current")]


async def test_a_deleted_topic_takes_nothing(storage: Storage) -> None:
    orders = await topic(storage)
    await storage.catalog.delete_topic(orders)

    for known in (orders, replace(orders, version=orders.version + 1)):
        with pytest.raises(Aborted):
            await storage.commits.append(known, b"a", 1)


async def test_a_topic_created_again_is_another_topic(storage: Storage) -> None:
    old = await topic(storage)
    await publish(storage, old, b"a")
    await storage.catalog.delete_topic(old)
    new = await topic(storage)

    assert new.id != old.id
    assert await publish(storage, new, b"b") == [0]
    with pytest.raises(Aborted):
        await storage.commits.append(old, b"c", 1)


async def test_a_bad_item_fails_alone(storage: Storage) -> None:
    orders = await topic(storage)
    async with busy_writer(storage.commits):
        answers = [
            storage.commits.append(orders, b"a", 1),
            storage.commits.append(orders, b"too many", 1 << 63),
            storage.commits.append(orders, b"b", 1),
        ]
    results = await asyncio.gather(*answers, return_exceptions=True)

    assert isinstance(results[1], Exception)
    assert [payload for _, _, payload in await stored(storage, orders)] == [b"a", b"b"]
    assert await publish(storage, orders, b"c") == [2]


async def test_a_call_sees_what_was_appended_before_it(storage: Storage) -> None:
    orders = await topic(storage)

    def count(connection: Connection) -> int:
        return int(connection.execute(text("SELECT count(*) FROM batches")).scalar_one())

    async with busy_writer(storage.commits):
        before = asyncio.ensure_future(storage.commits.run(count))
        await asyncio.sleep(0)
        append = storage.commits.append(orders, b"a", 1)
        after = asyncio.ensure_future(storage.commits.run(count))
        await asyncio.sleep(0)
    await append

    assert (await before, await after) == (0, 1)


async def test_a_refused_call_undoes_only_what_it_did_itself(storage: Storage) -> None:
    orders = await topic(storage)

    def refused(connection: Connection) -> None:
        connection.execute(text("DELETE FROM topics"))
        raise AlreadyExists("no")

    def defective(connection: Connection) -> None:
        connection.execute(text("DELETE FROM topics"))
        raise ZeroDivisionError

    async with busy_writer(storage.commits):
        results = asyncio.gather(
            storage.commits.append(orders, b"a", 1),
            storage.commits.run(refused),
            storage.commits.run(defective),
            storage.catalog.create_topic(TopicName("shop", "bills"), TopicConfig()),
            return_exceptions=True,
        )
        await asyncio.sleep(0)
    append, refusal, defect, created = await results

    assert not isinstance(append, BaseException)
    assert isinstance(refusal, AlreadyExists)
    assert isinstance(defect, ZeroDivisionError)
    assert await storage.catalog.topic(TopicName("shop", "bills")) == created
    assert await publish(storage, orders, b"b") == [1]


async def test_the_broker_hears_of_a_batch_before_its_publishers(storage: Storage) -> None:
    orders = await topic(storage)
    heard: list[object] = []
    storage.commits.on_appended = heard.append
    async with busy_writer(storage.commits):
        answers = [storage.commits.append(orders, payload, 1) for payload in (b"a", b"b")]
        for answer in answers:
            answer.add_done_callback(lambda done: heard.append(done.result().first_seq))
    [first, _] = await asyncio.gather(*answers)

    assert heard == [StoredBatch(orders.id, 0, 2, first.publish_time_us, b"ab"), 0, 1]


async def test_a_publisher_that_gave_up_while_queued_publishes_nothing(storage: Storage) -> None:
    orders = await topic(storage)
    async with busy_writer(storage.commits):
        storage.commits.append(orders, b"a", 1).cancel()
        kept = storage.commits.append(orders, b"b", 1)
    await kept

    assert await stored(storage, orders) == [(0, 1, b"b")]


async def test_what_was_published_is_there_after_a_restart(
    address: str, clock: ManualClock
) -> None:
    async with open_storage(address, clock) as storage:
        orders = await topic(storage)
        await publish(storage, orders, b"a")
        secret = storage.server_secret
    async with open_storage(address, clock) as storage:
        assert await stored(storage, orders) == [(0, 1, b"a")]
        assert await publish(storage, orders, b"b") == [1]
        assert storage.server_secret == secret
        assert len(secret) == 32


async def test_leaving_commits_what_is_queued(address: str, clock: ManualClock) -> None:
    async with open_storage(address, clock) as storage:
        orders = await topic(storage)
        answer = storage.commits.append(orders, b"a", 1)
    assert (await answer).first_seq == 0


async def test_commits_are_counted(storage: Storage) -> None:
    orders = await topic(storage)
    before = storage.commits.commits

    await storage.commits.append(orders, b"abc", 3)

    assert storage.commits.commits == before + 1
    assert storage.commits.failed_commits == 0
    assert storage.commits.messages_per_commit.total == 3
    assert storage.commits.commit_seconds.count == storage.commits.commits


async def test_messages_beside_a_part_that_failed_are_counted(storage: Storage) -> None:
    orders = await topic(storage)
    async with busy_writer(storage.commits):
        good = storage.commits.append(orders, b"abc", 3)
        bad = storage.commits.append(orders, b"too many", 1 << 63)
        last = storage.commits.append(orders, b"d", 1)
    await asyncio.wait([asyncio.ensure_future(answer) for answer in (good, bad, last)])

    assert bad.exception() is not None
    assert storage.commits.messages_per_commit.total == 4
    assert storage.commits.messages_per_commit.count == storage.commits.commits
    assert storage.commits.commit_seconds.count == storage.commits.commits


async def test_messages_committed_before_the_database_went_away_are_counted(
    storage: Storage,
) -> None:
    orders = await topic(storage)

    def fail(_connection: Connection) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    async with busy_writer(storage.commits):
        answers: list[asyncio.Future[object]] = [
            asyncio.ensure_future(storage.commits.append(orders, b"abc", 3)),
            asyncio.ensure_future(storage.commits.append(orders, b"too many", 1 << 63)),
            asyncio.ensure_future(storage.commits.run(fail)),
        ]
        await asyncio.sleep(0)
    await asyncio.wait(answers)

    assert [answer.exception() is None for answer in answers] == [True, False, False]
    assert storage.commits.messages_per_commit.total == 3


@FEW
@given(
    groups=st.lists(
        st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=20), st.integers(1, 5))),
        min_size=1,
        max_size=6,
    )
)
async def test_whatever_gathers_each_log_has_it_all_in_order(
    storage: Storage, groups: list[list[tuple[int, bytes, int]]]
) -> None:
    existing = len(await storage.catalog.topics("shop", "", 10_000))
    logs = [await topic(storage, f"log-{existing + n}") for n in range(3)]
    published: list[list[tuple[bytes, int]]] = [[], [], []]
    for group in groups:
        answers = []
        for number, payload, count in group:
            start = sum(count for _, count in published[number])
            answers.append((start, storage.commits.append(logs[number], payload, count)))
            published[number].append((payload, count))
        for start, answer in answers:
            assert (await answer).first_seq == start

    for log, expected in zip(logs, published, strict=True):
        rows = await stored(storage, log)
        assert b"".join(payload for _, _, payload in rows) == b"".join(p for p, _ in expected)
        assert sum(count for _, count, _ in rows) == sum(count for _, count in expected)
        ends = [first + count for first, count, _ in rows]
        assert [first for first, _, _ in rows] == [0, *ends][: len(rows)]
