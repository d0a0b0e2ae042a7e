"""Filtered subscriptions that nobody reads: what does not match leaves their backlog all the same.

A subscription finds out what its filter leaves out when it reads. One without consumers, or with
consumers that do not keep up, would count all of that to its backlog, and keep it from being
deleted. So a pass now and then reads ahead of them, in small steps and past the cache.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from ams_grpc.broker.errors import FailedPrecondition, NotFound, Unavailable
from ams_grpc.broker.filters import AttributesOf, parse_filter
from ams_grpc.broker.ports import Decoder, LogReader, Upkeep
from ams_grpc.broker.runtime import SubscriptionRuntime
from ams_grpc.broker.subscriptions import Subscriptions

_STEP_BYTES: Final = 1 << 20
_REST_S: Final = 0.02  # between steps, so that deliveries do not have to wait for all of them
_log = logging.getLogger(__name__)


class Sifting:
    """Runs the pass every ``interval_s`` seconds, until cancelled."""

    def __init__(
        self,
        upkeep: Upkeep,
        subscriptions: Subscriptions,
        reader: LogReader,
        *,
        decode: Decoder,
        attributes_of: AttributesOf,
        interval_s: float,
    ) -> None:
        self._upkeep = upkeep
        self._subscriptions = subscriptions
        self._reader = reader
        self._decode = decode
        self._attributes_of = attributes_of
        self._interval_s = interval_s
        self._sifted: dict[int, tuple[int, int]] = {}
        """By subscription id: in which epoch all below which seq has been looked at."""

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
        """One pass. Raises StorageUnavailable, ShuttingDown."""
        sifted = self._sifted
        self._sifted = {}
        for name in await self._upkeep.filtered_backlogs():
            try:
                runtime = await self._subscriptions.runtime(name, use=False)
            except (NotFound, FailedPrecondition):
                continue  # deleted or detached meanwhile
            number = runtime.subscription.id
            self._sifted[number] = await self._sift(runtime, sifted.get(number))

    async def _sift(
        self, runtime: SubscriptionRuntime, sifted: tuple[int, int] | None
    ) -> tuple[int, int]:
        """Look at what the subscription has not read, as far as that was not done already."""
        subscription, epoch, unread = runtime.subscription, runtime.epoch, runtime.unread
        selected = parse_filter(subscription.config.filter)
        seq = unread.start
        if sifted is not None and sifted[0] == epoch:
            seq = max(seq, sifted[1])
        while seq < unread.stop and runtime.epoch == epoch:
            batches = await self._reader.read(subscription.topic_id, seq, _STEP_BYTES)
            if not batches:
                return epoch, unread.stop
            for batch in batches:
                messages = self._decode(
                    batch.payload, batch.first_seq, batch.count, batch.publish_time_us
                )
                shown = selected.select(messages, self._attributes_of)
                runtime.pass_over(
                    [batch.first_seq + i for i, message in enumerate(shown) if message is None]
                )
                seq = batch.first_seq + batch.count
            await asyncio.sleep(_REST_S)
        return epoch, seq
