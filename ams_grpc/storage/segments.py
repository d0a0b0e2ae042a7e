"""Large payloads beside an SQLite database: files that are only appended to.

SQLite writes a large payload twice, with checksums, and in pages: four times what the file system
needs for it. So a large row keeps only where its payload is: in which *segment*, and from which
byte on.

What makes that as safe as the database itself is the order of things. Payloads are on disk before
the transaction that inserts their rows commits; a segment goes after the transaction that deleted
its last row has committed. So every row that can be read has its payload, and all that a crash or
a failure can leave behind is bytes that no row refers to. Those are cut off before the next append.

What is written twice under one number would be mixed up, so a number is used once: after any
failure, and after a start, a new segment begins. The database remembers the last number, in the
transaction whose rows are the first to refer to it: a number that no transaction has used was never
seen by anybody.

A payload that cannot be read is trouble of its own (UnreadableMessages): the database is as well as
before, and so are all other payloads.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import Final

from ams_grpc.broker.errors import UNABLE, StorageUnavailable, UnreadableMessages

SEGMENT_BYTES: Final = 64 << 20
"""About how large a segment gets."""

LARGE_BYTES: Final = 64 << 10
"""Smaller payloads are better off in the database: one commit needs one ``fsync`` less."""

BLOCK_BYTES: Final = 4096
"""Payloads begin at multiples of this, as writing past the system's cache needs it."""

