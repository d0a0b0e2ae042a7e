"""Buckets that are folders."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import stat
import time
from pathlib import Path

import pytest

from ams_grpc.exports.buckets import NOT_FOUND, PERMISSION_DENIED, DestinationError
from ams_grpc.exports.folders import FolderBucket


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "buckets" / "archive"
    folder.mkdir(parents=True)
    return folder


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


@pytest.fixture
def bucket(folder: Path) -> FolderBucket:
    return FolderBucket(folder.parent, folder.name)


def seen(folder: Path) -> dict[str, bytes]:
    """What is in a bucket, as somebody sees it who lists it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("[!.]*")
        if path.is_file() and path.parent.name != ".incomplete"
    }


async def test_an_object_is_seen_when_it_is_complete_and_not_before(
    bucket: FolderBucket, folder: Path
) -> None:
    opened = await bucket.create("2024/01/orders.txt")
    await opened.write(b"1\n")
    await opened.write(b"2\n")
    assert seen(folder) == {}

    await opened.complete()

    assert seen(folder) == {"2024/01/orders.txt": b"1\n2\n"}
    assert list((folder / ".incomplete").iterdir()) == []


async def test_an_object_that_is_abandoned_leaves_nothing(
    bucket: FolderBucket, folder: Path
) -> None:
    opened = await bucket.create("orders.txt")
    await opened.write(b"1")

    opened.abandon()

    assert seen(folder) == {}
    assert list((folder / ".incomplete").iterdir()) == []
    with pytest.raises(DestinationError):
        await opened.write(b"2")
    with pytest.raises(DestinationError):
        await opened.complete()


async def test_an_object_that_is_complete_cannot_be_abandoned(
    bucket: FolderBucket, folder: Path
) -> None:
    opened = await bucket.create("orders.txt")
    await opened.complete()

    opened.abandon()

    assert seen(folder) == {"orders.txt": b""}


async def test_an_object_that_is_abandoned_in_the_middle_of_a_write_leaves_nothing(
    bucket: FolderBucket, folder: Path
) -> None:
    opened = await bucket.create("orders.txt")
    before = open_files()
    writing = asyncio.ensure_future(opened.write(b"1" * 50_000_000))
    await asyncio.sleep(0)

    opened.abandon()

    await asyncio.wait([writing])
    writing.exception()
    assert list((folder / ".incomplete").iterdir()) == []
    assert open_files() == before - 1


async def test_a_bucket_without_a_folder_is_not_found(tmp_path: Path) -> None:
    bucket = FolderBucket(tmp_path, "archive")

    for attempt in (bucket.check(), bucket.create("orders.txt")):
        with pytest.raises(DestinationError) as caught:
            await attempt
        assert caught.value.state == NOT_FOUND


async def test_a_file_is_no_bucket(folder: Path) -> None:
    (folder.parent / "file").touch()

    with pytest.raises(DestinationError) as caught:
        await FolderBucket(folder.parent, "file").check()

    assert caught.value.state == NOT_FOUND


async def test_a_bucket_that_is_removed_meanwhile_is_not_found(
    bucket: FolderBucket, folder: Path
) -> None:
    opened = await bucket.create("orders.txt")
    shutil.rmtree(folder)

    with pytest.raises(DestinationError) as caught:
        await opened.complete()

    assert caught.value.state == NOT_FOUND
    assert list(folder.parent.iterdir()) == []


async def test_a_folder_that_is_read_only_is_denied(
    bucket: FolderBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)  # root may write everywhere

    with pytest.raises(DestinationError) as caught:
        await bucket.check()

    assert caught.value.state == PERMISSION_DENIED


@pytest.mark.parametrize(
    "number, state",
    [(errno.EACCES, PERMISSION_DENIED), (errno.EROFS, PERMISSION_DENIED), (errno.ENOSPC, "")],
)
async def test_what_the_system_says_is_understood(
    bucket: FolderBucket, monkeypatch: pytest.MonkeyPatch, number: int, state: str
) -> None:
    opened = await bucket.create("orders.txt")

    def write(_file: int, _data: bytes) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(DestinationError, match=os.strerror(number)) as caught:
        await opened.write(b"1")

    assert caught.value.state == state


async def test_a_bucket_that_is_a_link_is_denied(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (folder.parent / "link").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(DestinationError) as caught:
        await FolderBucket(folder.parent, "link").create("orders.txt")

    assert caught.value.state == PERMISSION_DENIED
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("name", ["link/orders.txt", "link/deep/orders.txt", "../orders.txt"])
async def test_nothing_is_written_outside_of_the_bucket(
    bucket: FolderBucket, folder: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (folder / "link").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(DestinationError) as caught:
        await bucket.create(name)

    assert caught.value.state == PERMISSION_DENIED
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert list(folder.parent.iterdir()) == [folder]


async def test_a_link_that_appears_meanwhile_is_not_followed(
    bucket: FolderBucket, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    opened = await bucket.create("deep/er/orders.txt")
    (folder / "deep").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(DestinationError):
        await opened.complete()

    assert list((tmp_path / "elsewhere").iterdir()) == []


async def test_no_object_is_put_among_incomplete_ones(bucket: FolderBucket) -> None:
    with pytest.raises(DestinationError) as caught:
        await bucket.create(".incomplete/orders.txt")

    assert caught.value.state == PERMISSION_DENIED


async def test_what_crashes_leave_is_deleted_after_a_day(
    bucket: FolderBucket, folder: Path
) -> None:
    left = [await bucket.create(f"{number}.txt") for number in range(2)]
    make_old(left[0]._path)

    await bucket.check()

    assert list((folder / ".incomplete").iterdir()) == [left[1]._path]
    for each in left:
        each.abandon()


@pytest.mark.parametrize("inside", [True, False])
async def test_nothing_is_deleted_through_a_link(
    bucket: FolderBucket, folder: Path, tmp_path: Path, inside: bool
) -> None:
    other = (folder if inside else tmp_path) / "other"
    other.mkdir()
    theirs = other / f"{1:016x}"
    theirs.touch()
    make_old(theirs)
    (folder / ".incomplete").symlink_to(other)

    for attempt in (bucket.check(), bucket.create("orders.txt")):
        with pytest.raises(DestinationError) as caught:
            await attempt
        assert caught.value.state == PERMISSION_DENIED
    assert list(other.iterdir()) == [theirs]


async def test_only_what_is_ours_is_deleted(bucket: FolderBucket, folder: Path) -> None:
    incomplete = folder / ".incomplete"
    incomplete.mkdir()
    (incomplete / "notes.txt").touch()
    (incomplete / f"{1:016x}").mkdir()
    (incomplete / f"{2:016x}").symlink_to(incomplete / "notes.txt")
    there = set(incomplete.iterdir())
    for path in there:
        make_old(path)

    await bucket.check()

    assert set(incomplete.iterdir()) == there


def modes(folder: Path) -> dict[Path, int]:
    return {path: stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}


def make_old(path: Path) -> None:
    yesterday = time.time() - 25 * 3600
    os.utime(path, (yesterday, yesterday), follow_symlinks=False)


async def test_files_and_folders_are_not_for_everybody(bucket: FolderBucket, folder: Path) -> None:
    before = os.umask(0)
    try:
        opened = await bucket.create("2024/orders.txt")
        await opened.complete()
    finally:
        os.umask(before)

    assert modes(folder) == {
        folder / ".incomplete": 0o750,
        folder / "2024": 0o750,
        folder / "2024" / "orders.txt": 0o640,
    }
