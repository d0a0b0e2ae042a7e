"""The export of one subscription: from its messages to objects of a bucket, one after the other.

    idle --a message--> gathering --full, or long enough--> completing --acknowledged--> idle
                            |                                   |
                            +--------the destination fails------+--> resting --a while--> idle

What was gathered is acknowledged when its object is complete, and given back when it cannot be: a
destination that fails costs no delivery attempt. Then the next try follows after a while that
doubles each time, if there is something to write, and writes what comes first as an object of its
own, to see whether it is over. An idle export has no timer.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import nullcontext
from typing import Final

from ams_grpc.broker.catalog import Subscription
from ams_grpc.broker.clock import Clock
from ams_grpc.broker.errors import (
    BrokerError,
    FailedPrecondition,
    NotFound,
    ShuttingDown,
    StorageUnavailable,
)
from ams_grpc.broker.object_names import object_name
from ams_grpc.broker.opening import open_runtime
from ams_grpc.broker.policies import SECOND_US, StorageExport
from ams_grpc.broker.ports import Catalog
from ams_grpc.broker.runtime import SubscriptionRuntime
from ams_grpc.broker.runtimes import Runtimes
from ams_grpc.exports.buckets import NOT_FOUND, Bucket, DestinationError, OpenObject
from ams_grpc.exports.draft import Draft
from ams_grpc.exports.formats import format_of
from ams_grpc.exports.inbox import Inbox
from ams_grpc.exports.records import SchemaOfTopic, UnfitMessage

FIRST_REST_S: Final = 1.0
LONGEST_REST_S: Final = 60.0
_SLICE: Final = 100  # so many messages are written before others have their turn
_logger = logging.getLogger(__name__)


class ExportWorker:
    """Exports one subscription.

    ``bucket_of`` finds a bucket by its name. An object has ``max_messages`` at most, whatever its
    subscription says, because they are leased as long as it is open.
    """

    def __init__(
        self,
        subscription: Subscription,
        *,
        runtimes: Runtimes,
        catalog: Catalog,
        clock: Clock,
        bucket_of: Callable[[str], Bucket],
        schema_of_topic: SchemaOfTopic,
        max_messages: int,
    ) -> None:
        self._subscription = subscription
        self._export = _export_of(subscription)
        self._runtimes = runtimes
        self._catalog = catalog
        self._clock = clock
        self._bucket_of = bucket_of
        self._schema_of_topic = schema_of_topic
        self._max_messages = max_messages
        self._bell = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._changed = False
        self._shown = subscription.resource_error
        self._failures = 0  # of the destination, since it last took an object

    # --- Worker ------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to export."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def changed(self, subscription: Subscription) -> None:
        """The open object is completed as it was begun; the next one follows what is new."""
        self._subscription = subscription
        self._export = _export_of(subscription)
        self._shown = subscription.resource_error
        self._changed = True
        self._bell.set()
        if self._task is not None and self._task.done() and not self._closing:
            self.start()  # it had taken the subscription for deleted

    async def close(self) -> None:
        """Complete the open object, and stop. Cancelled, it leaves the object's messages to others."""
        self._closing = True
        self._bell.set()
        if self._task is None:
            return
        try:
            await asyncio.wait([self._task])
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.wait([self._task])
            raise

    # --- the way of messages -----------------------------------------------------------------

    async def _run(self) -> None:
        while not self._closing:
            self._changed = False
            try:
                runtime = await open_runtime(
                    self._runtimes,
                    lambda: self._subscription,
                    nullcontext(),
                    lambda: self._closing,
                )
                if runtime is None:
                    return
                await self._export_from(runtime)
            except (NotFound, FailedPrecondition, ShuttingDown):
                return  # it was deleted or detached, or the service stops
            except BrokerError:
                await self._rest()  # whoever raised it has said so in the log
            except Exception:
                _logger.exception("the export of %s has failed", self._subscription.name)
                await self._rest()

    async def _export_from(self, runtime: SubscriptionRuntime) -> None:
        inbox = Inbox(runtime, self._bell.set, self._max_messages)
        try:
            await self._look()
            while not self._closing:
                if self._changed:
                    self._changed = False
                    self._failures = 0
                    await self._look()
                await self._export_object(inbox)
        finally:
            inbox.leave()

    async def _export_object(self, inbox: Inbox) -> None:
        """Wait for a message; write an object of it and those that follow; acknowledge them."""
        inbox.ask()
        if not await self._message(inbox, None):
            return
        try:
            draft = await self._begin()
            try:
                await self._gather(inbox, draft)
                await draft.complete()
            finally:
                draft.abandon()
        except DestinationError as error:
            inbox.give_back()
            await self._say_what_is_wrong(error)
            await self._rest()
            return
        if draft.messages:
            await inbox.acknowledge()
            await self._say_that_it_works()

    async def _begin(self) -> Draft:
        subscription, export = self._subscription, self._export
        max_messages = export.max_messages or self._max_messages

        async def create() -> OpenObject:
            name = object_name(export, self._clock.now_us(), secrets.token_hex(8))
            return await self._bucket_of(export.bucket).create(name)

        return Draft(
            create,
            await format_of(export, subscription, self._schema_of_topic),
            max_bytes=export.max_bytes,
            max_messages=min(max_messages, self._max_messages),
        )

    async def _gather(self, inbox: Inbox, draft: Draft) -> None:
        """Fill an object, until it is full or it is time."""
        until = self._clock.monotonic() + self._export.max_duration_us / SECOND_US
        while True:
            message = inbox.peek()
            if message is None:
                if draft.is_full or (draft.messages and inbox.is_full):
                    return
                if draft.messages and self._failures:
                    return  # a small object shows whether the destination is well again
                await asyncio.sleep(0)
                inbox.ask()
                if not await self._message(inbox, until):
                    return
                continue
            try:
                record = await draft.record(message)
            except UnfitMessage as error:
                inbox.refuse(str(error), self._clock.monotonic())
                continue
            if not draft.has_room_for(record):
                return
            await draft.add(record)
            inbox.take()
            if not draft.messages % _SLICE:
                await asyncio.sleep(0)  # others are there, too

    # --- waiting -----------------------------------------------------------------------------

    async def _message(self, inbox: Inbox, until: float | None) -> bool:
        """Wait for a message. False when it is time to go on without: ``until``, or at a change.

        Raises why the subscription ended, unless because the service stops.
        """
        while True:
            now = self._clock.monotonic()
            if inbox.refused_until is not None and now >= inbox.refused_until:
                inbox.nack_refused()
            if isinstance(inbox.error, ShuttingDown):
                self._closing = True
            elif inbox.error is not None:
                raise inbox.error
            if self._closing or self._changed or (until is not None and now >= until):
                return False
            if inbox.peek() is not None:
                return True
            await self._news(until, inbox.refused_until)

    async def _rest(self) -> None:
        """Let a while pass, longer each time, or until something changes."""
        rest_s = min(LONGEST_REST_S, FIRST_REST_S * 2 ** min(self._failures, 10))
        self._failures += 1
        until = self._clock.monotonic() + rest_s
        while not (self._closing or self._changed) and self._clock.monotonic() < until:
            await self._news(until)

    async def _news(self, *moments: float | None) -> None:
        """Wait until the bell rings, or for the first of these moments."""
        self._bell.clear()
        soonest = min((moment for moment in moments if moment is not None), default=None)
        alarm = None if soonest is None else self._clock.call_at(soonest, self._bell.set)
        try:
            await self._bell.wait()
        finally:
            if alarm is not None:
                alarm.cancel()

    # --- what others see ---------------------------------------------------------------------

    async def _look(self) -> None:
        """See whether there is a destination, before there is anything to write."""
        try:
            await format_of(self._export, self._subscription, self._schema_of_topic)
            await self._bucket_of(self._export.bucket).check()
        except DestinationError as error:
            await self._say_what_is_wrong(error)
        else:
            if self._shown == NOT_FOUND:
                await self._show("")

    async def _say_what_is_wrong(self, error: DestinationError) -> None:
        if not self._failures:
            _logger.warning(
                "cannot export %s to bucket %s: %s",
                self._subscription.name,
                self._export.bucket,
                error,
            )
        if error.state:
            await self._show(error.state)

    async def _say_that_it_works(self) -> None:
        self._runtimes.used([self._subscription.id])
        if self._failures:
            _logger.info("%s is exported again", self._subscription.name)
        self._failures = 0
        await self._show("")

    async def _show(self, state: str) -> None:
        """Let callers see what keeps the export from working; the next object tries again."""
        if state == self._shown:
            return
        subscription = self._subscription
        try:
            await self._catalog.set_resource_error(subscription, state)
        except StorageUnavailable:
            return  # it has said so in the log
        if subscription is self._subscription:  # else a change came first, and shows nothing yet
            self._shown = state


def _export_of(subscription: Subscription) -> StorageExport:
    if subscription.config.export is None:
        raise ValueError(f"{subscription.name} is not exported")
    return subscription.config.export
