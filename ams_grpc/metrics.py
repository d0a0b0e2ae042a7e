"""Prometheus metrics, made when they are asked for.

Hot paths only add to plain integers; this module reads them at scrape time. Backlogs come from
the database at that moment, so subscriptions that are not in use have one, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from ams_grpc.broker.broker import Broker
from ams_grpc.broker.figures import TopicTotals
from ams_grpc.broker.names import SubscriptionName
from ams_grpc.services.frame import Calls
from ams_grpc.storage.backlogs import Backlog
from ams_grpc.storage.commit import GroupCommit
from ams_grpc.storage.histogram import Histogram

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_LABELS: Final = ["project", "subscription"]
_COUNTERS: Final = (
    ("sent", "sent_message", "Messages sent to subscribers, redeliveries included"),
    ("acked", "ack_message", "Messages acknowledged"),
    ("nacked", "nack", "Messages that subscribers handed back"),
    ("expired", "expired_ack_deadlines", "Messages whose ack deadline passed"),
    ("sent_bytes", "sent_bytes", "Bytes of messages sent to subscribers, redeliveries included"),
)
_OF_TOPICS: Final = ["project", "topic"]


def render(
    broker: Broker,
    calls: Calls,
    commits: GroupCommit,
    backlogs: Sequence[Backlog],
    pushes: Sequence[tuple[SubscriptionName, Mapping[str, int]]],
    topics: Sequence[TopicTotals],
) -> bytes:
    """All metrics in Prometheus's text format. Safe on another thread: it only reads.

    ``pushes``: of each push subscription, how many requests ended how.
    """
    registry = CollectorRegistry()
    registry.register(_Service(broker, calls, commits, backlogs, pushes, topics))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Service(Collector):
    """What the service knows of itself at this moment."""

    def __init__(
        self,
        broker: Broker,
        calls: Calls,
        commits: GroupCommit,
        backlogs: Sequence[Backlog],
        pushes: Sequence[tuple[SubscriptionName, Mapping[str, int]]],
        topics: Sequence[TopicTotals],
    ) -> None:
        self._broker = broker
        self._calls_made = calls
        self._commits = commits
        self._backlogs = backlogs
        self._pushes = pushes
        self._topics = topics

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("build", "The version", value={"version": version("ams-grpc")})
        yield from self._subscriptions()
        yield from self._stored_backlogs()
        yield from self._push_requests()
        yield from self._stored_topics()
        yield from self._writer()
        yield from self._calls()

    def _subscriptions(self) -> Iterable[Metric]:
        running = self._broker.runtimes.running()
        for field, name, text in _COUNTERS:
            counter = CounterMetricFamily(f"pubsub_subscription_{name}", text, labels=_LABELS)
            for runtime in running:
                counter.add_metric(
                    _values(runtime.subscription.name), getattr(runtime.counters, field)
                )
            yield counter
        outstanding = GaugeMetricFamily(
            "pubsub_subscription_num_outstanding_messages",
            "Messages at subscribers, neither acknowledged nor expired",
            labels=_LABELS,
        )
        streams = GaugeMetricFamily(
            "pubsub_subscription_open_streaming_pulls", "Open streams", labels=_LABELS
        )
        for runtime in running:
            outstanding.add_metric(_values(runtime.subscription.name), runtime.outstanding)
            streams.add_metric(_values(runtime.subscription.name), runtime.open_streams)
        yield outstanding
        yield streams

    def _stored_backlogs(self) -> Iterable[Metric]:
        undelivered = GaugeMetricFamily(
            "pubsub_subscription_num_undelivered_messages",
            "Messages that are not acknowledged, outstanding ones included",
            labels=_LABELS,
        )
        age = GaugeMetricFamily(
            "pubsub_subscription_oldest_unacked_message_age_seconds",
            "Age of the oldest message that is not acknowledged",
            labels=_LABELS,
        )
        now_us = self._broker.clock.now_us()
        for backlog in self._backlogs:
            labels = _values(backlog.subscription)
            undelivered.add_metric(labels, backlog.messages)
            oldest_us = backlog.oldest_publish_time_us
            age.add_metric(
                labels, 0.0 if oldest_us is None else max(0, now_us - oldest_us) / 1_000_000
            )
        yield undelivered
        yield age

    def _push_requests(self) -> Iterable[Metric]:
        requests = CounterMetricFamily(
            "pubsub_subscription_push_request",
            "Push requests that ended, by what the endpoint made of them",
            labels=[*_LABELS, "response_class"],
        )
        for name, results in self._pushes:
            for response_class, number in sorted(results.items()):
                requests.add_metric([*_values(name), response_class], number)
        yield requests

    def _stored_topics(self) -> Iterable[Metric]:
        messages = CounterMetricFamily(
            "pubsub_topic_published_messages", "Messages ever published", labels=_OF_TOPICS
        )
        size = CounterMetricFamily(
            "pubsub_topic_published_bytes",
            "Bytes of all messages ever published, as they are stored",
            labels=_OF_TOPICS,
        )
        retained = GaugeMetricFamily(
            "pubsub_topic_num_retained_messages", "Messages that are stored", labels=_OF_TOPICS
        )
        for topic in self._topics:
            labels = [topic.name.project, topic.name.id]
            messages.add_metric(labels, topic.messages)
            size.add_metric(labels, topic.byte_size)
            retained.add_metric(labels, topic.stored)
        yield messages
        yield size
        yield retained

    def _writer(self) -> Iterable[Metric]:
        commits = self._commits
        published = CounterMetricFamily("pubsub_published_messages", "Messages committed")
        published.add_metric([], int(commits.messages_per_commit.total))
        yield published
        failed = CounterMetricFamily("pubsub_commit_failures", "Transactions that failed")
        failed.add_metric([], commits.failed_commits)
        yield failed
        yield _histogram(
            "pubsub_commit_latency_seconds", "How long a transaction took", commits.commit_seconds
        )
        yield _histogram(
            "pubsub_commit_batch_messages",
            "Messages published per transaction",
            commits.messages_per_commit,
        )
        cache = GaugeMetricFamily("pubsub_log_cache_bytes", "Messages kept in memory, in bytes")
        cache.add_metric([], self._broker.log.cached_bytes)
        yield cache

    def _calls(self) -> Iterable[Metric]:
        calls = CounterMetricFamily(
            "grpc_server_handled",
            "Calls that ended, by status code",
            labels=["grpc_service", "grpc_method", "grpc_code"],
        )
        for (label, code), number in sorted(self._calls_made.handled.copy().items()):
            service, _, method = label.partition("/")
            calls.add_metric([service, method, code], number)
        yield calls


def _values(name: SubscriptionName) -> list[str]:
    return [name.project, name.id]


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*histogram.bounds, "+Inf"), histogram.counts, strict=True):
        total += count
        buckets.append((str(bound), total))
    family = HistogramMetricFamily(name, text)
    family.add_metric([], buckets, histogram.total)
    return family
