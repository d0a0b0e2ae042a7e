"""Large payloads of an SQLite database live beside it, and are as safe as those inside."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, event, make_url, text

from ams_grpc.broker.catalog import Topic
from ams_grpc.broker.errors import Aborted, StorageUnavailable, UnreadableMessages
from ams_grpc.storage import Storage, backup, engine, open_storage, segment_rows, segments
from ams_grpc.storage.backup import back_up
from ams_grpc.storage.engine import connect
from ams_grpc.storage.errors import UnsupportedDatabaseError
from ams_grpc.storage.migrate import alembic_config, migrate
from ams_grpc.storage.segments import BLOCK_BYTES, LARGE_BYTES, Place, Segments
from ams_grpc.storage.upkeep import Upkeep
from tests.storage.world import (
    PATIENCE_S,
    ManualClock,
    Trouble,
    acknowledge,
    busy_writer,
    eventually,
    publish,
    stored,
    subscription,
    topic,
)


def large(number: int = 0, size: int = LARGE_BYTES) -> bytes:
    return random.Random(number).randbytes(size)


@pytest.fixture
def address(sqlite_url: str) -> str:
    migrate(sqlite_url)
    return sqlite_url


@pytest.fixture
def folder(address: str) -> Path:
    return Path(f"{make_url(address).database}.segments")


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> int:
    """Segments take four payloads."""
    size = 4 * LARGE_BYTES
    monkeypatch.setattr(segments, "SEGMENT_BYTES", size)
    monkeypatch.setattr(segment_rows, "_WORTH_KEEPING", size // 4 + 1)
    return size


@pytest.fixture
def trouble(storage: Storage) -> Trouble:
    """What makes transactions fail."""
    trouble = Trouble(lambda: sqlite3.OperationalError("disk I/O error"))
    of = storage.commits._writer._database.writer
    event.listen(of, "begin", trouble.begin)
    event.listen(of, "commit", trouble.commit)
    return trouble


def refuse_reading(patch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    patch.setattr(os, "pread", refuse)


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def sizes(folder: Path) -> list[int]:
    return [path.stat().st_size for path in files(folder)]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def purge_all(upkeep: Upkeep, of: Topic, clock: ManualClock) -> None:
    while await upkeep.purge_topic(of.id, clock.now_us()):
        pass


async def test_large_payloads_are_read_as_they_were_published_also_after_a_restart(
    address: str, clock: ManualClock, folder: Path
) -> None:
    published = [large(1), b"small", large(2, 3 * LARGE_BYTES), large(3, LARGE_BYTES - 1)]
    async with open_storage(address, clock) as storage:
        orders = await topic(storage)
        await publish(storage, orders, *published)
        assert [payload for *_, payload in await stored(storage, orders)] == published
    assert sizes(folder) == [4 * LARGE_BYTES]

    async with open_storage(address, clock) as storage:
        await publish(storage, orders, large(4))
        assert [payload for *_, payload in await stored(storage, orders)] == [
            *published,
            large(4),
        ]
    assert len(sizes(folder)) == 2  # never again into a segment of an earlier run


async def test_no_number_is_used_twice_though_nothing_is_left_of_it(
    address: str, clock: ManualClock, folder: Path
) -> None:
    names: list[str] = []
    for number in range(3):
        async with open_storage(address, clock) as storage:
            orders = await topic(storage, f"orders-{number}")
            await publish(storage, orders, large(number))
            names += [path.name for path in files(folder)]
            await purge_all(storage.upkeep, orders, clock)
            assert files(folder) == []
    assert len(set(names)) == 3


async def test_postgresql_keeps_everything_inside(
    postgres_url: str, clock: ManualClock, tmp_path: Path
) -> None:
    migrate(postgres_url)
    async with open_storage(postgres_url, clock) as storage:
        orders = await topic(storage)
        await publish(storage, orders, large())
        assert await stored(storage, orders) == [(0, 1, large())]
    assert files(tmp_path) == []


async def test_only_the_owner_may_read_segments(storage: Storage, folder: Path) -> None:
    await publish(storage, await topic(storage), large())

    assert mode(folder) == 0o700
    assert [mode(path) for path in files(folder)] == [0o600]


@pytest.mark.parametrize("size", [LARGE_BYTES + 1, (1 << 20) + 5, (2 << 20) - 1])
@pytest.mark.parametrize("refuses", [None, "open", "write"])
async def test_payloads_of_any_size_are_stored_on_any_file_system(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, size: int, refuses: str | None
) -> None:
    real_open, real_write = os.open, os.write
    direct: set[int] = set()

    def refuse_open(path: str, flags: int, *rest: int) -> int:
        if flags & os.O_DIRECT and refuses == "open":
            os.close(real_open(path, flags & ~os.O_DIRECT, *rest))  # Linux leaves the file behind
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        descriptor = real_open(path, flags, *rest)
        direct.discard(descriptor)
        if flags & os.O_DIRECT:
            direct.add(descriptor)
        return descriptor

    def refuse_write(descriptor: int, data: bytes) -> int:
        if descriptor in direct and refuses == "write":
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real_write(descriptor, data)

    monkeypatch.setattr(os, "open", refuse_open)
    monkeypatch.setattr(os, "write", refuse_write)
    orders = await topic(storage)
    if refuses == "write":  # found out by the first, and only by that
        with pytest.raises(StorageUnavailable):
            await storage.commits.append(orders, large(0, size), 1)
        await eventually(lambda: storage.commits.is_available)

    await publish(storage, orders, large(1, size), large(2, size), large(3))

    assert [payload for *_, payload in await stored(storage, orders)] == [
        large(1, size),
        large(2, size),
        large(3),
    ]


# --- what is deleted ------------------------------------------------------------------------------


async def test_a_segment_goes_when_its_last_message_is_deleted(
    storage: Storage, clock: ManualClock, folder: Path, small_segments: int
) -> None:
    orders = await topic(storage)
    billing = await subscription(storage, orders)
    await publish(storage, orders, *map(large, range(9)))
    assert sizes(folder) == [small_segments, small_segments, LARGE_BYTES]

    await acknowledge(storage, billing, *range(6))
    await purge_all(storage.upkeep, orders, clock)
    assert sizes(folder) == [small_segments, LARGE_BYTES]

    await acknowledge(storage, billing, 6, 7, 8)
    await purge_all(storage.upkeep, orders, clock)
    assert sizes(folder) == []  # that of the next append is a new one
    await publish(storage, orders, large(9))
    assert await stored(storage, orders) == [(9, 1, large(9))]


async def test_a_message_that_is_kept_for_long_does_not_keep_its_segment(
    storage: Storage, clock: ManualClock, folder: Path, small_segments: int
) -> None:
    orders, bills = await topic(storage, "orders"), await topic(storage, "bills")
    await subscription(storage, bills, "kept")
    await publish(storage, bills, large(7))
    await publish(storage, orders, *map(large, range(4)))
    assert sizes(folder) == [small_segments, LARGE_BYTES]

    await purge_all(storage.upkeep, orders, clock)

    assert sizes(folder) == []
    assert await stored(storage, bills) == [(0, 1, large(7))]


async def test_a_reader_that_comes_late_finds_what_has_moved(
    storage: Storage, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, small_segments: int
) -> None:
    orders, bills = await topic(storage, "orders"), await topic(storage, "bills")
    await subscription(storage, bills, "kept")
    await publish(storage, bills, large(7))
    await publish(storage, orders, *map(large, range(4)))
    gone: list[Place] = []
    read = Segments.read

    def read_late(self: Segments, place: Place, size: int) -> bytes:
        if not gone:
            gone.append(place)
            raise FileNotFoundError(errno.ENOENT, "gone", str(place))
        return read(self, place, size)

    monkeypatch.setattr(Segments, "read", read_late)
    assert await stored(storage, bills) == [(0, 1, large(7))]
    assert gone


async def test_a_segment_that_is_nearly_empty_before_it_is_full_goes_later(
    storage: Storage, clock: ManualClock, folder: Path, small_segments: int
) -> None:
    orders, bills = await topic(storage, "orders"), await topic(storage, "bills")
    await subscription(storage, bills, "kept")
    await publish(storage, bills, large(7))
    await publish(storage, orders, large(1), large(2))
    await purge_all(storage.upkeep, orders, clock)
    await storage.upkeep.free_space()
    assert len(files(folder)) == 1  # more is appended to it
    await publish(storage, orders, large(3), large(4))
    later = await subscription(storage, orders, "later")
    assert len(await publish(storage, orders, large(5), large(6), large(7))) == 3
    first = files(folder)[0]
    await acknowledge(storage, later, 4, 5, 6)

    await purge_all(storage.upkeep, orders, clock)
    await storage.upkeep.free_space()

    assert not first.exists()
    assert await stored(storage, bills) == [(0, 1, large(7))]


async def test_a_segment_that_is_nearly_empty_at_a_start_goes(
    address: str, clock: ManualClock, folder: Path, small_segments: int
) -> None:
    async with open_storage(address, clock) as storage:
        orders, bills = await topic(storage, "orders"), await topic(storage, "bills")
        await subscription(storage, bills, "kept")
        await publish(storage, bills, large(7))
        await publish(storage, orders, large(1), large(2))
        await purge_all(storage.upkeep, orders, clock)
    assert len(files(folder)) == 1

    async with open_storage(address, clock) as storage:
        await publish(storage, orders, b"small")
        await storage.upkeep.free_space()

        assert files(folder) == []
        assert await stored(storage, bills) == [(0, 1, large(7))]


async def test_a_segment_goes_later_when_nobody_knew_if_its_rows_are_gone(
    storage: Storage, clock: ManualClock, folder: Path, trouble: Trouble
) -> None:
    orders = await topic(storage)
    await publish(storage, orders, large(1))
    trouble.after_commit = True
    with pytest.raises(StorageUnavailable):
        await storage.upkeep.purge_topic(orders.id, clock.now_us())
    trouble.after_commit = False
    await eventually(lambda: storage.commits.is_available)
    assert await storage.upkeep.purge_topic(orders.id, clock.now_us()) == 0

    await storage.upkeep.free_space()

    assert files(folder) == []
    assert storage.upkeep._segments is not None
    assert storage.upkeep._segments.suspects == []


async def test_a_segment_that_cannot_be_deleted_stops_nothing_and_goes_later(
    storage: Storage,
    clock: ManualClock,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))

    orders = await topic(storage)
    await publish(storage, orders, large(1))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        await purge_all(storage.upkeep, orders, clock)
        await storage.upkeep.free_space()
        await publish(storage, orders, b"small")
    [path] = files(folder)
    [said] = caplog.messages
    assert path.name in said

    await storage.upkeep.free_space()

    assert files(folder) == []


# --- what fails -----------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["write", "fdatasync", "open"])
async def test_a_disk_that_refuses_is_an_outage_and_leaves_nothing_behind(
    storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    orders = await topic(storage)
    if call != "open":
        await publish(storage, orders, large(1))
    before = await stored(storage, orders)
    real = getattr(os, call)
    full = [True]

    def refuse(first: object, *rest: object, **options: object) -> object:
        if not full or (call == "open" and ".segment" not in str(first)):
            return real(first, *rest, **options)
        if call == "write":
            real(first, memoryview(rest[0])[:BLOCK_BYTES])  # type: ignore[arg-type]
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, refuse)
    for _ in range(3):
        with pytest.raises(StorageUnavailable):
            await storage.commits.append(orders, large(2), 1)
    assert await stored(storage, orders) == before
    assert await publish(storage, orders, b"small") == [len(before)]  # there is space for it

    full.clear()
    await eventually(lambda: storage.commits.is_available)
    await publish(storage, orders, large(3))

    assert [payload for *_, payload in await stored(storage, orders)] == [
        *[payload for *_, payload in before],
        b"small",
        large(3),
    ]
    assert sum(sizes(folder)) == (len(before) + 1) * LARGE_BYTES


async def test_bytes_of_a_transaction_that_failed_are_cut_off(
    storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = await topic(storage)
    await publish(storage, orders, large(1))

    def fail(*_: object) -> None:
        raise StorageUnavailable("the power goes")

    with monkeypatch.context() as patch:
        patch.setattr(Segments, "sync", fail)
        for _ in range(2):
            with pytest.raises(StorageUnavailable):
                await storage.commits.append(orders, large(2), 1)
    await eventually(lambda: storage.commits.is_available)

    await publish(storage, orders, large(3))
    assert sizes(folder) == [LARGE_BYTES, LARGE_BYTES]
    assert await stored(storage, orders) == [(0, 1, large(1)), (1, 1, large(3))]


async def test_an_append_to_a_topic_that_has_changed_harms_no_other(storage: Storage) -> None:
    orders, bills = await topic(storage, "orders"), await topic(storage, "bills")
    await storage.catalog.delete_topic(bills)
    refused = storage.commits.append(bills, large(1), 1)
    accepted = storage.commits.append(orders, large(2), 1)

    with pytest.raises(Aborted):
        await refused
    await accepted
    assert await stored(storage, orders) == [(0, 1, large(2))]


async def test_a_publish_is_not_answered_when_a_purge_beside_it_could_not_sync_its_payload(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders, kept = await topic(storage, "orders"), storage.upkeep._segments
    assert kept is not None
    real, refusals = os.fdatasync, [1]

    def refuse_once(descriptor: int) -> None:
        if refusals:
            refusals.clear()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", refuse_once)
    async with busy_writer(storage.commits):
        publishing = storage.commits.append(orders, large(), 1)
        sealing = asyncio.ensure_future(storage.commits.run(lambda _: kept.seal(1)))
        await asyncio.sleep(0)

    with pytest.raises(StorageUnavailable):
        await publishing
    with pytest.raises(StorageUnavailable):
        await sealing
    assert not refusals
    assert await stored(storage, orders) == []


def test_what_was_not_synced_once_counts_as_lost_until_a_new_transaction(tmp_path: Path) -> None:
    def begin() -> None:
        opened.begin(lambda: 0, lambda _number: 0, lambda _number: None)

    opened = Segments(tmp_path / "ams.db")
    begin()
    opened.append(large())
    opened.abandon()
    for _ in range(2):
        with pytest.raises(StorageUnavailable):
            opened.sync()

    begin()
    opened.append(large())
    opened.sync()
    opened.seal(None)  # type: ignore[arg-type]  # it has none, so there is nothing to close
    opened.abandon()
    opened.abandon()


async def test_a_file_that_cannot_be_closed_costs_no_connection(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = await topic(storage)
    closed: list[object] = []
    real_close, real_sync, real_discard = os.close, os.fdatasync, engine.discard

    def refuse(descriptor: int) -> None:
        real_close(descriptor)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def fail(descriptor: int) -> None:
        monkeypatch.setattr(os, "fdatasync", real_sync)
        monkeypatch.setattr(os, "close", refuse)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def discard(connection: Connection) -> None:
        monkeypatch.setattr(os, "close", real_close)
        closed.append(connection)
        real_discard(connection)

    monkeypatch.setattr(os, "fdatasync", fail)
    monkeypatch.setattr("ams_grpc.storage.writer.discard", discard)
    with pytest.raises(StorageUnavailable):
        await storage.commits.append(orders, large(1), 1)
    await eventually(lambda: storage.commits.is_available)

    assert len(closed) == 1
    await publish(storage, orders, large(2))


async def test_segments_that_a_failed_transaction_has_filled_leave_nothing_behind(
    storage: Storage, folder: Path, small_segments: int, trouble: Trouble
) -> None:
    orders = await topic(storage)
    trouble.at_commit = True
    async with busy_writer(storage.commits):
        refused = [storage.commits.append(orders, large(n, 1 << 20), 1) for n in range(3)]
    for answer in refused:
        with pytest.raises(StorageUnavailable):
            await answer
    trouble.at_commit = False
    await eventually(lambda: storage.commits.is_available)

    await publish(storage, orders, large(4))

    assert sizes(folder) == [LARGE_BYTES]
    assert await stored(storage, orders) == [(0, 1, large(4))]


@pytest.mark.parametrize("damage", ["missing", "short", "unreadable"])
async def test_a_damaged_segment_is_trouble_of_its_own_and_never_skipped(
    storage: Storage,
    folder: Path,
    damage: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    orders = await topic(storage)
    await publish(storage, orders, large())
    [path] = files(folder)
    if damage == "missing":
        path.unlink()
    elif damage == "short":
        os.truncate(path, LARGE_BYTES - 1)
    else:
        refuse_reading(monkeypatch)

    for _ in range(3):
        with pytest.raises(UnreadableMessages) as refused:
            await stored(storage, orders)
        assert path.name not in str(refused.value)

    [said] = caplog.messages  # once, and nothing about the database
    assert path.name in said
    await storage.ping()


@pytest.mark.parametrize("damage", ["missing", "short"])
async def test_what_comes_before_a_damaged_payload_is_read(
    storage: Storage, folder: Path, damage: str
) -> None:
    orders = await topic(storage)
    await publish(storage, orders, b"1", b"2", large(3), b"4")
    [path] = files(folder)
    if damage == "missing":
        path.unlink()
    else:
        os.truncate(path, 1)

    assert await stored(storage, orders) == [(0, 1, b"1"), (1, 1, b"2")]
    with pytest.raises(UnreadableMessages):
        await stored(storage, orders, 2)
    assert await stored(storage, orders, 3) == [(3, 1, b"4")]


@pytest.mark.parametrize("damage", ["missing", "short", "unreadable"])
async def test_a_segment_that_cannot_be_read_is_kept_and_keeps_nothing_else(
    storage: Storage,
    clock: ManualClock,
    folder: Path,
    small_segments: int,
    damage: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    orders, bills = await topic(storage, "orders"), await topic(storage, "bills")
    await subscription(storage, bills, "kept")
    await publish(storage, bills, large(7))
    await publish(storage, orders, *map(large, range(4)))
    path = files(folder)[0]
    content = path.read_bytes()
    with monkeypatch.context() as patch:
        if damage == "missing":
            path.unlink()
        elif damage == "short":
            os.truncate(path, 1)
        else:
            refuse_reading(patch)

        await purge_all(storage.upkeep, orders, clock)

        assert await stored(storage, orders) == []
        assert path.exists() is (damage != "missing")
        with pytest.raises(UnreadableMessages):
            await stored(storage, bills)

    path.write_bytes(content)  # from a backup
    assert await stored(storage, bills) == [(0, 1, large(7))]
    await storage.upkeep.free_space()
    assert not path.exists()
    assert await stored(storage, bills) == [(0, 1, large(7))]


# --- a start after a crash ------------------------------------------------------------------------

Rows = dict[int, int]
"""By segment: where the last payload that a row refers to ends."""


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.integers(1, 6), st.integers(0, 300), max_size=6),
    st.dictionaries(st.integers(1, 6), st.integers(1, 300), max_size=6),
)
def test_after_a_start_exactly_what_rows_refer_to_is_left(
    tmp_path_factory: pytest.TempPathFactory, files: dict[int, int], rows: Rows
) -> None:
    database = tmp_path_factory.mktemp("database") / "ams.db"
    folder = Path(f"{database}.segments")
    folder.mkdir()
    for number, size in files.items():
        (folder / f"{number:010d}.segment").write_bytes(bytes(size))
    opened = Segments(database)

    noted: list[int] = []
    opened.begin(lambda: max(rows, default=0), lambda number: rows.get(number, 0), noted.append)
    place = opened.append(b"next")
    opened.sync()

    assert place == Place(max(*files, *rows, 0, 0) + 1, 0)
    assert noted == [place.segment]
    left = {int(path.stem): path.stat().st_size for path in folder.iterdir()}
    assert left.pop(place.segment) == BLOCK_BYTES
    assert left == {
        number: min(size, rows[number]) for number, size in files.items() if number in rows
    }
    assert opened.read(place, 4) == b"next"


PUBLISH = f"""
import asyncio, random, sys

