"""A copy of an SQLite database with its segments, also while the service runs.

All is read in one transaction, so rows and segments are of one moment. A segment may be removed
meanwhile, by the service; then the copy begins again, a moment later.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from sqlalchemy import make_url

from ams_grpc.storage.errors import OutdatedDatabaseError, UnsupportedDatabaseError
from ams_grpc.storage.migrate import HEAD, current
from ams_grpc.storage.segments import sync_folder

_ATTEMPTS: Final = 20
_ENDS: Final = (
    "SELECT segment, max(segment_offset + byte_size) FROM batches"
    " WHERE segment IS NOT NULL GROUP BY segment ORDER BY segment"
)


def back_up(address: str, folder: Path) -> None:
    """Copy the database at ``address`` into a folder that is made for it, under the same names.

    Raises DatabaseError; OSError, sqlite3.Error when something cannot be read or written, with
    what was written left where it is.
    """
    url = make_url(address)
    if url.get_backend_name() != "sqlite" or not url.database:
        raise UnsupportedDatabaseError(
            "Only SQLite is backed up here: PostgreSQL has its own tools."
        )
    path = Path(url.database).resolve()
    if not path.exists():
        raise UnsupportedDatabaseError(f"There is no database {path}.")
    if (found := current(address)) != HEAD:
        raise OutdatedDatabaseError(found, HEAD)
    folder.mkdir(mode=0o700, parents=True)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _copy(path, folder)
        except FileNotFoundError:  # a segment went
            if attempt == _ATTEMPTS:
                raise
        else:
            return


def _copy(path: Path, folder: Path) -> None:
    copy = folder / path.name
    segments = copy.with_name(f"{path.name}.segments")
    shutil.rmtree(segments, ignore_errors=True)
    segments.mkdir(mode=0o700)
    with closing(sqlite3.connect(path, isolation_level=None)) as source:
        source.execute("PRAGMA query_only = ON")
        source.execute("BEGIN")
        for number, end in source.execute(_ENDS).fetchall():
            name = f"{number:010d}.segment"
            _copy_start(path.with_name(f"{path.name}.segments") / name, segments / name, end)
        copy.touch(mode=0o600)
        with closing(sqlite3.connect(copy)) as target:
            source.backup(target)  # of the same moment: the transaction is still open
    sync_folder(segments)
    sync_folder(folder)


def _copy_start(source: Path, target: Path, end: int) -> None:
    """The first ``end`` bytes of a file; more may be appended while it is read."""
    with source.open("rb") as reading, open(target, "xb", opener=_private) as writing:
        while end > 0 and (part := reading.read(min(end, 1 << 20))):
            end -= writing.write(part)
        writing.flush()
        os.fsync(writing.fileno())
    if end > 0:
        raise OSError(f"{source} is damaged: {end} bytes are missing")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
