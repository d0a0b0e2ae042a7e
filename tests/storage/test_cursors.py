"""Writing cursors, and reading them back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from ams_grpc.broker.cursor import CHUNK_SEQS, Cursor
from ams_grpc.broker.names import SnapshotName
from ams_grpc.broker.ports import CursorChanges, CursorState
from ams_grpc.storage import Storage, open_storage, writer
from ams_grpc.storage.statements import HotStatements
from tests.storage.world import (
    DAY_US,
    ManualClock,
    acknowledge,
    busy_writer,
    cursor,
    eventually,
    publish,
    snapshot,
    stored,
    subscription,
    topic,
)

FEW = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


async def chunk_numbers(storage: Storage) -> list[int]:
    def read(connection: Connection) -> list[int]:
        query = text("SELECT chunk_no FROM ack_chunks ORDER BY 1")
        return list(connection.scalars(query))

    return await storage.readers.run(read)


def set_bits(chunks: Mapping[int, bytes]) -> set[int]:
    return {
        no * CHUNK_SEQS + bit
        for no, bits in chunks.items()
        for bit in range(CHUNK_SEQS)
        if bits[bit >> 3] & (1 << (bit & 7))
    }


async def test_a_saved_cursor_is_read_back(storage: Storage) -> None:
    billing = await subscription(storage, await topic(storage))
    mine = await cursor(storage, billing)
    mine.mark_done([0, 1, 5, CHUNK_SEQS + 7, 9 * CHUNK_SEQS])
    storage.commits.save(mine)
    await storage.commits.flushed()

    assert await storage.catalog.cursor(billing) == mine.state()
    assert await chunk_numbers(storage) == [0, 1, 9]


async def test_a_cursor_is_written_without_anybody_waiting_for_it(storage: Storage) -> None:
    billing = await subscription(storage, await topic(storage))
    mine = await cursor(storage, billing)
    mine.mark_done([0])
    before = storage.commits.commits

    storage.commits.save(mine)
    await eventually(lambda: storage.commits.commits > before)

    assert (await storage.catalog.cursor(billing)).floor == 1


async def test_a_cursor_saved_often_is_written_once(storage: Storage) -> None:
    billing = await subscription(storage, await topic(storage))
    mine = await cursor(storage, billing)
    async with busy_writer(storage.commits):
        for seq in range(100):
            mine.mark_done([seq])
            storage.commits.save(mine)
        flushed = storage.commits.flushed()
        before = storage.commits.commits
    await flushed

    assert storage.commits.commits == before + 2  # the busy one, and this
    assert (await storage.catalog.cursor(billing)).floor == 100


async def test_chunks_go_when_the_floor_passes_them(storage: Storage) -> None:
    billing = await subscription(storage, await topic(storage))
    mine = await cursor(storage, billing)
    mine.mark_done([5, CHUNK_SEQS + 5, 2 * CHUNK_SEQS + 5])
    storage.commits.save(mine)
    await storage.commits.flushed()
    mine.raise_floor(CHUNK_SEQS + 1)
    storage.commits.save(mine)
    await storage.commits.flushed()

    assert await chunk_numbers(storage) == [1, 2]
    assert await storage.catalog.cursor(billing) == mine.state()


async def test_a_seek_replaces_all_chunks(storage: Storage) -> None:
    billing = await subscription(storage, await topic(storage))
    mine = await cursor(storage, billing)
    mine.mark_done([5, CHUNK_SEQS + 5, 2 * CHUNK_SEQS + 5])
    storage.commits.save(mine)
    await storage.commits.flushed()
    mine.replace(2, {1: mine.state().chunks[1]})
    storage.commits.save(mine)
    await storage.commits.flushed()

    assert await chunk_numbers(storage) == [1]
    read = await storage.catalog.cursor(billing)
    assert read == mine.state()
    assert read.epoch == 1


async def test_chunks_come_back_after_a_seek_below_them(storage: Storage) -> None:
    """What is known about deleted chunks must not outlive a floor that goes back."""
    billing = await subscription(storage, await topic(storage))
    mine = await cursor(storage, billing)
    for step in range(3):
        mine.mark_done([CHUNK_SEQS * 3 + 5])
        mine.raise_floor(CHUNK_SEQS * 2)
        storage.commits.save(mine)
        await storage.commits.flushed()
        mine.rewind(0, 0)
        mine.mark_done([7])
        storage.commits.save(mine)
        await storage.commits.flushed()
        assert await chunk_numbers(storage) == [0], step
        mine.raise_floor(CHUNK_SEQS)
        storage.commits.save(mine)
        await storage.commits.flushed()
        assert await chunk_numbers(storage) == [], step


async def test_the_cursor_of_a_deleted_subscription_leaves_nothing_behind(
    storage: Storage,
) -> None:
    billing = await subscription(storage, await topic(storage))
    mine = await cursor(storage, billing)
    await storage.catalog.delete_subscription(billing)
    mine.mark_done([5])
    storage.commits.save(mine)
    await storage.commits.flushed()

    assert await chunk_numbers(storage) == []


async def test_a_bad_cursor_fails_alone_and_whoever_flushes_hears_of_it(
    storage: Storage,
) -> None:
    orders = await topic(storage)
    good = await cursor(storage, await subscription(storage, orders, "good"))
    bad_subscription = await subscription(storage, orders, "bad")
    bad = await cursor(storage, bad_subscription)
    good.mark_done([0])
    bad.raise_floor(1 << 63)
    async with busy_writer(storage.commits):
        storage.commits.save(good)
        storage.commits.save(bad)
        append = storage.commits.append(orders, b"a", 1)
        flushed = storage.commits.flushed()
    await append

    with pytest.raises(Exception, match=r"large|range"):
        await flushed
    assert bad.changed
    assert (await storage.catalog.cursor(bad_subscription)).floor == 0
    await storage.commits.flushed()


class TestAPurgeInTheSameGroup:
    """It sees no floor that is higher than what must still be delivered."""

    @pytest.mark.parametrize("singly", [False, True])
    async def test_it_spares_what_a_seek_has_taken_back(
        self, storage: Storage, clock: ManualClock, *, singly: bool
    ) -> None:
        """The snapshot that kept it until then goes in that group, too."""
        orders = await topic(storage)
        billing = await subscription(storage, orders)
        await publish(storage, orders, b"a", b"b", b"c")
        name = await snapshot(storage, billing, expire_us=clock.us + DAY_US)
        held = await storage.catalog.snapshot(name)
        await acknowledge(storage, billing, 0, 1, 2)
        mine = await cursor(storage, billing)
        async with busy_writer(storage.commits):
            mine.replace(1, {})
            storage.commits.save(mine)
            doing = asyncio.gather(
                storage.catalog.delete_snapshot(held),
                storage.upkeep.purge_topic(orders.id, clock.us),
            )
            if singly:
                storage.commits.append(orders, b"too many", 1 << 63)
            await asyncio.sleep(0)

        _, purged = await doing
        await storage.commits.flushed()

        assert purged == 1
        assert [first for first, _, _ in await stored(storage, orders)] == [1, 2]
        assert await storage.catalog.cursor(billing) == mine.state()

    @pytest.mark.parametrize("singly", [False, True])
    async def test_it_spares_what_a_snapshot_holds_that_was_made_before_a_seek(
        self, storage: Storage, clock: ManualClock, *, singly: bool
    ) -> None:
        orders = await topic(storage)
        billing = await subscription(storage, orders)
        await publish(storage, orders, b"a", b"b", b"c")
        mine = await cursor(storage, billing)
        async with busy_writer(storage.commits):
            purging = asyncio.ensure_future(storage.upkeep.purge_topic(orders.id, clock.us))
            await asyncio.sleep(0)
            making = asyncio.ensure_future(
                storage.catalog.create_snapshot(
                    SnapshotName("shop", "late"), billing, mine.state(), clock.us + DAY_US, {}
                )
            )
            await asyncio.sleep(0)
            if singly:
                storage.commits.append(orders, b"too many", 1 << 63)
            mine.replace(3, {})
            storage.commits.save(mine)

        assert await purging == 0
        await making
        await storage.commits.flushed()
        assert len(await stored(storage, orders)) == 3
        assert await storage.catalog.cursor(billing) == mine.state()


async def test_what_is_known_about_chunks_takes_little_memory(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many subscriptions there were; and it may be forgotten at any time."""
    monkeypatch.setattr(writer, "CLEARED", 2)
    known: list[int] = []
    write_cursors = HotStatements.write_cursors

    def listen(
        self: HotStatements, on: object, changes: Sequence[CursorChanges], cleared: dict[int, int]
    ) -> None:
        known.append(len(cleared))
        write_cursors(self, on, changes, cleared)

    monkeypatch.setattr(HotStatements, "write_cursors", listen)
    orders = await topic(storage)
    for number in range(8):
        one = await subscription(storage, orders, f"sub-{number}")
        mine = await cursor(storage, one)
        for floor in (5, CHUNK_SEQS + 5):
            mine.raise_floor(floor)
            mine.mark_done([floor + 2])
            storage.commits.save(mine)
            await storage.commits.flushed()
        assert await storage.catalog.cursor(one) == mine.state()
    assert max(known) <= 2
    assert await chunk_numbers(storage) == [1] * 8


