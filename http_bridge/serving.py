"""An application at an address, or on connections that somebody else accepts."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ssl import SSLContext
from typing import Final, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

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
    application: web.Application, host: str, port: int, tls: SSLContext | None = None
) -> AsyncIterator[int]:
    """Serve while the context lasts; gives the port. Raises OSError."""
    async with _running(application) as runner:
        await web.TCPSite(runner, host, port, ssl_context=tls).start()
        yield int(runner.addresses[0][1])


@asynccontextmanager
async def handling(application: web.Application) -> AsyncIterator[web.Server]:
    """What serves connections that somebody else has accepted, while the context lasts."""
    async with _running(application) as runner:
        yield cast("web.Server", runner.server)  # there is one from setup to cleanup


@asynccontextmanager
async def _running(application: web.Application) -> AsyncIterator[web.AppRunner]:
    runner = web.AppRunner(
        application,
        access_log=None,
        logger=_log,
        shutdown_timeout=1.0,
        keepalive_timeout=IDLE_S,
    )
    await runner.setup()
    try:
        yield runner
    finally:
        await runner.cleanup()
