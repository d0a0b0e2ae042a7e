"""Filtered subscriptions that nobody reads: what does not match leaves their backlog all the same.

A subscription finds out what its filter leaves out when it reads. One without consumers, or with
consumers that do not keep up, would count all of that to its backlog, and keep it from being
deleted. So a pass now and then reads ahead of them, in small steps and past the cache.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ams_grpc.broker.errors import FailedPrecondition, NotFound, ShuttingDown, Unavailable
from ams_grpc.broker.filters import AttributesOf, Filter, parse_filter
from ams_grpc.broker.names import SubscriptionName
from ams_grpc.broker.ports import Decoder, LogReader, StoredBatch, Upkeep
from ams_grpc.broker.runtime import SubscriptionRuntime
from ams_grpc.broker.runtimes import Runtimes

_STEP_BYTES: Final = 1 << 20
_REST_S: Final = 0.02  # between steps, so that deliveries do not have to wait for all of them
_SLICE: Final = 10_000  # messages that are looked at in one step
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Done:
    """All of a subscription below ``seq`` has been looked at, in this epoch of it."""

    subscription_id: int
    epoch: int
    seq: int


class Sifting:
    """Runs the pass every ``interval_s`` seconds, until cancelled."""

    def __init__(
        self,
        upkeep: Upkeep,
        runtimes: Runtimes,
        reader: LogReader,
        *,
        decode: Decoder,
        attributes_of: AttributesOf,
        interval_s: float,
    ) -> None:
        self._upkeep = upkeep
        self._runtimes = runtimes
        self._reader = reader
        self._decode = decode
        self._attributes_of = attributes_of
        self._interval_s = interval_s
        self._done: dict[SubscriptionName, _Done] = {}

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self.run_once()
            except Unavailable:
                _log.info("sifting put off: the database does not answer, or we are stopping")
            except Exception:  # noqa: BLE001 - one bad pass must not end all later ones
                _log.exception("sifting failed")

    async def run_once(self) -> None:
        """One pass. What goes wrong with one subscription is no reason to leave out others.

        Raises StorageUnavailable, ShuttingDown.
        """
        names = await self._upkeep.filtered_backlogs()
        self._done = {name: self._done[name] for name in names if name in self._done}
        for name in names:
            try:
                runtime = await self._runtimes.runtime(name, use=False)
                await self._sift(name, runtime)
            except (NotFound, FailedPrecondition):
                pass  # deleted or detached meanwhile
            except ShuttingDown:
                raise
            except Unavailable:
                _log.info("sifting of %s put off: the database does not answer", name)
            except Exception:  # noqa: BLE001 - see above
                _log.exception("sifting of %s failed", name)

    async def _sift(self, name: SubscriptionName, runtime: SubscriptionRuntime) -> None:
        """Look at what the subscription has not read, as far as that was not done already."""
        subscription, epoch, unread = runtime.subscription, runtime.epoch, runtime.unread
        selected = parse_filter(subscription.config.filter)
        seq, done = unread.start, self._done.get(name)
        if done is not None and (done.subscription_id, done.epoch) == (subscription.id, epoch):
            seq = max(seq, done.seq)
        while seq < unread.stop and runtime.epoch == epoch:
            batches = await self._reader.read(subscription.topic_id, seq, _STEP_BYTES)
            seq = unread.stop if not batches else seq
            for batch in batches:
                await self._sift_batch(runtime, selected, batch)
                seq = batch.first_seq + batch.count
            self._done[name] = _Done(subscription.id, epoch, seq)
            await asyncio.sleep(_REST_S)

    async def _sift_batch(
        self, runtime: SubscriptionRuntime, selected: Filter, batch: StoredBatch
    ) -> None:
        """Slice by slice, so that a batch of very many messages does not hold up the event loop."""
        messages = await self._taken_apart(batch)
        for at in range(0, batch.count, _SLICE):
            if at > 0:
                await asyncio.sleep(0)
            shown = selected.select(messages[at : at + _SLICE], self._attributes_of)
            first_seq = batch.first_seq + at
            runtime.pass_over([first_seq + i for i, message in enumerate(shown) if message is None])

    async def _taken_apart(self, batch: StoredBatch) -> Sequence[bytes]:
        of = (batch.payload, batch.first_seq, batch.count, batch.publish_time_us)
        if batch.count <= _SLICE:
            return self._decode(*of)
        return await asyncio.to_thread(self._decode, *of)
