"""The parts list: what a server is made of, how it starts, and how it stops.

Stopping is starting read backwards, after a drain: health says NOT_SERVING and load balancers have
a moment to see it, streams end with UNAVAILABLE so that subscribers turn elsewhere, calls that
run may finish, what was acknowledged is written.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import grpc
from google.iam.v1 import iam_policy_pb2  # type: ignore[import-untyped]
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ams_grpc.broker.broker import Broker, BrokerSettings
from ams_grpc.broker.catalog import Subscription
from ams_grpc.broker.clock import Clock, SystemClock
from ams_grpc.broker.errors import StorageUnavailable
from ams_grpc.broker.filters import parse_filter
from ams_grpc.broker.log import Log
from ams_grpc.broker.profiles import PROFILES
from ams_grpc.broker.schemas import Schemas
from ams_grpc.broker.views import FilteredView, PlainView, View
from ams_grpc.broker.workers import Supervisor
from ams_grpc.config import Config, revealed, split_address
from ams_grpc.exports.destinations import Destinations, Place
from ams_grpc.exports.topic_schemas import schema_of_topic
from ams_grpc.exports.worker import ExportWorker
from ams_grpc.identity import Identity, first_admin, identity
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2, schema_pb2
from ams_grpc.push.documents import CERTIFICATES, DISCOVERY
from ams_grpc.push.push import PushRoom, PushSettings
from ams_grpc.services.definitions import CompiledDefinitions
from ams_grpc.services.frame import Calls, Guard, handlers
from ams_grpc.services.gate import SchemaGate, chain
from ams_grpc.services.guard import TokenGuard
from ams_grpc.services.iam import IamPolicy
from ams_grpc.services.messages import annotated, attributes_of, decode, ordering_key
from ams_grpc.services.publisher import Publisher
from ams_grpc.services.schema import SchemaService
from ams_grpc.services.subscriber import Subscriber
from ams_grpc.storage.storage import Storage, open_storage
from ams_grpc.transforms.chain import enabled
from ams_grpc.transforms.check import TransformCheck
from ams_grpc.transforms.gate import TransformGate
from ams_grpc.transforms.lanes import Lanes
from ams_grpc.transforms.view import TransformedView

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
    google_rest: str | None = None


class CannotStartError(Exception):
    """Something that the server needs is not to be had. The text says what."""


class CannotListenError(CannotStartError):
    """An address that the server was to listen on is not to be had."""


@asynccontextmanager
async def running(
    config: Config, show_first_admin: Callable[[str, str], None] | None = None
) -> AsyncIterator[Addresses]:
    """A server that takes calls while the context lasts, and is drained at its end.

    ``show_first_admin`` gets the name and the token of a service_admin whom nobody knows yet.

    Raises CannotStartError, storage.errors.DatabaseError.
    """
    async with AsyncExitStack() as parts:
        clock = SystemClock()
        rules = config.endpoint_rules
        storage = await parts.enter_async_context(
            open_storage(
                config.effective_database_url.get_secret_value(),
                clock,
                max_queued_bytes=config.queue_bytes,
                queue_timeout_s=config.queue_timeout_s,
            )
        )
        lanes = Lanes()
        parts.callback(lanes.close)
        definitions = parts.enter_context(closing(CompiledDefinitions()))
        schema_gate = parts.enter_context(closing(SchemaGate(storage.schemas, definitions)))
        broker = Broker(
            catalog=storage.catalog,
            schemas=storage.schemas,
            gate=chain(TransformGate(lanes, clock), schema_gate),
            reader=storage.log,
            commits=storage.commits,
            upkeep=storage.upkeep,
            decode=decode,
            read_key=ordering_key,
            annotate=annotated,
            clock=clock,
            secret=storage.server_secret,
            settings=BrokerSettings(
                profile=PROFILES[config.effective_profile],
                cache_bytes=config.cache_bytes,
                read_bytes=config.read_bytes,
                retention_interval_s=config.retention_interval_s,
                max_outstanding=config.max_outstanding,
                endpoints=rules,
            ),
            view_of=partial(_view_of, lanes, clock),
            check_transforms=TransformCheck(lanes),
            attributes_of=attributes_of,
        )
        storage.commits.on_appended = broker.appended
        storage.commits.on_uncertain = broker.uncertain
        await parts.enter_async_context(broker)
        known = identity(storage, clock, broker)
        guard = None
        if config.auth:
            guard = TokenGuard(known.authenticator, known.authorizer)
            await _make_first_admin(config, known, show_first_admin)
        pushes = await parts.enter_async_context(
            PushRoom(_push_settings(config), rules, broker.subscriptions, storage.secret, clock)
        )
        workers = await parts.enter_async_context(
            Supervisor(
                storage.catalog,
                {"push": pushes.worker, "export": exporter(config, broker, storage)},
                drain_s=config.drain_s,
            )
        )
        broker.subscriptions.workers = workers
        services = (
            (pubsub_pb2.DESCRIPTOR.services_by_name["Publisher"], Publisher(broker)),
            (pubsub_pb2.DESCRIPTOR.services_by_name["Subscriber"], Subscriber(broker)),
            (
                schema_pb2.DESCRIPTOR.services_by_name["SchemaService"],
                SchemaService(Schemas(storage.schemas, definitions)),
            ),
            (
                iam_policy_pb2.DESCRIPTOR.services_by_name["IAMPolicy"],
                IamPolicy(known.policies, None if guard is None else guard.allowed),
            ),
        )
        calls = Calls()
        health_servicer = health.aio.HealthServicer()
        grpc_address = await parts.enter_async_context(
            _grpc_server(config, services, calls, health_servicer, guard)
        )
        google_rest_address = None
        if config.google_rest_address is not None:
            google_rest_address = await parts.enter_async_context(
                _google_rest_server(config.google_rest_address, services, calls, guard)
            )
        draining = asyncio.Event()
        admin_address = None
        if config.admin_address is not None:
            admin_address = await parts.enter_async_context(
                _admin_server(config.admin_address, broker, calls, storage, pushes, draining)
            )
        try:
            yield Addresses(grpc_address, admin_address, google_rest_address)
        finally:
            _log.info("draining")
            draining.set()
            await health_servicer.enter_graceful_shutdown()
            await asyncio.sleep(config.drain_notice_s)
            broker.drain()
            workers.drain()


def _push_settings(config: Config) -> PushSettings:
    return PushSettings(
        issuer=config.effective_push_issuer,
        max_parallel=config.push_max_parallel,
        max_requests=config.push_requests,
        max_bytes=config.push_bytes,
        ca_file=config.push_ca_file,
        verify_tls=config.push_verify_tls,
    )


def _view_of(lanes: Lanes, clock: Clock, log: Log, subscription: Subscription) -> View:
    """What a subscription sees of its topic's log: the filter comes first, then the transforms."""
    config, topic_id = subscription.config, subscription.topic_id
    view: View = PlainView(log, topic_id)
    if config.filter:
        view = FilteredView(log, topic_id, parse_filter(config.filter), attributes_of)
    if transforms := enabled(config.transforms):
        whose = ("subscription", subscription.id)
        view = TransformedView(view, transforms, lanes=lanes, whose=whose, clock=clock)
    return view


