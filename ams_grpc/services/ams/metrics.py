"""ams.v1: figures of projects, topics, subscriptions and nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from google.protobuf.empty_pb2 import Empty

from ams_grpc.auth.ports import Accounts, Clock
from ams_grpc.broker.figures import ConsumptionReader, Figures, NodeUsage
from ams_grpc.broker.names import SubscriptionName, TopicName
from ams_grpc.broker.ports import Catalog
from ams_grpc.pb.ams.v1 import accounts_pb2, metrics_pb2, pubsub_pb2
from ams_grpc.services.ams import points
from ams_grpc.services.ams.names import ams_words
from ams_grpc.services.frame import Context

_DAYS: Final = 30
"""AMS: the most days that a metric shows, those without messages not counted."""


class ProjectMetrics:
    """Of ams.v1.Projects."""

    def __init__(self, figures: Figures, accounts: Accounts, clock: Clock) -> None:
        self._figures = figures
        self._accounts = accounts
        self._clock = clock

    async def GetProjectMetrics(
        self, request: accounts_pb2.ProjectRequest, _context: Context
    ) -> metrics_pb2.MetricList:
        project = request.project
        found = await self._figures.project(project)
        days = await self._figures.days_of_project(project, _DAYS)
        metrics = [
            self._total(project, "topics", found.topics),
            self._total(project, "subscriptions", found.subscriptions),
            *await self._of_members(project),
            points.daily_messages("project", project, days, "all of the project's topics"),
        ]
        return metrics_pb2.MetricList(metrics=metrics)

    def _total(self, project: str, kind: str, number: int) -> metrics_pb2.Metric:
        text = f"Counter that displays the number of {kind} belonging to the specific project"
        now_us = self._clock.now_us()
        return points.counter("project", f"number_of_{kind}", project, number, now_us, text)

    async def _of_members(self, project: str) -> Iterable[metrics_pb2.Metric]:
        """Of members that are in access lists: in how many of each kind."""
        granted: dict[str, Counter[str]] = {"topics": Counter(), "subscriptions": Counter()}
        for grant in await self._accounts.grants([project]):
            granted[grant.kind].update(set(grant.users))
        members = await self._accounts.users(project, None, None) if any(granted.values()) else ()
        now_us = self._clock.now_us()
        return [
            points.counter(
                "project.user",
                f"number_of_{kind}",
                f"{project}.{member.name}",
                counted[member.uuid],
                now_us,
                f"Counter that displays the number of {kind} that a user has access to the specific"
                " project",
            )
            for kind, counted in granted.items()
            for member in members
            if counted[member.uuid]
        ]


class TopicMetrics:
    """Of ams.v1.Topics."""

    def __init__(self, figures: Figures, catalog: Catalog, clock: Clock) -> None:
        self._figures = figures
        self._catalog = catalog
        self._clock = clock

    async def GetTopicMetrics(
        self, request: pubsub_pb2.TopicRequest, _context: Context
    ) -> metrics_pb2.MetricList:
        with ams_words("Topic"):
            topic = await self._catalog.topic(TopicName(request.project, request.topic))
            found = await self._figures.topic(topic)
        days = await self._figures.days_of_topic(topic, _DAYS)
        now_us, name = self._clock.now_us(), request.topic
        totals = (
            ("subscriptions", found.subscriptions, "number of subscriptions belonging to a"),
            ("messages", found.messages, "number of messages published to the"),
            ("bytes", found.byte_size, "total size of data (in bytes) published to the"),
        )
        metrics = [
            points.counter(
                "topic",
                f"number_of_{what}",
                name,
                value,
                now_us,
                f"Counter that displays the {text} specific topic",
            )
            for what, value, text in totals
        ]
        metrics.append(points.daily_messages("topic", name, days, "a specific topic"))
        metrics.append(points.rate("topic", "publishing_rate", name, found.last, "published"))
        return metrics_pb2.MetricList(metrics=metrics)


class SubscriptionMetrics:
    """Of ams.v1.Subscriptions."""

    def __init__(self, consumption: ConsumptionReader, catalog: Catalog, clock: Clock) -> None:
        self._consumption = consumption
        self._catalog = catalog
        self._clock = clock

    async def GetSubscriptionMetrics(
        self, request: pubsub_pb2.SubscriptionRequest, _context: Context
    ) -> metrics_pb2.MetricList:
        name = request.subscription
        with ams_words("Subscription"):
            subscription = await self._catalog.subscription(SubscriptionName(request.project, name))
        found = await self._consumption.consumption(subscription)
        now_us = self._clock.now_us()
        totals = (
            ("messages", found.messages, "number of messages"),
            ("bytes", found.byte_size, "total size of data (in bytes)"),
        )
        metrics = [
            points.counter(
                "subscription",
                f"number_of_{what}",
                name,
                value,
                now_us,
                f"Counter that displays the {text} consumed from the specific subscription",
            )
            for what, value, text in totals
        ]
        metrics.append(
            points.rate("subscription", "consumption_rate", name, found.last, "consumed")
        )
        return metrics_pb2.MetricList(metrics=metrics)


class NodeMetrics:
    """Of ams.v1.Service: what each node used when it was asked last. ``measure`` asks this one."""

    def __init__(self, figures: Figures, clock: Clock, measure: Callable[[], NodeUsage]) -> None:
        self._figures = figures
        self._clock = clock
        self._measure = measure

    async def GetMetrics(self, _request: Empty, _context: Context) -> metrics_pb2.MetricList:
        return await self.read()

    async def read(self) -> metrics_pb2.MetricList:
        """AMS: operational metrics, one pair for each host."""
        now_us = self._clock.now_us()
        await self._figures.note_node(self._measure(), now_us)
        nodes = await self._figures.nodes()
        return metrics_pb2.MetricList(
            metrics=[metric for usage in nodes for metric in points.node(usage, now_us)]
        )
