"""Reading beside the writer: a few threads, each query at once on a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

from sqlalchemy import Connection, Engine

from ams_grpc.storage.engine import READERS, Database, interrupt
from ams_grpc.storage.failures import Outage, is_lost_connection, is_unavailable, unavailable
from ams_grpc.storage.threads import Threads

T = TypeVar("T")

READ_TIMEOUT_S: Final = 30.0


class Readers:
    """Runs calls that read. Each statement sees what was committed when it began."""

    def __init__(self, database: Database) -> None:
        self._engine = database.readers
        self._outage = Outage("cannot read from the database", database.password)
        self._threads: Threads | None = None

    async def __aenter__(self) -> Self:
        self._threads = Threads("storage-reader", READERS)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._threads is not None:
            self._threads.stop()
            self._threads = None

    async def run(self, call: Callable[[Connection], T], timeout_s: float = READ_TIMEOUT_S) -> T:
        """The result of a call. Raises StorageUnavailable, and whatever the call raises."""
        if self._threads is None:
            raise unavailable()
        reading = _Reading(self._engine, call)
        try:
            async with asyncio.timeout(timeout_s):
                result = await self._threads.run(reading)
        except TimeoutError:
            reading.give_up()
            self._outage.began(TimeoutError(f"no answer within {timeout_s} s"))
            raise unavailable() from None
        except Exception as error:
            if not is_unavailable(error):
                raise
            self._outage.began(error)
            raise unavailable() from None
        self._outage.ended()
        return result


class _Reading(Generic[T]):
    """One call that reads, and the connection that it has at the moment."""

    def __init__(self, engine: Engine, call: Callable[[Connection], T]) -> None:
        self._engine = engine
        self._call = call
        self._connection: Connection | None = None
        self._given_up = False

    def __call__(self) -> T:
        try:
            return self._attempt()
        except Exception as error:
            if self._given_up or not is_lost_connection(error):
                raise
        # It may have gone stale in the pool, which is emptied by now. Reading twice is harmless.
        return self._attempt()

    def give_up(self) -> None:
        """From another thread: nobody waits any more, so let the thread go."""
        self._given_up = True
        connection = self._connection
        if connection is not None:
            interrupt(connection)

    def _attempt(self) -> T:
        with self._engine.connect() as connection:
            self._connection = connection
            try:
                return self._call(connection)
            finally:
                self._connection = None
