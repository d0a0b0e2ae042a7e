"""The parts list: what a server is made of, how it starts, and how it stops.

Stopping is starting read backwards, after a drain: health says NOT_SERVING and load balancers have
a moment to see it, streams end with UNAVAILABLE so that subscribers turn elsewhere, calls that
run may finish, what was acknowledged is written.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ams_grpc.broker.broker import Broker, BrokerSettings
from ams_grpc.broker.clock import SystemClock
from ams_grpc.broker.errors import StorageUnavailable
from ams_grpc.broker.profiles import PROFILES
from ams_grpc.broker.schemas import Schemas
from ams_grpc.config import Config, split_address
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2, schema_pb2
from ams_grpc.services.definitions import CompiledDefinitions
from ams_grpc.services.frame import Calls, handlers
from ams_grpc.services.gate import SchemaGate, chain
from ams_grpc.services.messages import decode
from ams_grpc.services.publisher import Publisher
from ams_grpc.services.schema import SchemaService
from ams_grpc.services.subscriber import Subscriber
from ams_grpc.storage.storage import Storage, open_storage

_MIB: Final = 1024 * 1024
_log = logging.getLogger(__name__)

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


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the server listens: ``HOST:PORT`` with the port that was really taken."""

    grpc: str
    admin: str | None


class CannotListenError(Exception):
    """An address that the server was to listen on is not to be had."""


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Addresses]:
    """A server that takes calls while the context lasts, and is drained at its end.

    Raises CannotListenError, storage.errors.DatabaseError.
    """
    async with AsyncExitStack() as parts:
        clock = SystemClock()
        storage = await parts.enter_async_context(
            open_storage(
                config.effective_database_url.get_secret_value(),
                clock,
                max_queued_bytes=config.queue_bytes,
                queue_timeout_s=config.queue_timeout_s,
            )
        )
        definitions = CompiledDefinitions()
        broker = Broker(
            catalog=storage.catalog,
            schemas=storage.schemas,
            gate=chain(SchemaGate(storage.schemas, definitions)),
            reader=storage.log,
            commits=storage.commits,
            upkeep=storage.upkeep,
            decode=decode,
            clock=clock,
            secret=storage.server_secret,
            settings=BrokerSettings(
                profile=PROFILES[config.effective_profile],
                cache_bytes=config.cache_bytes,
                read_bytes=config.read_bytes,
                retention_interval_s=config.retention_interval_s,
                max_outstanding=config.max_outstanding,
            ),
        )
        storage.commits.on_appended = broker.appended
        storage.commits.on_uncertain = broker.uncertain
        await parts.enter_async_context(broker)
        calls = Calls()
        health_servicer = health.aio.HealthServicer()
        grpc_address = await parts.enter_async_context(
            _grpc_server(
                config, broker, Schemas(storage.schemas, definitions), calls, health_servicer
            )
        )
        draining = asyncio.Event()
        admin_address = None
        if config.admin_address is not None:
            admin_address = await parts.enter_async_context(
                _admin_server(config.admin_address, broker, calls, storage, draining)
            )
        try:
            yield Addresses(grpc_address, admin_address)
        finally:
            _log.info("draining")
            draining.set()
            await health_servicer.enter_graceful_shutdown()
            await asyncio.sleep(config.drain_notice_s)
            broker.drain()


@asynccontextmanager
async def _grpc_server(
    config: Config,
    broker: Broker,
    schemas: Schemas,
    calls: Calls,
    health_servicer: health.aio.HealthServicer,
) -> AsyncIterator[str]:
    """Serve gRPC; gives the address.

    At the end, new calls get UNAVAILABLE, and those that run have ``drain_s`` seconds to finish.
    """
    server = grpc.aio.server(options=_OPTIONS)
    names = [health.SERVICE_NAME, reflection.SERVICE_NAME]
    services = pubsub_pb2.DESCRIPTOR.services_by_name
    for descriptor, servicer in (
        (services["Publisher"], Publisher(broker)),
        (services["Subscriber"], Subscriber(broker)),
        (schema_pb2.DESCRIPTOR.services_by_name["SchemaService"], SchemaService(schemas)),
    ):
        server.add_generic_rpc_handlers((handlers(descriptor, servicer, calls),))
        names.append(descriptor.full_name)
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
async def _admin_server(
    address: str, broker: Broker, calls: Calls, storage: Storage, draining: asyncio.Event
) -> AsyncIterator[str]:
    # Imported late: without --admin-address nobody pays for it.
    from ams_grpc.admin import admin_server  # noqa: PLC0415
    from ams_grpc.metrics import render  # noqa: PLC0415

    async def metrics() -> bytes:
        backlogs = await storage.upkeep.backlogs()
        return await asyncio.to_thread(render, broker, calls, storage.commits, backlogs)

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
        async with admin_server(host, port, metrics=metrics, ready=ready) as port:
            yield f"{host}:{port}"
    except OSError as error:
        raise CannotListenError(f"cannot listen on {address}: {error.strerror}") from None
