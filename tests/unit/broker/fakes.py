"""A clock that stands still, and a storage in memory: what the broker needs from outside.

Small, and true to the docstrings of ``broker.ports``. All parts share one ``Stored``, which
outlives them: building them again on it is a restart.
"""

from __future__ import annotations

import asyncio
import json
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count
from typing import Any, TypeVar

from ams_grpc.broker.catalog import (
    DEFAULT_RETENTION_US,
    Snapshot,
    Subscription,
    SubscriptionConfig,
    Topic,
    TopicConfig,
)
from ams_grpc.broker.cursor import CHUNK_SEQS
from ams_grpc.broker.errors import Aborted, StorageUnavailable, already_exists, not_found
from ams_grpc.broker.figures import Consumption, Delivered
from ams_grpc.broker.names import (
    ResourceName,
    SchemaName,
    SnapshotName,
    SubscriptionName,
    TopicName,
)
from ams_grpc.broker.policies import SECOND_US
from ams_grpc.broker.ports import (
    Appended,
    CursorChanges,
    CursorState,
    Deliveries,
    DirtyCursor,
    Once,
    Settled,
    StoredBatch,
    StoredLease,
)
from ams_grpc.broker.schemas import Definition, Revision, Schema, SchemaType

_Record = TypeVar("_Record", Topic, Subscription, Snapshot)


# --- time ---------------------------------------------------------------------------------------


class ManualClock:
    """Stands still until it is told to advance."""

    def __init__(self) -> None:
        self._monotonic = 1000.0
        self._now_us = 1_700_000_000 * SECOND_US
        self._order = count()
        self._alarms: list[tuple[float, int, ManualAlarm]] = []

    def monotonic(self) -> float:
        return self._monotonic

    def now_us(self) -> int:
        return self._now_us

    def call_at(self, moment: float, callback: Callable[[], None]) -> ManualAlarm:
        alarm = ManualAlarm(callback)
        heappush(self._alarms, (moment, next(self._order), alarm))
        return alarm

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass, and make the calls that fall due, each at its own moment."""
        end = self._monotonic + seconds
        while self._alarms and self._alarms[0][0] <= end:
            moment, _, alarm = heappop(self._alarms)
            self._go_to(max(moment, self._monotonic))
            alarm.ring()
        self._go_to(end)

    @property
    def alarms(self) -> int:
        """Calls that are still to be made."""
        return sum(not alarm.cancelled for _, _, alarm in self._alarms)

    def _go_to(self, moment: float) -> None:
        self._now_us += round((moment - self._monotonic) * SECOND_US)
        self._monotonic = moment


class ManualAlarm:
    """A call that ``ManualClock.advance`` will make."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def ring(self) -> None:
        if not self.cancelled:
            self._callback()


# --- messages -----------------------------------------------------------------------------------


def encode(messages: Iterable[bytes]) -> bytes:
    """A payload: each message with its length in front, so that payloads can be joined."""
    return b"".join(len(message).to_bytes(4, "big") + message for message in messages)


def decode(payload: bytes, first_seq: int, count: int, publish_time_us: int) -> list[bytes]:
    """The opposite of ``encode``. It does not put ids and times into the messages."""
    del first_seq, publish_time_us
    messages: list[bytes] = []
    at = 0
    while at < len(payload):
        size = int.from_bytes(payload[at : at + 4], "big")
        messages.append(payload[at + 4 : at + 4 + size])
        at += 4 + size
    assert len(messages) == count
    return messages


def read_key(message: bytes) -> str:
    """The ordering key of ``key:data``."""
    key, colon, _ = message.partition(b":")
    return key.decode() if colon else ""


def annotate(message: bytes, attributes: Mapping[str, str]) -> bytes:
    """A payload of one message, with attributes behind it."""
    return encode([message + json.dumps(attributes).encode()])


# --- what is stored -----------------------------------------------------------------------------


