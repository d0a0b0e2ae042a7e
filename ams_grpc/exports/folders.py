"""Buckets that are folders: bucket ``b`` is the subfolder ``b`` of one root.

An object is written to ``.incomplete`` in its bucket, and gets its name when all of it is on disk.
Bytes go straight to the file: an open object takes no memory. What a crash leaves in ``.incomplete``
is deleted after a day.

Nothing is written or deleted outside of the bucket's folder: symbolic links that lead out of it are
refused. Files are for their owner and its group, within the umask of the process.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

from ams_grpc.exports.buckets import NOT_FOUND, PERMISSION_DENIED, DestinationError

Result = TypeVar("Result")

_INCOMPLETE: Final = ".incomplete"
_INCOMPLETE_BYTES: Final = 8
_INCOMPLETE_NAME: Final = re.compile(f"[0-9a-f]{{{2 * _INCOMPLETE_BYTES}}}")
_LEFTOVER_S: Final = 24 * 3600  # no object stays open for nearly as long
_FORBIDDEN: Final = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP}
_FILE_MODE: Final = 0o640
_FOLDER_MODE: Final = 0o750
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class FolderBucket:
    """``buckets.Bucket`` in a folder. ``name`` is the name of a bucket, so it is no path."""

    def __init__(self, root: Path, name: str) -> None:
        self._root = root
        self._name = name

    async def check(self) -> None:
        """Also deletes what crashes have left behind."""
        await _in_thread(self._check)

    async def create(self, name: str) -> FileObject:
        return await _in_thread(lambda: self._create(name))

    def _check(self) -> None:
        incomplete = self._incomplete(self._folder())
        for leftover in incomplete.glob("*"):
            if _INCOMPLETE_NAME.fullmatch(leftover.name) is None:
                continue  # whatever it is, it is not ours
            with suppress(OSError):
                found = leftover.lstat()
                if stat.S_ISREG(found.st_mode) and found.st_mtime < time.time() - _LEFTOVER_S:
                    leftover.unlink()

    def _create(self, name: str) -> FileObject:
        folder = self._folder()
        target = folder / name
        _refuse_outside(folder, target.parent)
        incomplete = self._incomplete(folder)
        if target.is_relative_to(incomplete):
            raise DestinationError(f"{incomplete} is not for objects", PERMISSION_DENIED)
        incomplete.mkdir(_FOLDER_MODE, exist_ok=True)
        path = incomplete / secrets.token_hex(_INCOMPLETE_BYTES)
        return FileObject(os.open(path, _NEW_FILE, _FILE_MODE), path, target, folder)

    @staticmethod
    def _incomplete(folder: Path) -> Path:
        incomplete = folder / _INCOMPLETE
        if incomplete.is_symlink():
            raise DestinationError(f"{incomplete} is a link", PERMISSION_DENIED)
        return incomplete

    def _folder(self) -> Path:
        folder = self._root / self._name
        if not folder.is_dir():
            raise DestinationError(f"{folder} is no folder", NOT_FOUND)
        resolved = folder.resolve()
        if resolved != self._root.resolve() / self._name:
            raise DestinationError(f"{folder} is a link", PERMISSION_DENIED)
        if not os.access(resolved, os.W_OK | os.X_OK):
            raise DestinationError(f"{folder} cannot be written to", PERMISSION_DENIED)
        return resolved


class FileObject:
    """``buckets.OpenObject`` in a file.

    A thread may still be at work on it when it is abandoned; then that thread closes it.
    """

    def __init__(self, file: int, path: Path, target: Path, folder: Path) -> None:
        self._file: int | None = file
        self._path = path
        self._target = target
        self._folder = folder
        self._at_work = threading.Lock()
        self._abandoned = False

    async def write(self, data: bytes) -> None:
        await _in_thread(lambda: self._use(lambda file: _write_all(file, data)))

    async def complete(self) -> None:
        await _in_thread(lambda: self._use(self._complete))

    def abandon(self) -> None:
        self._abandoned = True
        if self._at_work.acquire(blocking=False):
            try:
                if self._close():
                    with suppress(OSError):
                        self._path.unlink()
            finally:
                self._at_work.release()

    def _use(self, work: Callable[[int], None]) -> None:
        try:
            with self._at_work:
                if self._file is None or self._abandoned:
                    raise DestinationError("the object was abandoned")
                work(self._file)
        finally:
            if self._abandoned:
                self.abandon()

    def _complete(self, file: int) -> None:
        os.fsync(file)
        _refuse_outside(self._folder, self._target.parent)
        folders = [*_up_to(self._folder, self._target.parent)]
        for folder in folders[-2::-1]:  # not the bucket itself, should it be gone
            folder.mkdir(_FOLDER_MODE, exist_ok=True)
        self._path.rename(self._target)
        self._close()
        for folder in folders:
            _sync_folder(folder)

    def _close(self) -> bool:
        """False if it was closed before."""
        file, self._file = self._file, None
        if file is None:
            return False
        os.close(file)
        return True


def _write_all(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


async def _in_thread(work: Callable[[], Result]) -> Result:
    with _seen_as_destination_errors():
        return await asyncio.to_thread(work)


@contextmanager
def _seen_as_destination_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        state = ""
        if isinstance(error, FileNotFoundError):
            state = NOT_FOUND
        elif error.errno in _FORBIDDEN:
            state = PERMISSION_DENIED
        raise DestinationError(error.strerror or type(error).__name__, state) from error


def _refuse_outside(folder: Path, path: Path) -> None:
    """A link may have been put where we go. ``folder`` has no links in it."""
    if not path.resolve().is_relative_to(folder):
        raise DestinationError(f"{path} leads out of {folder}", PERMISSION_DENIED)


def _up_to(folder: Path, path: Path) -> Iterator[Path]:
    while path != folder:
        yield path
        path = path.parent
    yield folder


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
