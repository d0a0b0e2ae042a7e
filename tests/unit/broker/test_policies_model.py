"""A subscription with policies against a naive model: ordering, exactly-once, retries, dead letters.

Any combination of them, with several consumers, a view that leaves messages out or fails, writes
that are slow or fail, forwards that do, seeks, and restarts at any moment: then all that is left is
what was written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ams_grpc.broker import forwarder as forwarder_module
from ams_grpc.broker import places as places_module
from ams_grpc.broker import reading as reading_module
from ams_grpc.broker.catalog import Subscription, SubscriptionConfig
from ams_grpc.broker.consumers import Consumer, Delivery
from ams_grpc.broker.cursor import Cursor
from ams_grpc.broker.errors import NotFound, ShuttingDown, StorageUnavailable
from ams_grpc.broker.log import Log
from ams_grpc.broker.names import SubscriptionName, TopicName
from ams_grpc.broker.policies import SECOND_US, DeadLetterPolicy, RetryPolicy
from ams_grpc.broker.ports import (
    CursorChanges,
    CursorState,
    Deliveries,
    DirtyCursor,
    Settled,
)
from ams_grpc.broker.runtime import SubscriptionRuntime
from ams_grpc.broker.views import PlainView
from tests.unit.broker.fakes import ManualClock, MemoryLog, Stored, decode, encode, read_key

TOPIC = 1
ID = 5
SECRET = b"secret"
RETENTION_S = 100
MALFORMED = "never-an-ack-id"
REMEMBERED_S = 600.0


class AckId(NamedTuple):
    """An ack id as it was given out, and what it stands for."""

    text: str
    run: int
    epoch: int
    grant: int
    seq: int


@dataclass(eq=False)
class Subscriber:
    """A stream or a pull, and what came."""

    max_messages: int
    max_bytes: int
    once: bool
    one_per_key: bool
    deliveries: list[Delivery] = field(default_factory=list)
    present: bool = True
    consumer: Consumer = field(init=False)


class Held(NamedTuple):
    grant: int
    deadline: float
    size: int
    by: Subscriber | None
    promised: float
    """Until when it is not delivered again, whatever happens; 0 without exactly-once delivery."""


class Window:
    """A batch without the messages that begin with ``-``; some cannot be delivered."""

    def __init__(self, batch: Any, machine: PoliciesMachine) -> None:
        self.first_seq: int = batch.first_seq
        self.end_seq: int = batch.end_seq
        self.publish_time_us: int = batch.publish_time_us
        self.messages: Sequence[bytes | None] = [
            None if b"-" in message else message for message in batch.messages
        ]
        seqs = range(self.first_seq, self.end_seq)
        broken = {seq: "broken" for seq in seqs if seq in machine.broken}
        self.failures: Mapping[int, str] = Reasons(broken, machine)
        self.is_whole = not broken and None not in self.messages


class Reasons(dict[int, str]):
    """Tells the model when a failure is counted: that is when its reason is asked for."""

    def __init__(self, broken: Mapping[int, str], machine: PoliciesMachine) -> None:
        super().__init__(broken)
        self._machine = machine

    def __getitem__(self, seq: int) -> str:
        self._machine.note_unsent(seq)
        return super().__getitem__(seq)


class PatchyView:
    """``views.View``."""

    def __init__(self, log: Log, machine: PoliciesMachine) -> None:
        self._plain = PlainView(log, TOPIC)
        self._machine = machine

    def find(self, seq: int) -> Window | None:
        batch = self._plain.find(seq)
        return None if batch is None else Window(batch, self._machine)

    async def load(self, seq: int) -> int | None:
        return await self._plain.load(seq)


class Writer:
    """``ports.Commits``: groups of cursors, one after the other, that succeed or fail."""

    def __init__(self, machine: PoliciesMachine) -> None:
        self._machine = machine
        self._dirty: dict[int, DirtyCursor] = {}
        self._flushes: list[asyncio.Future[None]] = []
        self._group: list[tuple[DirtyCursor, CursorChanges]] | None = None
        self._group_flushes: list[asyncio.Future[None]] = []
        self.prompt = True

    @property
    def is_writing(self) -> bool:
        return self._group is not None

    def append(self, *_arguments: Any, **_options: Any) -> Any:
        raise AssertionError("the runtime does not publish")

    def save(self, cursor: DirtyCursor) -> None:
        self._dirty[cursor.subscription_id] = cursor

    def flushed(self) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._machine.loop.create_future()
        self._flushes.append(future)
        if self.prompt:
            self._machine.loop.call_soon(self.commit)
        return future

    def begin(self) -> None:
        """What gathered is on its way."""
        if self._group is None:
            self._machine.note_writing()
            self._group = [(cursor, cursor.take_changes()) for cursor in self._dirty.values()]
            self._dirty = {}
            self._group_flushes, self._flushes = self._flushes, []

    def finish(self, *, written: bool) -> None:
        """It is written, or could not be."""
        group, self._group = self._group or [], None
        flushes, self._group_flushes = self._group_flushes, []
        for cursor, changes in group:
            if written:
                self._machine.stored.write(changes)
            else:
                cursor.put_back(changes)
                self._dirty.setdefault(changes.subscription_id, cursor)
        if written and group:
            self._machine.note_written()
        for flush in flushes:
            if flush.done():
                continue
            if written:
                flush.set_result(None)
            else:
                flush.set_exception(StorageUnavailable("down"))
                flush.exception()

    def commit(self) -> None:
        """All that was handed in is written."""
        if self.is_writing:
            self.finish(written=True)
        self.begin()
        self.finish(written=True)

    def settle(self, settled: Settled) -> None:
        """Alone in its group, so that nothing else is written along with it."""
        if self.is_writing:
            self.finish(written=True)
        if self._machine.stored.cursors[ID].epoch < settled.epoch:
            self.commit()
        stored = self._machine.stored.cursors[ID]
        if stored.epoch == settled.epoch:
            cursor = Cursor(ID, stored)
            cursor.mark_done(settled.seqs)
            self._machine.stored.cursors[ID] = cursor.state()
        settled.then()


class Forwarder:
    """``dead_letters.Forwarding``."""

    def __init__(self, machine: PoliciesMachine) -> None:
        self._machine = machine
        self.answers = asyncio.Event()
        self.answers.set()
        self.failing = False
        """Is there no such topic?"""
        self.away = False
        """Does the storage not answer?"""

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
        await asyncio.sleep(0)
        await self.answers.wait()
        machine = self._machine
        if self.away:
            raise StorageUnavailable("away")
        if self.failing:
            machine.note_spared(seq, epoch)
            raise NotFound("no such topic")
        if not any(
            b.first_seq <= seq < b.first_seq + b.count for b in machine.stored.batches[TOPIC]
        ):
            machine.dying.discard(seq)
            machine.losable.add(seq)
            return False
        machine.note_forwarded(seq, epoch, attempts)
        machine.writer.settle(Settled(ID, epoch, (seq,), then))
        return True


many = st.lists(st.integers(0, 1 << 16), min_size=1, max_size=5)


class PoliciesMachine(RuleBasedStateMachine):
    """Publishers, subscribers, time, seeks, restarts, and a storage that is slow, or down."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(self.on_loop_error)
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(reading_module, "_RETRY_S", 0)
        self.patch.setattr(forwarder_module, "_RETRY_S", 0)
        self.patch.setattr(places_module, "_KEYS_THAT_MAY_BLOCK", 2)
        self.faults: list[object] = []

        self.clock = ManualClock()
        self.stored = Stored()
        self.stored.cursors[ID] = CursorState(1, 0, {})
        self.stored.batches[TOPIC] = []
        self.reader = MemoryLog(self.stored)
        self.run = 0

        # The model. Seqs begin with 1.
        self.messages: list[bytes] = [b""]
        self.done: set[int] = set()
        self.confirmed: set[int] = set()  # of exactly-once acks, those that were confirmed
        self.held: dict[int, Held] = {}
        self.provisional: dict[int, Subscriber | None] = {}
        self.late: dict[int, int] = {}
        """Seq -> the grant whose expiry was its last failure. Its ack counts unless it is held."""
        self.rests: dict[int, float] = {}
        self.failures: dict[int, int] = {}
        self.dying: set[int] = set()
        self.forwarded: set[int] = set()  # since the last seek
        self.ever_forwarded: set[int] = set()
        self.forwarded_late: set[int] = set()
        """After a seek: done on disk, until the seek is there, too."""
        self.broken: set[int] = set()
        self.losable: set[int] = set()  # past its retention at some moment, or deleted
        self.keyless: set[int] = set()  # gone before the last restart: no key can be read
        self.delivered: set[int] = set()  # since the start, or the last seek
        self.accepted: dict[tuple[int, int], float] = {}
        self.epoch = 0
        self.pending: list[tuple[asyncio.Future[None], Callable[[], None]]] = []
        self.written_failures: dict[int, int] = {}
        self.writing_failures: dict[int, int] = {}
        self.written_leases: set[tuple[int, int]] = set()  # seq and grant of each
        self.writing_leases: set[tuple[int, int]] = set()
        self.snapshot: tuple[CursorState, set[int]] = (CursorState(1, 0, {}), set())
        self.ack_ids: list[AckId] = []
        self.subscribers: list[Subscriber] = []

    @initialize(
        ordered=st.booleans(),
        exactly_once=st.booleans(),
        attempts=st.sampled_from([None, 1, 2, 3]),
        backoff=st.sampled_from([None, (1, 3), (0, 2)]),
        cache_bytes=st.sampled_from([1, 400, 100_000]),
        max_outstanding=st.sampled_from([4, 8, 12, 1000]),
    )
    def begin(
        self,
        ordered: bool,
        exactly_once: bool,
        attempts: int | None,
        backoff: tuple[int, int] | None,
        cache_bytes: int,
        max_outstanding: int,
    ) -> None:
        self.cache_bytes = cache_bytes
        self.max_outstanding = max_outstanding
        retry = None
        if backoff is not None:
            retry = RetryPolicy(backoff[0] * SECOND_US, backoff[1] * SECOND_US)
        dead_letter = None
        if attempts is not None:
            dead_letter = DeadLetterPolicy(TopicName("project", "dead"), attempts)
        self.subscription = Subscription(
            id=ID,
            name=SubscriptionName("project", "subscription"),
            version=1,
            topic_id=TOPIC,
            topic_name=TopicName("project", "topic"),
            topic_retention_us=None,
            start_seq=1,
            detached=False,
            config=SubscriptionConfig(
                message_retention_us=RETENTION_S * SECOND_US,
                ordered=ordered,
                exactly_once=exactly_once,
                retry=retry,
                dead_letter=dead_letter,
            ),
        )
        self.start()
        self.publish(["a:", "a:", "b:", "", "a:"], sizes=3, broken=False)
        self.connect(2, 0, once=False, one_per_key=False)

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
        heads=st.lists(
            st.sampled_from(["a:", "a:", "a:", "b:", "b:", "", "a:-", "-"]), min_size=1, max_size=5
        ),
        sizes=st.integers(1, 12),
        broken=st.sampled_from([False, False, True]),
    )
    def publish(self, heads: list[str], sizes: int, broken: bool) -> None:
        messages = [head.encode() + b"m" * (sizes + i % 3) for i, head in enumerate(heads)]
        first = len(self.messages)
        if broken:  # every other one that is there, until the view is mended
            every_other = range(first + 1, first + len(messages), 2)
            self.broken |= {seq for seq in every_other if b"-" not in messages[seq - first]}
        self.messages += messages
        self.stored.append(TOPIC, encode(messages), len(messages), self.clock.now_us())
        self.do(self.tell)

    def tell(self) -> None:
        self.runtime.appended(len(self.messages))

    @precondition(lambda self: self.broken)
    @rule()
    def the_view_is_mended(self) -> None:
        self.broken.clear()

    # --- consumers come and go

    @rule(
        max_messages=st.integers(0, 3),
        max_bytes=st.sampled_from([0, 1, 15, 40]),
        once=st.booleans(),
        one_per_key=st.sampled_from([False, False, True]),
    )
    def connect(self, max_messages: int, max_bytes: int, once: bool, one_per_key: bool) -> None:
        subscriber = Subscriber(max_messages, max_bytes, once, one_per_key)
        subscriber.consumer = Consumer(
            lambda delivery: self.on_delivery(subscriber, delivery),
            lambda _error: setattr(subscriber, "present", False),
            ack_deadline_s=2 + max_messages,
            max_messages=max_messages,
            max_bytes=max_bytes,
            once=once,
            one_per_key=one_per_key,
        )
        self.subscribers.append(subscriber)
        self.do(lambda: self.runtime.add(subscriber.consumer))

    @precondition(lambda self: self.subscribers)
    @rule(which=st.integers(0, 1 << 16))
    def leave(self, which: int) -> None:
        subscriber = self.subscribers[which % len(self.subscribers)]
        subscriber.present = False
        self.do(lambda: self.runtime.remove(subscriber.consumer))

    # --- what they do with messages

    @precondition(lambda self: self.ack_ids)
    @rule(which=many, current=st.sampled_from([True, True, False]))
    def acknowledge(self, which: list[int], current: bool) -> None:
        ids = self.choose(which, current=current)
        if self.exactly_once:
            self.acknowledge_exactly(ids)
            return
        settled = {one.seq for one in ids if self.counts(one)}
        for seq in sorted(settled):
            self.note_ack(seq)
        self.do(lambda: self.runtime.acknowledge([one.text for one in ids]))

    def acknowledge_exactly(self, ids: list[AckId]) -> None:
        accepted: list[str] = []
        unordered: list[str] = []
        now = self.clock.monotonic()
        done: set[int] = set()
        for one in sorted(set(ids), key=lambda one: (one.seq, one.grant)):
            if self.is_held(one):
                if self.is_keyed(one.seq) and self.has_to_wait(one.seq):
                    unordered.append(one.text)
                    continue
                done.add(one.seq)
                self.note_ack(one.seq)
                self.accepted[one.grant, one.seq] = now + REMEMBERED_S
                accepted.append(one.text)
            elif one.epoch == self.epoch and self.accepted.get((one.grant, one.seq), 0) > now:
                accepted.append(one.text)
                done.add(one.seq)
        texts = [one.text for one in ids]
        invalid = {MALFORMED, *texts} - {*accepted, *unordered}
        answer = self.do(lambda: self.exactly(lambda: self.runtime.acknowledge_exactly(
            [*texts, MALFORMED]
        ), lambda: self.confirmed.update(done)))  # fmt: skip
        assert set(answer.accepted) == set(accepted)
        assert set(answer.unordered) == set(unordered)
        assert set(answer.invalid) == invalid

    @precondition(lambda self: self.ack_ids)
    @rule(
        which=many,
        seconds=st.sampled_from([0, 0, 0, 1, 3, 5]),
        current=st.sampled_from([True, True, False]),
    )
    def move_deadlines(self, which: list[int], seconds: int, current: bool) -> None:
        """0 seconds: a nack."""
        ids = self.choose(which, current=current)
        if self.exactly_once:
            ids = sorted(set(ids), key=lambda one: (one.seq, one.grant))
        texts = [one.text for one in ids]
        valid = [one for one in ids if self.is_held(one)]
        deadline = self.clock.monotonic() + seconds
        groups: dict[tuple[int, int], list[AckId]] = {}
        for one in ids:
            groups.setdefault((one.epoch, one.grant), []).append(one)
        for group in groups.values():
            for one in sorted(group, key=lambda one: one.seq):
                if self.is_held(one):
                    if seconds:
                        self.held[one.seq] = self.held[one.seq]._replace(deadline=deadline)
                    else:
                        self.note_failure(one.seq)
                elif seconds and not self.exactly_once and self.is_late_in_waiting(one):
                    self.rests.pop(one.seq, None)
                    self.held[one.seq] = Held(one.grant, deadline, 0, None, 0)
        if not self.exactly_once:
            self.do(lambda: self.runtime.modify_ack_deadline(texts, seconds))
            return

        def promise() -> None:
            for one in valid:
                held = self.held.get(one.seq)
                if held is not None and held.grant == one.grant and held.promised:
                    promised = max(held.promised, min(held.deadline, deadline))
                    self.held[one.seq] = held._replace(promised=promised)

        answer = self.do(
            lambda: self.exactly(
                lambda: self.runtime.modify_ack_deadline_exactly(texts, seconds), promise
            )
        )
        assert set(answer.accepted) == {one.text for one in valid}
        assert set(answer.invalid) == set(texts) - set(answer.accepted)

    def exactly(self, call: Callable[[], Any], confirm: Callable[[], None]) -> Any:
        """Make a call; ``confirm`` when it is written."""
        answer = call()
        self.pending.append((asyncio.ensure_future(self.runtime.written()), confirm))
        return answer

    @precondition(lambda self: any(one.deliveries for one in self.subscribers))
    @rule(which=st.integers(0, 1 << 16))
    def a_delivery_did_not_arrive(self, which: int) -> None:
        deliveries = [one for subscriber in self.subscribers for one in subscriber.deliveries]
        delivery = deliveries[which % len(deliveries)]
        for seq in delivery.seqs:
            if seq in self.held and self.held[seq].grant == delivery.grant:
                self.note_return(seq)
        self.do(lambda: self.runtime.give_back(delivery))

    # --- time

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, 2.0, 4.0, 30.0]))
    def time_passes(self, seconds: float) -> None:
        self.do(lambda: self.clock.advance(seconds))

    @rule(
        what=st.sampled_from(
            ["retention", "deletion", "seek", "seek", "snapshot", "go back", "toggle"]
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
            case "seek":
                self.seek(one, other)
            case "snapshot":
                self.snapshot = (self.runtime.cursor_state(), set(self.done))
            case "go back":
                state, done = self.snapshot
                self.forget_deliveries(set(done))
                self.do(lambda: self.runtime.seek_to_snapshot(state))
            case "toggle":
                self.toggle_exactly_once()

    def retention_raises_the_floor(self, seq: int) -> None:
        seq %= len(self.messages) + 1
        self.lose(range(1, seq))
        self.do(lambda: self.runtime.expire_before(seq, self.subscription.retention_us))

    def a_batch_is_deleted(self, which: int) -> None:
        batches = self.stored.batches[TOPIC]
        if batches:
            batch = batches.pop(which % len(batches))
            self.lose(range(batch.first_seq, batch.first_seq + batch.count))

    def seek(self, start: int, replay_from: int) -> None:
        start = 1 + start % len(self.messages)
        replay_from = 1 + replay_from % len(self.messages)
        kept = {seq for seq in self.done if seq < replay_from}
        self.forget_deliveries(kept | set(range(1, start)))
        self.do(lambda: self.runtime.seek(start, replay_from))

    def toggle_exactly_once(self) -> None:
        if self.exactly_once:  # as the catalog does, in a transaction of its own
            if self.writer.is_writing:
                self.do(lambda: self.writer.finish(written=True))
            self.stored.leases.pop(ID, None)
        config = replace(self.subscription.config, exactly_once=not self.exactly_once)
        self.subscription = replace(self.subscription, config=config)
        for seq, held in self.held.items():
            self.held[seq] = held._replace(promised=0)
        self.do(lambda: self.runtime.use(self.subscription))

    # --- storage

    @rule(what=st.sampled_from(["begin", "finish", "fail", "commit", "slow", "prompt"]))
    def the_writer_goes_on(self, what: str) -> None:
        match what:
            case "begin":
                self.writer.begin()
            case "finish":
                self.do(lambda: self.writer.finish(written=True))
            case "fail":
                self.writer.begin()
                self.do(lambda: self.writer.finish(written=False))
            case "commit":
                self.do(self.writer.commit)
            case "slow":
                self.writer.prompt = False
            case "prompt":
                self.writer.prompt = True
                self.do(self.writer.commit)

    @rule(answering=st.booleans(), failing=st.booleans())
    def the_reader_changes(self, answering: bool, failing: bool) -> None:
        self.reader.failing = failing
        if answering:
            self.reader.answers.set()
        else:
            self.reader.answers.clear()
        self.do(lambda: None)

    @rule(answering=st.booleans(), failing=st.booleans(), away=st.booleans())
    def the_dead_letter_topic_changes(self, answering: bool, failing: bool, away: bool) -> None:
        self.forwarder.failing = failing
        self.forwarder.away = away
        if answering:
            self.forwarder.answers.set()
        else:
            self.forwarder.answers.clear()
        self.do(lambda: None)

    @rule(pause_s=st.sampled_from([0.001, 1.0, 3.0]))
    def restart(self, pause_s: float) -> None:
        """What was not written is forgotten. A consumer connects again, or not."""
        self.do(lambda: self.runtime.close(ShuttingDown("bye")))
        self.pending.clear()
        self.subscribers.clear()
        promised = {seq: held for seq, held in self.held.items() if held.promised}
        self.clock.advance(pause_s)
        state = self.stored.cursors[ID]
        cursor = Cursor(ID, state)
        done = {seq for seq in range(1, len(self.messages)) if cursor.is_done(seq)}
        assert self.confirmed <= done | self.losable
        confirmed = self.confirmed
        stored_failures = dict(self.stored.failures.get(ID, {}))
        if self.max_attempts is not None:
            for seq in set(range(1, len(self.messages))) - done - self.losable:
                assert stored_failures.get(seq, 0) == self.written_failures.get(seq, 0), seq
        self.forget_deliveries(done)
        self.epoch = state.epoch
        self.confirmed = confirmed
        if self.max_attempts is not None:
            self.failures = {seq: n for seq, n in stored_failures.items() if seq not in done}
        self.keyless = {seq for seq in range(1, len(self.messages)) if self.is_gone(seq)}
        if self.exactly_once:
            self.restore_leases()
            self.check_promises(promised)
        if self.max_attempts is not None:
            due = {seq for seq, n in self.failures.items() if n >= self.max_attempts}
            self.dying = due - self.held.keys()
        self.start()

    def restore_leases(self) -> None:
        """Leases that are valid go on, unless an earlier one of the key is over."""
        stored = self.stored.leases.get(ID, {})
        now, now_us = self.clock.monotonic(), self.clock.now_us()
        latest = {seq: grant for grant in sorted(stored) for seq in stored[grant].seqs}
        for seq, grant in latest.items():
            left_s = (stored[grant].deadline_us - now_us) / SECOND_US
            if left_s > 0 and seq not in self.done:
                assert (seq, grant) in self.written_leases, "what came back is leased again"
                self.held[seq] = Held(grant, now + left_s, 0, None, now + left_s)
        for key in ("a", "b"):
            is_over = False
            for seq in self.of_key(key):
                if self.is_keyed(seq) and not self.is_lost(seq):
                    is_over = is_over or seq not in self.held
                    if is_over:
                        self.held.pop(seq, None)

    def check_promises(self, promised: dict[int, Held]) -> None:
        """No lease of exactly-once delivery that somebody relies on ended by the restart."""
        now = self.clock.monotonic()
        for seq, held in promised.items():
            earlier = [s for s in self.of_key_of(seq) if s < seq and s not in self.done]
            if any(promised.get(s, held._replace(promised=0)).promised <= now for s in earlier):
                continue
            if held.promised > now + 1e-6 and seq not in self.done | self.losable:
                assert seq in self.held, seq
                assert self.held[seq].deadline >= held.promised - 1e-3

    # --- what always holds

    @invariant()
    def every_message_is_in_exactly_one_place(self) -> None:
        if not hasattr(self, "runtime"):
            return
        runtime = self.runtime
        keys = runtime._places.keys
        for seq in range(1, runtime.end):
            leased = seq in runtime._places.leases
            waiting = seq in runtime._places.waiting
            done = runtime._places.cursor.is_done(seq)
            keyed = keys is not None and seq in keys
            of_key = keyed and not leased
            dying = seq in runtime._places.dying and not keyed
            # What retention takes may still be at a consumer.
            done = done and not ((leased or of_key) and seq in self.losable)
            places = leased + waiting + done + of_key + dying
            in_log = seq >= runtime.unread.start or self.is_left_behind(seq)
            assert places == 1 or (places == 0 and in_log), seq

    @invariant()
    def the_model_agrees(self) -> None:
        if not hasattr(self, "runtime"):
            return
        self.check_faults()
        runtime = self.runtime
        for seq in range(1, len(self.messages)):
            if seq in self.held:
                assert seq in runtime._places.leases, seq
            elif not runtime._unsent:
                assert seq not in runtime._places.leases, seq
            if runtime._places.cursor.is_done(seq):
                assert seq in self.done | self.losable or self.is_absent(seq), seq
            else:
                assert seq not in self.done, seq
                if seq not in self.losable:
                    assert runtime._places.attempts.failures(seq) == self.failures.get(seq, 0), seq
        assert set(runtime._places.dying) <= self.dying | self.losable
        if not runtime._unsent:
            for subscriber in self.subscribers:
                held = [held for held in self.held.values() if held.by is subscriber]
                assert subscriber.consumer.outstanding_messages == len(held)
                assert subscriber.consumer.outstanding_bytes == sum(one.size for one in held)

    @invariant()
    def of_each_key_the_first_are_done(self) -> None:
        """In memory, and on disk; apart from what was forwarded, left out, or lost."""
        if not hasattr(self, "runtime") or not self.subscription.config.ordered:
            return
        stored = Cursor(ID, self.stored.cursors[ID])
        for key in ("a", "b"):
            for cursor in (self.runtime._places.cursor, stored):
                apart = self.ever_forwarded | self.losable
                if cursor.epoch < self.epoch:
                    apart |= self.forwarded_late
                seqs = [
                    seq for seq in self.of_key(key) if seq not in apart and not self.is_absent(seq)
                ]
                done = [cursor.is_done(seq) for seq in seqs]
                assert done == sorted(done, reverse=True), (key, seqs, done)

    @invariant()
    def nobody_waits_for_what_is_there(self) -> None:
        """Unless messages are on their way from storage, or to it."""
        if not hasattr(self, "runtime") or self.runtime.busy or self.runtime.gleaning:
            return
        if self.memory_is_needed:
            return
        for subscriber in self.subscribers:
            if self.wants_more(subscriber):
                for seq in set(range(1, len(self.messages))) - self.losable:
                    assert self.obstacle(subscriber, seq) or self.waits_for_the_lost(seq), seq

    @invariant()
    def somebody_looks_after_the_next_deadline_or_rest(self) -> None:
        if not hasattr(self, "runtime"):
            return
        assert self.clock.alarms <= 1
        resting = [
            seq
            for seq, until in self.rests.items()
            if until > self.clock.monotonic() and seq not in self.losable
        ]
        assert self.clock.alarms or not (self.held or resting)

    # --- the subscription

    @property
    def exactly_once(self) -> bool:
        return self.subscription.config.exactly_once

    @property
    def max_attempts(self) -> int | None:
        policy = self.subscription.config.dead_letter
        return None if policy is None else policy.max_delivery_attempts

    def start(self) -> None:
        self.run += 1
        self.log = Log(self.reader, decode, cache_bytes=self.cache_bytes, read_bytes=80)
        self.writer = Writer(self)
        self.forwarder = Forwarder(self)
        stores = self.exactly_once or self.max_attempts is not None
        self.runtime = SubscriptionRuntime(
            self.subscription,
            self.stored.cursors[ID],
            view=PatchyView(self.log, self),
            commits=self.writer,
            clock=self.clock,
            secret=SECRET,
            max_outstanding=self.max_outstanding,
            read_key=read_key,
            forwarding=self.forwarder,
            deliveries=Deliveries(
                dict(self.stored.failures.get(ID, {})), dict(self.stored.leases.get(ID, {}))
            )
            if stores
            else None,
        )
        self.reader.failing = False
        self.reader.answers.set()
        self.loop.run_until_complete(self.runtime.restore())
        self.do(lambda: self.runtime.use(self.subscription))
        self.do(self.tell)

    def do(self, action: Callable[[], Any]) -> Any:
        """Do it on the event loop; then let things happen, unless storage is slow or down."""

        async def act() -> Any:
            answer = action()
            for _ in range(8):
                await asyncio.sleep(0)
            for _ in range(4000):
                waits = self.reader.failing or not self.reader.answers.is_set()
                waits = waits or (bool(self.runtime._unsent) and not self.writer.prompt)
                if not (self.runtime.busy or self.runtime.gleaning) or waits:
                    break
                await asyncio.sleep(0)
            else:
                raise AssertionError("it loads and loads")
            for _ in range(8):
                await asyncio.sleep(0)
            return answer

        answer = self.loop.run_until_complete(act())
        self.note_expiries()
        self.note_expired()
        for written, confirm in [one for one in self.pending if one[0].done()]:
            self.pending.remove((written, confirm))
            if written.exception() is None:
                confirm()
        return answer

    def drain(self) -> None:
        """When all goes well in the end, everything that is not done comes, until it is."""
        self.broken.clear()
        self.reader.failing = self.forwarder.failing = self.forwarder.away = False
        self.reader.answers.set()
        self.forwarder.answers.set()
        self.writer.prompt = True
        self.do(self.writer.commit)
        for subscriber in self.subscribers:
            subscriber.present = False
            self.do(partial(self.runtime.remove, subscriber.consumer))
        self.connect(0, 0, once=False, one_per_key=False)
        for _ in range(60):
            self.do(lambda: self.clock.advance(3))
            ids = [one for one in self.ack_ids if self.is_held(one)]
            if ids:
                for one in sorted(ids, key=lambda one: one.seq):
                    if self.exactly_once:
                        self.acknowledge_exactly([one])
                    else:
                        self.note_ack(one.seq)
                        self.do(partial(self.runtime.acknowledge, [one.text]))
            elif not self.undone():
                break
        assert not self.undone()
        self.do(lambda: self.clock.advance(700))  # by then, accepted acks are forgotten, too
        self.do(self.writer.commit)
        runtime = self.runtime
        assert not len(runtime._places.leases)
        assert not len(runtime._places.waiting)
        assert not runtime._places.dying
        assert runtime._places.keys is None or len(runtime._places.keys) == 0
        assert runtime.floor == len(self.messages)
        assert not self.stored.leases.get(ID)
        if self.max_attempts is not None:
            assert not self.stored.failures.get(ID)
        assert not self.clock.alarms
        self.check_faults()

    def undone(self) -> set[int]:
        seqs = set(range(1, len(self.messages))) - self.done - self.losable
        return {seq for seq in seqs if not self.is_absent(seq)}

    # --- what the subscription does

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
        now = self.clock.monotonic()
        if self.max_attempts is None:
            assert not delivery.attempts
        else:
            assert list(delivery.attempts) == [
                self.failures.get(seq, 0) + 1 for seq in delivery.seqs
            ]
        for seq, message in zip(delivery.seqs, delivery.messages, strict=True):
            assert message == self.messages[seq]
            assert seq not in self.confirmed
            assert self.credit(subscriber)
            obstacle = self.obstacle(subscriber, seq)
            assert not obstacle, f"{seq} is {obstacle}"
            deadline = self.runtime._places.leases._held[seq][0].deadline
            assert now < deadline <= now + subscriber.consumer.ack_deadline_s
            promised = 0.0
            if self.exactly_once and (stored := self.stored.leases.get(ID, {})):
                lease = stored.get(delivery.grant)
                if lease is not None or delivery.grant in self.runtime._places.book._stored:
                    assert lease is not None, "sent before it was written"
                    assert seq in lease.seqs
                    promised = now + (lease.deadline_us - self.clock.now_us()) / SECOND_US
                    assert promised >= deadline - 1e-3
            self.held[seq] = Held(delivery.grant, deadline, len(message), subscriber, promised)
            self.delivered.add(seq)
            self.rests.pop(seq, None)
            text = f"{delivery.ack_id_head.decode()}{seq:012x}"
            self.ack_ids.append(AckId(text, self.run, self.epoch, delivery.grant, seq))
        subscriber.deliveries.append(delivery)

    def obstacle(self, subscriber: Subscriber, seq: int) -> str:
        """Why a message may not go to a subscriber now, as the reference has it; empty if it may."""
        for what, seqs in (
            ("done", self.done),
            ("held", self.held),
            ("acknowledged provisionally", self.provisional),
            ("dying", self.dying),
            ("broken", self.broken),
        ):
            if seq in seqs:
                return what
        if self.is_absent(seq):
            return "left out"
        if self.rests.get(seq, 0) > self.clock.monotonic() + 1e-9:
            return "resting"
        if not self.is_keyed(seq):
            return ""
        key = [s for s in self.of_key_of(seq) if s not in self.losable or s == seq]
        out = [s for s in key if s in self.held or s in self.provisional]
        if out and (subscriber.one_per_key or max(out) > seq):
            return "not alone"
        if len(out) >= self.max_outstanding // 2:
            return "too many of its key"
        holders = [self.held[s].by if s in self.held else self.provisional[s] for s in out]
        if any(holder is not subscriber for holder in holders):
            return "of another's key"
        over = self.done | set(out)
        is_next = all(s in over or self.is_absent(s) for s in key if s < seq)
        return "" if is_next else "not its turn"

    @property
    def memory_is_needed(self) -> bool:
        """Is all that the limit allows in use, of which nothing can be left behind?"""
        places = self.runtime._places
        keys = 0 if places.keys is None else len(places.keys._cut) + places.provisional
        lines = 0
        if places.keys is not None:
            lines = sum(self.needed_of_line(key.held_back) for key in places.keys._keys.values())
        needed = len(places.leases) + len(places.waiting) + len(places.dying) + keys + lines
        return needed >= self.max_outstanding

    def needed_of_line(self, line: Iterable[int]) -> int:
        """The first, and all up to the last that has had all its attempts."""
        most = self.max_attempts or float("inf")
        due = [at for at, seq in enumerate(line) if self.failures.get(seq, 0) >= most]
        return 1 + max(due, default=0)

    def is_left_behind(self, seq: int) -> bool:
        """Its line is cut, somewhere before it."""
        keys = self.runtime._places.keys
        key = None if keys is None else keys.cut(read_key(self.messages[seq]))
        return key is not None and key.cut_at <= seq

    def waits_for_the_lost(self, seq: int) -> bool:
        """What retention took may still be at a consumer."""
        keys = self.runtime._places.keys
        return keys is not None and any(
            s < seq and s in self.losable and s in keys for s in self.of_key_of(seq)
        )

    def wants_more(self, subscriber: Subscriber) -> bool:
        return (
            subscriber.present
            and not (subscriber.once and subscriber.deliveries)
            and self.credit(subscriber)
        )

    def credit(self, subscriber: Subscriber) -> bool:
        held = [held for held in self.held.values() if held.by is subscriber]
        return (subscriber.max_messages == 0 or len(held) < subscriber.max_messages) and (
            subscriber.max_bytes == 0 or sum(one.size for one in held) < subscriber.max_bytes
        )

    def note_ack(self, seq: int) -> None:
        """An ack that counts."""
        held = self.held.pop(seq, None)
        self.late.pop(seq, None)
        self.rests.pop(seq, None)
        if held is None or not self.is_keyed(seq):
            self.note_done(seq)
            return
        self.provisional[seq] = held.by
        for one in self.of_key_of(seq):
            if one in self.held:
                return
            if one in self.provisional:
                del self.provisional[one]
                self.note_done(one)

    def note_done(self, seq: int) -> None:
        self.done.add(seq)
        self.failures.pop(seq, None)
        self.dying.discard(seq)

    def note_failure(self, seq: int, expired: Held | None = None, least_rest_s: float = 0) -> None:
        """A nack, or an expiry (then of what): it goes back, with all that came after it."""
        self.note_return(seq)
        if seq < self.runtime.floor:
            return
        failures = self.failures[seq] = self.failures.get(seq, 0) + 1
        now = self.clock.monotonic()
        self.late.pop(seq, None)
        if expired is not None:
            self.late[seq] = expired.grant
            now = expired.deadline
        if self.max_attempts is not None and failures >= self.max_attempts:
            self.dying.add(seq)
            return
        rest_s = least_rest_s
        retry = self.subscription.config.retry
        if retry is not None:
            least_s = retry.minimum_backoff_us / SECOND_US or 1
            backoff_s = min(retry.maximum_backoff_us / SECOND_US, least_s * 2 ** (failures - 1))
            rest_s = max(rest_s, backoff_s)
        if rest_s:
            self.rests[seq] = now + rest_s

    def note_return(self, seq: int) -> None:
        """Its lease ends, with those of all that came after it in its key."""
        self.held.pop(seq, None)
        if self.is_keyed(seq):
            for one in self.of_key_of(seq):
                if one != seq:
                    self.late.pop(one, None)
                if one >= seq:
                    self.held.pop(one, None)
                    self.provisional.pop(one, None)
                    self.rests.pop(one, None)

    def note_unsent(self, seq: int) -> None:
        """The view failed."""
        self.note_expiries()
        failures = self.failures.get(seq, 0) + 1
        self.note_failure(seq, least_rest_s=0.1 * 2 ** (failures - 1))

    def note_expiries(self) -> None:
        """Of the same moment, the first of a key fails."""
        now = self.clock.monotonic() + 1e-6  # what is stored is rounded
        due = sorted(
            (round(one.deadline, 6), seq) for seq, one in self.held.items() if one.deadline <= now
        )
        for _, seq in due:
            if seq in self.held:
                self.note_failure(seq, self.held[seq])

    def note_spared(self, seq: int, epoch: int) -> None:
        self.note_expiries()
        if epoch != self.epoch or seq not in self.dying:
            return
        self.dying.discard(seq)
        key = self.of_key_of(seq)
        waits = [s for s in key if s < seq and s not in self.done | self.losable]
        waits = [s for s in waits if not self.is_absent(s)]
        if self.is_keyed(seq) and any(
            s not in self.held and s not in self.provisional for s in waits
        ):
            return
        rest_s = 1.0
        retry = self.subscription.config.retry
        if retry is not None:
            least_s = retry.minimum_backoff_us / SECOND_US or 1
            doubled_s = least_s * 2 ** (self.failures[seq] - 1)
            rest_s = max(rest_s, min(retry.maximum_backoff_us / SECOND_US, doubled_s))
        self.rests[seq] = self.clock.monotonic() + rest_s

    def note_forwarded(self, seq: int, epoch: int, attempts: int) -> None:
        self.note_expiries()
        if epoch != self.epoch or seq not in self.dying:
            self.forwarded_late.add(seq)
            return  # a seek, or retention, came between
        try:
            assert seq not in self.forwarded
            assert self.max_attempts is not None
            assert attempts == self.failures[seq] >= self.max_attempts
        except AssertionError as fault:
            self.faults.append(fault)
            raise
        self.forwarded.add(seq)
        self.ever_forwarded.add(seq)
        self.note_done(seq)

    def note_writing(self) -> None:
        self.note_expiries()
        self.writing_failures = dict(self.failures)
        leases = self.runtime._places.leases._held  # including those of what is not sent yet
        self.writing_leases = {(seq, lease.grant) for seq, (lease, _) in leases.items()}

    def note_written(self) -> None:
        self.written_failures = self.writing_failures
        self.written_leases = self.writing_leases

    def note_expired(self) -> None:
        for batch in self.stored.batches[TOPIC]:
            if batch.publish_time_us + RETENTION_S * SECOND_US <= self.clock.now_us():
                self.lose(range(batch.first_seq, batch.first_seq + batch.count))

    def lose(self, seqs: Sequence[int]) -> None:
        """They may be gone, at some moment from now on."""
        self.losable |= set(seqs)

    def forget_deliveries(self, done: set[int]) -> None:
        """After a seek or a restart."""
        self.done = done
        self.confirmed = set()
        self.pending.clear()  # an ack of before may be confirmed, but counts no more
        self.held.clear()
        self.provisional.clear()
        self.late.clear()
        self.rests.clear()
        self.failures.clear()
        self.dying.clear()
        self.forwarded &= done
        self.delivered.clear()
        self.accepted.clear()
        self.epoch += 1

    # --- looking things up

    def is_absent(self, seq: int) -> bool:
        return b"-" in self.messages[seq]

    def is_lost(self, seq: int) -> bool:
        """It is done, or never delivered any more."""
        return seq in self.done or self.is_absent(seq) or self.is_gone(seq)

    def is_gone(self, seq: int) -> bool:
        """It is not stored, or past its retention."""
        for batch in self.stored.batches[TOPIC]:
            if batch.first_seq <= seq < batch.first_seq + batch.count:
                ends_us = batch.publish_time_us + RETENTION_S * SECOND_US
                return ends_us <= self.clock.now_us()
        return True

    def is_keyed(self, seq: int) -> bool:
        return self.subscription.config.ordered and bool(self.key(seq))

    def key(self, seq: int) -> str:
        return "" if seq in self.keyless else read_key(self.messages[seq])

    def of_key(self, key: str) -> list[int]:
        return [seq for seq in range(1, len(self.messages)) if self.key(seq) == key]

    def of_key_of(self, seq: int) -> list[int]:
        """All of its key, itself included, by seq."""
        return self.of_key(self.key(seq)) if self.is_keyed(seq) else [seq]

    def has_to_wait(self, seq: int) -> bool:
        """Whether its ack has to wait. What retention took may be out, and in its key, or not."""
        keys = self.runtime._places.keys
        return keys is not None and any(
            s < seq and s in keys and (s in self.held or s in self.provisional)
            for s in self.of_key_of(seq)
        )

    def is_held(self, one: AckId) -> bool:
        held = self.held.get(one.seq)
        return held is not None and held.grant == one.grant and one.epoch == self.epoch

    def is_late_in_waiting(self, one: AckId) -> bool:
        """It expired, and waits to be delivered again, without a key."""
        return (
            one.epoch == self.epoch
            and self.late.get(one.seq) == one.grant
            and one.seq not in self.dying
            and one.seq in self.runtime._places.waiting
        )

    def counts(self, one: AckId) -> bool:
        """Is an ack with this id to be accepted, without exactly-once delivery?"""
        if one.epoch != self.epoch or one.seq in self.done:
            return False
        if self.is_held(one) or self.is_late_in_waiting(one):
            return True
        if one.seq in self.dying:
            return False
        if self.subscription.config.ordered:
            keys = self.runtime._places.keys
            is_out = any(s in self.held or s in self.provisional for s in self.of_key_of(one.seq))
            is_late = self.late.get(one.seq) == one.grant
            return is_late and not is_out and keys is not None and one.seq in keys
        return (
            one.run < self.run
            and one.grant < self.runtime._first_grant
            and one.seq not in self.delivered
            and not self.runtime._places.cursor.is_done(one.seq)
            and self.runtime.unread.start <= one.seq < self.runtime.end
        )

    def choose(self, which: list[int], *, current: bool) -> list[AckId]:
        """Some of the ack ids given out; ``current``: of those that count, if there are any."""
        among = (current and [one for one in self.ack_ids if self.is_held(one)]) or self.ack_ids
        return [among[number % len(among)] for number in which]

    def on_loop_error(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.faults.append(context.get("exception") or context["message"])

    def check_faults(self) -> None:
        if self.faults:
            fault = self.faults[0]
            raise AssertionError(repr(fault)) from (
                fault if isinstance(fault, BaseException) else None
            )


TestPolicies = PoliciesMachine.TestCase
TestPolicies.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