@dataclass
class Stored:
    """The database."""

    batches: dict[int, list[StoredBatch]] = field(default_factory=dict)
    next_seqs: dict[int, int] = field(default_factory=dict)
    cursors: dict[int, CursorState] = field(default_factory=dict)
    acked_above_floor: dict[int, int] = field(default_factory=dict)
    topics: dict[TopicName, Topic] = field(default_factory=dict)
    subscriptions: dict[SubscriptionName, Subscription] = field(default_factory=dict)
    snapshots: dict[SnapshotName, tuple[Snapshot, CursorState]] = field(default_factory=dict)
    failures: dict[int, dict[int, int]] = field(default_factory=dict)
    leases: dict[int, dict[int, StoredLease]] = field(default_factory=dict)
    answers: dict[tuple[int, bytes], Appended] = field(default_factory=dict)
    """Of publishes that are done once, by topic id and key."""
    consumption: dict[int, Consumption] = field(default_factory=dict)
    ids: Iterable[int] = field(default_factory=lambda: iter(range(1, 1 << 30)))

    def new_id(self) -> int:
        return next(iter(self.ids))

    def next_seq(self, topic_id: int) -> int:
        return self.next_seqs.get(topic_id, 1)

    def append(
        self, topic_id: int, payload: bytes, count: int, publish_time_us: int
    ) -> StoredBatch:
        first_seq = self.next_seq(topic_id)
        batch = StoredBatch(topic_id, first_seq, count, publish_time_us, payload)
        if count:
            self.batches.setdefault(topic_id, []).append(batch)
        self.next_seqs[topic_id] = first_seq + count
        return batch

    def from_seq(self, topic_id: int, seq: int) -> list[StoredBatch]:
        """The batch that holds ``seq``, or else the first after it, and all that follow."""
        batches = self.batches.get(topic_id, [])
        at = bisect_left(batches, seq + 1, key=lambda batch: batch.first_seq + batch.count)
        return batches[at:]

    def write(self, changes: CursorChanges) -> None:
        """Write a cursor as ``CursorChanges`` wants it."""
        old = self.cursors.get(changes.subscription_id)
        chunks = {} if changes.replace or old is None else dict(old.chunks)
        chunks.update(changes.chunks)
        kept = {no: bits for no, bits in chunks.items() if (no + 1) * CHUNK_SEQS > changes.floor}
        window = changes.window or (None if old is None else old.window)
        self.cursors[changes.subscription_id] = CursorState(
            changes.floor, changes.epoch, kept, window
        )
        self.acked_above_floor[changes.subscription_id] = changes.acked_above_floor
        if changes.deliveries is not None:
            failures = self.failures.setdefault(changes.subscription_id, {})
            failures.update(changes.deliveries.failures)
            for seq in [seq for seq, count in failures.items() if not count]:
                del failures[seq]
            leases = self.leases.setdefault(changes.subscription_id, {})
            for grant, lease in changes.deliveries.leases.items():
                if lease is None:
                    leases.pop(grant, None)
                else:
                    leases[grant] = lease


class Port:
    """What all ports have in common: they suspend, and they can fail."""

    def __init__(self, stored: Stored) -> None:
        self.stored = stored
        self.failing = False
        """Does the database not answer?"""
        self.failures = 0
        """How many calls are to fail, even so."""
        self.calls: list[str] = []

    async def _visit(self, name: str = "") -> None:
        self.calls.append(name)
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise StorageUnavailable("The database does not answer.")
        if self.failing:
            raise StorageUnavailable("The database does not answer.")