def exporter(
    config: Config, broker: Broker, storage: Storage
) -> Callable[[Subscription], ExportWorker]:
    """What makes the workers of exports."""
    places = {
        name: Place(bucket.url, revealed(bucket.options))
        for name, bucket in config.export_buckets.items()
    }
    destinations = Destinations(
        config.effective_export_root,
        None
        if config.export_url is None
        else Place(config.export_url, revealed(config.export_options)),
        places,
    )

    def worker(subscription: Subscription) -> ExportWorker:
        return ExportWorker(
            subscription,
            subscriptions=broker.subscriptions,
            catalog=storage.catalog,
            clock=broker.clock,
            bucket_of=destinations.bucket,
            schema_of_topic=schema_of_topic(storage.schemas),
            max_messages=config.max_outstanding // 2,
        )

    return worker


async def _make_first_admin(
    config: Config, known: Identity, show: Callable[[str, str], None] | None
) -> None:
    given = config.admin_token
    try:
        made = await first_admin(
            known,
            token="" if given is None else given.get_secret_value(),
            file=config.admin_token_file,
        )
    except OSError as error:
        raise CannotStartError(
            f"cannot write the token to {config.admin_token_file}: {error.strerror}"
        ) from None
    if made is not None and made.token and show is not None:
        show(made.name, made.token)


@asynccontextmanager
async def _grpc_server(
    config: Config,
    services: Iterable[tuple[ServiceDescriptor, object]],
    calls: Calls,
    health_servicer: health.aio.HealthServicer,
    guard: Guard | None,
) -> AsyncIterator[str]:
    """Serve gRPC, with a servicer for each service; gives the address.

    At the end, new calls get UNAVAILABLE, and those that run have ``drain_s`` seconds to finish.
    """
    server = grpc.aio.server(options=_OPTIONS)
    names = [health.SERVICE_NAME, reflection.SERVICE_NAME]
    for service, servicer in services:
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
async def _google_rest_server(
    address: str,
    services: Iterable[tuple[ServiceDescriptor, object]],
    calls: Calls,
    guard: Guard | None,
) -> AsyncIterator[str]:
    # Imported late: without it nobody pays for it.
    from ams_grpc.bridge import google_rest_server  # noqa: PLC0415

    host, port = split_address(address)
    try:
        async with google_rest_server(host, port, services, calls, guard) as port:
            yield f"{host}:{port}"
    except OSError as error:
        raise CannotListenError(f"cannot listen on {address}: {error.strerror}") from None


@asynccontextmanager
async def _admin_server(
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
        return await asyncio.to_thread(
            render, broker, calls, storage.commits, backlogs, list(pushes.results())
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
