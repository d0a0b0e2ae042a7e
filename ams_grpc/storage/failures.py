"""Telling an unavailable database from a defect, and saying so once.

An error of the database is one of three things: *unavailable* (no connection, no space, no
permission to write: callers get StorageUnavailable and may retry), a *conflict* with another
transaction (trying again helps), or a defect in what was asked, which is raised as it is.
"""

from __future__ import annotations

import logging
import sqlite3
import sys
import time
from types import ModuleType
from typing import Final

from sqlalchemy import exc

from ams_grpc.broker.errors import UNABLE, StorageUnavailable

_LOGGER: Final = logging.getLogger(__name__)

_SQLITE_DEFECTS: Final = {
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_MISUSE,
    sqlite3.SQLITE_RANGE,
}
_POSTGRES_UNAVAILABLE: Final = {
    "08",  # connection
    "25",  # a standby, which cannot write
    "28",  # a changed password
    "3D",  # no such database
    "53",  # resources: disk full, too many connections
    "55",  # not in the prerequisite state: locked for too long
    "57",  # operator intervention: shutdown, cancelled
    "58",  # input and output
    "F0",  # configuration file
    "XX",  # internal: damaged data
}


def unavailable() -> StorageUnavailable:
    """What callers get. It says nothing about the database; the log does."""
    return StorageUnavailable(UNABLE)


def is_unavailable(error: BaseException) -> bool:
    """Whether the database does not answer, as opposed to disliking the question."""
    if isinstance(error, StorageUnavailable | exc.TimeoutError):
        return True
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return True
    cause = _cause(error)
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", None)
        if code is None:
            return isinstance(cause, sqlite3.OperationalError)
        return code & 0xFF not in _SQLITE_DEFECTS
    psycopg = _psycopg()
    if psycopg and isinstance(cause, psycopg.Error):
        if cause.sqlstate is None:
            return isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
        return cause.sqlstate[:2] in _POSTGRES_UNAVAILABLE
    return False


def is_lost_connection(error: BaseException) -> bool:
    """Whether the connection broke, so that a new one may find all well."""
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return True
    cause, psycopg = _cause(error), _psycopg()
    if not psycopg or not isinstance(cause, psycopg.OperationalError):
        return False
    return cause.sqlstate is None or cause.sqlstate in {"57P01", "57P02", "57P03", "57P05"}


def is_conflict(error: BaseException) -> bool:
    """Whether another transaction came first (deadlock, serialization). Nothing was written."""
    cause, psycopg = _cause(error), _psycopg()
    if not psycopg or not isinstance(cause, psycopg.Error):
        return False
    return (cause.sqlstate or "").startswith("40")


def describe(error: BaseException, password: str | None = None) -> str:
    """The database's own words in one line: no statement, no parameters, no password."""
    text = " ".join(str(_cause(error)).split())
    return text.replace(password, "***") if password else text


def _psycopg() -> ModuleType | None:
    """The driver, if it is in use: with SQLite nobody waits for its import."""
    return sys.modules.get("psycopg")


def _cause(error: BaseException) -> BaseException:
    if isinstance(error, exc.DBAPIError) and error.orig is not None:
        return error.orig
    return error


class Outage:
    """Logs when the database goes away and when it is back: twice an outage, not once a call.

    Several threads may report; the worst that comes of it is a line too many.
    """

    def __init__(self, doing: str, password: str | None) -> None:
        self._doing = doing
        self._password = password
        self._since: float | None = None

    @property
    def is_on(self) -> bool:
        return self._since is not None

    def began(self, error: BaseException) -> None:
        if self._since is None:
            self._since = time.monotonic()
            _LOGGER.error("%s: %s", self._doing, describe(error, self._password))

    def ended(self) -> None:
        since, self._since = self._since, None
        if since is not None:
            _LOGGER.warning("%s: works again after %.1f s", self._doing, time.monotonic() - since)