from ams_grpc.broker.clock import SystemClock
from ams_grpc.storage import open_storage
from ams_grpc.storage.segments import Segments
from ams_grpc.broker.names import TopicName

async def main(address):
    async with open_storage(address, SystemClock()) as storage:
        orders = await storage.catalog.topic(TopicName("shop", "orders"))
        while True:
            number = await storage.log.next_seq(orders.id)
            payload = random.Random(number).randbytes({LARGE_BYTES})
            await storage.commits.append(orders, payload, 1)
            print(number, flush=True)

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture
def publisher(address: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PUBLISH, address],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    yield process
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.parametrize("after", [1, 2, 5])
async def test_what_was_answered_survives_a_kill_and_nothing_else_takes_space(
    address: str, clock: ManualClock, folder: Path, after: int, request: pytest.FixtureRequest
) -> None:
    async with open_storage(address, clock) as storage:
        orders = await topic(storage)
    process: subprocess.Popen[str] = request.getfixturevalue("publisher")
    assert process.stdout is not None
    answered = [int(process.stdout.readline()) for _ in range(after)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    answered += map(int, process.stdout.read().split())
    with files(folder)[0].open("ab") as file:
        file.write(b"what a crash left")

    async with open_storage(address, clock) as storage:
        await publish(storage, orders, b"small")
        found = await stored(storage, orders)

    assert len(found) > len(answered)
    for seq, _, payload in found[:-1]:
        assert payload == large(seq)
    assert sum(sizes(folder)) == (len(found) - 1) * LARGE_BYTES


# --- back to an earlier version -------------------------------------------------------------------


async def test_an_earlier_version_gets_all_payloads_back_into_the_database(
    address: str, clock: ManualClock
) -> None:
    async with open_storage(address, clock) as storage:
        await publish(storage, await topic(storage), large(1), b"small", large(2))
    database = connect(address)
    try:
        with database.writer.begin() as connection:
            config = alembic_config()
            config.attributes["connection"] = connection
            command.downgrade(config, "0004")
            payloads = connection.execute(
                text("SELECT payload FROM batches ORDER BY first_seq")
            ).scalars()
            assert list(payloads) == [large(1), b"small", large(2)]
    finally:
        database.close()

    migrate(address)
    async with open_storage(address, clock) as storage:
        [orders] = await storage.catalog.topics("shop", "", 10)
        assert [payload for *_, payload in await stored(storage, orders)] == [
            large(1),
            b"small",
            large(2),
        ]


# --- backup ---------------------------------------------------------------------------------------


async def test_a_copy_made_while_the_service_runs_has_everything_of_one_moment(
    address: str, clock: ManualClock, tmp_path: Path
) -> None:
    async with open_storage(address, clock) as storage:
        orders = await topic(storage)
        await publish(storage, orders, large(1), b"small", large(2))
        back_up(address, tmp_path / "copy")
        await publish(storage, orders, large(3))
    name = make_url(address).database or ""
    copy = tmp_path / "copy" / Path(name).name

    assert [mode(path) for path in (copy.parent, copy)] == [0o700, 0o600]
    async with open_storage(f"sqlite:///{copy}", clock) as storage:
        assert [payload for *_, payload in await stored(storage, orders)] == [
            large(1),
            b"small",
            large(2),
        ]


async def test_a_copy_begins_again_when_a_segment_goes_meanwhile(
    storage: Storage,
    address: str,
    clock: ManualClock,
    tmp_path: Path,
    folder: Path,
    small_segments: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    orders = await topic(storage)
    await publish(storage, orders, *map(large, range(5)))
    loop, copy_start = asyncio.get_running_loop(), backup._copy_start
    purged: list[object] = []

    def purge_first(source: Path, target: Path, end: int) -> None:
        if not purged:
            purging = purge_all(storage.upkeep, orders, clock)
            purged.append(asyncio.run_coroutine_threadsafe(purging, loop).result(PATIENCE_S))
        copy_start(source, target, end)

    monkeypatch.setattr(backup, "_copy_start", purge_first)
    await asyncio.to_thread(back_up, address, tmp_path / "copy")

    assert purged
    assert files(folder) == []
    copy = tmp_path / "copy" / Path(make_url(address).database or "").name
    async with open_storage(f"sqlite:///{copy}", clock) as copied:
        assert await stored(copied, orders) == []


async def test_a_copy_needs_a_new_folder_and_an_sqlite_database(
    address: str, tmp_path: Path
) -> None:
    with pytest.raises(FileExistsError):
        back_up(address, tmp_path)
    for wrong in ("postgresql://nobody@localhost/ams", f"sqlite:///{tmp_path}/none.db"):
        with pytest.raises(UnsupportedDatabaseError):
            back_up(wrong, tmp_path / "copy")
