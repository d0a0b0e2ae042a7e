"""Reading topics' logs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Select, text
from sqlalchemy.dialects import sqlite

from ams_grpc.broker.catalog import Topic
from ams_grpc.storage import Storage
from ams_grpc.storage.engine import connect
from ams_grpc.storage.log import first_batch_at, payloads_between, sizes_from
from ams_grpc.storage.migrate import migrate
from tests.storage.world import (
    DAY_US,
    ManualClock,
    publish,
    snapshot,
    stored,
    subscription,
    topic,
)


@pytest.fixture
async def orders(storage: Storage) -> Topic:
    """A topic with three batches of 3, 1 and 2 messages, a second apart; and a neighbour."""
    orders, neighbour = await topic(storage), await topic(storage, "neighbour")
    await publish(storage, neighbour, b"n")
    return orders


async def fill(storage: Storage, clock: ManualClock, orders: Topic) -> int:
    """Returns when the first was published."""
    began_us = clock.us
    for payload, count in ((b"aaa", 3), (b"b", 1), (b"cc", 2)):
        await storage.commits.append(orders, payload, count)
        clock.advance(1_000_000)
    return began_us


async def test_reading_begins_with_the_batch_that_holds_the_seq(
    storage: Storage, clock: ManualClock, orders: Topic
) -> None:
    await fill(storage, clock, orders)
    a, b, c = (0, 3, b"aaa"), (3, 1, b"b"), (4, 2, b"cc")

    for seq, expected in ((0, [a, b, c]), (2, [a, b, c]), (3, [b, c]), (5, [c]), (6, [])):
        assert await stored(storage, orders, seq) == expected


async def test_reading_an_unknown_topic_finds_nothing(storage: Storage) -> None:
    assert await storage.log.read(4711, 0, 1000) == []
    assert await storage.log.next_seq(4711) == 0
    assert await storage.log.publish_time_us(4711, 0) is None


async def test_reading_is_bounded_by_bytes_but_gives_at_least_one_batch(
    storage: Storage, clock: ManualClock, orders: Topic
) -> None:
    await fill(storage, clock, orders)

    for max_bytes, expected in ((0, 1), (3, 1), (4, 2), (5, 2), (6, 3), (100, 3)):
        batches = await storage.log.read(orders.id, 0, max_bytes)
        assert len(batches) == expected, max_bytes


async def test_reading_goes_on_behind_what_was_deleted(
    storage: Storage, clock: ManualClock, orders: Topic
) -> None:
    await fill(storage, clock, orders)

    def delete(connection: Connection) -> None:
        connection.execute(text("DELETE FROM batches WHERE first_seq = 3"))

    await storage.commits.run(delete)

    assert await stored(storage, orders, 3) == [(4, 2, b"cc")]
    assert (await storage.log.read(orders.id, 3, 0))[0].first_seq == 4


async def test_a_long_log_is_read_in_portions(storage: Storage, orders: Topic) -> None:
    await publish(storage, orders, *[b"x"] * 1010)

    batches = await storage.log.read(orders.id, 0, 1 << 30)

    assert 0 < len(batches) <= 1000
    assert [batch.first_seq for batch in batches] == list(range(len(batches)))


async def test_the_first_seq_at_a_time(storage: Storage, clock: ManualClock, orders: Topic) -> None:
    began_us = await fill(storage, clock, orders)

    for after_us, expected in ((-1, 0), (0, 0), (1, 3), (1_000_000, 3), (1_000_001, 4)):
        assert await storage.log.first_seq_at(orders.id, began_us + after_us) == expected
    assert await storage.log.first_seq_at(orders.id, began_us + 2_000_001) == 6
    empty = await topic(storage, "empty")
    assert await storage.log.first_seq_at(empty.id, 0) == 0


async def test_of_several_batches_of_one_time_the_first_counts(
    storage: Storage, clock: ManualClock, orders: Topic
) -> None:
    await publish(storage, orders, *[b"x"] * 5)
    assert await storage.log.first_seq_at(orders.id, clock.us) == 0


async def test_the_publish_time_of_a_seq(
    storage: Storage, clock: ManualClock, orders: Topic
) -> None:
    began_us = await fill(storage, clock, orders)

    times = [await storage.log.publish_time_us(orders.id, seq) for seq in range(7)]

    offsets = [None if time is None else (time - began_us) // 1_000_000 for time in times]
    assert offsets == [0, 0, 0, 1, 2, 2, None]


async def test_the_replay_limit_is_the_lowest_floor_of_the_snapshots(
    storage: Storage, clock: ManualClock, orders: Topic
) -> None:
    assert await storage.log.replay_limit(orders.id) is None
    early = await subscription(storage, orders, "early")
    await publish(storage, orders, b"a", b"b")
    late = await subscription(storage, orders, "late")
    await snapshot(storage, late, "snap-late", expire_us=clock.us + 2 * DAY_US)
    assert await storage.log.replay_limit(orders.id) == 2
    await snapshot(storage, early, "snap-early", expire_us=clock.us + DAY_US)
    assert await storage.log.replay_limit(orders.id) == 0
    clock.advance(DAY_US)
    assert await storage.log.replay_limit(orders.id) == 2


@pytest.fixture
def connection(sqlite_url: str) -> Iterator[Connection]:
    migrate(sqlite_url)
    database = connect(sqlite_url)
    with database.readers.connect() as connection:
        yield connection
    database.close()


@pytest.mark.parametrize(
    "query",
    [sizes_from(1, 5, 10), payloads_between(1, 5, 10), first_batch_at(1, 5)],
    ids=["sizes", "payloads", "time"],
)
def test_reading_uses_an_index_and_sorts_nothing(
    connection: Connection, query: Select[int]
) -> None:
    compiled = query.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
    plan = [row.detail for row in connection.execute(text(f"EXPLAIN QUERY PLAN {compiled}"))]

    searches = [step for step in plan if "batches" in step]
    assert searches
    assert all("USING" in step and "INDEX" in step and "topic_id=?" in step for step in searches)
    assert not any("SCAN" in step or "TEMP B-TREE" in step for step in plan)
