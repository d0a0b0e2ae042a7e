"""One port for HTTP/2 and HTTP/1.1: the first bytes of a connection say where it goes.

gRPC cannot be given a connection that somebody else has accepted. So what begins as HTTP/2 does is
copied to and from a socket of gRPC's own, and what does not is handed to an HTTP server in this
process, as it is. Copying costs a few microseconds a call, and gRPC does not see who is at the
other end: this is for development.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias, cast

HttpServer: TypeAlias = Callable[[], asyncio.Protocol]
"""Makes what serves one HTTP/1.1 connection, such as an ``aiohttp.web.Server``."""
Connect: TypeAlias = Callable[[Callable[[], asyncio.Protocol]], Awaitable[object]]
"""Opens a connection to gRPC, for the protocol that is made."""

_log = logging.getLogger(__name__)
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # HTTP/2, RFC 9113 section 3.4
_FIRST_BYTES_S: Final = 10.0
_LINGER_S: Final = 10.0
_BACKLOG: Final = 4096  # thousands of subscribers may reconnect at once
_BUFFERED_BYTES: Final = 256 * 1024


async def listen(
    host: str, port: int, connect: Connect, http: Callable[[], Awaitable[HttpServer]]
) -> asyncio.Server:
    """Listen for both. ``http`` is asked when the first HTTP/1.1 connection comes. Raises OSError."""
    door = _Door(connect, http)
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: _Newcomer(door), host, port, backlog=_BACKLOG)


class _Door:
    """Where connections go once it is known what they speak."""

    def __init__(self, connect: Connect, http: Callable[[], Awaitable[HttpServer]]) -> None:
        self._connect = connect
        self._http = http
        self._http_server: asyncio.Future[HttpServer] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def pass_on(self, transport: asyncio.Transport, first: bytes) -> None:
        """Take over a connection that ``first`` was read from; it is not being read."""
        task = asyncio.get_running_loop().create_task(self._pass_on(transport, first))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, transport: asyncio.Transport, first: bytes) -> None:
        goes = self._to_grpc if first.startswith(_PREFACE) else self._to_http
        try:
            await goes(transport, first)
        except Exception:  # noqa: BLE001 - whatever it was: nobody else knows of this connection
            _log.exception("a connection cannot be passed on")
            transport.abort()

    async def _to_http(self, transport: asyncio.Transport, first: bytes) -> None:
        if self._http_server is None:
            self._http_server = asyncio.ensure_future(self._http())
        protocol = (await self._http_server)()
        if transport.is_closing():
            return
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(first)
        transport.resume_reading()

    async def _to_grpc(self, transport: asyncio.Transport, first: bytes) -> None:
        outer, inner = _End(), _End()
        outer.other, inner.other = inner, outer
        outer.connection_made(transport)
        try:
            await self._connect(lambda: inner)
        except OSError:  # the server is about to end
            transport.abort()
            return
        if transport.is_closing():
            inner.transport.close()
            return
        transport.set_protocol(outer)
        transport.resume_reading()  # first: what is written may pause it again
        inner.transport.write(first)


class _Newcomer(asyncio.Protocol):
    """A connection that has not said enough yet."""

    def __init__(self, door: _Door) -> None:
        self._door = door
        self._first = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._patience = asyncio.get_running_loop().call_later(_FIRST_BYTES_S, transport.close)

    def data_received(self, data: bytes) -> None:
        self._first += data
        if len(self._first) < len(_PREFACE) and _PREFACE.startswith(self._first):
            return
        self._patience.cancel()
        self._transport.pause_reading()
        self._door.pass_on(self._transport, self._first)

    def connection_lost(self, exc: Exception | None) -> None:
        self._patience.cancel()


class _End(asyncio.Protocol):
    """One end of a copied connection: what comes in here goes out at the other."""

    other: _End
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=_BUFFERED_BYTES)

    def data_received(self, data: bytes) -> None:
        self.other.transport.write(data)

    def pause_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        # What is still to be sent is sent, unless nobody takes it.
        self.other.transport.close()
        asyncio.get_running_loop().call_later(_LINGER_S, self.other.transport.abort)
