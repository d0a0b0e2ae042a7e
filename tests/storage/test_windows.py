"""Windows of AMS's pulls, written and read with their cursors."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, func, select

from ams_grpc.broker.catalog import Subscription
from ams_grpc.broker.cursor import CHUNK_SEQS, Cursor
from ams_grpc.broker.ports import CursorChanges, StoredWindow
from ams_grpc.storage import Storage, open_storage
from ams_grpc.storage.tables import windows
from tests.storage.world import ManualClock, busy_writer, subscription, topic

OPEN = StoredWindow(
    start=3,
    end=1 << 40,
    pulled_us=1_800_000_000_000_000,
    messages=7,
    data_bytes=1 << 50,
    last_messages=2,
    last_interval_us=500_000,
)


class Pulled:
    """A ``ports.DirtyCursor`` with a window."""

    def __init__(self, of: Subscription, cursor: Cursor) -> None:
        self.subscription_id = of.id
        self.cursor = cursor
        self.window: StoredWindow | None = None

    def take_changes(self) -> CursorChanges:
        window, self.window = self.window, None
        return replace(self.cursor.take_changes(), window=window)

    def put_back(self, changes: CursorChanges) -> None:
        self.cursor.put_back(changes)
        self.window = self.window or changes.window


async def pulled(storage: Storage, of: Subscription) -> Pulled:
    return Pulled(of, Cursor(of.id, await storage.catalog.cursor(of)))


async def write(storage: Storage, dirty: Pulled, window: StoredWindow | None) -> None:
    dirty.window = window
    storage.commits.save(dirty)
    await storage.commits.flushed()


async def test_a_window_is_read_back_with_its_cursor(address: str, clock: ManualClock) -> None:
    async with open_storage(address, clock) as storage:
        billing = await subscription(storage, await topic(storage))
        other = await subscription(storage, await topic(storage, "others"), "other")
        dirty = await pulled(storage, billing)
        dirty.cursor.mark_done([2, CHUNK_SEQS + 5])
        await write(storage, dirty, OPEN)

    async with open_storage(address, clock) as storage:
        read = await storage.catalog.cursor(billing)
        assert read == replace(dirty.cursor.state(), window=OPEN)
        assert (await storage.catalog.cursor(other)).window is None


async def test_the_last_of_several_counts_and_what_has_not_changed_stays(storage: Storage) -> None:
    billing = await subscription(storage, await topic(storage))
    dirty = await pulled(storage, billing)
    await write(storage, dirty, OPEN)
    closed = replace(OPEN, start=0, end=0)
    dirty.cursor.raise_floor(5)
    await write(storage, dirty, closed)
    dirty.cursor.raise_floor(6)
    await write(storage, dirty, None)

    read = await storage.catalog.cursor(billing)
    assert (read.floor, read.window) == (6, closed)


async def test_a_window_goes_with_its_subscription(storage: Storage) -> None:
    """Also one that is written afterwards."""
    billing = await subscription(storage, await topic(storage))
    dirty = await pulled(storage, billing)
    await write(storage, dirty, OPEN)
    await storage.catalog.delete_subscription(billing)
    await write(storage, dirty, OPEN)

    def count(connection: Connection) -> int | None:
        return connection.scalar(select(func.count()).select_from(windows))

    assert await storage.readers.run(count) == 0


async def test_a_neighbour_that_cannot_be_written_is_no_harm(storage: Storage) -> None:
    orders = await topic(storage)
    billing = await subscription(storage, orders)
    dirty = await pulled(storage, billing)
    dirty.window = OPEN
    async with busy_writer(storage.commits):
        storage.commits.save(dirty)
        too_many = storage.commits.append(orders, b"too many", 1 << 63)
        flushed = storage.commits.flushed()
    await flushed
    assert too_many.exception() is not None

    assert (await storage.catalog.cursor(billing)).window == OPEN
