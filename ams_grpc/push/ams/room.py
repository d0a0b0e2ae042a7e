"""The room of AMS's push: its workers, and what they say of their subscriptions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ams_grpc.broker.catalog import Subscription
from ams_grpc.broker.names import SubscriptionName
from ams_grpc.push.ams.worker import AmsPushWorker, AmsTools, trouble


class AmsPushRoom:
    """Makes push workers."""

    def __init__(self, tools: AmsTools) -> None:
        self._tools = tools
        self._workers: dict[int, AmsPushWorker] = {}

    def worker(self, subscription: Subscription) -> AmsPushWorker:
        """A worker for an AMS push subscription, not started yet."""
        worker = AmsPushWorker(subscription, self._tools, lambda: self._forget(worker))
        self._workers[subscription.id] = worker
        return worker

    def results(self) -> Iterator[tuple[SubscriptionName, Mapping[str, int]]]:
        """For each push subscription, how many requests ended how."""
        for worker in list(self._workers.values()):
            yield worker.subscription.name, worker.results.copy()

    def status(self, subscription: Subscription) -> str:
        """How its delivery fares. AMS: ``pushStatus``."""
        if not self._tools.enabled:
            return "Push server is currently unavailable"
        worker = self._workers.get(subscription.id)
        if worker is None or not worker.active:
            return f"Error: Subscription /{subscription.name} is not active"
        if worker.trouble:
            return worker.trouble
        if subscription.topic_name is None:  # AMS: its next pull is refused
            now_us = self._tools.clock.now_us()
            return trouble(now_us, "consume", "Subscription's topic doesn't exist")
        return f"Subscription /{subscription.name} is currently active"

    def farewell(self, subscription: Subscription) -> str:
        """What is said of its delivery when it is deleted, beforehand."""
        status = self.status(subscription)
        worker = self._workers.get(subscription.id)
        if worker is None or not worker.active:
            return status
        return f"Subscription /{subscription.name} deactivated"

    def _forget(self, worker: AmsPushWorker) -> None:
        if self._workers.get(worker.subscription.id) is worker:
            del self._workers[worker.subscription.id]
