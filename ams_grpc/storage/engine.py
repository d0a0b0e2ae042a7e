"""Connecting, and what differs between SQLite and PostgreSQL.

There is one connection that writes, used by one thread, and a pool of connections that only read.
Both databases promise here that what was committed survives the loss of power.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import sqlite3
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool, QueuePool

from ams_grpc.storage.errors import DatabaseInUseError, UnsupportedDatabaseError
from ams_grpc.storage.segments import Segments

READERS: Final = 3
"""Threads that read, and so connections that read."""

_SQLITE_MINIMUM: Final = (3, 35)  # RETURNING
_BUSY_TIMEOUT_MS: Final = 10_000
_PAGE_BYTES: Final = 16_384  # large batches cost half the CPU of 4 KiB pages, small ones the same
_WAL_PAGES: Final = 1_000  # 16 MiB between checkpoints
_WAL_LIMIT_BYTES: Final = 64 << 20
_WRITER_CACHE_KIB: Final = 4_096
_READER_CACHE_KIB: Final = 1_024

_POSTGRES_DEFAULTS: Final = {
    "application_name": "ams-grpc",
    "connect_timeout": "5",
    # A server that vanishes without a word is noticed in about 20 s.
    "keepalives_idle": "10",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}


class Database:
    """An open database: ``writer`` makes connections that write, ``readers`` has those that read.

    Nothing is connected before it is needed. ``segments``: where SQLite keeps large payloads.
    """

    def __init__(
        self,
        url: URL,
        writer: Engine,
        readers: Engine,
        lock: FileLock | None = None,
        segments: Segments | None = None,
    ) -> None:
        self.url = url
        self.writer = writer
        self.readers = readers
        self.segments = segments
        self._lock = lock

    @property
    def is_sqlite(self) -> bool:
        return self.writer.dialect.name == "sqlite"

    @property
    def password(self) -> str | None:
        """To keep it out of what is logged."""
        found = self.url.password or self.url.query.get("password")
        return str(found) if found else None

    def close(self) -> None:
        """Close idle connections and let other processes in. More than once is harmless."""
        self.readers.dispose()
        self.writer.dispose()
        if self._lock is not None:
            self._lock.release()


def connect(address: str, *, exclusive: bool = True) -> Database:
    """Open a database by its address, ``sqlite:///path`` or ``postgresql://user@host/name``.

    ``exclusive`` False is for a look from outside at an SQLite database that may be in use.
    Raises DatabaseError: DatabaseInUseError, UnsupportedDatabaseError.
    """
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        raise UnsupportedDatabaseError("The address of the database is malformed.") from None
    match url.get_backend_name():
        case "sqlite":
            return _connect_sqlite(url, exclusive=exclusive)
        case "postgresql" | "postgres":
            return _connect_postgres(url)
        case other:
            raise UnsupportedDatabaseError(
                f"{other!r} is no database that the service knows: use sqlite or postgresql."
            )


def interrupt(connection: Connection) -> None:
    """Make the call that another thread has on this connection fail soon."""
    with contextlib.suppress(Exception):  # it may be closing just now
        dbapi: Any = connection.connection.dbapi_connection
        if isinstance(dbapi, sqlite3.Connection):
            dbapi.interrupt()
            return
        # A cancel request would need a server that still listens; this needs none.
        with socket.socket(fileno=os.dup(dbapi.fileno())) as peer:
            peer.shutdown(socket.SHUT_RDWR)


def discard(connection: Connection) -> None:
    """Close a connection for good, whatever state it is in; what it had not committed is undone."""
    if not connection.invalidated and isinstance(
        dbapi := connection.connection.dbapi_connection, sqlite3.Connection
    ):
        # A statement that is still referred to, by a traceback, would keep its transaction open.
        with contextlib.suppress(sqlite3.Error):
            dbapi.rollback()
    connection.invalidate()
    connection.close()


# --- SQLite --------------------------------------------------------------------------------------


def _connect_sqlite(url: URL, *, exclusive: bool) -> Database:
    if sqlite3.sqlite_version_info < _SQLITE_MINIMUM:
        raise UnsupportedDatabaseError(
            f"SQLite {sqlite3.sqlite_version} is too old: version 3.35 or later is needed."
        )
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise UnsupportedDatabaseError("SQLite needs a file: sqlite:///path/to/ams.sqlite3")
    path = Path(url.database).resolve()
    url = URL.create("sqlite", database=str(path))
    lock = None
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.touch(mode=0o600)  # it holds secrets; its WAL file gets the same mode
        if exclusive:
            lock = FileLock(path)
    except OSError as error:
        raise UnsupportedDatabaseError(
            f"Cannot open the database {path}: {error.strerror}."
        ) from None
    writer = create_engine(
        url,
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={"check_same_thread": False},
    )
    readers = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=READERS,
        max_overflow=0,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
        connect_args={"check_same_thread": False},
    )
    event.listen(writer, "connect", _open_sqlite_writer)
    event.listen(writer, "begin", _begin_immediate)
    event.listen(readers, "connect", _open_sqlite_reader)
    return Database(url, writer, readers, lock, Segments(path))


def _open_sqlite_writer(dbapi: sqlite3.Connection, _record: object) -> None:
    # Transactions begin where we say, not where the driver guesses: savepoints depend on it.
    dbapi.isolation_level = None
    dbapi.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    dbapi.execute(f"PRAGMA page_size = {_PAGE_BYTES}")  # of a new file; it keeps what it has
    [(mode,)] = dbapi.execute("PRAGMA journal_mode = WAL").fetchall()
    if mode != "wal":
        raise UnsupportedDatabaseError("SQLite cannot use write-ahead logging on this file system.")
    for pragma in (
        "synchronous = FULL",
        "fullfsync = ON",  # where fsync alone leaves data in the disk's cache
        "foreign_keys = ON",
        "secure_delete = OFF",  # else retention writes zeros over all that it deletes
        f"wal_autocheckpoint = {_WAL_PAGES}",
        f"journal_size_limit = {_WAL_LIMIT_BYTES}",
        f"cache_size = -{_WRITER_CACHE_KIB}",
    ):
        dbapi.execute(f"PRAGMA {pragma}")


def _open_sqlite_reader(dbapi: sqlite3.Connection, _record: object) -> None:
    dbapi.isolation_level = None
    for pragma in (
        f"busy_timeout = {_BUSY_TIMEOUT_MS}",
        "query_only = ON",
        f"cache_size = -{_READER_CACHE_KIB}",
    ):
        dbapi.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: Connection) -> None:
    dbapi: Any = connection.connection.dbapi_connection
    dbapi.execute("BEGIN IMMEDIATE")


class FileLock:
    """Keeps other processes away from an SQLite database, until released or the process ends."""

    def __init__(self, database: Path) -> None:
        path = database.with_name(f"{database.name}.lock")
        self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise DatabaseInUseError(database) from None

    def release(self) -> None:
        # The file stays: removing it would let two processes lock two files of one name.
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


# --- PostgreSQL ----------------------------------------------------------------------------------


def _connect_postgres(url: URL) -> Database:
    missing = {key: value for key, value in _POSTGRES_DEFAULTS.items() if key not in url.query}
    url = url.set(drivername="postgresql+psycopg").update_query_dict(missing)
    # What was locked has to be seen as others have left it.
    isolation = "READ COMMITTED"
    writer = create_engine(url, poolclass=NullPool, isolation_level=isolation, hide_parameters=True)
    readers = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=READERS,
        max_overflow=0,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
    )
    event.listen(writer, "connect", _open_postgres_writer)
    return Database(url, writer, readers)


def _open_postgres_writer(dbapi: Any, _record: object) -> None:
    # Whatever the server's default: an acknowledged publish survives a crash. What is stronger
    # (remote_apply) stays.
    dbapi.execute(
        "SELECT set_config('synchronous_commit', 'on', false)"
        " WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')"
    )
    dbapi.commit()
