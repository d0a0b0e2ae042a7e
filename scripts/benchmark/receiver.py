"""A push endpoint that costs next to nothing: it counts requests, and answers 200 to each.

    python -m scripts.benchmark.receiver REQUESTS

It prints the port that it listens on, and, when it has had REQUESTS requests, the seconds between
the first and the last of them.
"""

import asyncio
import sys
import time
from typing import Final

_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"
_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Counter:
    """Requests that have come; ``done`` once there are as many as expected."""

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.came = 0
        self.first_at = self.last_at = 0.0
        self.done = asyncio.Event()

    def count(self) -> None:
        """One more."""
        now = time.perf_counter()
        if not self.came:
            self.first_at = now
        self.came += 1
        if self.came == self.expected:
            self.last_at = now
            self.done.set()


class Connection(asyncio.Protocol):
    """Requests one after the other, each with a length."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (head := self._buffer.find(_HEAD_END)) >= 0:
            end = head + len(_HEAD_END) + _length(bytes(self._buffer[:head]).lower())
            if len(self._buffer) < end:
                return
            del self._buffer[:end]
            self._counter.count()
            if self._transport is not None:
                self._transport.write(_ANSWER)


def _length(head: bytes) -> int:
    at = head.find(_LENGTH)
    return int(head[at + len(_LENGTH) :].split(b"\r\n", 1)[0]) if at >= 0 else 0


async def serve(expected: int) -> None:
    """Listen on loopback until cancelled."""
    counter = Counter(expected)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(counter), "127.0.0.1", 0
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await counter.done.wait()
    print(counter.last_at - counter.first_at, flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