async def test_nothing_to_flush_is_flushed_at_once(storage: Storage) -> None:
    await topic(storage)
    before = storage.commits.commits

    await storage.commits.flushed()

    assert storage.commits.commits == before


async def test_a_flush_waits_for_what_is_being_written(storage: Storage) -> None:
    async with busy_writer(storage.commits):
        flushed = asyncio.ensure_future(storage.commits.flushed())
        await asyncio.sleep(0)
        assert not flushed.done()
    await flushed


class Unhelpful:
    """A cursor that does not tell its changes."""

    subscription_id = 1

    def take_changes(self) -> CursorChanges:
        raise ZeroDivisionError

    def put_back(self, changes: CursorChanges) -> None: ...


async def test_a_defective_cursor_does_not_stop_the_writer(storage: Storage) -> None:
    orders = await topic(storage)
    storage.commits.save(Unhelpful())

    assert (await storage.commits.append(orders, b"a", 1)).first_seq == 0


async def test_saved_cursors_are_written_at_the_end(address: str, clock: ManualClock) -> None:
    async with open_storage(address, clock, cursor_delay_s=3600.0) as storage:
        billing = await subscription(storage, await topic(storage))
        mine = await cursor(storage, billing)
        mine.mark_done([0])
        storage.commits.save(mine)
    async with open_storage(address, clock) as storage:
        assert (await storage.catalog.cursor(billing)).floor == 1


