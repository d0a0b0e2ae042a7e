"""The runtimes of subscriptions that are in use: they start with the first use, and hear what happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from ams_grpc.broker.catalog import Subscription
from ams_grpc.broker.clock import Clock
from ams_grpc.broker.consumption import Ledger
from ams_grpc.broker.dead_letters import Forwarding
from ams_grpc.broker.errors import (
    UNABLE,
    BrokerError,
    FailedPrecondition,
    NotFound,
    StorageUnavailable,
    Unavailable,
    detached,
    not_found,
)
from ams_grpc.broker.log import Log
from ams_grpc.broker.names import SubscriptionName
from ams_grpc.broker.ports import Catalog, Commits, Deliveries, LogReader, StoredBatch
from ams_grpc.broker.runtime import SubscriptionRuntime
from ams_grpc.broker.views import View

Result = TypeVar("Result")


class Runtimes:
    """All that run in this process, by the names and by the topics of their subscriptions."""

    def __init__(
        self,
        catalog: Catalog,
        reader: LogReader,
        log: Log,
        commits: Commits,
        clock: Clock,
        *,
        secret: bytes,
        max_outstanding: int,
        view_of: Callable[[Log, Subscription], View],
        read_key: Callable[[bytes], str],
        ledger: Ledger,
    ) -> None:
        self._catalog = catalog
        self._reader = reader
        self._log = log
        self._commits = commits
        self._clock = clock
        self._secret = secret
        self._max_outstanding = max_outstanding
        self._view_of = view_of
        self._read_key = read_key
        self._ledger = ledger
        self.forwarding: Forwarding
        """How dead letters are forwarded; set before anything runs."""
        self._runtimes: dict[SubscriptionName, SubscriptionRuntime] = {}
        self._of_topic: dict[int, list[SubscriptionRuntime]] = {}
        self._opening: dict[SubscriptionName, asyncio.Future[SubscriptionRuntime]] = {}
        self._closed: BrokerError | None = None
        self._closing = asyncio.Event()
        self._used: set[int] = set()

    # --- for those who use one -------------------------------------------------------------------

    async def runtime(self, name: SubscriptionName, *, use: bool = True) -> SubscriptionRuntime:
        """The running subscription; started if need be. That counts as activity if it is ``use``.

        Raises NotFound, FailedPrecondition (detached), ShuttingDown.
        """
        runtime = self._runtimes.get(name)
        if runtime is None or name in self._opening:
            runtime = await self._open(name)
        if use:
            self._used.add(runtime.subscription.id)
        return runtime

    async def runtime_to_pull(self, name: SubscriptionName) -> SubscriptionRuntime:
        """The running subscription, for those who pull and acknowledge.

        Raises what ``runtime`` does, and FailedPrecondition if a worker delivers its messages.
        """
        runtime = await self.runtime(name)
        if runtime.subscription.config.worker is not None:
            raise _not_pulled()
        return runtime

    def running(self) -> Sequence[SubscriptionRuntime]:
        """All runtimes."""
        return list(self._runtimes.values())

    def running_one(self, subscription: Subscription) -> SubscriptionRuntime | None:
        """Its runtime, if it has one."""
        runtime = self._runtimes.get(subscription.name)
        is_it = runtime is not None and runtime.subscription.id == subscription.id
        return runtime if is_it else None

    def used(self, subscription_ids: Iterable[int]) -> None:
        """These are in use."""
        self._used.update(subscription_ids)

    def take_used(self) -> set[int]:
        """Ids of the subscriptions used since the last call; one with an open stream is in use."""
        used, self._used = self._used, set()
        used.update(runtime.subscription.id for runtime in self.running() if runtime.open_streams)
        return used

    def is_used(self, subscription: Subscription) -> bool:
        """Whether it has been used since ``take_used``."""
        return subscription.id in self._used

    # --- what happens elsewhere --------------------------------------------------------------

    def appended(self, batch: StoredBatch) -> None:
        """A batch was committed: whoever waits for it gets it."""
        runtimes = self._of_topic.get(batch.topic_id)
        if not runtimes:
            return
        if any(runtime.near_tail for runtime in runtimes):
            self._log.add(batch)
        for runtime in runtimes:
            runtime.appended(batch.first_seq + batch.count)

    async def catch_up(self, topic_ids: Iterable[int]) -> None:
        """Something may have been appended without a word: look. Raises StorageUnavailable."""
        for topic_id in topic_ids:
            runtimes = self._of_topic.get(topic_id)
            if runtimes:
                end = await self._reader.next_seq(topic_id)
                for runtime in runtimes:
                    runtime.appended(end)

    async def topic_changed(self, topic_id: int) -> None:
        """A topic was updated or deleted: its subscriptions show and retain by it."""
        for runtime in list(self._of_topic.get(topic_id, ())):
            try:
                self.changed(await self._catalog.subscription(runtime.subscription.name))
            except NotFound:
                continue  # deleted meanwhile

    def changed(self, subscription: Subscription) -> None:
        """A subscription was updated: its runtime goes by it.

        Not if a later change was told before, or another subscription has the name by now.
        """
        runtime = self._runtimes.get(subscription.name)
        if runtime is None or runtime.subscription.id != subscription.id:
            return
        if runtime.subscription.version <= subscription.version:
            before = runtime.subscription
            if subscription.config.worker != before.config.worker:
                runtime.end_consumers(_not_pulled())
            runtime.use(subscription)
            if before.config.transforms != subscription.config.transforms:
                runtime.use_view(self._view_of(self._log, subscription))

    async def project_gone(self, project: str) -> None:
        """A project was renamed or deleted: nothing is there under its name any more.

        What others have of it is looked at again.
        """
        for name in list(self._runtimes):
            if name.project == project:
                self.end(name, not_found(name))
        for topic_id in list(self._of_topic):
            await self.topic_changed(topic_id)

    async def snapshots_changed(self, topic_id: int) -> None:
        """Snapshots of a topic came or went: what they hold does not expire."""
        kept_from: int | None = 0  # until it is known, nothing does
        with suppress(StorageUnavailable):
            kept_from = await self._reader.replay_limit(topic_id)
        for runtime in self._of_topic.get(topic_id, ()):
            runtime.kept_from = kept_from

    async def look_at_snapshots(self) -> None:
        """Snapshots may have gone, of whatever topics."""
        for topic_id, runtimes in list(self._of_topic.items()):
            if any(runtime.kept_from is not None for runtime in runtimes):
                await self.snapshots_changed(topic_id)

    def end(
        self,
        name: SubscriptionName,
        error: BrokerError,
        *,
        only: int | None = None,
        unless: int | None = None,
    ) -> None:
        """End the runtime of that name, ``only`` or ``unless`` its subscription has that id."""
        runtime = self._runtimes.get(name)
        if runtime is None or runtime.subscription.id == unless:
            return
        if only is not None and runtime.subscription.id != only:
            return
        del self._runtimes[name]
        topic_id = runtime.subscription.topic_id
        self._of_topic[topic_id].remove(runtime)
        if not self._of_topic[topic_id]:
            del self._of_topic[topic_id]
            self._log.forget(topic_id)
        runtime.close(error)
        self._ledger.closed(runtime.subscription.id)

    async def unless_closed(self, work: Coroutine[Any, Any, Result]) -> Result:
        """What ``work`` returns. Raises what ``close`` is told if that comes first."""
        task = asyncio.ensure_future(work)
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait((task, closing), return_when=asyncio.FIRST_COMPLETED)
            if self._closed is not None and not task.done():
                raise self._closed
            return await task
        finally:
            task.cancel()
            closing.cancel()

    def close(self, error: BrokerError) -> None:
        """End all streams and waiting pulls with ``error``, and start no runtime any more."""
        self._closed = error
        self._closing.set()
        for name in list(self._runtimes):
            self.end(name, error)

    # --- starting ------------------------------------------------------------------------------

    async def _open(self, name: SubscriptionName) -> SubscriptionRuntime:
        """Start a runtime; callers that come meanwhile wait for the same one."""
        opening = self._opening.get(name)
        if opening is None:
            opening = self._opening[name] = asyncio.ensure_future(self._start(name))
            opening.add_done_callback(lambda _: self._opening.pop(name, None))
        # One caller that goes away must not take the start away from the others.
        return await asyncio.shield(opening)

    async def _start(self, name: SubscriptionName) -> SubscriptionRuntime:
        subscription = await self._catalog.subscription(name)
        if subscription.detached:
            raise detached()
        state = await self._catalog.cursor(subscription)
        if self._closed is not None:
            raise self._closed
        runtime = SubscriptionRuntime(
            subscription,
            state,
            view=self._view_of(self._log, subscription),
            read_key=self._read_key,
            forwarding=self.forwarding,
            deliveries=await self._stored_deliveries(subscription),
            commits=self._commits,
            clock=self._clock,
            secret=self._secret,
            max_outstanding=self._max_outstanding,
        )
        await runtime.restore()
        # First listen, then look: no message and no change in between is missed.
        self._runtimes[name] = runtime
        self._ledger.opened(subscription.id, runtime.counters)
        self._of_topic.setdefault(subscription.topic_id, []).append(runtime)
        try:
            await self._look(runtime)
        except Exception as error:
            self.end(name, error if isinstance(error, BrokerError) else Unavailable(UNABLE))
            raise
        return runtime

    async def _stored_deliveries(self, subscription: Subscription) -> Deliveries | None:
        if subscription.config.exactly_once or subscription.config.dead_letter is not None:
            return await self._catalog.deliveries(subscription)
        return None

    async def _look(self, runtime: SubscriptionRuntime) -> None:
        """Tell a new runtime how things stand."""
        name, topic_id = runtime.subscription.name, runtime.subscription.topic_id
        subscription = await self._catalog.subscription(name)
        if subscription.id != runtime.subscription.id:
            raise not_found(name)  # another of the same name took its place
        if subscription.detached:
            raise detached()
        self.changed(subscription)
        runtime.kept_from = await self._reader.replay_limit(topic_id)
        runtime.appended(await self._reader.next_seq(topic_id))


def _not_pulled() -> FailedPrecondition:
    return FailedPrecondition("This method is not supported for this subscription type.")
