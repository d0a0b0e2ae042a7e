"""The parts list: what a server is made of, how it starts, and how it stops.

Stopping is starting read backwards, after a drain: health says NOT_SERVING and load balancers have
a moment to see it, streams end with UNAVAILABLE so that subscribers turn elsewhere, calls that
run may finish, what was acknowledged is written.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial

from google.iam.v1 import iam_policy_pb2  # type: ignore[import-untyped]
from grpc_health.v1 import health

from ams_grpc.ams import access_to, ams_services, pushing
from ams_grpc.auth.visibility import Visibility
from ams_grpc.broker.broker import Broker, BrokerSettings
from ams_grpc.broker.catalog import Subscription
from ams_grpc.broker.clock import Clock, SystemClock
from ams_grpc.broker.filters import parse_filter
from ams_grpc.broker.log import Log
from ams_grpc.broker.profiles import PROFILES
from ams_grpc.broker.schemas import Schemas
from ams_grpc.broker.views import FilteredView, PlainView, View
from ams_grpc.broker.workers import Supervisor
from ams_grpc.config import Config, revealed
from ams_grpc.exports.destinations import Destinations, Place
from ams_grpc.exports.topic_schemas import schema_of_topic
from ams_grpc.exports.worker import ExportWorker
from ams_grpc.identity import Identity, first_admin, identity
from ams_grpc.listeners import (
    CannotStartError,
    ams_rest,
    google_rest,
    grpc_door,
    operators_server,
    rest_server,
    tls_of,
)
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2, schema_pb2
from ams_grpc.push.push import AmsPushSettings, PushRoom, PushSettings
from ams_grpc.services.ams.data import shown_data
from ams_grpc.services.definitions import CompiledDefinitions
from ams_grpc.services.frame import Calls, Served
from ams_grpc.services.gate import SchemaGate, chain
from ams_grpc.services.guard import TokenGuard
from ams_grpc.services.iam import IamPolicy
from ams_grpc.services.idempotency import IdempotencyKeys
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

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the server listens: ``HOST:PORT`` with the port that was really taken."""

    grpc: str
    admin: str | None
    google_rest: str | None = None
    ams: str | None = None


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
        tls = tls_of(config)
        definitions = parts.enter_context(closing(CompiledDefinitions()))
        storage, broker = await _open_broker(parts, config, clock, definitions)
        known = identity(storage, clock, broker)
        find = storage.catalog.subscription
        guard = TokenGuard(known.authenticator, known.authorizer, find) if config.auth else None
        if config.auth or config.ams_address is not None:
            await _make_first_admin(config, known, show_first_admin)
        # Until they are taken, when a port that is 0 here becomes another one.
        grpc_address, ams_address = config.grpc_address, config.ams_address

        def push_source() -> str:
            return config.effective_push_source(ams_address or grpc_address)

        pushes = await parts.enter_async_context(
            _push_room(config, broker, storage, known, clock, push_source)
        )
        workers = await parts.enter_async_context(
            Supervisor(
                storage.catalog,
                {
                    "push": pushes.worker,
                    "ams_push": pushes.ams.worker,
                    "export": exporter(config, broker, storage),
                },
                drain_s=config.drain_s,
            )
        )
        broker.subscriptions.workers = workers
        keys = IdempotencyKeys(config.idempotency_window_s)
        services = _google_services(broker, storage, known, definitions, keys, guard)
        push = pushing(config, known, pushes)
        of_ams = ams_services(config, storage, broker, known, definitions, keys, push, push_source)
        access = access_to((*services, *of_ams))
        calls = Calls()
        health_servicer = health.aio.HealthServicer()
        google = partial(google_rest, config, (*services, access), calls)
        grpc_address = await parts.enter_async_context(
            grpc_door(config, tls, (*services, *of_ams, access), calls, health_servicer, google)
        )
        google_rest_address = None
        if config.google_rest_address is not None:
            google_rest_address = await parts.enter_async_context(
                rest_server(config.google_rest_address, tls, google(config.google_rest_address))
            )
        if config.ams_address is not None:
            ams_address = await parts.enter_async_context(
                rest_server(config.ams_address, tls, ams_rest(config, (*of_ams, access), calls))
            )
        draining = asyncio.Event()
        admin_address = None
        if config.admin_address is not None:
            admin_address = await parts.enter_async_context(
                operators_server(config.admin_address, broker, calls, storage, pushes, draining)
            )
        try:
            yield Addresses(grpc_address, admin_address, google_rest_address, ams_address)
        finally:
            _log.info("draining")
            draining.set()
            await health_servicer.enter_graceful_shutdown()
            await asyncio.sleep(config.drain_notice_s)
            broker.drain()
            workers.drain()


