"""Where the server listens: gRPC, the REST dialects, and the operators' address.

Each is a context that serves while it lasts, and gives the address that was really taken.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ams_grpc.broker.broker import Broker
from ams_grpc.broker.errors import StorageUnavailable
from ams_grpc.config import Config
from ams_grpc.push.documents import CERTIFICATES, DISCOVERY
from ams_grpc.push.push import PushRoom
from ams_grpc.services.frame import Calls, Served, handlers
from ams_grpc.storage.storage import Storage
from ams_grpc.tls import Tls
from http_bridge.addresses import is_loopback, joined_address, split_address

if TYPE_CHECKING:
    from http_bridge.serving import Handler

_log = logging.getLogger(__name__)
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
async def grpc_door(
    config: Config,
    tls: Tls | None,
    services: Sequence[Served],
    calls: Calls,
    health_servicer: health.aio.HealthServicer,
    http: Callable[[str], Handler],
) -> AsyncIterator[str]:
    """Serve gRPC, and on the same port HTTP if the settings say so; gives the address.

    ``http`` makes the HTTP handler for an address, when it is needed first.

    At the end, new calls get UNAVAILABLE, and those that run have ``drain_s`` seconds to finish.
    """
    server = _server(services, calls, health_servicer)
    for name in ("", *_names(services)):
        await health_servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    host, port = split_address(config.grpc_address)
    async with AsyncExitStack() as parts:
        inside = parts.enter_context(_private_socket()) if config.effective_one_port else None
        await parts.enter_async_context(_drained(server, calls, config.drain_s))
        if inside is None:
            port = _listen(server, joined_address(host, port), tls)
            await server.start()
        else:
            _listen(server, f"unix:{inside}", None)
            await server.start()
            handler = partial(http, config.grpc_address)
            port = await parts.enter_async_context(_one_port(host, port, inside, handler))
        yield joined_address(host, port)


@contextmanager
def _private_socket() -> Iterator[str]:
    """Where to listen so that no other user of this machine gets in."""
    with TemporaryDirectory(prefix="ams-grpc-") as folder:
        yield f"{folder}/grpc"


@asynccontextmanager
async def _one_port(
    host: str, port: int, inside: str, handler: Callable[[], Handler]
) -> AsyncIterator[int]:
    """Take connections for gRPC, which listens ``inside``, and for an HTTP handler."""
    # Imported late: without it nobody pays for it.
    from ams_grpc import shared_port  # noqa: PLC0415

    async def http() -> shared_port.HttpServer:
        # In a thread: it takes some tenths of a second, in which others want to connect.
        await asyncio.to_thread(import_module, "ams_grpc.bridge")
        from http_bridge.serving import handling  # noqa: PLC0415

        return await parts.enter_async_context(handling(handler()))

    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as parts:
        try:
            taken = await shared_port.listen(
                host,
                port,
                lambda protocol: loop.create_unix_connection(protocol, inside),
                http,
            )
        except OSError as error:
            raise CannotListenError(f"cannot listen on {host}:{port}: {error.strerror}") from None
        _left_to_the_end.append(taken)  # as gRPC itself is
        yield int(taken.sockets[0].getsockname()[1])


def _server(
    services: Sequence[Served], calls: Calls, health_servicer: health.aio.HealthServicer
) -> grpc.aio.Server:
    server = grpc.aio.server(options=_OPTIONS)
    for service, servicer, guard in services:
        server.add_generic_rpc_handlers((handlers(service, servicer, calls, guard),))
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    reflection.enable_server_reflection(_names(services), server)
    return server


def _names(services: Sequence[Served]) -> list[str]:
    own = (health.SERVICE_NAME, reflection.SERVICE_NAME)
    return [*own, *(each.service.full_name for each in services)]


@asynccontextmanager
async def _drained(server: grpc.aio.Server, calls: Calls, drain_s: float) -> AsyncIterator[None]:
    try:
        yield
    except BaseException:  # something else cannot start: nobody has called yet
        await server.stop(None)
        raise
    calls.draining = True
    with suppress(TimeoutError):
        async with asyncio.timeout(drain_s):
            await calls.finished()
    # It is not stopped: that would tell CANCELLED to streams that came too late to be taken, on
    # which subscribers give up. The end of the process ends their connections, which all
    # clients take for UNAVAILABLE.
    _left_to_the_end.append(server)


_left_to_the_end: Final[list[object]] = []


def _listen(server: grpc.aio.Server, address: str, tls: Tls | None) -> int:
    try:
        if tls is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, tls.credentials())
    except RuntimeError:  # grpc says no more than that
        raise CannotListenError(
            f"cannot listen on {address}: it is in use, or the certificate or key is not valid"
        ) from None
    except OSError as error:
        raise CannotListenError(f"cannot read the certificate or key: {error}") from None


def google_rest(config: Config, services: Sequence[Served], calls: Calls, address: str) -> Handler:
    """Google's REST API of these services, for those who reach it at ``address``."""
    # Imported late: without it nobody pays for it.
    from ams_grpc import bridge  # noqa: PLC0415

    return bridge.google_rest(config, services, calls, split_address(address)[0])


def ams_rest(config: Config, services: Sequence[Served], calls: Calls) -> Handler:
    """The REST API of AMS, by these services."""
    from ams_grpc import bridge  # noqa: PLC0415 - as above

    return bridge.ams_rest(config, services, calls)


@asynccontextmanager
async def rest_server(address: str, tls: Tls | None, handler: Handler) -> AsyncIterator[str]:
    """Serve HTTP, over TLS if there is any; gives the address."""
    from http_bridge.serving import serving  # noqa: PLC0415

    host, port = split_address(address)
    if tls is None and not is_loopback(host):
        _log.warning("%s is plain HTTP: whoever is on the way there reads tokens", address)
    try:
        context = None if tls is None else tls.context()
    except OSError as error:
        raise CannotListenError(f"cannot use the certificate or key: {error}") from None
    try:
        async with serving(handler, host, port, context) as port:
            yield joined_address(host, port)
    except OSError as error:
        raise CannotListenError(f"cannot listen on {address}: {error.strerror}") from None


def tls_of(config: Config) -> Tls | None:
    """What is given, or made; None without TLS. Raises CannotStartError."""
    if config.tls_self_signed:
        # Imported late: without it nobody pays for it.
        from ams_grpc.self_signed import self_signed  # noqa: PLC0415

        addresses = (config.grpc_address, config.ams_address, config.google_rest_address)
        hosts = [split_address(address)[0] for address in addresses if address is not None]
        folder = config.data / "tls"
        try:
            return self_signed(folder, hosts)
        except (OSError, ValueError) as error:
            raise CannotStartError(
                f"cannot make or read certificates in {folder}: {error}"
            ) from None
    if config.tls_cert is None or config.tls_key is None:
        return None
    return Tls(config.tls_cert, config.tls_key)


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
            yield joined_address(host, port)
    except OSError as error:
        raise CannotListenError(f"cannot listen on {address}: {error.strerror}") from None