class MemoryLog(Port):
    """``ports.LogReader``."""

    def __init__(self, stored: Stored) -> None:
        super().__init__(stored)
        self.answers = asyncio.Event()
        """Clear it to let reads wait."""
        self.answers.set()

    async def read(self, topic_id: int, seq: int, max_bytes: int) -> Sequence[StoredBatch]:
        await self.answers.wait()
        await self._visit("read")
        found: list[StoredBatch] = []
        for batch in self.stored.from_seq(topic_id, seq):
            max_bytes -= len(batch.payload)
            if found and max_bytes < 0:
                break
            found.append(batch)
        return found

    async def next_seq(self, topic_id: int) -> int:
        await self._visit("next_seq")
        return self.stored.next_seq(topic_id)

    async def first_seq_at(self, topic_id: int, time_us: int) -> int:
        await self._visit("first_seq_at")
        for batch in self.stored.from_seq(topic_id, 0):
            if batch.publish_time_us >= time_us:
                return batch.first_seq
        return self.stored.next_seq(topic_id)

    async def publish_time_us(self, topic_id: int, seq: int) -> int | None:
        await self._visit("publish_time_us")
        following = self.stored.from_seq(topic_id, seq)
        return following[0].publish_time_us if following else None

    async def replay_limit(self, topic_id: int) -> int | None:
        await self._visit("replay_limit")
        return min(
            (
                state.floor
                for snapshot, state in self.stored.snapshots.values()
                if snapshot.topic_id == topic_id
            ),
            default=None,
        )


class MemoryCommits(Port):
    """``ports.Commits``. Cursors are written by ``flushed``, or ``commit``."""

    def __init__(self, stored: Stored, clock: ManualClock) -> None:
        super().__init__(stored)
        self._clock = clock
        self._unwritten: dict[int, DirtyCursor] = {}
        self.aborts = 0
        """How many appends are to find that their topic is out of date."""
        self.on_append: Callable[[StoredBatch], None] = lambda _batch: None
        self.answers = asyncio.Event()
        """Clear it to let ``flushed`` wait."""
        self.answers.set()

    async def append(
        self,
        topic: Topic,
        payload: bytes,
        count: int,
        settled: Settled | None = None,
        *,
        once: Once | None = None,
        places: Sequence[int] | None = None,
    ) -> Appended:
        await self._visit("append")
        if self.stored.topics.get(topic.name) != topic or self.aborts:
            self.aborts = max(0, self.aborts - 1)
            raise Aborted(f"{topic.name} has changed.")
        answer = None if once is None else self.stored.answers.get((topic.id, once.key))
        if answer is None:
            batch = self.stored.append(topic.id, payload, count, self._clock.now_us())
            if count:
                self.on_append(batch)
            answer = Appended(batch.first_seq, batch.publish_time_us, places)
            if once is not None:
                self.stored.answers[topic.id, once.key] = answer
        if settled is not None:
            settled.then()
            self.commit()
        return answer

    def save(self, cursor: DirtyCursor) -> None:
        self._unwritten[id(cursor)] = cursor

    async def flushed(self) -> None:
        await self.answers.wait()
        if self.failing:
            self.commit_in_vain()
        await self._visit("flushed")
        self.commit()

    @property
    def unwritten(self) -> int:
        """Cursors that wait for being written."""
        return len(self._unwritten)

    def commit(self) -> None:
        """Write all cursors."""
        cursors, self._unwritten = self._unwritten, {}
        for cursor in cursors.values():
            self.stored.write(cursor.take_changes())

    def commit_in_vain(self) -> None:
        """Try to write all cursors, and fail."""
        for cursor in self._unwritten.values():
            cursor.put_back(cursor.take_changes())