seqs = st.integers(0, 3 * CHUNK_SEQS)


@FEW
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("done"), st.lists(seqs, min_size=1, max_size=5)),
            st.tuples(st.just("raise"), seqs),
            st.tuples(st.just("rewind"), seqs),
            st.tuples(st.just("write"), st.just(0)),
        ),
        max_size=12,
    )
)
async def test_whatever_happens_the_stored_cursor_says_the_same(
    storage: Storage, steps: list[tuple[str, object]]
) -> None:
    existing = len(await storage.catalog.subscriptions("shop", "", 10_000))
    orders = await topic(storage, f"orders-{existing}")
    billing = await subscription(storage, orders, f"billing-{existing}")
    mine = await cursor(storage, billing)
    for what, argument in [*steps, ("write", 0)]:
        match what, argument:
            case "done", list():
                mine.mark_done(argument)
            case "raise", int():
                mine.raise_floor(argument)
            case "rewind", int():
                mine.rewind(argument, argument)
            case _:
                storage.commits.save(mine)
                await storage.commits.flushed()

    read: CursorState = await storage.catalog.cursor(billing)
    assert (read.floor, read.epoch) == (mine.floor, mine.epoch)
    assert set_bits(read.chunks) == set_bits(mine.state().chunks)
    assert Cursor(billing.id, read).acked_above_floor == mine.acked_above_floor
