"""The services of ams.v1, put together: which rooms serve what."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from google.protobuf.descriptor import ServiceDescriptor

from ams_grpc.auth.visibility import Visibility
from ams_grpc.broker.ams_push import AmsEndpoint
from ams_grpc.broker.ams_schemas import AmsSchemas
from ams_grpc.broker.broker import Broker
from ams_grpc.broker.figures import Consumptions
from ams_grpc.broker.schemas import Definitions
from ams_grpc.config import Config
from ams_grpc.identity import Identity
from ams_grpc.pb.ams.v1 import access_pb2, accounts_pb2, metrics_pb2, pubsub_pb2, schemas_pb2
from ams_grpc.push.push import PushRoom
from ams_grpc.services.ams.access import Access
from ams_grpc.services.ams.guard import AmsGuard
from ams_grpc.services.ams.metrics import (
    NodeMetrics,
    ProjectMetrics,
    SubscriptionMetrics,
    TopicMetrics,
)
from ams_grpc.services.ams.node import ThisNode
from ams_grpc.services.ams.parts import Parts
from ams_grpc.services.ams.projects import ProjectAccounts
from ams_grpc.services.ams.publishing import TopicMessages
from ams_grpc.services.ams.push import PushDesk, SubscriptionPush
from ams_grpc.services.ams.push_configs import PushConfigs
from ams_grpc.services.ams.push_user import PushUser
from ams_grpc.services.ams.registrations import RegistrationDesk
from ams_grpc.services.ams.reports import Reports
from ams_grpc.services.ams.schemas import SchemaRoom, TopicSchemas
from ams_grpc.services.ams.status import ServiceStatus
from ams_grpc.services.ams.subscriptions import SubscriptionAccess, SubscriptionResources
from ams_grpc.services.ams.topics import TopicAccess, TopicResources
from ams_grpc.services.ams.users import UserAccounts
from ams_grpc.services.ams.windows import Windows
from ams_grpc.services.frame import Served
from ams_grpc.services.idempotency import IdempotencyKeys
from ams_grpc.storage.storage import Storage


@dataclass(frozen=True, slots=True)
class Pushing:
    """AMS's push: what subscriptions need of it, and how an endpoint is verified."""

    desk: PushDesk
    verify: Callable[[AmsEndpoint], Awaitable[str]]


def pushing(config: Config, known: Identity, pushes: PushRoom) -> Pushing:
    """AMS's push, as the settings say. Endpoints are https, unless http is asked for by name."""
    rules, http = config.endpoint_rules, config.push_http is True
    token = config.push_worker_token

    def accepts(url: str) -> bool:
        return (http or url.lower().startswith("https:")) and rules.accepts(url)

    desk = PushDesk(
        PushConfigs(accepts, known.push_secrets),
        PushUser(
            "" if token is None else token.get_secret_value(),
            known.authenticator,
            known.members,
            known.access_lists,
        ),
        pushes.ams,
        enabled=config.push_enabled,
    )
    return Pushing(desk, pushes.ams_delivery.verify)


def ams_services(
    config: Config,
    storage: Storage,
    broker: Broker,
    known: Identity,
    definitions: Definitions,
    keys: IdempotencyKeys,
    push: Pushing,
    push_source: Callable[[], str],
) -> Sequence[Served]:
    """Every service of ams.v1 but Access. They ask for a token also where the others ask for none.

    ``push_source`` gives HOST:PORT of whoever pushes.
    """
    guard = AmsGuard(known.authenticator, known.authorizer, access_lists=config.per_resource_auth)
    visibility = Visibility(known.accounts)
    figures, catalog, clock = storage.figures, storage.catalog, broker.clock
    nodes = NodeMetrics(figures, clock, ThisNode().measure)
    reports = Reports(figures, known.accounts, clock, nodes)
    schemas = AmsSchemas(storage.schemas, definitions)
    topic_schemas = TopicSchemas(broker.topics, schemas)
    served = {
        _service(accounts_pb2, "Users"): Parts(UserAccounts(known.users), reports),
        _service(accounts_pb2, "Registrations"): RegistrationDesk(known.registrations, known.users),
        _service(accounts_pb2, "Projects"): Parts(
            ProjectAccounts(known.projects, known.members, known.users),
            ProjectMetrics(figures, known.accounts, clock),
        ),
        _service(pubsub_pb2, "Topics"): Parts(
            TopicResources(broker.topics, storage.newest, visibility, topic_schemas.find),
            TopicAccess(known.access_lists),
            TopicMetrics(figures, catalog, clock),
            topic_schemas,
            TopicMessages(broker.topics, keys),
        ),
        _service(pubsub_pb2, "Subscriptions"): Parts(
            SubscriptionResources(
                broker.subscriptions, broker.topics, storage.newest, visibility, push.desk
            ),
            SubscriptionAccess(known.access_lists),
            SubscriptionMetrics(Consumptions(broker.ledger, broker.windowed), catalog, clock),
            SubscriptionPush(broker.subscriptions, push.desk, push.verify),
            Windows(broker, wait_s=config.ams_pull_wait_s, push_enabled=config.push_enabled),
        ),
        _service(metrics_pb2, "Service"): Parts(
            nodes,
            reports,
            ServiceStatus(
                push_source if config.push_enabled else None,
                push.desk.is_crippled,
                config.proxy_hostname,
            ),
        ),
    }
    served[_service(schemas_pb2, "Schemas")] = SchemaRoom(schemas)
    return [Served(service, servicer, guard) for service, servicer in served.items()]


def access_to(services: Iterable[Served]) -> Served:
    """What tells beforehand whether a call of these services may be made: it asks their guards."""
    return Served(_service(access_pb2, "Access"), Access(services))


def _service(file: object, name: str) -> ServiceDescriptor:
    descriptor: ServiceDescriptor = file.DESCRIPTOR.services_by_name[name]  # type: ignore[attr-defined]
    return descriptor
