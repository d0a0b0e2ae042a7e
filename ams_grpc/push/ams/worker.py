"""Pushes the messages of one subscription as AMS does.

A cycle takes messages from the runtime, sends them in one request, and ends with it: they are all
acknowledged, or all handed back, to be the first of the next cycle. There is one cycle at a time, so
messages go out in order. Between cycles the worker has no credit:

    resting --alarm--> ready --messages--> sending --answer--> resting

Nothing here is written: after a crash, what was not acknowledged is pushed again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from ams_grpc.broker.ams_push import AmsPush
from ams_grpc.broker.catalog import Subscription
from ams_grpc.broker.clock import Alarm, Clock
from ams_grpc.broker.consumers import Consumer, Delivery
from ams_grpc.broker.names import SubscriptionName
from ams_grpc.broker.picking import MAX_DELIVERY_MESSAGES
from ams_grpc.broker.policies import SECOND_US
from ams_grpc.broker.runtime import SubscriptionRuntime
from ams_grpc.broker.runtimes import Runtimes
from ams_grpc.push.ams.pace import Pace, pace_of
from ams_grpc.push.budget import Budget
from ams_grpc.push.joining import Complaints, Joining
from ams_grpc.push.outcome import Outcome

LEASE_S: Final = 32
_TOO_LATE: Final = Outcome(False, "timeout", "it answered after the ack deadline", "ack timeout")
_logger = logging.getLogger(__name__)


class AmsPushing(Protocol):
    """Pushes some messages at once. What goes wrong is an outcome, not an error."""

    def __call__(
        self, name: SubscriptionName, push: AmsPush, messages: list[bytes]
    ) -> Awaitable[Outcome]: ...


@dataclass(frozen=True, slots=True)
class AmsTools:
    """What all workers share. ``enabled`` False: none of them pushes."""

    runtimes: Runtimes
    push: AmsPushing
    clock: Clock
    budget: Budget
    opening: asyncio.Semaphore
    enabled: bool = True


class AmsPushWorker:
    """Implements ``broker.workers.Worker``."""

    def __init__(
        self, subscription: Subscription, tools: AmsTools, on_end: Callable[[], None]
    ) -> None:
        """``on_end`` is called when it has closed."""
        self.subscription = subscription
        self.results: Counter[str] = Counter()
        """How many requests ended how, by ``Outcome.kind``."""
        self.trouble = ""
        """AMS: what went wrong last, until messages are delivered again."""
        self._tools = tools
        self._on_end = on_end
        self._joining = Joining(self, tools.runtimes, tools.opening)
        self._complaints = Complaints()
        self._pace: Pace = pace_of(self._push)
        self._alarm: Alarm | None = None
        self._ready_at = 0.0
        self._cycle: asyncio.Task[None] | None = None

    @property
    def active(self) -> bool:
        """Whether it delivers."""
        return self._tools.enabled and self._push.verified

    # --- implements broker.workers.Worker ----------------------------------------------------

    def start(self) -> None:
        if self.active:
            self._rest(self._pace.first_s)
            self._joining.start()

    def changed(self, subscription: Subscription) -> None:
        before, self.subscription = self._push, subscription
        if before != self._push:  # AMS: it is activated anew
            self._pace = pace_of(self._push)
            self.trouble = ""
            self._rest(self._pace.first_s)
        if self.active:
            self._joining.start()
            self._go_on()

    async def close(self) -> None:
        try:
            await self._joining.stop()
            if self._cycle is not None:
                await asyncio.wait([self._cycle])
        finally:
            if self._cycle is not None:
                self._cycle.cancel()
                await asyncio.wait([self._cycle])
            if self._alarm is not None:
                self._alarm.cancel()
            self._tools.budget.forget(self._go_on)
            self._on_end()

    # --- as a consumer -----------------------------------------------------------------------

    @property
    def free_messages(self) -> int:
        """How many messages the next cycle may have; 0 when it may not begin."""
        if self._cycle is not None or self._alarm is not None or not self.active:
            return 0
        if not self._tools.budget.ask(self._go_on):
            return 0
        return min(max(1, self._push.max_messages), MAX_DELIVERY_MESSAGES)

    @property
    def free_bytes(self) -> int:
        """How long they may be together."""
        return self._tools.budget.free_bytes(self._go_on)

    @property
    def lease_s(self) -> int:
        """Longer than a request, so that it is its end that counts."""
        return LEASE_S

    def begin(self, runtime: SubscriptionRuntime, consumer: Consumer, delivery: Delivery) -> None:
        """Begin a cycle with these messages."""
        self._pace.idle(self._tools.clock.monotonic() - self._ready_at)
        size = sum(map(len, delivery.messages))
        self._tools.budget.take(self._go_on, size)
        self._cycle = asyncio.get_running_loop().create_task(self._run(runtime, delivery, size))

    # --- a cycle -----------------------------------------------------------------------------

    async def _run(self, runtime: SubscriptionRuntime, delivery: Delivery, size: int) -> None:
        try:
            outcome = await self._request(list(delivery.messages))
            self._end(runtime, delivery, outcome)
        finally:
            # Not before: whoever hears of it may begin the next cycle.
            self._tools.budget.give(self._go_on, size)
        self._go_on()  # also if its lease was ended meanwhile, by a seek

    async def _request(self, messages: list[bytes]) -> Outcome:
        """Send them, and begin to rest."""
        push, pace = self._push, self._pace
        begun_at = self._tools.clock.monotonic()
        try:
            outcome = await self._send(push, messages)
        finally:
            self._cycle = None
        ack_deadline_s = self.subscription.config.ack_deadline_s
        # AMS: whole seconds count, and the deadline as it is now.
        if outcome.accepted and int(self._tools.clock.monotonic() - begun_at) > ack_deadline_s:
            outcome = _TOO_LATE
        if pace is self._pace:
            self._rest(pace.after(failed=not outcome.accepted))
            self._note(push, outcome)
        return outcome

    def _end(self, runtime: SubscriptionRuntime, delivery: Delivery, outcome: Outcome) -> None:
        """All are acknowledged, or all handed back."""
        self.results[outcome.kind] += 1
        if outcome.accepted:
            self._tools.runtimes.used((self.subscription.id,))
            runtime.settle(delivery.grant, delivery.seqs)
        else:
            runtime.fail(delivery.grant, delivery.seqs, outcome.reason, rest=False)

    async def _send(self, push: AmsPush, messages: list[bytes]) -> Outcome:
        try:
            return await self._tools.push(self.subscription.name, push, messages)
        except Exception:
            _logger.exception("cannot push messages of %s", self.subscription.name)
            return Outcome(False, "internal", "internal error", "internal error")

    def _note(self, push: AmsPush, outcome: Outcome) -> None:
        """Remember what goes wrong, in AMS's words, and say so in the log."""
        if outcome.accepted:
            self.trouble = ""
            return
        clock, name = self._tools.clock, self.subscription.name
        what = "acknowledge" if outcome is _TOO_LATE else "send"
        self.trouble = trouble(clock.now_us(), what, outcome.answer)
        self._complaints.say(name, push.url, outcome.reason, clock.monotonic())

    # --- between cycles ----------------------------------------------------------------------

    @property
    def _push(self) -> AmsPush:
        push = self.subscription.config.ams_push
        if push is None:
            raise ValueError(f"AMS does not push {self.subscription.name}")
        return push

    def _rest(self, seconds: float) -> None:
        """No cycle begins before ``seconds`` from now."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._ready_at = self._tools.clock.monotonic() + seconds
        if seconds > 0 and self.active:
            self._alarm = self._tools.clock.call_at(self._ready_at, self._after_rest)

    def _after_rest(self) -> None:
        self._alarm = None
        self._go_on()

    def _go_on(self) -> None:
        """There may be credit again."""
        self._joining.wake()


def trouble(now_us: int, what: str, reason: str) -> str:
    """AMS: what the status of a delivery says of the last thing that went wrong."""
    moment = datetime.fromtimestamp(now_us // SECOND_US, UTC).replace(tzinfo=None)
    return f"{moment.isoformat()} - Could not {what} message, {reason}"
