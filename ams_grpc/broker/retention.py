"""What time does: messages, snapshots and subscriptions expire, and stored batches go.

One pass now and then, in small steps. A batch goes when nobody can need it: it lies below every
subscription's floor (or below what that one keeps after acknowledgement), below what the topic
retains, and below every snapshot. ``storage`` decides that in one transaction with the deletion.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from ams_grpc.broker.clock import Clock
from ams_grpc.broker.consumption import Ledger
from ams_grpc.broker.errors import (
    FailedPrecondition,
    NotFound,
    StorageUnavailable,
    Unavailable,
    UnreadableMessages,
)
from ams_grpc.broker.ports import Upkeep
from ams_grpc.broker.runtimes import Runtimes
from ams_grpc.broker.subscriptions import Subscriptions

_REFUSALS: Final = 3  # so many topics in a row mean that it is the database
_log = logging.getLogger(__name__)


class Retention:
    """Runs the pass every ``interval_s`` seconds, until cancelled."""

    def __init__(
        self,
        upkeep: Upkeep,
        subscriptions: Subscriptions,
        runtimes: Runtimes,
        ledger: Ledger,
        clock: Clock,
        *,
        interval_s: float,
    ) -> None:
        self._upkeep = upkeep
        self._subscriptions = subscriptions
        self._runtimes = runtimes
        self._ledger = ledger
        self._clock = clock
        self._interval_s = interval_s

    async def run(self) -> None:
        """Start the clocks of expiration again, then pass after pass."""
        resumed = False
        while True:
            try:
                if not resumed:
                    await self._upkeep.resume(self._clock.now_us())
                    resumed = True
                await self.run_once()
            except Unavailable:
                _log.info(
                    "retention pass put off: the database does not answer, or we are stopping"
                )
            except Exception:  # noqa: BLE001 - one bad pass must not end all later ones
                _log.exception("retention pass failed")
            await asyncio.sleep(self._interval_s)

    async def run_once(self) -> None:
        """One pass. Raises StorageUnavailable."""
        now_us = self._clock.now_us()
        await self._upkeep.alive(now_us)
        await self._touch(now_us)
        await self._ledger.write()
        await self._expire_subscriptions(now_us)
        await self._upkeep.delete_expired_snapshots(now_us)
        while await self._upkeep.forget_answers(now_us):
            pass
        await self._runtimes.look_at_snapshots()
        await self._expire_messages(now_us)
        await self._purge(now_us)
        await self._upkeep.free_space()
        await self._upkeep.forget_deleted_topics()

    async def _purge(self, now_us: int) -> None:
        """What is wrong with one topic keeps no other from being purged."""
        refusals = 0  # topics in a row
        for topic_id in await self._upkeep.topics_with_messages(now_us):
            try:
                while await self._upkeep.purge_topic(topic_id, now_us):
                    pass
                refusals = 0
            except StorageUnavailable:
                refusals += 1
                if refusals == _REFUSALS:
                    raise
                _log.warning("cannot purge topic %d now", topic_id)
            except Exception as error:  # noqa: BLE001 - see above
                _log.error("cannot purge topic %d: %r", topic_id, error)

    async def _touch(self, now_us: int) -> None:
        used = self._runtimes.take_used()
        try:
            await self._upkeep.touch(sorted(used), now_us)
        except StorageUnavailable:
            self._runtimes.used(used)
            raise

    async def _expire_subscriptions(self, now_us: int) -> None:
        """Pub/Sub: Subscription.expiration_policy."""
        for subscription in await self._upkeep.inactive(now_us):
            _log.info("%s expires: nobody used it", subscription.name)
            await self._subscriptions.expire(subscription)

    async def _expire_messages(self, now_us: int) -> None:
        """Pub/Sub: Subscription.message_retention_duration."""
        for expired in await self._upkeep.expired_floors(now_us):
            try:
                runtime = await self._runtimes.runtime(expired.subscription, use=False)
            except (NotFound, FailedPrecondition):
                continue  # deleted or detached meanwhile
            except UnreadableMessages:
                continue  # the storage has said so in the log; the others have nothing to do with it
            runtime.expire_before(expired.cutoff, expired.retention_us)
