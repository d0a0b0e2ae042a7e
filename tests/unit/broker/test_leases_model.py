"""Leases against a dict, and that they do not pile up."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ams_grpc.broker.consumers import Consumer
from ams_grpc.broker.leases import Leases

CONSUMERS = 3

picks = st.lists(st.integers(0, 15), max_size=8)


@dataclass(frozen=True)
class Held:
    grant: int
    consumer: Consumer
    deadline: float
    size: int


def consumer(max_messages: int = 0) -> Consumer:
    return Consumer(
        lambda _delivery: None, lambda _error: None, ack_deadline_s=10, max_messages=max_messages
    )


class LeasesMachine(RuleBasedStateMachine):
    """What is out, at whom, until when: as a dict from seq would have it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.leases = Leases()
        self.consumers = [consumer() for _ in range(CONSUMERS)]
        self.held: dict[int, Held] = {}
        self.next_seq = 0
        self.next_grant = 1

    @rule(
        who=st.integers(0, CONSUMERS - 1),
        sizes=st.lists(st.integers(0, 9), min_size=1, max_size=5),
        again=st.lists(st.integers(0, 20), max_size=3, unique=True),
        seconds=st.integers(1, 4),
        as_range=st.booleans(),
    )
    def grant(
        self, who: int, sizes: list[int], again: list[int], seconds: int, as_range: bool
    ) -> None:
        fresh = range(self.next_seq, self.next_seq + len(sizes))
        self.next_seq += len(sizes)
        redelivered = [seq for seq in again if seq < fresh.start and seq not in self.held]
        seqs = fresh if as_range else [*redelivered, *fresh]
        sizes = [1] * (len(seqs) - len(sizes)) + sizes
        grant, self.next_grant = self.next_grant, self.next_grant + 1
        deadline = self.now + seconds
        self.consumers[who].take(len(seqs), sum(sizes))
        self.leases.grant(grant, self.consumers[who], deadline, seqs, sizes)
        for seq, size in zip(seqs, sizes, strict=True):
            self.held[seq] = Held(grant, self.consumers[who], deadline, size)

    @precondition(lambda self: self.next_grant > 1)
    @rule(data=st.data(), which=picks)
    def release(self, data: st.DataObject, which: list[int]) -> None:
        grant = data.draw(st.integers(1, self.next_grant - 1))
        seqs = [seq for seq in which if seq < self.next_seq]
        released = self.leases.release(grant, seqs)
        expected = {seq for seq in seqs if seq in self.held and self.held[seq].grant == grant}
        assert sorted(released) == sorted(expected)
        for seq in expected:
            del self.held[seq]

    @precondition(lambda self: self.held)
    @rule(data=st.data(), seconds=st.integers(1, 6), dropped=st.integers(0, 3))
    def extend(self, data: st.DataObject, seconds: int, dropped: int) -> None:
        """Of one delivery, all but a few; some named twice; and some that it never had."""
        grant = data.draw(st.sampled_from(sorted({held.grant for held in self.held.values()})))
        mine = [seq for seq, held in self.held.items() if held.grant == grant][dropped:]
        others = [seq for seq, held in self.held.items() if held.grant != grant][:2]
        deadline = self.now + seconds
        self.leases.extend(grant, [*mine, *others, *mine[:2], *mine[:1]], deadline)
        for seq in mine:
            old = self.held[seq]
            self.held[seq] = Held(grant, old.consumer, deadline, old.size)

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        expired = self.leases.expire(self.now)
        expected = {seq for seq, held in self.held.items() if held.deadline <= self.now}
        assert sorted(seq for _, seqs in expired for seq in seqs) == sorted(expected)
        for grant, seqs in expired:
            assert seqs
            assert {self.held[seq].grant for seq in seqs} == {grant}
        for seq in expected:
            del self.held[seq]

    @rule()
    def clear(self) -> None:
        self.leases.clear()
        self.held.clear()

    @invariant()
    def the_same_is_held(self) -> None:
        assert len(self.leases) == len(self.held)
        for seq in range(self.next_seq):
            held = self.held.get(seq)
            assert (seq in self.leases) == (held is not None)
            assert self.leases.grant_of(seq) == (held and held.grant)

    @invariant()
    def the_next_deadline_is_the_earliest(self) -> None:
        earliest = min((held.deadline for held in self.held.values()), default=None)
        assert self.leases.next_deadline() == earliest

    @invariant()
    def consumers_pay_for_what_they_hold(self) -> None:
        for consumer in self.consumers:
            held = [held for held in self.held.values() if held.consumer is consumer]
            assert consumer.outstanding_messages == len(held)
            assert consumer.outstanding_bytes == sum(one.size for one in held)


TestLeases = LeasesMachine.TestCase
TestLeases.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)


def test_ended_leases_do_not_pile_up() -> None:
    leases, stream = Leases(), consumer()
    leases.grant(1, stream, 1000.0, [0], [1])  # one that stays
    for grant in range(2, 5000):
        leases.grant(grant, stream, 600.0 + grant, [grant], [1])
        leases.release(grant, [grant])
    assert len(leases._heap) < 1100
    assert len(leases) == 1


def test_extending_again_and_again_does_not_pile_up() -> None:
    leases, stream = Leases(), consumer()
    leases.grant(1, stream, 10.0, range(10), [1] * 10)
    for second in range(5000):
        leases.extend(1, range(10), 600.0 + second)
    assert len(leases._heap) < 1100
    assert leases.next_deadline() == 600.0 + 4999
    assert leases.expire(600.0 + 4999) == [(1, list(range(10)))]


def test_compaction_keeps_every_lease_that_holds_something() -> None:
    leases, stream = Leases(), consumer()
    for grant in range(1, 3001):
        leases.grant(grant, stream, float(grant), [grant], [1])
    for grant in range(1, 3001):
        if grant % 10:
            leases.release(grant, [grant])
    assert leases.expire(3000.0) == [(grant, [grant]) for grant in range(10, 3001, 10)]
    assert leases._ended == 0
