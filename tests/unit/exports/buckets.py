"""A bucket in memory that can be made to fail, and looked into."""

from __future__ import annotations

import asyncio

from ams_grpc.exports.buckets import DestinationError


class MemoryBucket:
    """``buckets.Bucket``. ``error`` is what everything raises, if it is set."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        """Complete ones, in the order of their completion."""
        self.open: list[MemoryObject] = []
        self.error: DestinationError | None = None
        self.fails_to_complete = 0
        """So many times the next completions fail, even so."""
        self.visits = 0
        self.answers = asyncio.Event()
        """Clear it to let completions wait."""
        self.answers.set()

    @property
    def lines(self) -> list[bytes]:
        """What is in complete objects of text."""
        return [line for content in self.objects.values() for line in content.split(b"\n")]

    async def check(self) -> None:
        self.visit()

    async def create(self, name: str) -> MemoryObject:
        self.visit()
        await asyncio.sleep(0)
        opened = MemoryObject(self, name)
        self.open.append(opened)
        return opened

    def visit(self) -> None:
        self.visits += 1
        if self.error is not None:
            raise self.error


class MemoryObject:
    """``buckets.OpenObject``."""

    def __init__(self, bucket: MemoryBucket, name: str) -> None:
        self._bucket = bucket
        self._name = name
        self._content = b""

    async def write(self, data: bytes) -> None:
        self._bucket.visit()
        self._content += data
        await asyncio.sleep(0)

    async def complete(self) -> None:
        self._bucket.visit()
        await self._bucket.answers.wait()
        await asyncio.sleep(0)
        if self._bucket.fails_to_complete:
            self._bucket.fails_to_complete -= 1
            raise DestinationError("it broke off")
        assert self._name not in self._bucket.objects
        self._bucket.objects[self._name] = self._content
        self._bucket.open.remove(self)

    def abandon(self) -> None:
        if self in self._bucket.open:
            self._bucket.open.remove(self)
