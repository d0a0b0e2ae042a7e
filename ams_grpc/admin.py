"""The operators' HTTP endpoint: ``/metrics``, ``/healthz``, ``/readyz``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from ams_grpc.metrics import CONTENT_TYPE


@asynccontextmanager
async def admin_server(
    host: str,
    port: int,
    *,
    metrics: Callable[[], Awaitable[bytes]],
    ready: Callable[[], Awaitable[str]],
) -> AsyncIterator[int]:
    """Serve while the context lasts; gives the port.

    ``ready`` answers what is missing until the service can take calls; nothing when it can.
    """

    async def show_metrics(_request: web.Request) -> web.Response:
        return web.Response(body=await metrics(), headers={"Content-Type": CONTENT_TYPE})

    async def show_health(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def show_readiness(_request: web.Request) -> web.Response:
        missing = await ready()
        return web.Response(text=f"{missing or 'ok'}\n", status=503 if missing else 200)

    app = web.Application()
    app.router.add_get("/metrics", show_metrics)
    app.router.add_get("/healthz", show_health)
    app.router.add_get("/readyz", show_readiness)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