class AnySchema:
    """``schemas.SchemaCatalog``, where every schema exists. Which it is matters to nobody here."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"nobody asks for {name}")

    async def schema(self, name: SchemaName) -> Schema:
        revision = Revision(1, "0123abcd", 0, Definition(SchemaType.AVRO, '"int"'))
        return Schema(1, name, SchemaType.AVRO, 1, (revision,))


class NoForwarding:
    """``dead_letters.Forwarding`` where there is no dead-letter policy."""

    async def forward(
        self,
        subscription: Subscription,
        seq: int,
        *,
        epoch: int,
        attempts: int,
        reason: str,
        then: Callable[[], None],
    ) -> bool:
        raise AssertionError(f"{seq} is no dead letter")


class MemoryCatalog(Port):
    """``ports.Catalog``."""

    def __init__(self, stored: Stored, clock: ManualClock) -> None:
        super().__init__(stored)
        self._clock = clock
        self.aborts = 0
        """How many updates and deletions are to find that somebody else was faster."""

    # --- topics

    async def topic(self, name: TopicName) -> Topic:
        await self._visit("topic")
        return _get(self.stored.topics, name)

    async def published(self, topic: Topic, once: Once) -> Appended | None:
        await self._visit("published")
        return self.stored.answers.get((topic.id, once.key))

    async def create_topic(
        self, name: TopicName, config: TopicConfig, *, registered: bool = False
    ) -> Topic:
        await self._visit("create_topic")
        _check_new(self.stored.topics, name)
        topic = self.stored.topics[name] = Topic(self.stored.new_id(), name, 1, config)
        return topic

    async def update_topic(self, topic: Topic, config: TopicConfig) -> Topic:
        await self._change(topic, self.stored.topics.get(topic.name))
        updated = replace(topic, config=config, version=topic.version + 1)
        self.stored.topics[topic.name] = updated
        self._tell_subscriptions(topic, updated.name, config.message_retention_us)
        return updated

    async def delete_topic(self, topic: Topic) -> None:
        await self._change(topic, self.stored.topics.get(topic.name))
        del self.stored.topics[topic.name]
        self._tell_subscriptions(topic, None, None)

    async def topics(
        self, project: str, after: str, limit: int, among: Collection[str] | None = None
    ) -> Sequence[Topic]:
        await self._visit("topics")
        return _page(self.stored.topics, project, after, limit, among)

    async def topic_subscriptions(
        self, topic: Topic, after: str, limit: int
    ) -> Sequence[SubscriptionName]:
        await self._visit("topic_subscriptions")
        names = [
            subscription.name
            for subscription in self.stored.subscriptions.values()
            if subscription.topic_id == topic.id and not subscription.detached
        ]
        return sorted((name for name in names if str(name) > after), key=str)[:limit]

    async def topic_snapshots(self, topic: Topic, after: str, limit: int) -> Sequence[SnapshotName]:
        await self._visit("topic_snapshots")
        names = [
            snapshot.name
            for snapshot, _ in self.stored.snapshots.values()
            if snapshot.topic_id == topic.id
        ]
        return sorted((name for name in names if str(name) > after), key=str)[:limit]

    # --- subscriptions

    async def subscription(self, name: SubscriptionName) -> Subscription:
        await self._visit("subscription")
        return _get(self.stored.subscriptions, name)

    async def create_subscription(
        self,
        name: SubscriptionName,
        topic: TopicName,
        config: SubscriptionConfig,
        *,
        registered: bool = False,
    ) -> Subscription:
        await self._visit("create_subscription")
        of = _get(self.stored.topics, topic)
        _check_new(self.stored.subscriptions, name)
        start_seq = self.stored.next_seq(of.id)
        subscription = Subscription(
            id=self.stored.new_id(),
            name=name,
            version=1,
            topic_id=of.id,
            topic_name=of.name,
            topic_retention_us=of.config.message_retention_us,
            start_seq=start_seq,
            detached=False,
            config=config,
        )
        self.stored.subscriptions[name] = subscription
        self.stored.cursors[subscription.id] = CursorState(start_seq, 0, {})
        return subscription

    async def update_subscription(
        self, subscription: Subscription, config: SubscriptionConfig
    ) -> Subscription:
        changed = replace(subscription, config=config, resource_error="")
        return await self._replace(subscription, changed)

    async def detach_subscription(self, subscription: Subscription) -> Subscription:
        return await self._replace(subscription, replace(subscription, detached=True))

    async def delete_subscription(self, subscription: Subscription) -> None:
        await self._change(subscription, self.stored.subscriptions.get(subscription.name))
        del self.stored.subscriptions[subscription.name]
        del self.stored.cursors[subscription.id]

    async def subscriptions(
        self, project: str, after: str, limit: int, among: Collection[str] | None = None
    ) -> Sequence[Subscription]:
        await self._visit("subscriptions")
        return _page(self.stored.subscriptions, project, after, limit, among)

    async def worked(self) -> Sequence[Subscription]:
        await self._visit("worked")
        return [s for s in self.stored.subscriptions.values() if s.config.worker and not s.detached]

    async def set_resource_error(self, subscription: Subscription, error: str) -> None:
        await self._visit("set_resource_error")
        stored = self.stored.subscriptions.get(subscription.name)
        if stored is not None and stored.version == subscription.version:
            self.stored.subscriptions[stored.name] = replace(stored, resource_error=error)

    async def deliveries(self, subscription: Subscription) -> Deliveries:
        await self._visit("deliveries")
        return Deliveries(
            dict(self.stored.failures.get(subscription.id, {})),
            dict(self.stored.leases.get(subscription.id, {})),
        )

    async def cursor(self, subscription: Subscription) -> CursorState:
        await self._visit("cursor")
        return self.stored.cursors[subscription.id]

    # --- snapshots

    async def snapshot(self, name: SnapshotName) -> Snapshot:
        await self._visit("snapshot")
        snapshot, _ = self.stored.snapshots.get(name, (None, None))
        if snapshot is None or snapshot.expire_us <= self._clock.now_us():
            raise not_found(name)
        return snapshot

    async def create_snapshot(
        self,
        name: SnapshotName,
        subscription: Subscription,
        state: CursorState,
        expire_us: int,
        labels: Mapping[str, str],
        *,
        registered: bool = False,
    ) -> Snapshot:
        await self._visit("create_snapshot")
        _get(self.stored.subscriptions, subscription.name)
        _check_new(self.stored.snapshots, name)
        snapshot = Snapshot(
            id=self.stored.new_id(),
            name=name,
            topic_id=subscription.topic_id,
            topic_name=subscription.topic_name,
            created_us=self._clock.now_us(),
            expire_us=expire_us,
            labels=labels,
        )
        self.stored.snapshots[name] = (snapshot, state)
        return snapshot

    async def update_snapshot(
        self, snapshot: Snapshot, expire_us: int, labels: Mapping[str, str]
    ) -> Snapshot:
        stored, state = self.stored.snapshots.get(snapshot.name, (None, None))
        await self._change(snapshot, stored)
        assert state is not None
        updated = replace(snapshot, expire_us=expire_us, labels=labels)
        self.stored.snapshots[snapshot.name] = (updated, state)
        return updated

    async def delete_snapshot(self, snapshot: Snapshot) -> None:
        stored, _ = self.stored.snapshots.get(snapshot.name, (None, None))
        await self._change(snapshot, stored)
        del self.stored.snapshots[snapshot.name]

    async def snapshots(self, project: str, after: str, limit: int) -> Sequence[Snapshot]:
        await self._visit("snapshots")
        records = {name: snapshot for name, (snapshot, _) in self.stored.snapshots.items()}
        return _page(records, project, after, limit)

    async def snapshot_cursor(self, snapshot: Snapshot) -> CursorState:
        await self._visit("snapshot_cursor")
        return self.stored.snapshots[snapshot.name][1]

    # --- parts of the above

    async def _change(self, given: _Record, stored: _Record | None) -> None:
        """A change of ``given``, which is refused if it is not the stored version."""
        await self._visit("change")
        if given != stored or self.aborts:
            self.aborts = max(0, self.aborts - 1)
            raise Aborted(f"{given.name} has changed.")

    async def _replace(self, old: Subscription, new: Subscription) -> Subscription:
        await self._change(old, self.stored.subscriptions.get(old.name))
        new = replace(new, version=old.version + 1)
        self.stored.subscriptions[new.name] = new
        return new

    def _tell_subscriptions(
        self, topic: Topic, name: TopicName | None, retention_us: int | None
    ) -> None:
        for subscription in list(self.stored.subscriptions.values()):
            if subscription.topic_id == topic.id:
                self.stored.subscriptions[subscription.name] = replace(
                    subscription, topic_name=name, topic_retention_us=retention_us
                )


@dataclass(frozen=True)
class Lagging:
    """``ports.ExpiredFloor``."""

    subscription: SubscriptionName
    cutoff: int
    retention_us: int = DEFAULT_RETENTION_US


class MemoryConsumption(Port):
    """``consumption.ConsumptionStore``."""

    async def consumption(self, subscription: Subscription) -> Consumption:
        await self._visit("consumption")
        return self.stored.consumption.get(subscription.id, Consumption())

    async def add(self, delivered: Mapping[int, Delivered]) -> None:
        await self._visit("add")
        for number, each in delivered.items():
            self.stored.consumption[number] = self.stored.consumption.get(
                number, Consumption()
            ).plus(each)


class ScriptedUpkeep(Port):
    """``ports.Upkeep`` that finds what the test put there, and notes what it was asked to do."""

    def __init__(self, stored: Stored) -> None:
        super().__init__(stored)
        self.bites_to_purge: dict[int, int] = {}
        """Topic id -> how many calls find something to delete."""
        self.bad_topics: dict[int, Exception] = {}
        """What purging a topic raises."""
        self.lagging: list[Lagging] = []
        self.filtered: list[SubscriptionName] = []
        self.unused: list[Subscription] = []
        self.touched: list[list[int]] = []
        self.alive_us: list[int] = []
        self.resumed_us: list[int] = []

    async def topics_with_messages(self, now_us: int) -> Sequence[int]:
        del now_us
        await self._visit("topics_with_messages")
        return list(self.bites_to_purge)

    async def purge_topic(self, topic_id: int, now_us: int) -> int:
        del now_us
        await self._visit("purge_topic")
        if topic_id in self.bad_topics:
            raise self.bad_topics[topic_id]
        left = self.bites_to_purge[topic_id]
        self.bites_to_purge[topic_id] = max(0, left - 1)
        return min(left, 1)

    async def free_space(self) -> None:
        await self._visit("free_space")

    async def forget_deleted_topics(self) -> int:
        await self._visit("forget_deleted_topics")
        return 0

    async def expired_floors(self, now_us: int) -> Sequence[Lagging]:
        del now_us
        await self._visit("expired_floors")
        return self.lagging

    async def filtered_backlogs(self) -> Sequence[SubscriptionName]:
        await self._visit("filtered_backlogs")
        return self.filtered

    async def delete_expired_snapshots(self, now_us: int) -> int:
        await self._visit("delete_expired_snapshots")
        snapshots = self.stored.snapshots
        expired = [
            name for name, (snapshot, _) in snapshots.items() if snapshot.expire_us <= now_us
        ]
        for name in expired:
            del snapshots[name]
        return len(expired)

    async def forget_answers(self, now_us: int) -> int:
        del now_us
        await self._visit("forget_answers")
        return 0

    async def touch(self, subscription_ids: Iterable[int], now_us: int) -> None:
        del now_us
        await self._visit("touch")
        self.touched.append(list(subscription_ids))

    async def inactive(self, now_us: int) -> Sequence[Subscription]:
        del now_us
        await self._visit("inactive")
        return self.unused

    async def alive(self, now_us: int) -> None:
        await self._visit("alive")
        self.alive_us.append(now_us)

    async def resume(self, now_us: int) -> None:
        await self._visit("resume")
        self.resumed_us.append(now_us)


_Key = TypeVar("_Key", bound=ResourceName)


def _get(records: Mapping[_Key, _Record], name: _Key) -> _Record:
    if name not in records:
        raise not_found(name)
    return records[name]


def _check_new(records: Mapping[_Key, object], name: _Key) -> None:
    if name in records:
        raise already_exists(name)


def _page(
    records: Mapping[_Key, _Record],
    project: str,
    after: str,
    limit: int,
    among: Collection[str] | None = None,
) -> Sequence[_Record]:
    of_project = [
        r
        for name, r in records.items()
        if name.project == project and (among is None or name.id in among)
    ]
    return sorted((r for r in of_project if str(r.name) > after), key=lambda r: str(r.name))[:limit]
