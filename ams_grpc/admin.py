"""The operators' HTTP endpoint: ``/metrics``, ``/healthz``, ``/readyz``, and documents for others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from ams_grpc.broker.errors import StorageUnavailable
from ams_grpc.metrics import CONTENT_TYPE

_CACHED: Final = "public, max-age=3600"


@asynccontextmanager
async def admin_server(
    host: str,
    port: int,
    *,
    metrics: Callable[[], Awaitable[bytes]],
    ready: Callable[[], Awaitable[str]],
    documents: Mapping[str, Callable[[], Awaitable[bytes]]],
) -> AsyncIterator[int]:
    """Serve while the context lasts; gives the port.

    ``ready`` answers what is missing until the service can take calls; nothing when it can.
    ``documents`` are JSON, by path; 503 when the database does not answer.
    """

    async def show_metrics(_request: web.Request) -> web.Response:
        return web.Response(body=await metrics(), headers={"Content-Type": CONTENT_TYPE})

    async def show_health(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def show_readiness(_request: web.Request) -> web.Response:
        missing = await ready()
        return web.Response(text=f"{missing or 'ok'}\n", status=503 if missing else 200)

    async def show_document(request: web.Request) -> web.Response:
        try:
            body = await documents[request.path]()
        except StorageUnavailable as error:
            return web.Response(text=f"{error}\n", status=503)
        headers = {"Content-Type": "application/json", "Cache-Control": _CACHED}
        return web.Response(body=body, headers=headers)

    app = web.Application()
    for path in documents:
        app.router.add_get(path, show_document)
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
