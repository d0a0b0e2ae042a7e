"""What subscribers were delivered: counted in memory, written now and then.

A delivery adds to integers of its runtime, and costs nothing more. Every pass of retention writes
what was added; so what a process delivered in its last half minute is lost if it is killed. That
the figures of a subscription show what is not written yet is the business of ``Ledger``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from ams_grpc.broker.catalog import Subscription
from ams_grpc.broker.clock import Clock
from ams_grpc.broker.figures import Consumption, Delivered
from ams_grpc.broker.policies import SECOND_US

_BITE: Final = 500
"""Subscriptions that one transaction writes, so that no publish waits for long."""


@dataclass(slots=True)
class Counters:
    """What happened on one subscription since the process started."""

    sent: int = 0
    acked: int = 0
    nacked: int = 0
    expired: int = 0
    sent_bytes: int = 0
    sent_at: float = 0.0
    """When something was sent last, in seconds of the monotonic clock."""
    taken: int = 0
    """How many of ``sent``, and below of ``sent_bytes``, the ledger has taken."""
    taken_bytes: int = 0


class ConsumptionStore(Protocol):
    """Both raise StorageUnavailable."""

    async def consumption(self, subscription: Subscription) -> Consumption: ...

    async def add(self, delivered: Mapping[int, Delivered]) -> None:
        """To what was consumed of subscriptions, by id; those that are gone are skipped."""
        ...


class Ledger:
    """What was delivered, written or not: implements ``figures.ConsumptionReader``."""

    def __init__(self, store: ConsumptionStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._running: dict[int, Counters] = {}
        self._unwritten: dict[int, Delivered] = {}

    def opened(self, subscription_id: int, counters: Counters) -> None:
        """A runtime counts its deliveries here from now on."""
        self._running[subscription_id] = counters

    def closed(self, subscription_id: int) -> None:
        """It has ended."""
        counters = self._running.pop(subscription_id, None)
        if counters is not None:
            self._take(subscription_id, counters)

    async def write(self) -> None:
        """Write what is not written yet. Raises StorageUnavailable; then it is kept."""
        for subscription_id, counters in self._running.items():
            self._take(subscription_id, counters)
        numbers = sorted(self._unwritten)
        for start in range(0, len(numbers), _BITE):
            bite = numbers[start : start + _BITE]
            writing = {number: self._unwritten.pop(number) for number in bite}
            try:
                await self._store.add(writing)
            except BaseException:
                for number, delivered in writing.items():
                    self._add(number, delivered)
                raise

    async def consumption(self, subscription: Subscription) -> Consumption:
        counters = self._running.get(subscription.id)
        if counters is not None:
            self._take(subscription.id, counters)
        unwritten = self._unwritten.get(subscription.id, Delivered())
        return (await self._store.consumption(subscription)).plus(unwritten)

    def _take(self, subscription_id: int, counters: Counters) -> None:
        messages = counters.sent - counters.taken
        if messages <= 0:  # less than nothing: something taken came back undelivered
            return
        ago_us = round((self._clock.monotonic() - counters.sent_at) * SECOND_US)
        byte_size = counters.sent_bytes - counters.taken_bytes
        self._add(subscription_id, Delivered(messages, byte_size, self._clock.now_us() - ago_us))
        counters.taken, counters.taken_bytes = counters.sent, counters.sent_bytes

    def _add(self, subscription_id: int, delivered: Delivered) -> None:
        known = self._unwritten.get(subscription_id, Delivered())
        self._unwritten[subscription_id] = known.plus(delivered)
