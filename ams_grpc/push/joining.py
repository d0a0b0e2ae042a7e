"""What all push workers do: be a consumer of their subscription, and say when pushing fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol, TypeAlias
from urllib.parse import urlsplit

from ams_grpc.broker.catalog import Subscription
from ams_grpc.broker.consumers import Consumer
from ams_grpc.broker.errors import BrokerError, ShuttingDown, Unavailable
from ams_grpc.broker.names import SubscriptionName
from ams_grpc.broker.opening import Runtimes as WorkerRuntimes
from ams_grpc.broker.opening import open_runtime
from ams_grpc.broker.runtime import SubscriptionRuntime

_LOG_EVERY_S: Final = 60.0
_logger = logging.getLogger(__name__)

MakeConsumer: TypeAlias = Callable[[SubscriptionRuntime, Callable[[BrokerError], None]], Consumer]
"""A consumer for a runtime; the second argument is what closes it."""


class Runtimes(WorkerRuntimes, Protocol):
    """Of ``broker.Subscriptions``, what is needed here."""

    def used(self, subscription_ids: tuple[int, ...]) -> None: ...


class Joining:
    """Keeps a worker joined to the runtime of its subscription, while there is something to push."""

    def __init__(
        self,
        runtimes: Runtimes,
        opening: asyncio.Semaphore,
        subscription: Callable[[], Subscription],
        make_consumer: MakeConsumer,
    ) -> None:
        """``subscription`` as the worker knows it at each moment."""
        self.consumer: Consumer | None = None
        self._runtimes = runtimes
        self._opening = opening
        self._subscription = subscription
        self._make_consumer = make_consumer
        self._runtime: SubscriptionRuntime | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Join, unless that is being done."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    def wake(self) -> None:
        """There may be credit again."""
        if self._runtime is not None and self.consumer is not None:
            self._runtime.wake(self.consumer)

    async def stop(self) -> None:
        """Leave."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        """Consume, until the subscription is not to be pushed any more."""
        while (runtime := await self._open()) is not None:
            closed: asyncio.Future[BrokerError] = asyncio.get_running_loop().create_future()
            consumer = self._make_consumer(runtime, partial(_resolve, closed))
            self._runtime, self.consumer = runtime, consumer
            try:
                runtime.add(consumer)
                error = await closed
            except BrokerError as reason:
                error = reason
            finally:
                runtime.remove(consumer)
                self._runtime = self.consumer = None
            if isinstance(error, ShuttingDown) or not isinstance(error, Unavailable):
                return

    async def _open(self) -> SubscriptionRuntime | None:
        """The runtime; None when there is nothing to push any more."""
        return await open_runtime(self._runtimes, self._subscription, self._opening)


class Complaints:
    """Says in the log that pushing fails, once a minute."""

    def __init__(self) -> None:
        self._silent_until = 0.0
        self._unmentioned = 0

    def say(self, name: SubscriptionName, endpoint: str, reason: str, now: float) -> None:
        """One more failure, at ``now`` of the monotonic clock."""
        self._unmentioned += 1
        if now < self._silent_until:
            return
        _logger.warning(
            "pushing %s to %s fails: %s (%d failures since this was said last)",
            name,
            _place(endpoint),
            reason,
            self._unmentioned,
        )
        self._silent_until = now + _LOG_EVERY_S
        self._unmentioned = 0


def _resolve(closed: asyncio.Future[BrokerError], error: BrokerError) -> None:
    if not closed.done():  # the worker may be closing just now
        closed.set_result(error)


def _place(endpoint: str) -> str:
    """Where an endpoint is, without what may be secret in its path and query."""
    url = urlsplit(endpoint)
    return f"{url.scheme}://{url.netloc}"
