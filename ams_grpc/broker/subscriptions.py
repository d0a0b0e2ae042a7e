"""Subscriptions: administration, and the runtimes of those that are in use."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from ams_grpc.broker.catalog import Subscription, SubscriptionConfig
from ams_grpc.broker.clock import Clock
from ams_grpc.broker.consumers import Consumer, Delivery
from ams_grpc.broker.consumption import Ledger
from ams_grpc.broker.dead_letters import Forwarding
from ams_grpc.broker.endpoints import EndpointRules
from ams_grpc.broker.errors import (
    INVALID_ACK_ID,
    UNABLE,
    UNORDERED_ACK_ID,
    Aborted,
    AckIdsRefused,
    BrokerError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    StorageUnavailable,
    Unavailable,
    already_exists,
    invalid_argument,
    not_found,
)
from ams_grpc.broker.exactly_once import Confirmation
from ams_grpc.broker.log import Log
from ams_grpc.broker.names import SubscriptionName, TopicName
from ams_grpc.broker.picking import MAX_DELIVERY_MESSAGES
from ams_grpc.broker.ports import (
    Catalog,
    Commits,
    Deliveries,
    LogReader,
    StoredBatch,
    TransformCheck,
    Workers,
)
from ams_grpc.broker.profiles import Profile
from ams_grpc.broker.rules import (
    check_max_messages,
    check_modify_ack_deadline,
    check_push,
    check_subscription,
)
from ams_grpc.broker.runtime import SubscriptionRuntime
from ams_grpc.broker.updates import until_unchanged
from ams_grpc.broker.views import View

Result = TypeVar("Result")

_LONGEST_READ_S: Final = 5.0
"""How long a pull that does not wait for messages waits for those that are being read."""


class Subscriptions:
    """All subscriptions of the service. A runtime starts with the first use."""

    def __init__(
        self,
        catalog: Catalog,
        reader: LogReader,
        log: Log,
        commits: Commits,
        clock: Clock,
        *,
        secret: bytes,
        profile: Profile,
        endpoints: EndpointRules,
        max_outstanding: int,
        view_of: Callable[[Log, Subscription], View],
        read_key: Callable[[bytes], str],
        ledger: Ledger,
        check_transforms: TransformCheck | None = None,
    ) -> None:
        self._catalog = catalog
        self._reader = reader
        self._log = log
        self._commits = commits
        self._clock = clock
        self._secret = secret
        self._profile = profile
        self._endpoints = endpoints
        self._max_outstanding = max_outstanding
        self._view_of = view_of
        self._read_key = read_key
        self._ledger = ledger
        self.forwarding: Forwarding
        """How dead letters are forwarded; set before anything runs."""
        self._check_transforms = check_transforms
        self.workers: Workers | None = None
        """Whoever delivers what nobody pulls; wants to know of changes."""
        self._runtimes: dict[SubscriptionName, SubscriptionRuntime] = {}
        self._of_topic: dict[int, list[SubscriptionRuntime]] = {}
        self._opening: dict[SubscriptionName, asyncio.Future[SubscriptionRuntime]] = {}
        self._closed: BrokerError | None = None
        self._closing = asyncio.Event()
        self._used: set[int] = set()

    # --- administration ----------------------------------------------------------------------

    async def create(
        self,
        name: SubscriptionName | None,
        topic: TopicName,
        config: SubscriptionConfig,
        *,
        min_ack_deadline_s: int | None = None,
    ) -> Subscription:
        """Without a name, one is made up, in the project of the topic.

        ``min_ack_deadline_s`` None: what the profile says. Raises AlreadyExists, InvalidArgument, OutOfRange; NotFound for the topic, or for the one
        of its dead letters.
        """
        self._check(config, min_ack_deadline_s=min_ack_deadline_s)
        if config.transforms and self._check_transforms is not None:
            await self._check_transforms(config.transforms)
        await self._check_topic_schema(topic, config)
        if name is None:
            name = SubscriptionName(topic.project, f"sub-{uuid.uuid4().hex}")
        if config.dead_letter is not None:
            with suppress(NotFound):  # what is addressed is checked first
                await self._catalog.subscription(name)
                raise already_exists(name)
            await self._catalog.topic(topic)
            await self._catalog.topic(config.dead_letter.topic)
        created = await self._catalog.create_subscription(name, topic, config)
        self._close(name, not_found(name), unless=created.id)
        self._tell_workers(created)
        return created

    async def get(self, name: SubscriptionName) -> Subscription:
        """Raises NotFound."""
        subscription = await self._catalog.subscription(name)
        self._used.add(subscription.id)
        return subscription

    async def update(
        self,
        name: SubscriptionName,
        change: Callable[[Subscription], SubscriptionConfig],
        *,
        min_ack_deadline_s: int | None = None,
    ) -> Subscription:
        """Replace a subscription's config by what ``change`` makes of it.

        ``min_ack_deadline_s`` None: what the profile says. Raises NotFound (for it, or a new topic of its dead letters), InvalidArgument, OutOfRange
        and what ``change`` raises; it may be called again when the subscription changes meanwhile.
        """

        async def attempt() -> Subscription:
            subscription = await self._catalog.subscription(name)
            config = change(subscription)
            self._check(config, subscription.config, min_ack_deadline_s=min_ack_deadline_s)
            dead_letter = config.dead_letter
            if dead_letter is not None and dead_letter != subscription.config.dead_letter:
                await self._catalog.topic(dead_letter.topic)
            is_new = config.transforms != subscription.config.transforms
            if is_new and self._check_transforms is not None:
                await self._check_transforms(config.transforms)
            if subscription.topic_name is not None and config.export != subscription.config.export:
                await self._check_topic_schema(subscription.topic_name, config)
            return await self._catalog.update_subscription(subscription, config)

        updated = await until_unchanged(name, attempt)
        self._changed(updated)
        self._tell_workers(updated)
        self._used.add(updated.id)
        return updated

    async def detach(self, name: SubscriptionName) -> None:
        """Drop its messages, and never deliver any again.

        Raises NotFound; FailedPrecondition if it is detached already.
        """

        async def attempt() -> Subscription:
            subscription = await self._catalog.subscription(name)
            if subscription.detached:
                self._close(name, _detached(), only=subscription.id)
                raise FailedPrecondition("Subscription already detached.")
            return await self._catalog.detach_subscription(subscription)

        detached = await until_unchanged(name, attempt)
        self._close(name, _detached())
        self._dismiss_worker(detached)

    async def delete(self, name: SubscriptionName) -> None:
        """Its messages go with it; its streams end. Raises NotFound."""

        async def attempt() -> Subscription:
            subscription = await self._catalog.subscription(name)
            await self._catalog.delete_subscription(subscription)
            return subscription

        try:
            deleted = await until_unchanged(name, attempt)
        except NotFound:  # perhaps by an earlier attempt that was told otherwise
            self._close(name, not_found(name))
            raise
        self._close(name, not_found(name), only=deleted.id)
        self._dismiss_worker(deleted)
        self._used.discard(deleted.id)

    async def expire(self, unused: Subscription) -> None:
        """Delete it, unless it has been used, changed or deleted meanwhile."""
        if unused.id not in self._used:
            with suppress(Aborted):
                await self._catalog.delete_subscription(unused)
                self._close(unused.name, not_found(unused.name), only=unused.id)
                self._dismiss_worker(unused)

    async def list(
        self, project: str, after: str, limit: int, among: Collection[str] | None = None
    ) -> Sequence[Subscription]:
        """Subscriptions of a project by name, those after the full name ``after``.

        ``among``: only those with these ids; None: all.
        """
        return await self._catalog.subscriptions(project, after, limit, among)

    # --- messages ----------------------------------------------------------------------------

    async def pull(
        self, name: SubscriptionName, max_messages: int, wait_s: float
    ) -> Delivery | None:
        """Up to ``max_messages``, as soon as there is one; None after ``wait_s`` without any.

        With ``wait_s`` 0 it answers with what there is. Raises InvalidArgument, NotFound,
        FailedPrecondition.

        Pub/Sub: Pull, PullRequest.return_immediately.
        """
        check_max_messages(max_messages)
        runtime = await self.runtime_to_pull(name)
        answer: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()
        consumer = Consumer(
            answer.set_result,
            answer.set_exception,
            # AMS allows deadlines that would be over before the message is there.
            ack_deadline_s=max(
                runtime.subscription.config.ack_deadline_s, self._profile.min_ack_deadline_s
            ),
            max_messages=min(max_messages, MAX_DELIVERY_MESSAGES),
            once=True,
        )
        runtime.add(consumer)
        try:
            if wait_s <= 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LONGEST_READ_S):
                        while not answer.done() and (runtime.busy or runtime.gleaning):
                            await runtime.settled()
            elif not answer.done():
                await asyncio.wait([answer], timeout=wait_s)
            if not answer.done() and runtime.busy and wait_s <= 0:
                raise StorageUnavailable(UNABLE)
            return answer.result() if answer.done() else None
        except asyncio.CancelledError:
            if answer.done() and answer.exception() is None:
                runtime.give_back(answer.result())
            raise
        finally:
            runtime.remove(consumer)

    async def acknowledge(self, name: SubscriptionName, ack_ids: Sequence[str]) -> None:
        """These deliveries are done; when this returns that is on disk.

        Expired and stale ids are skipped; with exactly-once delivery they raise AckIdsRefused, and
        the others count. Raises InvalidArgument for malformed ones (then none is acknowledged),
        NotFound, FailedPrecondition, StorageUnavailable.

        Pub/Sub: Acknowledge.
        """
        if not ack_ids:
            raise _no_ack_ids()
        runtime = await self.runtime_to_pull(name)
        if not runtime.exactly_once:
            runtime.acknowledge(ack_ids)
            await self._commits.flushed()
            return
        answer = runtime.acknowledge_exactly(ack_ids)
        await self._commits.flushed()
        _raise_refused(answer)

    async def modify_ack_deadline(
        self, name: SubscriptionName, ack_ids: Sequence[str], ack_deadline_s: int
    ) -> None:
        """Give subscribers more time for messages they hold; with 0, take them back.

        The new deadline is ``ack_deadline_s`` (0 to 600) seconds from now. Stale ids are skipped;
        with exactly-once delivery they raise AckIdsRefused, and the others count. Raises
        InvalidArgument, NotFound, FailedPrecondition.

        Pub/Sub: ModifyAckDeadline.
        """
        check_modify_ack_deadline(ack_deadline_s)
        if not ack_ids:
            raise _no_ack_ids()
        runtime = await self.runtime_to_pull(name)
        if not runtime.exactly_once:
            runtime.modify_ack_deadline(ack_ids, ack_deadline_s)
            return
        answer = runtime.modify_ack_deadline_exactly(ack_ids, ack_deadline_s)
        await self._commits.flushed()
        _raise_refused(answer)

    async def runtime_to_pull(self, name: SubscriptionName) -> SubscriptionRuntime:
        """The running subscription, for those who pull and acknowledge.

        Raises what ``runtime`` does, and FailedPrecondition if a worker delivers its messages.
        """
        runtime = await self.runtime(name)
        if runtime.subscription.config.worker is not None:
            raise _not_pulled()
        return runtime

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

    async def seek_to_time(self, name: SubscriptionName, time_us: int) -> None:
        """All published before ``time_us`` is acknowledged, all from then on is not.

        Of what was acknowledged only that comes back which is retained. Raises NotFound,
        FailedPrecondition, StorageUnavailable.

        Pub/Sub: Seek.
        """
        runtime = await self.runtime(name)
        subscription = runtime.subscription
        topic_id, now_us = subscription.topic_id, self._clock.now_us()
        start = await self._reader.first_seq_at(topic_id, time_us)
        retained = [await self._reader.next_seq(topic_id)]
        if subscription.config.retain_acked_messages:
            since_us = now_us - subscription.config.message_retention_us
            first = await self._reader.first_seq_at(topic_id, since_us)
            retained.append(max(first, subscription.start_seq))
        if subscription.topic_retention_us is not None:
            since_us = now_us - subscription.topic_retention_us
            retained.append(await self._reader.first_seq_at(topic_id, since_us))
        runtime.seek(start, min(retained))
        await self._commits.flushed()

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
                self._changed(await self._catalog.subscription(runtime.subscription.name))
            except NotFound:
                continue  # deleted meanwhile

    async def project_gone(self, project: str, subscription_ids: Iterable[int]) -> None:
        """A project was renamed or deleted: nothing is there under its name any more.

        ``subscription_ids`` are those it had. What others have of it is looked at again.
        """
        for name in list(self._runtimes):
            if name.project == project:
                self._close(name, not_found(name))
        for subscription_id in subscription_ids:
            if self.workers is not None:
                self.workers.gone(subscription_id)
        for topic_id in list(self._of_topic):
            await self.topic_changed(topic_id)

    async def project_came(self, project: str) -> None:
        """A project has this name now, and its subscriptions with it: workers must know."""
        for subscription in await self._catalog.worked():
            if subscription.name.project == project:
                self._tell_workers(subscription)

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
            self._close(name, error)

    def _check(
        self,
        config: SubscriptionConfig,
        old: SubscriptionConfig | None = None,
        *,
        min_ack_deadline_s: int | None = None,
    ) -> None:
        """Raises InvalidArgument. What was accepted once does not block other changes."""
        if old is not None and config.ack_deadline_s == old.ack_deadline_s:
            min_ack_deadline_s = 0
        check_subscription(config, self._profile, min_ack_deadline_s)
        if config.push is not None and (old is None or config.push != old.push):
            check_push(config.push, self._endpoints)

    def _tell_workers(self, subscription: Subscription) -> None:
        if self.workers is not None:
            self.workers.changed(subscription)

    def _dismiss_worker(self, subscription: Subscription) -> None:
        if self.workers is not None:
            self.workers.gone(subscription.id)

    async def _check_topic_schema(self, topic: TopicName, config: SubscriptionConfig) -> None:
        """Pub/Sub: an export can only use the schema of a topic that has one."""
        export = config.export
        if export is None or export.avro is None or not export.avro.use_topic_schema:
            return
        if (await self._catalog.topic(topic)).config.schema_settings is None:
            path = "cloud_storage_config.avro_config.use_topic_schema"
            raise invalid_argument(f"{path}: the topic has no schema", field=path)

    # --- runtimes ----------------------------------------------------------------------------

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
            raise _detached()
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
            self._close(name, error if isinstance(error, BrokerError) else Unavailable(UNABLE))
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
            raise _detached()
        self._changed(subscription)
        runtime.kept_from = await self._reader.replay_limit(topic_id)
        runtime.appended(await self._reader.next_seq(topic_id))

    def _changed(self, subscription: Subscription) -> None:
        """Not if a later change was told before, or another subscription has the name by now."""
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

    def _close(
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


def _raise_refused(answer: Confirmation) -> None:
    refused = dict.fromkeys(answer.invalid, INVALID_ACK_ID)
    refused.update(dict.fromkeys(answer.unordered, UNORDERED_ACK_ID))
    if refused:
        raise AckIdsRefused(refused)


def _no_ack_ids() -> InvalidArgument:
    return InvalidArgument("You have not specified an ack ID in the request.", field="ack_ids")


def _not_pulled() -> FailedPrecondition:
    return FailedPrecondition("This method is not supported for this subscription type.")


def _detached() -> FailedPrecondition:
    return FailedPrecondition("Subscription is detached.")
