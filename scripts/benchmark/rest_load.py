"""Load for the REST workloads: requests written beforehand, on connections that stay open."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"
_OK: Final = b"HTTP/1.1 200"
_MOST_BYTES: Final = 64 << 20

TOKEN: Final = "b" * 64


def request(method: str, path: str, body: bytes = b"") -> bytes:
    """A whole HTTP request."""
    head = (
        f"{method} /v1{path} HTTP/1.1\r\nHost: bench\r\nx-api-key: {TOKEN}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection. A request at a time."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, serialized: bytes) -> bytes:
        """The body of the reply. Raises RuntimeError if its status is not 200."""
        self.writer.write(serialized)
        head = await self.reader.readuntil(_HEAD_END)
        lower = head.lower()
        at = lower.find(_LENGTH)
        length = int(lower[at + len(_LENGTH) :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        body = await self.reader.readexactly(length)
        if not head.startswith(_OK):
            raise RuntimeError(f"{serialized[:60]!r}: {head[:40]!r} {body[:200]!r}")
        return body


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Connection]:
    """A connection for the length of a block."""
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=_MOST_BYTES)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()


async def timed(
    address: str, connections: int, work: Callable[[int, Connection], Awaitable[None]]
) -> float:
    """Seconds that ``work`` takes on all connections at once; it gets the number of its own."""

    async def one(number: int) -> None:
        async with connected(address) as connection:
            await work(number, connection)

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(connections):
            group.create_task(one(number))
    return time.perf_counter() - started
