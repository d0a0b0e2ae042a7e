"""Pushes the messages of one subscription.

To the runtime it is a consumer like a stream, whose credit is the number of requests that may begin
now. Each message is one request; its end settles the message, or fails it. What failed rests for
itself (see ``broker.retry``); when failures prevail, the pace pauses for all. New messages and those
that failed take turns, so that what the endpoint never accepts keeps nothing else from going out.

    credit = window of the pace - running requests, within the budget of the service;
             none while the pace pauses

Nothing here is written: after a crash, what was not acknowledged is pushed again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from itertools import repeat
from typing import Final, Protocol

from ams_grpc.broker.catalog import Subscription
from ams_grpc.broker.clock import Alarm, Clock
from ams_grpc.broker.consumers import Consumer, Delivery
from ams_grpc.broker.policies import PushConfig
from ams_grpc.broker.runtime import SubscriptionRuntime
from ams_grpc.broker.runtimes import Runtimes
from ams_grpc.push.budget import Budget
from ams_grpc.push.joining import Complaints, Joining
from ams_grpc.push.outcome import Outcome
from ams_grpc.push.pace import Pace

_LEASE_OUTLASTS_S: Final = 2
"""So that it is the end of a request that counts, and not the end of its lease."""
_logger = logging.getLogger(__name__)


class Push(Protocol):
    """Pushes one message, as ``config`` says. What goes wrong is an outcome, not an error."""

    def __call__(
        self, subscription: Subscription, config: PushConfig, message: bytes, attempt: int | None
    ) -> Awaitable[Outcome]: ...


@dataclass(frozen=True, slots=True)
class Tools:
    """What all workers share. ``max_window``: requests of one subscription at once."""

    runtimes: Runtimes
    push: Push
    clock: Clock
    budget: Budget
    max_window: int
    opening: asyncio.Semaphore
    """So that a start with many subscriptions leaves the database some time for callers."""


class PushWorker:
    """Implements ``broker.workers.Worker``."""

    def __init__(
        self, subscription: Subscription, tools: Tools, on_end: Callable[[], None]
    ) -> None:
        """``on_end`` is called when it has closed."""
        self.subscription = subscription
        self.results: Counter[str] = Counter()
        """How many requests ended how, by ``Outcome.kind``."""
        self._tools = tools
        self._on_end = on_end
        self._pace = Pace(tools.max_window)
        # Pub/Sub: of an ordering key, one message is out at a time.
        self._joining = Joining(self, tools.runtimes, tools.opening, one_per_key=True)
        self._complaints = Complaints()
        self._requests: set[asyncio.Task[None]] = set()
        self._running = 0
        self._pause: Alarm | None = None

    # --- implements broker.workers.Worker ----------------------------------------------------

    def start(self) -> None:
        self._joining.start()

    def changed(self, subscription: Subscription) -> None:
        before, self.subscription = self.subscription, subscription
        if _push_config(before).endpoint != _push_config(subscription).endpoint:
            self._pace = Pace(self._tools.max_window)  # how the other one fared says nothing
            self._end_pause()
        self._joining.start()
        self._go_on()

    async def close(self) -> None:
        try:
            await self._joining.stop()
            if self._requests:
                await asyncio.wait(self._requests)
        finally:
            for request in self._requests:
                request.cancel()
            if self._requests:
                await asyncio.wait(self._requests)
            self._end_pause()
            self._tools.budget.forget(self._go_on)
            self._on_end()

    # --- as a consumer -----------------------------------------------------------------------

    @property
    def free_messages(self) -> int:
        """How many more requests may begin now."""
        free = self._pace.window - self._running
        if free <= 0 or self._pause is not None:
            return 0
        return min(free, self._tools.budget.ask(self._go_on))

    @property
    def free_bytes(self) -> int:
        """How long their messages may be together."""
        return self._tools.budget.free_bytes(self._go_on)

    @property
    def lease_s(self) -> int:
        """How long requests have them."""
        return self.subscription.config.ack_deadline_s + _LEASE_OUTLASTS_S

    def begin(self, runtime: SubscriptionRuntime, consumer: Consumer, delivery: Delivery) -> None:
        """Begin a request for each message."""
        consumer.prefers_new = not consumer.prefers_new
        loop = asyncio.get_running_loop()
        attempts: Iterable[int | None] = delivery.attempts or repeat(None)
        # The attempts may be endless.
        for seq, message, attempt in zip(delivery.seqs, delivery.messages, attempts, strict=False):
            request = loop.create_task(
                self._request(runtime, consumer, delivery.grant, seq, message, attempt)
            )
            self._running += 1
            self._tools.budget.take(self._go_on, len(message))
            self._requests.add(request)
            request.add_done_callback(self._requests.discard)

    # --- one request -------------------------------------------------------------------------

    async def _request(
        self,
        runtime: SubscriptionRuntime,
        consumer: Consumer,
        grant: int,
        seq: int,
        message: bytes,
        attempt: int | None,
    ) -> None:
        subscription, pace = self.subscription, self._pace
        begun_at = self._tools.clock.monotonic()
        try:
            outcome = await self._tools.push(
                subscription, _push_config(subscription), message, attempt
            )
        except Exception:
            _logger.exception("cannot push a message of %s", subscription.name)
            outcome = Outcome(False, "internal", "internal error")
        finally:
            self._running -= 1
            self._tools.budget.give(self._go_on, len(message))
        self._note(outcome, pace, begun_at)
        consumer.stand_in_line()  # also if its lease was ended meanwhile, by a seek
        if outcome.accepted:
            self._tools.runtimes.used((subscription.id,))
            runtime.settle(grant, (seq,))
        else:
            runtime.fail(grant, (seq,), outcome.reason)

    def _note(self, outcome: Outcome, pace: Pace, begun_at: float) -> None:
        """Count it, and go faster or slower."""
        now = self._tools.clock.monotonic()
        self.results[outcome.kind] += 1
        if outcome.accepted:
            pace.succeeded(begun_at, now)
            return
        subscription = self.subscription
        endpoint = _push_config(subscription).endpoint
        self._complaints.say(subscription.name, endpoint, outcome.reason, now)
        pace.failed(begun_at, now)
        if pace is self._pace and self._pause is None and pace.paused_until > now:
            self._pause = self._tools.clock.call_at(pace.paused_until, self._after_pause)

    # --- pauses ------------------------------------------------------------------------------

    def _after_pause(self) -> None:
        self._pause = None
        self._go_on()

    def _end_pause(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    def _go_on(self) -> None:
        """There may be credit again."""
        self._joining.wake()


def _push_config(subscription: Subscription) -> PushConfig:
    config = subscription.config.push
    if config is None:
        raise ValueError(f"{subscription.name} is no push subscription")
    return config
