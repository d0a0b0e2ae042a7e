"""Subscriptions as AMS has them: pulled from in windows, and moved to offsets.

One more consumer of the same cursor: what subscribers of Pub/Sub have acknowledged is not shown
here, and what is acknowledged here they do not get. See ``windows``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ams_grpc.broker.catalog import Subscription
from ams_grpc.broker.clock import Clock
from ams_grpc.broker.errors import (
    FailedPrecondition,
    InvalidArgument,
    ShuttingDown,
    StorageUnavailable,
    UnreadableMessages,
    ams,
)
from ams_grpc.broker.figures import Consumption
from ams_grpc.broker.names import SubscriptionName
from ams_grpc.broker.picked import Picked
from ams_grpc.broker.ports import Catalog, Commits, LogReader
from ams_grpc.broker.runtime import SubscriptionRuntime
from ams_grpc.broker.runtimes import Runtimes
from ams_grpc.broker.views import Window
from ams_grpc.broker.windows import consumption_of

MAX_MESSAGES: Final = 5_000
MAX_BYTES: Final = 2 << 20
"""What one pull gives at most, however much it asks for; but always one message."""

_LONGEST_READ_S: Final = 5.0
"""After so long a pull answers with what it has found: a filter may leave out very many messages."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull gave: serialized messages, ascending. Whoever shows them counts their data."""

    runtime: SubscriptionRuntime
    seqs: Sequence[int]
    messages: Sequence[bytes]

    def count_data(self, size: int) -> None:
        """They have so many bytes of data altogether, as they are shown."""
        self.runtime.count_data(size)


@dataclass(frozen=True, slots=True)
class Offsets:
    """``low``: the oldest message that is stored; ``high``: the next to be published."""

    low: int
    high: int
    current: int


class WindowedPulls:
    """All subscriptions of the service, as AMS has them.

    Each method raises NotFound, FailedPrecondition (detached), StorageUnavailable, ShuttingDown.
    """

    def __init__(
        self,
        runtimes: Runtimes,
        catalog: Catalog,
        reader: LogReader,
        commits: Commits,
        clock: Clock,
    ) -> None:
        self._runtimes = runtimes
        self._catalog = catalog
        self._reader = reader
        self._commits = commits
        self._clock = clock

    async def subscription(self, name: SubscriptionName) -> Subscription:
        """As it is at this moment; in memory, if it is in use."""
        return (await self._runtimes.runtime(name)).subscription

    async def pull(self, name: SubscriptionName, max_messages: int, wait_s: float = 0.0) -> Pulled:
        """Up to ``max_messages`` from the offset on; waits up to ``wait_s`` for the first of them.

        Raises INTERNAL if the first cannot be read, or shown: only ``move`` leads past it.
        """
        runtime = await self._runtime_to_pull(name)
        give_up_at = self._clock.monotonic() + wait_s
        while True:
            news = runtime.news()  # before looking, so that nothing comes unnoticed
            try:
                picked = await self._pick(runtime, max(1, min(max_messages, MAX_MESSAGES)))
                rest_s = give_up_at - self._clock.monotonic()
                if picked.messages or rest_s <= 0:
                    break
                await asyncio.wait([news], timeout=rest_s)
                if not news.done():
                    break
                news.result()
            except ShuttingDown:  # who waits gets what there is
                return Pulled(runtime, (), ())
            except UnreadableMessages:
                raise _unreadable() from None
            finally:
                news.cancel()
        end = picked.seqs[-1] + 1 if picked.messages else runtime.floor
        runtime.open_window(end, len(picked.messages))
        return Pulled(runtime, picked.seqs, picked.messages)

    async def acknowledge(self, name: SubscriptionName, end: int) -> None:
        """All below ``end`` is done, if the last pull gave so much; when this returns it is on disk.

        Raises NO_ACK_PENDING, WRONG_ACK, ACK_TIMEOUT.
        """
        runtime = await self._runtime_to_pull(name)
        runtime.acknowledge_window(end)
        await self._commits.flushed()

    async def offsets(self, name: SubscriptionName) -> Offsets:
        """Where the subscription stands. AMS: below what is stored there is nothing to stand at."""
        runtime = await self._runtimes.runtime(name)
        low, high = await self._bounds(runtime)
        runtime.drop_before(low)
        return Offsets(low, max(high, runtime.floor), runtime.floor)

    async def move(self, name: SubscriptionName, seq: int) -> None:
        """Seek: all below ``seq`` is done, and all from there on that is stored is not.

        Raises InvalidArgument, having changed nothing, for what lies outside of what is stored.
        """
        runtime = await self._runtimes.runtime(name)
        low, high = await self._bounds(runtime)
        if not low <= seq <= high:
            raise InvalidArgument("Offset out of bounds", field="offset")
        runtime.seek(seq, seq)
        await self._commits.flushed()

    async def offset_at(self, name: SubscriptionName, time_us: int) -> int | None:
        """The first message that was published at ``time_us`` or later; None if there is none."""
        runtime = await self._runtimes.runtime(name)
        topic_id = runtime.subscription.topic_id
        low, _ = await self._bounds(runtime)
        seq = max(low, await self._reader.first_seq_at(topic_id, time_us))
        is_stored = await self._reader.publish_time_us(topic_id, seq) is not None
        return seq if is_stored else None

    async def consumption(self, subscription: Subscription) -> Consumption:
        """What was pulled of it so far."""
        runtime = self._runtimes.running_one(subscription)
        if runtime is not None:
            return consumption_of(runtime.window)
        return consumption_of((await self._catalog.cursor(subscription)).window)

    # --- the parts of the above --------------------------------------------------------------

    async def _runtime_to_pull(self, name: SubscriptionName) -> SubscriptionRuntime:
        runtime = await self._runtimes.runtime(name)
        if runtime.subscription.config.export is not None:
            raise FailedPrecondition("This method is not supported for this subscription type.")
        return runtime

    async def _bounds(self, runtime: SubscriptionRuntime) -> tuple[int, int]:
        """The first seq that is stored and has not expired, and the topic's next seq."""
        subscription = runtime.subscription
        topic_id, reader = subscription.topic_id, self._reader
        since_us = self._clock.now_us() - subscription.retention_us
        low = await reader.first_seq_at(topic_id, since_us)
        if runtime.kept_from is not None:
            low = min(low, max(runtime.kept_from, await reader.first_seq_at(topic_id, 0)))
        return low, await reader.next_seq(topic_id)

    async def _pick(self, runtime: SubscriptionRuntime, max_messages: int) -> Picked:
        """What is not done, from the floor on, without gaps."""
        until = self._clock.monotonic() + _LONGEST_READ_S
        while True:
            epoch, position = runtime.epoch, runtime.floor
            picked = Picked(max_messages, MAX_BYTES)
            while runtime.epoch == epoch:  # else a seek came between
                position = _pick_in_memory(runtime, picked, position)
                is_over = picked.full or picked.failures or position >= runtime.end
                if is_over or self._clock.monotonic() > until:
                    return _presentable(runtime, picked)
                try:
                    position = await runtime.fetch(position)
                except (StorageUnavailable, UnreadableMessages):
                    if not picked.messages:
                        raise
                    return _presentable(runtime, picked)


