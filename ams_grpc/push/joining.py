"""What all push workers do: be a consumer of their subscription, and say when pushing fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol
from urllib.parse import urlsplit

from ams_grpc.broker.catalog import Subscription
from ams_grpc.broker.consumers import Consumer, Delivery
from ams_grpc.broker.errors import BrokerError, ShuttingDown, Unavailable
from ams_grpc.broker.names import SubscriptionName
from ams_grpc.broker.opening import open_runtime
from ams_grpc.broker.runtime import SubscriptionRuntime
from ams_grpc.broker.runtimes import Runtimes

_LOG_EVERY_S: Final = 60.0
_logger = logging.getLogger(__name__)


class Taker(Protocol):
    """A worker, as far as its runtime sees it."""

    subscription: Subscription
    """As the worker knows it at each moment."""

    @property
    def free_messages(self) -> int:
        """How many messages it can take now."""
        ...

    @property
    def free_bytes(self) -> int:
        """How long they may be together."""
        ...

    @property
    def lease_s(self) -> int:
        """How long it has them, in seconds."""
        ...

    def begin(self, runtime: SubscriptionRuntime, consumer: Consumer, delivery: Delivery) -> None:
        """Take these."""
        ...


class Joining:
    """Keeps a worker joined to the runtime of its subscription, while there is something to push."""

    def __init__(
        self,
        worker: Taker,
        runtimes: Runtimes,
        opening: asyncio.Semaphore,
        *,
        one_per_key: bool = False,
    ) -> None:
        """``one_per_key``: of an ordering key, one message is out at a time."""
        self._worker = worker
        self._runtimes = runtimes
        self._opening = opening
        self._one_per_key = one_per_key
        self._consumer: Consumer | None = None
        self._runtime: SubscriptionRuntime | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Join, unless that is being done."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    def wake(self) -> None:
        """There may be credit again, and the lease another one."""
        if self._runtime is not None and self._consumer is not None:
            self._consumer.ack_deadline_s = self._worker.lease_s
            self._runtime.wake(self._consumer)

    async def stop(self) -> None:
        """Leave."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        """Consume, until the subscription is not to be pushed any more."""
        while (runtime := await self._open()) is not None:
            closed: asyncio.Future[BrokerError] = asyncio.get_running_loop().create_future()
            consumer = _WorkerConsumer(
                self._worker, runtime, partial(_resolve, closed), one_per_key=self._one_per_key
            )
            self._runtime, self._consumer = runtime, consumer
            try:
                runtime.add(consumer)
                error = await closed
            except BrokerError as reason:
                error = reason
            finally:
                runtime.remove(consumer)
                self._runtime = self._consumer = None
            if isinstance(error, ShuttingDown) or not isinstance(error, Unavailable):
                return

    async def _open(self) -> SubscriptionRuntime | None:
        """The runtime; None when there is nothing to push any more."""
        return await open_runtime(self._runtimes, lambda: self._worker.subscription, self._opening)


class _WorkerConsumer(Consumer):
    """A worker, as a consumer of its runtime."""

    __slots__ = ("_worker",)

    def __init__(
        self,
        worker: Taker,
        runtime: SubscriptionRuntime,
        close: Callable[[BrokerError], None],
        *,
        one_per_key: bool,
    ) -> None:
        super().__init__(
            partial(worker.begin, runtime, self),
            close,
            ack_deadline_s=worker.lease_s,
            one_per_key=one_per_key,
        )
        self._worker = worker

    @property
    def free_messages(self) -> int:
        return self._worker.free_messages

    @property
    def free_bytes(self) -> int:
        return self._worker.free_bytes


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
    """Where an endpoint is, without what may be secret: a password, its path and query."""
    url = urlsplit(endpoint)
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}"
