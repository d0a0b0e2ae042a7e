"""The services of ams.v1, put together: which rooms serve what."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.descriptor import ServiceDescriptor

from ams_grpc.broker.broker import Broker
from ams_grpc.broker.errors import NotFound
from ams_grpc.broker.figures import Consumptions
from ams_grpc.broker.policies import SchemaSettings
from ams_grpc.identity import Identity
from ams_grpc.pb.ams.v1 import access_pb2, accounts_pb2, metrics_pb2, pubsub_pb2
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
from ams_grpc.services.ams.registrations import RegistrationDesk
from ams_grpc.services.ams.reports import Reports
from ams_grpc.services.ams.status import ServiceStatus
from ams_grpc.services.ams.subscriptions import SubscriptionAccess, SubscriptionResources
from ams_grpc.services.ams.topics import TopicAccess, TopicResources
from ams_grpc.services.ams.users import UserAccounts
from ams_grpc.services.ams.visibility import Visibility
from ams_grpc.services.ams.windows import Windows
from ams_grpc.services.frame import Served
from ams_grpc.services.idempotency import IdempotencyKeys
from ams_grpc.storage.storage import Storage


def ams_services(
    storage: Storage,
    broker: Broker,
    known: Identity,
    keys: IdempotencyKeys,
    *,
    access_lists: bool,
    push_endpoint: str | None,
    hostname: str,
    pull_wait_s: float,
) -> Sequence[Served]:
    """Every service of ams.v1. They ask for a token also where the others ask for none.

    ``push_endpoint`` and ``hostname`` are shown: see ``status.ServiceStatus``. ``pull_wait_s``: see
    ``windows.Windows``.
    """
    guard = AmsGuard(known.authenticator, known.authorizer, access_lists=access_lists)
    visibility = Visibility(known.accounts)
    figures, catalog, clock = storage.figures, storage.catalog, broker.clock
    nodes = NodeMetrics(figures, clock, ThisNode().measure)
    reports = Reports(figures, known.accounts, clock, nodes)
    served = {
        _service(accounts_pb2, "Users"): Parts(UserAccounts(known.users), reports),
        _service(accounts_pb2, "Registrations"): RegistrationDesk(known.registrations, known.users),
        _service(accounts_pb2, "Projects"): Parts(
            ProjectAccounts(known.projects, known.members, known.users),
            ProjectMetrics(figures, known.accounts, clock),
        ),
        _service(pubsub_pb2, "Topics"): Parts(
            TopicResources(broker.topics, storage.newest, visibility, _no_schema),
            TopicAccess(known.access_lists),
            TopicMetrics(figures, catalog, clock),
            TopicMessages(broker.topics, keys),
        ),
        _service(pubsub_pb2, "Subscriptions"): Parts(
            SubscriptionResources(broker.subscriptions, broker.topics, storage.newest, visibility),
            SubscriptionAccess(known.access_lists),
            SubscriptionMetrics(Consumptions(broker.ledger, broker.windowed), catalog, clock),
            Windows(broker, wait_s=pull_wait_s),
        ),
        _service(metrics_pb2, "Service"): Parts(
            nodes, reports, ServiceStatus(push_endpoint, hostname)
        ),
    }
    methods = {
        method.full_name: (method, servicer)
        for service, servicer in served.items()
        for method in service.methods
    }
    served[_service(access_pb2, "Access")] = Access(guard, methods)
    return [Served(service, servicer, guard) for service, servicer in served.items()]


async def _no_schema(_project: str, reference: str) -> SchemaSettings | None:
    if reference:
        raise NotFound("Schema doesn't exist")
    return None


def _service(file: object, name: str) -> ServiceDescriptor:
    descriptor: ServiceDescriptor = file.DESCRIPTOR.services_by_name[name]  # type: ignore[attr-defined]
    return descriptor
