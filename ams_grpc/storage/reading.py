"""Reading beside the writer: a few threads, each query at once on a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Final, Self, TypeVar

from sqlalchemy import Connection

from ams_grpc.storage.engine import READERS, Database
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
        try:
            async with asyncio.timeout(timeout_s):
                result = await self._threads.run(partial(self._call, call))
        except TimeoutError as error:
            self._outage.began(error)
            raise unavailable() from None
        except Exception as error:
            if not is_unavailable(error):
                raise
            self._outage.began(error)
            raise unavailable() from None
        self._outage.ended()
        return result

    def _call(self, call: Callable[[Connection], T]) -> T:
        try:
            with self._engine.connect() as connection:
                return call(connection)
        except Exception as error:
            if not is_lost_connection(error):
                raise
        # It may have gone stale in the pool, which is emptied by now. Reading twice is harmless.
        with self._engine.connect() as connection:
            return call(connection)
