"""What outlives the process of a subscription's deliveries; messages settled with a publish."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from ams_grpc.broker.catalog import Subscription, Topic
from ams_grpc.broker.cursor import CHUNK_SEQS, Cursor
from ams_grpc.broker.errors import Aborted, StorageUnavailable
from ams_grpc.broker.policies import DeadLetterPolicy
from ams_grpc.broker.ports import (
    Appended,
    CursorChanges,
    CursorState,
    Deliveries,
    DeliveryChanges,
    Settled,
    StoredLease,
)
from ams_grpc.storage import Storage, open_storage
from ams_grpc.storage.records import seqs, seqs_bytes
from tests.storage.test_cursors import set_bits
from tests.storage.world import (
    ManualClock,
    acknowledge,
    busy_writer,
    cursor,
    eventually,
    publish,
    stored,
    subscription,
    topic,
)


class Runtime:
    """``ports.DirtyCursor`` with deliveries, as a runtime is one."""

    def __init__(self, of: Subscription, state: CursorState) -> None:
        self.subscription_id = of.id
        self.cursor = Cursor(of.id, state)
        self.failures: dict[int, int] = {}
        self.leases: dict[int, StoredLease | None] = {}

    def take_changes(self) -> CursorChanges:
        changes = self.cursor.take_changes()
        deliveries = DeliveryChanges(self.failures, self.leases)
        self.failures, self.leases = {}, {}
        return replace(changes, deliveries=deliveries)

    def put_back(self, changes: CursorChanges) -> None:
        self.cursor.put_back(changes)
        assert changes.deliveries is not None
        self.failures = {**changes.deliveries.failures, **self.failures}
        self.leases = {**changes.deliveries.leases, **self.leases}


async def runtime(storage: Storage, of: Subscription) -> Runtime:
    return Runtime(of, await storage.catalog.cursor(of))


async def write(storage: Storage, dirty: Runtime) -> None:
    storage.commits.save(dirty)
    await storage.commits.flushed()


async def rows(storage: Storage) -> Mapping[str, int]:
    """How many rows there are of what belongs to cursors."""

    def read(connection: Connection) -> dict[str, int]:
        return {
            table: connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0
            for table in ("failures", "leases", "ack_chunks")
        }

    return await storage.readers.run(read)


NONE = {"failures": 0, "leases": 0, "ack_chunks": 0}


class TestDeliveries:
    async def test_failures_and_leases_are_written_with_the_cursor(self, storage: Storage) -> None:
        orders = await topic(storage)
        billing, other = (
            await subscription(storage, orders),
            await subscription(storage, orders, "b"),
        )
        mine, theirs = await runtime(storage, billing), await runtime(storage, other)
        mine.cursor.mark_done([0, 5])
        mine.failures = {3: 2, 1 << 40: 1}
        mine.leases = {1 << 50: StoredLease(1 << 51, range(1, 4)), 8: StoredLease(7, [9, 2, 3])}
        theirs.failures = {3: 9}
        storage.commits.save(theirs)
        await write(storage, mine)

        assert await storage.catalog.cursor(billing) == mine.cursor.state()
        assert await storage.catalog.deliveries(billing) == Deliveries(
            {3: 2, 1 << 40: 1},
            {1 << 50: StoredLease(1 << 51, [1, 2, 3]), 8: StoredLease(7, [2, 3, 9])},
        )
        assert await storage.catalog.deliveries(other) == Deliveries({3: 9}, {})

    async def test_they_are_replaced_and_deleted_one_by_one(self, storage: Storage) -> None:
        billing = await subscription(storage, await topic(storage))
        mine = await runtime(storage, billing)
        mine.failures = {1: 1, 2: 1, 3: 1}
        mine.leases = {1: StoredLease(5, [1]), 2: StoredLease(5, [2]), 3: StoredLease(5, [3])}
        await write(storage, mine)
        mine.failures = {1: 2, 2: 0, 7: 0}
        mine.leases = {1: StoredLease(6, [1]), 2: None, 7: None}
        await write(storage, mine)

        assert await storage.catalog.deliveries(billing) == Deliveries(
            {1: 2, 3: 1}, {1: StoredLease(6, [1]), 3: StoredLease(5, [3])}
        )

    @pytest.mark.parametrize("end", ["detach", "delete"])
    async def test_they_go_with_their_subscription(self, storage: Storage, end: str) -> None:
        billing = await subscription(storage, await topic(storage))
        mine = await runtime(storage, billing)
        mine.cursor.mark_done([5])
        mine.failures, mine.leases = {1: 1}, {1: StoredLease(5, [1])}
        await write(storage, mine)
        assert await rows(storage) == dict.fromkeys(NONE, 1)

        if end == "detach":
            await storage.catalog.detach_subscription(billing)
        else:
            await storage.catalog.delete_subscription(billing)

        assert await rows(storage) == NONE

    async def test_of_a_deleted_subscription_nothing_is_written(self, storage: Storage) -> None:
        billing = await subscription(storage, await topic(storage))
        mine = await runtime(storage, billing)
        await storage.catalog.delete_subscription(billing)
        mine.cursor.mark_done([5])
        mine.failures, mine.leases = {1: 1}, {1: StoredLease(5, [1])}
        await write(storage, mine)

        assert await rows(storage) == NONE

    async def test_leases_go_when_exactly_once_delivery_is_switched_off(
        self, storage: Storage
    ) -> None:
        orders = await topic(storage)
        policy = DeadLetterPolicy(orders.name)
        billing = await subscription(storage, orders, exactly_once=True, dead_letter=policy)
        mine = await runtime(storage, billing)
        mine.failures, mine.leases = {1: 1}, {1: StoredLease(5, [1])}
        await write(storage, mine)

        config = replace(billing.config, labels={"a": "b"})
        billing = await storage.catalog.update_subscription(billing, config)
        assert (await storage.catalog.deliveries(billing)).leases
        config = replace(billing.config, exactly_once=False)
        billing = await storage.catalog.update_subscription(billing, config)

        assert await storage.catalog.deliveries(billing) == Deliveries({1: 1}, {})

    async def test_failures_go_with_the_dead_letter_policy(self, storage: Storage) -> None:
        """The process that counts them goes on; but nobody would ever store that they are over."""
        orders = await topic(storage)
        billing = await subscription(storage, orders, dead_letter=DeadLetterPolicy(orders.name))
        mine = await runtime(storage, billing)
        mine.failures = {1: 1}
        await write(storage, mine)

        config = replace(billing.config, dead_letter=None)
        billing = await storage.catalog.update_subscription(billing, config)

        assert await storage.catalog.deliveries(billing) == Deliveries({}, {})

    @given(st.lists(st.integers(0, 1 << 62) | st.integers(0, 20), unique=True))
    def test_the_seqs_of_a_lease_read_as_they_were_written(self, of_lease: list[int]) -> None:
        assert seqs(seqs_bytes(of_lease)) == sorted(of_lease)

    def test_a_run_of_seqs_takes_16_bytes(self) -> None:
        assert len(seqs_bytes(range(1, 1000))) == 16


class TestSettledWithAPublish:
    """A message is published to another topic and done here: both, or neither."""

    @pytest.fixture
    async def dead(self, storage: Storage) -> Topic:
        return await topic(storage, "dead")

    @pytest.fixture
    async def billing(self, storage: Storage) -> Subscription:
        return await subscription(storage, await topic(storage))

    async def test_it_is_done_when_the_publish_is_answered(
        self, storage: Storage, dead: Topic, billing: Subscription
    ) -> None:
        """Without a further write: a crash right then brings it back nowhere."""
        called: list[int] = []
        settled = Settled(billing.id, 0, (3,), lambda: called.append(3))
        await storage.commits.append(dead, b"m", 1, settled)

        assert called == [3]
        assert set_bits((await storage.catalog.cursor(billing)).chunks) == {3}
        assert await stored(storage, dead) == [(0, 1, b"m")]

    async def test_a_stored_chunk_keeps_what_else_is_done(
        self, storage: Storage, dead: Topic, billing: Subscription
    ) -> None:
        await acknowledge(storage, billing, 1, 9, CHUNK_SEQS + 1)
        for seq in (3, CHUNK_SEQS + 3):
            await storage.commits.append(dead, b"m", 1, Settled(billing.id, 0, (seq,), nothing))

        read = await storage.catalog.cursor(billing)
        assert set_bits(read.chunks) == {1, 3, 9, CHUNK_SEQS + 1, CHUNK_SEQS + 3}

    @pytest.mark.parametrize("singly", [False, True])
    @pytest.mark.parametrize("chunk", ["the same chunk", "another chunk"])
    async def test_a_cursor_in_the_same_group_does_not_take_it_back(
        self, storage: Storage, dead: Topic, billing: Subscription, *, singly: bool, chunk: str
    ) -> None:
        acked = 5 if chunk == "the same chunk" else CHUNK_SEQS + 5
        mine = await cursor(storage, billing)
        async with busy_writer(storage.commits):
            mine.mark_done([acked])
            storage.commits.save(mine)
            appends = [
                storage.commits.append(dead, b"m", 1, Settled(billing.id, 0, (seq,), nothing))
                for seq in (3, 7)
            ]
            refused = storage.commits.append(dead, b"x", 1 << 63) if singly else None
        await asyncio.gather(*appends)
        await storage.commits.flushed()

        assert set_bits((await storage.catalog.cursor(billing)).chunks) == {3, 7, acked}
        if refused is not None:
            with pytest.raises(Exception, match=r".*"):
                await refused

    async def test_the_next_group_knows_of_it(
        self, storage: Storage, dead: Topic, billing: Subscription
    ) -> None:
        """``then`` comes before anything else is written: here, of the same chunk."""
        mine = await cursor(storage, billing)
        async with busy_writer(storage.commits):
            settled = Settled(billing.id, 0, (3,), lambda: mine.mark_done([3]))
            append = storage.commits.append(dead, b"m", 1, settled)

        def save_more(_: asyncio.Future[Appended]) -> None:
            mine.mark_done([5])
            storage.commits.save(mine)

        append.add_done_callback(save_more)
        await append
        await asyncio.sleep(0)
        await storage.commits.flushed()

        assert set_bits((await storage.catalog.cursor(billing)).chunks) == {3, 5}

    async def test_a_publish_that_is_aborted_settles_nothing(
        self, storage: Storage, dead: Topic, billing: Subscription
    ) -> None:
        await storage.catalog.delete_topic(dead)
        called: list[int] = []
        with pytest.raises(Aborted):
            await storage.commits.append(
                dead, b"m", 1, Settled(billing.id, 0, (3,), lambda: called.append(3))
            )

        assert called == []
        assert await rows(storage) == NONE

    @pytest.mark.parametrize("singly", [False, True])
    async def test_one_that_fails_alone_settles_nothing_and_others_do(
        self, storage: Storage, dead: Topic, billing: Subscription, *, singly: bool
    ) -> None:
        """``singly``: with a value that does not fit; else with a topic that has changed."""
        called: list[int] = []
        stale = replace(dead, version=dead.version + 1)
        mine = await cursor(storage, billing)
        async with busy_writer(storage.commits):
            mine.mark_done([5])
            storage.commits.save(mine)
            good = storage.commits.append(
                dead, b"m", 1, Settled(billing.id, 0, (7,), lambda: called.append(7))
            )
            bad = storage.commits.append(
                dead if singly else stale,
                b"x",
                1 << 63 if singly else 1,
                Settled(billing.id, 0, (3,), lambda: called.append(3)),
            )
        await good
        with pytest.raises(Exception, match=r".*"):
            await bad
        await storage.commits.flushed()

        assert called == [7]
        assert set_bits((await storage.catalog.cursor(billing)).chunks) == {5, 7}

    @pytest.mark.parametrize("singly", [False, True])
    @pytest.mark.parametrize("asked", ["before the seek", "after the seek"])
    async def test_a_seek_in_the_same_group_counts(
        self, storage: Storage, dead: Topic, billing: Subscription, *, singly: bool, asked: str
    ) -> None:
        """What was asked for before it is published, and comes again here; else it is done."""
        await acknowledge(storage, billing, 1, 9)
        mine = await cursor(storage, billing)
        async with busy_writer(storage.commits):
            mine.replace(0, {})
            mine.mark_done([8])
            storage.commits.save(mine)
            epoch = mine.epoch if asked == "after the seek" else mine.epoch - 1
            append = storage.commits.append(
                dead, b"m", 1, Settled(billing.id, epoch, (3, CHUNK_SEQS + 3), nothing)
            )
            refused = storage.commits.append(dead, b"x", 1 << 63) if singly else None
        await append
        await storage.commits.flushed()
        if refused is not None:
            with pytest.raises(Exception, match=r".*"):
                await refused

        read = await storage.catalog.cursor(billing)
        also = {3, CHUNK_SEQS + 3} if asked == "after the seek" else set()
        assert (read.floor, read.epoch) == (0, mine.epoch)
        assert set_bits(read.chunks) == {8} | also

    async def test_a_seek_that_is_written_counts(
        self, storage: Storage, dead: Topic, billing: Subscription
    ) -> None:
        mine = await cursor(storage, billing)
        mine.replace(0, {})
        storage.commits.save(mine)
        await storage.commits.flushed()
        called: list[int] = []
        settled = Settled(billing.id, 0, (3,), lambda: called.append(3))
        await storage.commits.append(dead, b"m", 1, settled)

        assert await rows(storage) == NONE
        assert called == [3]  # whoever asked knows its epoch, too

    async def test_below_the_floor_nothing_is_written(
        self, storage: Storage, dead: Topic, billing: Subscription
    ) -> None:
        mine = await cursor(storage, billing)
        mine.raise_floor(CHUNK_SEQS * 2)
        storage.commits.save(mine)
        await storage.commits.flushed()
        await storage.commits.append(dead, b"m", 1, Settled(billing.id, 0, (3,), nothing))

        assert await rows(storage) == NONE

    async def test_of_a_deleted_subscription_it_is_published_and_no_more(
        self, storage: Storage, dead: Topic, billing: Subscription
    ) -> None:
        await storage.catalog.delete_subscription(billing)
        await storage.commits.append(dead, b"m", 1, Settled(billing.id, 0, (3,), nothing))

        assert await rows(storage) == NONE
        assert await stored(storage, dead) == [(0, 1, b"m")]

    async def test_while_the_database_is_away_nothing_is_settled(
        self, address: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And what else is to be written of the cursor is written later, without it."""
        called: list[int] = []
        async with open_storage(address, clock) as storage:
            dead = await topic(storage, "dead")
            billing = await subscription(storage, await topic(storage))
            mine = await runtime(storage, billing)
            mine.cursor.mark_done([5])
            mine.failures = {3: 2}

            def fail(*_arguments: object) -> None:
                raise ConnectionError("away")

            with monkeypatch.context() as away:
                away.setattr(type(storage.commits._writer), "_transact", fail)
                away.setattr("ams_grpc.storage.writer.is_unavailable", lambda _error: True)
                storage.commits.save(mine)
                with pytest.raises(StorageUnavailable):
                    await storage.commits.append(
                        dead, b"m", 1, Settled(billing.id, 0, (3,), lambda: called.append(3))
                    )
            await eventually(lambda: storage.commits.is_available)
            await storage.commits.flushed()
            assert called == []
            assert set_bits((await storage.catalog.cursor(billing)).chunks) == {5}
            assert (await storage.catalog.deliveries(billing)).failures == {3: 2}
            assert await publish(storage, dead, b"m") == [0]


def nothing() -> None:
    """``then`` of those who need not know."""
