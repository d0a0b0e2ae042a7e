"""A handler of HTTP requests at an address, or on connections that somebody else accepts."""

from __future__ import annotations

import logging
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

A little more than what proxies have usually, so that they are the ones who hang up.
"""


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
    async with _running(_server(handler)) as runner:
        await web.TCPSite(runner, host, port, ssl_context=tls).start()
        yield int(runner.addresses[0][1])


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
async def _running(server: web.Server) -> AsyncIterator[web.ServerRunner]:
    runner = web.ServerRunner(server, shutdown_timeout=1.0)
    await runner.setup()
    try:
        yield runner
    finally:
        await runner.cleanup()
