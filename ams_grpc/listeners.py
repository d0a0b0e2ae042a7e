"""Where the server listens: gRPC, Google's REST dialect, and the operators' address.

Each is a context that serves while it lasts, and gives the address that was really taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ams_grpc.broker.broker import Broker
from ams_grpc.broker.errors import StorageUnavailable
from ams_grpc.config import Config, split_address
from ams_grpc.push.documents import CERTIFICATES, DISCOVERY
from ams_grpc.push.push import PushRoom
from ams_grpc.services.frame import Calls, Served, handlers
from ams_grpc.storage.storage import Storage

_MIB: Final = 1024 * 1024

# What clients rely on: requests of 10 MB and a little, statuses with large details, their own
# pings at their own pace. Dead clients are noticed by ours.
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", 20 * _MIB),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", 4 * _MIB),
    ("grpc.absolute_max_metadata_size", 8 * _MIB),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
    # Beyond 1,000 calls that wait to be taken, gRPC tells CANCELLED to some, and subscribers give up
    # on that: thousands may reconnect at once.
    ("grpc.server.max_pending_requests", 1_000_000),
    ("grpc.server.max_pending_requests_hard_limit", 2_000_000),
    ("grpc.so_reuseport", 0),  # a second server on the same port is to fail
)


class CannotStartError(Exception):
    """Something that the server needs is not to be had. The text says what."""


class CannotListenError(CannotStartError):
    """An address that the server was to listen on is not to be had."""


@asynccontextmanager
async def grpc_server(
    config: Config,
    services: Iterable[Served],
    calls: Calls,
    health_servicer: health.aio.HealthServicer,
) -> AsyncIterator[str]:
    """Serve gRPC, with a servicer for each service; gives the address.

    At the end, new calls get UNAVAILABLE, and those that run have ``drain_s`` seconds to finish.
    """
    server = grpc.aio.server(options=_OPTIONS)
    names = [health.SERVICE_NAME, reflection.SERVICE_NAME]
    for service, servicer, guard in services:
        server.add_generic_rpc_handlers((handlers(service, servicer, calls, guard),))
        names.append(service.full_name)
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    reflection.enable_server_reflection(names, server)
    host, port = split_address(config.grpc_address)
    port = _listen(server, config, f"[{host}]" if ":" in host else host, port)
    for name in ("", *names):
        await health_servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    await server.start()
    try:
        yield f"{host}:{port}"
    finally:
        calls.draining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(config.drain_s):
                await calls.finished()
        # It is not stopped: that would tell CANCELLED to streams that came too late to be taken, on
        # which subscribers give up. The end of the process ends their connections, which all
        # clients take for UNAVAILABLE.
        _left_to_the_end.append(server)


_left_to_the_end: Final[list[grpc.aio.Server]] = []


def _listen(server: grpc.aio.Server, config: Config, host: str, port: int) -> int:
    address = f"{host}:{port}"
    try:
        if config.tls_cert is None or config.tls_key is None:
            return server.add_insecure_port(address)
        credentials = grpc.ssl_server_credentials(
            [(config.tls_key.read_bytes(), config.tls_cert.read_bytes())]
        )
        return server.add_secure_port(address, credentials)
    except RuntimeError:  # grpc says no more than that
        raise CannotListenError(
            f"cannot listen on {address}: it is in use, or the certificate or key is not valid"
        ) from None
    except OSError as error:
        raise CannotListenError(f"cannot read the certificate or key: {error}") from None


@asynccontextmanager
async def google_rest_server(
    address: str, services: Iterable[Served], calls: Calls
) -> AsyncIterator[str]:
    """Serve Google's REST dialect of these services; gives the address."""
    # Imported late: without it nobody pays for it.
    from ams_grpc import bridge  # noqa: PLC0415

    host, port = split_address(address)
    try:
        async with bridge.google_rest_server(host, port, services, calls) as port:
            yield f"{host}:{port}"
    except OSError as error:
        raise CannotListenError(f"cannot listen on {address}: {error.strerror}") from None


@asynccontextmanager
async def ams_server(address: str, services: Iterable[Served], calls: Calls) -> AsyncIterator[str]:
    """Serve AMS's REST dialect of these services; gives the address."""
    # Imported late: without it nobody pays for it.
    from ams_grpc import bridge  # noqa: PLC0415

    host, port = split_address(address)
    try:
        async with bridge.ams_server(host, port, services, calls) as port:
            yield f"{host}:{port}"
    except OSError as error:
        raise CannotListenError(f"cannot listen on {address}: {error.strerror}") from None


@asynccontextmanager
async def operators_server(
    address: str,
    broker: Broker,
    calls: Calls,
    storage: Storage,
    pushes: PushRoom,
    draining: asyncio.Event,
) -> AsyncIterator[str]:
    # Imported late: without --admin-address nobody pays for it.
    from ams_grpc.admin import admin_server  # noqa: PLC0415
    from ams_grpc.metrics import render  # noqa: PLC0415

    async def metrics() -> bytes:
        backlogs = await storage.upkeep.backlogs()
        topics = await storage.figures.totals()
        return await asyncio.to_thread(
            render, broker, calls, storage.commits, backlogs, list(pushes.results()), topics
        )

    # Who verifies push tokens asks here for the key.
    documents = {
        DISCOVERY: lambda: pushes.tokens().discovery(),
        CERTIFICATES: lambda: pushes.tokens().certificates(),
    }

    async def ready() -> str:
        if draining.is_set():
            return "draining"
        try:
            await storage.ping()
        except StorageUnavailable:
            return "the database does not answer"
        return ""

    host, port = split_address(address)
    try:
        async with admin_server(
            host, port, metrics=metrics, ready=ready, documents=documents
        ) as port:
            yield f"{host}:{port}"
    except OSError as error:
        raise CannotListenError(f"cannot listen on {address}: {error.strerror}") from None
