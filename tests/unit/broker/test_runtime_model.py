"""One subscription against a naive model: whatever happens, nothing is lost, nothing done returns.

The limits are tiny, so that a few steps reach every corner; the loading of messages from storage
is held up, fails and goes on as the test wants.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ams_grpc.broker import reading as reading_module
from ams_grpc.broker.catalog import Subscription, SubscriptionConfig
from ams_grpc.broker.consumers import Consumer, Delivery
from ams_grpc.broker.errors import BrokerError, InvalidArgument, ShuttingDown
from ams_grpc.broker.log import Log
from ams_grpc.broker.names import SubscriptionName, TopicName
from ams_grpc.broker.policies import SECOND_US
from ams_grpc.broker.ports import CursorState
from ams_grpc.broker.runtime import SubscriptionRuntime
from ams_grpc.broker.views import PlainView
from tests.unit.broker.fakes import (
    ManualClock,
    MemoryCommits,
    MemoryLog,
    NoForwarding,
    Stored,
    decode,
    encode,
    read_key,
)

TOPIC = 1
RETENTION_S = 60
SECRET = b"secret"
GARBAGE = "never-an-ack-id"

SUBSCRIPTION = Subscription(
    id=5,
    name=SubscriptionName("project", "subscription"),
    version=1,
    topic_id=TOPIC,
    topic_name=TopicName("project", "topic"),
    topic_retention_us=None,
    start_seq=1,
    detached=False,
    config=SubscriptionConfig(message_retention_us=RETENTION_S * SECOND_US),
)


class AckId(NamedTuple):
    """An ack id as it was given out, and what it stands for."""

    text: str
    run: int
    epoch: int
    grant: int
    seq: int


@dataclass(eq=False)
class Subscriber:
    """A stream or a pull, and the limits that it has."""

    max_messages: int
    max_bytes: int
    ack_deadline_s: int
    once: bool
    deliveries: list[Delivery] = field(default_factory=list)
    present: bool = True
    closed: BrokerError | None = None
    consumer: Consumer = field(init=False)


class Held(NamedTuple):
    grant: int
    deadline: float
    size: int
    by: Subscriber | None
    late: int | None
    """The grant that expired before: it counts again if this delivery does not arrive."""


many = st.lists(st.integers(0, 1 << 16), min_size=1, max_size=5)


class SubscriptionMachine(RuleBasedStateMachine):
    """Publishers, subscribers, time, seeks, restarts, and a storage that is slow, or down."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(self.on_loop_error)
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(reading_module, "_RETRY_S", 0)
        self.faults: list[object] = []

        self.clock = ManualClock()
        self.stored = Stored()
        self.stored.cursors[SUBSCRIPTION.id] = CursorState(1, 0, {})
        self.reader = MemoryLog(self.stored)
        self.run = 0
        self.grants_of_run: dict[int, int] = {}

        # The model. Seqs begin with 1.
        self.messages: list[bytes] = [b""]
        self.end = 1  # as far as the runtime was told
        self.acked: set[int] = set()
        self.held: dict[int, Held] = {}
        self.waiting: dict[int, int | None] = {}  # seq -> the grant that expired; None: nacked
        self.delivered: set[int] = set()  # since the start, or the last seek
        self.fresh_from = 1  # everything below was delivered once, or need not be
        self.losable: set[int] = set()  # past its retention at some moment, or deleted
        self.epoch = 0
        self.written: tuple[set[int], int] = (set(), 0)
        self.snapshot: tuple[CursorState, set[int]] = (CursorState(1, 0, {}), set())
        self.floor = 1
        self.ack_ids: list[AckId] = []
        self.subscribers: list[Subscriber] = []

    @initialize(cache_bytes=st.sampled_from([1, 400, 100_000]), read_bytes=st.sampled_from([1, 80]))
    def begin(self, cache_bytes: int, read_bytes: int) -> None:
        self.cache_bytes = cache_bytes
        self.read_bytes = read_bytes
        self.start()
        self.publish_batch([3, 4, 5], told=True, cached=False)
        self.connect(2, 0, 3, once=False)

    def teardown(self) -> None:
        try:
            if hasattr(self, "runtime"):
                self.drain()
                self.do(lambda: self.runtime.close(ShuttingDown("bye")))
                self.check_faults()
        finally:
            self.patch.undo()
            self.loop.close()

    # --- publishers

    @rule(
        sizes=st.lists(st.integers(1, 20), min_size=1, max_size=4),
        told=st.booleans(),
        cached=st.booleans(),
    )
    def publish(self, sizes: list[int], told: bool, cached: bool) -> None:
        self.publish_batch(sizes, told=told, cached=cached)

    def publish_batch(self, sizes: list[int], *, told: bool, cached: bool) -> None:
        messages = [bytes([len(self.messages) + i & 255]) * size for i, size in enumerate(sizes)]
        self.messages += messages
        batch = self.stored.append(TOPIC, encode(messages), len(messages), self.clock.now_us())
        if told and cached:
            self.log.add(batch)
        if told:
            self.tell()

    @rule()
    def tell(self) -> None:
        """The runtime learns how far the topic goes."""
        self.end = len(self.messages)
        self.do(lambda: self.runtime.appended(self.end))

    # --- consumers come and go

    @rule(
        max_messages=st.integers(0, 3),
        max_bytes=st.sampled_from([0, 1, 15, 40]),
        ack_deadline_s=st.integers(2, 4),
        once=st.booleans(),
    )
    def subscribe(self, max_messages: int, max_bytes: int, ack_deadline_s: int, once: bool) -> None:
        self.connect(max_messages, max_bytes, ack_deadline_s, once=once)

    def connect(
        self, max_messages: int, max_bytes: int, ack_deadline_s: int, *, once: bool
    ) -> Subscriber:
        subscriber = Subscriber(max_messages, max_bytes, ack_deadline_s, once)
        subscriber.consumer = Consumer(
            lambda delivery: self.on_delivery(subscriber, delivery),
            lambda error: setattr(subscriber, "closed", error),
            ack_deadline_s=ack_deadline_s,
            max_messages=max_messages,
            max_bytes=max_bytes,
            once=once,
        )
        self.subscribers.append(subscriber)
        self.do(lambda: self.runtime.add(subscriber.consumer))
        return subscriber

    @precondition(lambda self: self.subscribers)
    @rule(which=st.integers(0, 1 << 16))
    def leave(self, which: int) -> None:
        subscriber = self.subscribers[which % len(self.subscribers)]
        subscriber.present = False
        self.do(lambda: self.runtime.remove(subscriber.consumer))

    @precondition(lambda self: self.subscribers)
    @rule(which=st.integers(0, 1 << 16), busy=st.booleans())
    def a_stream_is_busy_or_free_again(self, which: int, busy: bool) -> None:
        subscriber = self.subscribers[which % len(self.subscribers)]
        if subscriber.once or not subscriber.present:
            return
        if busy:
            subscriber.consumer.ready = False
        else:
            self.do(lambda: self.runtime.wake(subscriber.consumer))

    # --- what they do with messages

    @precondition(lambda self: self.ack_ids)
    @rule(which=many, garbage=st.booleans(), lenient=st.booleans(), current=st.booleans())
    def acknowledge(self, which: list[int], garbage: bool, lenient: bool, current: bool) -> None:
        ids = self.choose(which, current=current)
        texts = [one.text for one in ids]
        if garbage:
            texts.insert(len(texts) // 2, GARBAGE)
            if not lenient:
                with pytest.raises(InvalidArgument):
                    self.do(lambda: self.runtime.acknowledge(texts))
                return
        accepted = {one.seq for one in ids if self.counts(one)}
        for seq in accepted:
            self.held.pop(seq, None)
            self.waiting.pop(seq, None)
        fresh = accepted - self.acked
        self.acked |= accepted
        before = self.runtime.counters.acked
        self.do(lambda: self.runtime.acknowledge(texts, lenient=lenient))
        assert self.runtime.counters.acked - before == len(fresh)

    @precondition(lambda self: self.ack_ids)
    @rule(which=many, garbage=st.booleans(), current=st.booleans())
    def nack(self, which: list[int], garbage: bool, current: bool) -> None:
        ids = self.choose(which, current=current)
        texts = [one.text for one in ids]
        if garbage:
            with pytest.raises(InvalidArgument):
                self.do(lambda: self.runtime.modify_ack_deadline([*texts, GARBAGE], 0))
        for one in ids:
            if self.is_held(one):
                self.put_back(one.seq, None)
        self.do(lambda: self.runtime.modify_ack_deadline(texts, 0))

    @precondition(lambda self: self.ack_ids)
    @rule(which=many, seconds=st.integers(1, 5), current=st.booleans())
    def extend(self, which: list[int], seconds: int, current: bool) -> None:
        ids = self.choose(which, current=current)
        deadline = self.clock.monotonic() + seconds
        for one in ids:
            if self.is_held(one):
                self.held[one.seq] = self.held[one.seq]._replace(deadline=deadline)
            elif one.epoch == self.epoch and self.waiting.get(one.seq, None) == one.grant:
                del self.waiting[one.seq]
                self.held[one.seq] = Held(one.grant, deadline, 0, None, one.grant)
        self.do(lambda: self.runtime.modify_ack_deadline([one.text for one in ids], seconds))

    @precondition(lambda self: any(one.deliveries for one in self.subscribers))
    @rule(which=st.integers(0, 1 << 16))
    def a_delivery_did_not_arrive(self, which: int) -> None:
        deliveries = [one for subscriber in self.subscribers for one in subscriber.deliveries]
        delivery = deliveries[which % len(deliveries)]
        for seq in delivery.seqs:
            if seq in self.held and self.held[seq].grant == delivery.grant:
                self.put_back(seq, self.held[seq].late)
        self.do(lambda: self.runtime.give_back(delivery))

    # --- time

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, 2.0, 4.0, 25.0]))
    def time_passes(self, seconds: float) -> None:
        self.do(lambda: self.clock.advance(seconds))

    @rule(
        what=st.sampled_from(
            ["retention", "deletion", "snapshots", "seek", "seek", "snapshot", "go back", "restart"]
        ),
        one=st.integers(0, 1 << 16),
        other=st.integers(0, 1 << 16),
    )
    def something_rare_happens(self, what: str, one: int, other: int) -> None:
        match what:
            case "retention":
                self.retention_raises_the_floor(one)
            case "deletion":
                self.a_batch_is_deleted(one)
            case "snapshots":
                self.snapshots_change(one if other % 2 else None)
            case "seek":
                self.seek(one, other)
            case "snapshot":
                self.take_a_snapshot()
            case "go back":
                self.go_back_to_the_snapshot()
            case "restart":
                self.restart()

    def retention_raises_the_floor(self, seq: int) -> None:
        seq %= len(self.messages) + 1
        if self.runtime.kept_from is not None:
            seq = min(seq, self.runtime.kept_from)
        self.losable |= set(range(1, seq))
        for below in [waiting for waiting in self.waiting if waiting < seq]:
            del self.waiting[below]
        self.do(lambda: self.runtime.expire_before(seq, self.runtime.subscription.retention_us))

    def a_batch_is_deleted(self, which: int) -> None:
        batches = self.stored.batches[TOPIC]
        if not batches:
            return
        batch = batches.pop(which % len(batches))
        self.losable |= set(range(batch.first_seq, batch.first_seq + batch.count))

    def snapshots_change(self, seq: int | None) -> None:
        self.note_expired()
        self.runtime.kept_from = None if seq is None else seq % (len(self.messages) + 1)

    # --- seeking

    def seek(self, start: int, replay_from: int) -> None:
        start = 1 + start % len(self.messages)
        replay_from = 1 + replay_from % len(self.messages)
        kept = {seq for seq in self.acked if seq < replay_from}
        self.forget_deliveries(kept | set(range(1, start)))
        self.do(lambda: self.runtime.seek(start, replay_from))

    def take_a_snapshot(self) -> None:
        self.snapshot = (self.runtime.cursor_state(), set(self.acked))

    def go_back_to_the_snapshot(self) -> None:
        state, acked = self.snapshot
        self.forget_deliveries(set(acked))
        self.do(lambda: self.runtime.seek_to_snapshot(state))

    # --- storage

    @rule()
    def acks_are_written(self) -> None:
        self.commits.commit()
        self.written = (set(self.acked), self.epoch)

    @rule()
    def acks_cannot_be_written(self) -> None:
        self.commits.commit_in_vain()

    @rule(answering=st.booleans(), failing=st.booleans())
    def storage_changes(self, answering: bool, failing: bool) -> None:
        self.reader.failing = failing
        if answering:
            self.reader.answers.set()
        else:
            self.reader.answers.clear()
        self.do(lambda: None)

    def restart(self) -> None:
        """What was not written is forgotten. Consumers connect again, or not."""
        self.do(lambda: self.runtime.close(ShuttingDown("bye")))
        for subscriber in self.subscribers:
            if subscriber.present and not (subscriber.once and subscriber.deliveries):
                assert isinstance(subscriber.closed, ShuttingDown)
        self.subscribers.clear()
        self.clock.advance(1)
        acked, epoch = self.written
        self.forget_deliveries(set(acked))
        self.epoch = epoch
        self.start()
        self.connect(0, 15, 2, once=False)

    # --- what always holds

    @invariant()
    def every_message_is_in_exactly_one_place(self) -> None:
        if not hasattr(self, "runtime"):
            return
        cursor, runtime = self.runtime._places.cursor, self.runtime
        for seq in range(1, runtime.end):
            leased = seq in runtime._places.leases
            waiting = seq in runtime._places.waiting
            done = cursor.is_done(seq)
            fresh = seq >= runtime.unread.start and not done
            # What retention takes may still be at a consumer.
            done = done and not (leased and seq in self.losable)
            assert leased + waiting + done + fresh == 1, seq

    @invariant()
    def the_model_agrees(self) -> None:
        if not hasattr(self, "runtime"):
            return
        self.check_faults()
        runtime = self.runtime
        for seq in range(1, len(self.messages)):
            assert (seq in runtime._places.leases) == (seq in self.held), seq
            if runtime._places.cursor.is_done(seq):
                assert seq in self.acked | self.losable, seq
            else:
                assert seq not in self.acked, seq
        for subscriber in self.subscribers:
            held = [held for held in self.held.values() if held.by is subscriber]
            assert subscriber.consumer.outstanding_messages == len(held)
            assert subscriber.consumer.outstanding_bytes == sum(one.size for one in held)
        assert runtime.outstanding == len(self.held)
        waiting = sum(seq < self.end for seq in self.waiting)
        assert runtime.undelivered >= waiting

    @invariant()
    def the_floor_never_goes_back(self) -> None:
        if hasattr(self, "runtime"):
            assert self.runtime.floor >= self.floor
            self.floor = self.runtime.floor

    @invariant()
    def nobody_waits_for_what_is_there(self) -> None:
        """Unless messages are on their way from storage."""
        if not hasattr(self, "runtime") or self.runtime.busy:
            return
        if any(self.wants_more(subscriber) for subscriber in self.subscribers):
            assert not self.available()

    @invariant()
    def no_consumer_that_left_is_kept(self) -> None:
        if hasattr(self, "runtime"):
            present = sum(
                one.present and not (one.once and one.deliveries) for one in self.subscribers
            )
            assert len(self.runtime._consumers) == present
            assert len(self.runtime._line) <= present

    @invariant()
    def somebody_looks_after_the_next_deadline(self) -> None:
        assert self.clock.alarms <= 1
        assert self.clock.alarms or not self.held

    # --- parts of the above

    def start(self) -> None:
        self.run += 1
        self.log = Log(
            self.reader, decode, cache_bytes=self.cache_bytes, read_bytes=self.read_bytes
        )
        self.commits = MemoryCommits(self.stored, self.clock)
        self.runtime = SubscriptionRuntime(
            SUBSCRIPTION,
            self.stored.cursors[SUBSCRIPTION.id],
            view=PlainView(self.log, SUBSCRIPTION.topic_id),
            commits=self.commits,
            clock=self.clock,
            secret=SECRET,
            max_outstanding=1_000,
            read_key=read_key,
            forwarding=NoForwarding(),
        )
        self.tell()

    def do(self, action: Callable[[], Any]) -> Any:
        """Do it on the event loop; then let messages arrive, unless storage is slow or down."""

        async def act() -> Any:
            answer = action()
            for _ in range(3):
                await asyncio.sleep(0)
            for _ in range(2000):
                if not self.runtime.busy or self.reader.failing or not self.reader.answers.is_set():
                    break
                await asyncio.sleep(0)
            else:
                raise AssertionError("it loads and loads")
            return answer

        answer = self.loop.run_until_complete(act())
        self.note_expiries()
        self.note_expired()
        for seq in self.waiting.keys() & self.losable:
            if self.runtime._places.cursor.is_done(seq):  # retention took it
                del self.waiting[seq]
        return answer

    def drain(self) -> None:
        """When all goes well in the end, everything that is not acknowledged comes."""
        self.reader.failing = False
        self.reader.answers.set()
        self.do(lambda: None)
        for subscriber in self.subscribers:
            subscriber.present = False
            self.do(partial(self.runtime.remove, subscriber.consumer))
        self.tell()
        self.do(lambda: self.clock.advance(6))  # longer than any lease
        assert not self.held
        due = set(range(1, self.end)) - self.acked
        last = self.connect(0, 0, 4, once=False)
        came = [seq for delivery in last.deliveries for seq in delivery.seqs]
        assert len(came) == len(set(came))
        assert due - self.losable <= set(came) <= due
        self.check_faults()

    def on_delivery(self, subscriber: Subscriber, delivery: Delivery) -> None:
        try:
            self.check_delivery(subscriber, delivery)
        except AssertionError as fault:
            self.faults.append(fault)
            raise

    def check_delivery(self, subscriber: Subscriber, delivery: Delivery) -> None:
        self.note_expiries()
        self.note_expired()
        assert subscriber.present
        assert not (subscriber.once and subscriber.deliveries)
        assert delivery.seqs
        assert len(delivery.seqs) == len(delivery.messages)
        now = self.clock.monotonic()
        for seq, message in zip(delivery.seqs, delivery.messages, strict=True):
            assert message == self.messages[seq]
            assert seq not in self.acked
            assert seq not in self.held
            assert not self.is_past_retention(seq)
            late = self.waiting.pop(seq) if seq in self.delivered else None
            if seq not in self.delivered:
                self.check_fresh(seq)
            self.check_credit(subscriber)
            deadline = now + subscriber.ack_deadline_s
            self.held[seq] = Held(delivery.grant, deadline, len(message), subscriber, late)
            self.delivered.add(seq)
            text = f"{delivery.ack_id_head.decode()}{seq:012x}"
            self.ack_ids.append(AckId(text, self.run, self.epoch, delivery.grant, seq))
        subscriber.deliveries.append(delivery)

    def check_fresh(self, seq: int) -> None:
        """Fresh messages go out oldest first, and none is left out."""
        assert seq >= self.fresh_from
        for older in range(self.fresh_from, seq):
            assert older in self.acked | self.losable
        self.fresh_from = seq + 1

    def check_credit(self, subscriber: Subscriber) -> None:
        """There is credit for one more message."""
        held = [held for held in self.held.values() if held.by is subscriber]
        assert subscriber.max_messages == 0 or len(held) < subscriber.max_messages
        assert subscriber.max_bytes == 0 or sum(one.size for one in held) < subscriber.max_bytes

    def wants_more(self, subscriber: Subscriber) -> bool:
        if not subscriber.present or (subscriber.once and subscriber.deliveries):
            return False
        held = [held for held in self.held.values() if held.by is subscriber]
        return (
            subscriber.consumer.ready
            and (subscriber.max_messages == 0 or len(held) < subscriber.max_messages)
            and (subscriber.max_bytes == 0 or sum(one.size for one in held) < subscriber.max_bytes)
        )

    def available(self) -> set[int]:
        return set(range(1, self.end)) - self.acked - self.held.keys() - self.losable

    def is_past_retention(self, seq: int) -> bool:
        batch = next(iter(self.stored.from_seq(TOPIC, seq)), None)
        if batch is None or batch.first_seq > seq:
            return False
        kept_from = self.runtime.kept_from
        return batch.publish_time_us + RETENTION_S * SECOND_US <= self.clock.now_us() and (
            kept_from is None or batch.first_seq + batch.count <= kept_from
        )

    def choose(self, which: list[int], *, current: bool) -> list[AckId]:
        """Some of the ack ids given out; ``current``: of those that count, if there are any."""
        among = (current and [one for one in self.ack_ids if self.counts(one)]) or self.ack_ids
        return [among[number % len(among)] for number in which]

    def is_held(self, one: AckId) -> bool:
        held = self.held.get(one.seq)
        return held is not None and held.grant == one.grant and one.epoch == self.epoch

    def counts(self, one: AckId) -> bool:
        """Is an acknowledgement with this ack id to be accepted?"""
        if one.epoch != self.epoch:
            return False
        if self.is_held(one) or self.waiting.get(one.seq, None) == one.grant:
            return True
        return (
            one.run < self.run
            and one.seq not in self.delivered
            and self.runtime.unread.start <= one.seq < self.runtime.end
        )

    def put_back(self, seq: int, grant: int | None) -> None:
        """A message is to be delivered again."""
        del self.held[seq]
        if seq >= self.runtime.floor:
            self.waiting[seq] = grant

    def note_expiries(self) -> None:
        now = self.clock.monotonic()
        for seq, held in list(self.held.items()):
            if held.deadline <= now:
                self.put_back(seq, held.grant)

    def note_expired(self) -> None:
        for batch in self.stored.batches.get(TOPIC, []):
            if self.is_past_retention(batch.first_seq):
                self.losable |= set(range(batch.first_seq, batch.first_seq + batch.count))

    def forget_deliveries(self, acked: set[int]) -> None:
        """After a seek or a restart, nothing is held, and what is not acknowledged is fresh."""
        self.acked = acked
        self.held.clear()
        self.waiting.clear()
        self.delivered.clear()
        self.fresh_from = self.floor = 1
        self.epoch += 1

    def on_loop_error(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.faults.append(context.get("exception") or context["message"])

    def check_faults(self) -> None:
        assert not self.faults, repr(self.faults[0])


TestSubscription = SubscriptionMachine.TestCase
TestSubscription.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