async def _open_broker(
    parts: AsyncExitStack, config: Config, clock: Clock, definitions: CompiledDefinitions
) -> tuple[Storage, Broker]:
    """The storage and the broker on it, both closed with ``parts``."""
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
    schema_gate = parts.enter_context(closing(SchemaGate(storage.schemas, definitions)))
    broker = _broker(config, storage, clock, lanes, schema_gate)
    storage.commits.on_appended = broker.appended
    storage.commits.on_uncertain = broker.uncertain
    await parts.enter_async_context(broker)
    return storage, broker


def _broker(
    config: Config, storage: Storage, clock: Clock, lanes: Lanes, schema_gate: SchemaGate
) -> Broker:
    settings = BrokerSettings(
        profile=PROFILES[config.effective_profile],
        cache_bytes=config.cache_bytes,
        read_bytes=config.read_bytes,
        retention_interval_s=config.retention_interval_s,
        max_outstanding=config.max_outstanding,
        endpoints=config.endpoint_rules,
    )
    return Broker(
        catalog=storage.catalog,
        schemas=storage.schemas,
        gate=chain(TransformGate(lanes, clock), schema_gate),
        reader=storage.log,
        commits=storage.commits,
        upkeep=storage.upkeep,
        consumption=storage.consumption,
        decode=decode,
        read_key=ordering_key,
        annotate=annotated,
        clock=clock,
        secret=storage.server_secret,
        settings=settings,
        view_of=partial(_view_of, lanes, clock),
        check_transforms=TransformCheck(lanes),
        attributes_of=attributes_of,
    )


def _google_services(
    broker: Broker,
    storage: Storage,
    known: Identity,
    definitions: CompiledDefinitions,
    keys: IdempotencyKeys,
    guard: TokenGuard | None,
) -> Sequence[Served]:
    """The services of Google's API, which ask for a token if there is a ``guard``.

    Then projects are registered; without one, a project is but a part of names.
    """
    registered = guard is not None
    pubsub, schema = pubsub_pb2.DESCRIPTOR.services_by_name, schema_pb2.DESCRIPTOR.services_by_name
    visibility = None if guard is None else Visibility(known.accounts)
    policies = IamPolicy(known.policies, None if guard is None else guard.allowed)
    return (
        Served(
            pubsub["Publisher"], Publisher(broker, keys, visibility, registered=registered), guard
        ),
        Served(pubsub["Subscriber"], Subscriber(broker, visibility, registered=registered), guard),
        Served(
            schema["SchemaService"],
            SchemaService(Schemas(storage.schemas, definitions), registered=registered),
            guard,
        ),
        Served(iam_policy_pb2.DESCRIPTOR.services_by_name["IAMPolicy"], policies, guard),
    )


def _push_room(
    config: Config,
    broker: Broker,
    storage: Storage,
    known: Identity,
    clock: Clock,
    push_source: Callable[[], str],
) -> PushRoom:
    settings = PushSettings(
        issuer=config.effective_push_issuer,
        max_parallel=config.push_max_parallel,
        max_requests=config.push_requests,
        max_bytes=config.push_bytes,
        ca_file=config.push_ca_file,
        verify_tls=config.push_verify_tls,
    )
    of_ams = AmsPushSettings(
        push_source,
        unseal=known.push_secrets.open,
        data_text=shown_data,
        enabled=config.push_enabled,
    )
    runtimes = broker.runtimes
    return PushRoom(settings, config.endpoint_rules, runtimes, storage.secret, clock, of_ams)


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
            runtimes=broker.runtimes,
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