def _pick_in_memory(runtime: SubscriptionRuntime, picked: Picked, position: int) -> int:
    """Pick on from ``position``. Returns from where on it needs more, or has had enough."""
    while position < runtime.end and not picked.full and not picked.failures:
        window = runtime.find(position)
        if window is None:
            break
        if runtime.has_expired(window):
            runtime.pass_over(range(position, window.end_seq))
            position = window.end_seq
        elif window.is_whole and position >= runtime.cursor.top:
            end = min(window.end_seq, position + picked.room)
            messages = window.messages[position - window.first_seq : end - window.first_seq]
            unfit = picked.add(range(position, end), messages)  # type: ignore[arg-type]
            position = end if unfit is None else unfit
        else:
            position = _pick_one_by_one(runtime, picked, window, position)
    return position


def _pick_one_by_one(
    runtime: SubscriptionRuntime, picked: Picked, window: Window, position: int
) -> int:
    """``_pick_in_memory`` in a window of which not all is to be shown."""
    others: list[int] = []
    while position < window.end_seq and not picked.full:
        message = window.messages[position - window.first_seq]
        if runtime.cursor.is_done(position):
            pass
        elif position in window.failures:
            picked.failed(position, window.failures[position])
            break
        elif message is None:
            others.append(position)
        else:
            picked.add([position], [message])
        position += 1
    runtime.pass_over(others)
    return position


def _presentable(runtime: SubscriptionRuntime, picked: Picked) -> Picked:
    """Without what others have acknowledged while this was read. Raises INTERNAL: see ``pull``."""
    if not picked.messages:
        if picked.failures:
            raise _unreadable()
    elif runtime.cursor.top > picked.seqs[0]:
        found = zip(picked.seqs, picked.messages, strict=True)
        kept = [(seq, message) for seq, message in found if not runtime.cursor.is_done(seq)]
        picked.seqs = [seq for seq, _ in kept]
        picked.messages = [message for _, message in kept]
    return picked


def _unreadable() -> FailedPrecondition:
    return ams("INTERNAL", "Message retrieved from broker network has invalid JSON Structure")
