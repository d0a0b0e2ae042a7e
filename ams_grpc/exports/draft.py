"""An object that is being written, and when it is full."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from ams_grpc.exports.buckets import DestinationError, OpenObject
from ams_grpc.exports.records import Format

_BLOCK_BYTES: Final = 64 * 1024  # gather so much before a write
_WRITE_S: Final = 120.0
COMPLETE_S: Final = 600.0
"""So long the destination has for its last words."""


class Draft:
    """An object that is being written. It is begun with its first message.

    ``create`` begins it at its destination. Limits of 0 are none. Everything raises
    DestinationError.
    """

    def __init__(
        self,
        create: Callable[[], Awaitable[OpenObject]],
        written_as: Format,
        *,
        max_bytes: int,
        max_messages: int,
    ) -> None:
        self.messages = 0
        self._create = create
        self._format = written_as
        self._max_bytes = max_bytes
        self._max_messages = max_messages
        self._object: OpenObject | None = None
        self._written = len(written_as.head)
        self._records: list[bytes] = []
        self._records_bytes = 0

    @property
    def is_full(self) -> bool:
        """True if it has as many messages as it may."""
        return self.messages >= self._max_messages

    async def record(self, message: bytes) -> bytes:
        """A message as it would be written. Raises records.UnfitMessage."""
        return await self._format.record(message)

    def has_room_for(self, record: bytes) -> bool:
        """Pub/Sub: a message that is beyond ``max_bytes`` by itself has an object of its own."""
        if not self.messages:
            return True
        size = self._written + self._records_bytes + len(record) + self._format.overhead
        return not self.is_full and (not self._max_bytes or size <= self._max_bytes)

    async def add(self, record: bytes) -> None:
        """Write a record, now or with those that follow."""
        if self._object is None:
            async with _within(_WRITE_S):
                self._object = await self._create()
        self.messages += 1
        self._records.append(record)
        self._records_bytes += len(record)
        if self._records_bytes >= _BLOCK_BYTES:
            await self._write(self._object)

    async def complete(self) -> None:
        """When this returns the object can be seen, if there is a message in it."""
        if self._object is None:
            return
        await self._write(self._object)
        async with _within(COMPLETE_S):
            await self._object.complete()

    def abandon(self) -> None:
        """It will not be completed. Harmless after ``complete``."""
        if self._object is not None:
            self._object.abandon()

    async def _write(self, to: OpenObject) -> None:
        if not self._records:
            return
        is_first = self._written == len(self._format.head)
        block = self._format.block(self._records)
        self._records, self._records_bytes = [], 0
        self._written += len(block)
        async with _within(_WRITE_S):
            await to.write(self._format.head + block if is_first else block)


@asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise DestinationError("it does not answer") from None
