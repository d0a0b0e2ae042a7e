"""A handler of HTTP requests at an address, or on connections that somebody else accepts."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ssl import SSLContext
from typing import Final, TypeAlias

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

Handler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
"""Answers a request. Not a ``web.Application``: routes come from the protos, and what an application
does for each request costs as much as half of the rest."""

IDLE_S: Final = 75.0
"""How long a connection may be without a whole request: the headers of one count only at their end.
Nor may its client take nothing of an answer any longer.

A little more than what proxies have usually, so that they are the ones who hang up.
"""
_BACKLOG: Final = 128


class _NoFaultOfOurs(logging.Filter):
    """Lets nothing pass about what is no HTTP: anybody can send it, and it would show what it says."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_log = logging.getLogger(__name__)
_log.addFilter(_NoFaultOfOurs())


@asynccontextmanager
async def serving(
    handler: Handler, host: str, port: int, tls: SSLContext | None = None
) -> AsyncIterator[int]:
    """Serve while the context lasts; gives the port. Raises OSError."""
    server = _server(handler)
    async with _running(server):
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(
            server, host, port, ssl=tls, backlog=_BACKLOG, start_serving=False
        )
        try:
            for each in listener.sockets:
                _limit_patience(each)
            await listener.start_serving()
            yield int(listener.sockets[0].getsockname()[1])
        finally:
            listener.close()


def _limit_patience(listener: socket.socket) -> None:
    """End connections whose clients take nothing: the system knows best what they take.

    Those that are accepted have the option from their listener. Without it (it is Linux's) they stay.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(IDLE_S * 1000))


@asynccontextmanager
async def handling(handler: Handler) -> AsyncIterator[web.Server]:
    """What serves connections that somebody else has accepted, while the context lasts."""
    server = _server(handler)
    async with _running(server):
        yield server


def _server(handler: Handler) -> web.Server:
    """Bodies come as they are sent: whether one is unpacked is for who knows its sender."""
    return web.Server(
        handler, access_log=None, logger=_log, keepalive_timeout=IDLE_S, auto_decompress=False
    )


@asynccontextmanager
async def _running(server: web.Server) -> AsyncIterator[None]:
    runner = web.ServerRunner(server, shutdown_timeout=1.0)
    await runner.setup()
    try:
        yield
    finally:
        await runner.cleanup()