_BUFFER_BYTES: Final = 1 << 20
_LOGGER: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a payload is."""

    segment: int
    offset: int


class Segments:
    """The segments of one database, in a folder beside it that exists once it is needed.

    All but reading happens on the thread that writes. What the system refuses of it is
    StorageUnavailable, with its reason.
    """

    def __init__(self, database: Path) -> None:
        self._folder = database.with_name(f"{database.name}.segments")
        self._next = 1
        self._note: Callable[[int], None] = lambda _number: None
        self._doubtful: set[int] | None = None  # with bytes of unknown standing; None: all
        self._uncommitted: set[int] = set()  # with bytes of the transaction that is open
        self._failure: StorageUnavailable | None = None
        self._suspects: set[int] = set()
        self._unreadable: set[int] = set()  # said in the log
        self._stuck: set[int] = set()  # said in the log: cannot be deleted
        self._current: int | None = None
        self._descriptor = -1
        self._end = 0
        self._past_cache = hasattr(os, "O_DIRECT")
        self._buffer: mmap | None = None
        self._synced = True

    # --- writing ---------------------------------------------------------------------------------

    def begin(
        self,
        last: Callable[[], int],
        end_of: Callable[[int], int],
        note: Callable[[int], None],
    ) -> None:
        """Be ready for appending, whatever happened before.

        ``last`` tells the highest number that was ever used, ``end_of`` where the last payload of a
        segment ends, 0 if no row refers to it. What is beyond is removed. ``note`` is called with
        each number before it is used, in the same transaction.
        """
        self._note = note
        try:
            if self._doubtful is None:
                self._doubtful = self._numbers()
                self._next = max(last(), *self._doubtful, 0) + 1
                self._suspects |= self._doubtful
            for number in sorted(self._doubtful):
                self._cut(number, end_of(number))
                self._doubtful.remove(number)
        except OSError as error:
            raise self._refused(error) from error
        self._failure = None

    def append(self, payload: bytes) -> Place:
        """Write a payload. It is safe only after ``sync``."""
        try:
            if self._current is None or self._end >= SEGMENT_BYTES:
                self._open_next()
            place = Place(self._number, self._end)
            self._uncommitted.add(self._number)
            self._synced = False
            self._write(payload)
        except OSError as error:
            if error.errno == errno.EINVAL:  # it wants larger blocks
                self._past_cache = False
            self.abandon()
            raise self._refused(error) from error
        return place

    def sync(self) -> None:
        """Return when all that was appended is on disk.

        Raises as well if it once was not, until ``begin``: some of it is lost, whoever asks.
        """
        if self._failure is not None:
            raise self._failure
        if self._synced:
            return
        try:
            _sync(self._descriptor)
        except OSError as error:
            self.abandon()  # nobody knows what of it is on disk, and asking again would not tell
            raise self._refused(error) from error
        self._synced = True

    def committed(self) -> None:
        """The transaction has committed: all that was appended has its rows."""
        self._uncommitted.clear()

    def abandon(self) -> None:
        """Something failed: what was appended may have no rows. ``begin`` will see."""
        if not self._synced:
            self._failure = StorageUnavailable(f"{self._folder}: an append was abandoned")
        if self._doubtful is not None:
            self._doubtful |= self._uncommitted
            if self._current is not None:
                self._doubtful.add(self._current)
        self._uncommitted.clear()
        self._close()

    def seal(self, number: int) -> None:
        """Append no more to this segment."""
        if self._current is not None and number == self._current:
            self.sync()
            self._close()

    def is_current(self, number: int) -> bool:
        """Whether more may be appended to it."""
        return number == self._current

    # --- what may go -----------------------------------------------------------------------------

    @property
    def suspects(self) -> list[int]:
        """Segments that may be free, or nearly: they are to be looked at. From any thread."""
        return sorted(self._suspects.copy())

    def suspect(self, numbers: Iterable[int]) -> None:
        """Rows in these go, if the transaction commits."""
        self._suspects.update(numbers)

    def keep(self, number: int) -> None:
        """It is well filled. It comes to notice again when more of its rows go."""
        self._suspects.discard(number)

    def remove(self, numbers: Iterable[int]) -> None:
        """Delete segments that no row refers to, and none will: they were sealed.

        One that cannot be deleted stays suspect.
        """
        for number in numbers:
            path = self._path(number)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                self._suspects.add(number)
                if number not in self._stuck:
                    self._stuck.add(number)
                    _LOGGER.warning("%s is of no use, and cannot be deleted: %s", path, error)
            else:
                for numbers_of in (self._suspects, self._stuck, self._unreadable):
                    numbers_of.discard(number)

    # --- reading ---------------------------------------------------------------------------------

    def read(self, place: Place, size: int) -> bytes:
        """A payload. Raises FileNotFoundError when the segment is gone, UnreadableMessages."""
        path = self._path(place.segment)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                payload = os.pread(descriptor, size, place.offset)
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self.unreadable(place.segment, str(error.strerror)) from error
        if len(payload) != size:
            raise self.unreadable(place.segment, f"it ends before byte {place.offset + size}")
        if self._unreadable:
            self._unreadable.discard(place.segment)
        return payload

    def unreadable(self, number: int, reason: str) -> UnreadableMessages:
        """The error for a payload that is needed and cannot be had. The log has it once."""
        if number not in self._unreadable:
            self._unreadable.add(number)
            _LOGGER.error("%s is damaged: %s", self._path(number), reason)
        return UnreadableMessages(UNABLE)

    # --- the parts of the above ------------------------------------------------------------------

    @property
    def _number(self) -> int:
        if self._current is None:
            raise AssertionError("no segment is open")
        return self._current

    def _open_next(self) -> None:
        """A new file, which is found again after a loss of power."""
        if self._current is not None:
            self.seal(self._current)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(self._folder.parent)
        number, self._next = self._next, self._next + 1
        self._note(number)
        self._descriptor = self._create(self._path(number))
        self._current, self._end, self._synced = number, 0, True
        sync_folder(self._folder)

    def _create(self, path: Path) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        if self._past_cache:
            try:
                return os.open(path, flags | os.O_DIRECT, 0o600)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._past_cache = False  # not on this file system
                path.unlink(missing_ok=True)
        return os.open(path, flags, 0o600)

    def _write(self, payload: bytes) -> None:
        """Append a payload, filled up with zeros to whole blocks.

        It goes past the system's cache: subscribers that keep up have it from the service's own,
        and filling the system's costs as much as all the rest of the write.
        """
        if self._buffer is None:
            self._buffer = mmap(-1, _BUFFER_BYTES)  # begins with a page, as it must
        for start in range(0, len(payload), _BUFFER_BYTES):
            part = memoryview(payload)[start : start + _BUFFER_BYTES]
            padding = -len(part) % BLOCK_BYTES
            size = len(part) + padding
            self._buffer[: len(part)] = part
            self._buffer[len(part) : size] = bytes(padding)
            rest = memoryview(self._buffer)[:size]
            while rest:  # a disk that is almost full takes a part of it
                rest = rest[os.write(self._descriptor, rest) :]
            self._end += size

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        self._current, self._synced = None, True
        if descriptor >= 0:
            with suppress(OSError):  # all that counts was synced before, or is abandoned
                os.close(descriptor)

    def _cut(self, number: int, end: int) -> None:
        path = self._path(number)
        if end == 0:
            path.unlink(missing_ok=True)
            self._suspects.discard(number)
        elif path.exists() and path.stat().st_size > end:
            os.truncate(path, end)

    def _numbers(self) -> set[int]:
        if not self._folder.exists():
            return set()
        return {int(path.stem) for path in self._folder.glob("*.segment") if path.stem.isdecimal()}

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:010d}.segment"

    def _refused(self, error: OSError) -> StorageUnavailable:
        return StorageUnavailable(f"{error.filename or self._folder}: {error.strerror}")


def _sync(descriptor: int) -> None:
    if hasattr(fcntl, "F_FULLFSYNC"):  # macOS, where fsync alone leaves data in the disk's cache
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(descriptor)


def sync_folder(path: Path) -> None:
    """What was created in a folder is found again after a loss of power."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
