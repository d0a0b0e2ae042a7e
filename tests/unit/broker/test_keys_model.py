"""Ordering keys against lists: one a key, of what is out, what is held back and what is left behind."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ams_grpc.broker.consumers import Consumer
from ams_grpc.broker.ordering import FOREVER, Keys

NAMES = ["a", "b"]
MOST_OUT = 4


def consumer(*, one_per_key: bool = False) -> Consumer:
    return Consumer(
        lambda _delivery: None, lambda _error: None, ack_deadline_s=10, one_per_key=one_per_key
    )


CONSUMERS = [consumer(), consumer(), consumer(one_per_key=True)]

names = st.sampled_from(["a", "a", "a", "b"])
consumers = st.sampled_from([CONSUMERS[0], *CONSUMERS])


@dataclass
class Line:
    """One key as the reference describes it."""

    out: list[int] = field(default_factory=list)
    acked: set[int] = field(default_factory=set)
    held_back: list[int] = field(default_factory=list)
    holder: Consumer | None = None
    rests_until: float = 0.0
    expired: tuple[int, int] | None = None
    left_behind: list[int] = field(default_factory=list)

    def forget_expiry_but_of(self, seq: int) -> None:
        """What stands behind ``seq`` has to come again, whatever is acknowledged late."""
        if self.expired is not None and self.expired[0] != seq:
            self.expired = None

    def may_get(self, who: Consumer) -> bool:
        """Whether its next message may go to that consumer now."""
        return not self.rests_until and (
            not self.out
            or (self.holder is who and not who.one_per_key and len(self.out) < MOST_OUT)
        )


class KeysMachine(RuleBasedStateMachine):
    """Reading, delivering, acks in any order, failures and rests of a few keys."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1.0
        self.next_seq = 1
        self.keys = Keys(MOST_OUT)
        self.lines = {name: Line() for name in NAMES}

    def teardown(self) -> None:
        """When all is settled, nothing is left."""
        for name, line in self.lines.items():
            if line.out:
                self.fail_first_out(name, 0.0)
            self.keys.discard(line.held_back)
            line.held_back = []
            if self.keys.cut(name):
                self.read_on(name, len(line.left_behind), self.next_seq, is_all=True)
                self.keys.discard(line.held_back)
        assert len(self.keys) == 0
        assert not self.keys._key_of
        assert not self.keys._free
        assert not self.keys._own
        assert not self.keys._long
        assert not self.keys._cut
        assert not self.keys.hungry
        assert self.keys.held_back == self.keys.provisional == 0
        assert self.keys.next_time() is None

    @rule(name=names, who=consumers, count=st.integers(1, 4))
    def read(self, name: str, who: Consumer, count: int) -> None:
        """The next messages of a topic are delivered, or have to wait."""
        for _ in range(count):
            self.read_one(name, who)

    def read_one(self, name: str, who: Consumer) -> None:
        line, seq = self.lines[name], self.next_seq
        self.next_seq += 1
        admitted = self.keys.admits(name, who)
        is_cut = self.keys.cut(name) is not None
        assert admitted == (not line.held_back and not is_cut and line.may_get(who))
        if is_cut:
            line.left_behind.append(seq)
        elif admitted:
            self.keys.deliver(name, seq, who)
            self.note_delivery(line, seq, who)
        else:
            self.keys.hold_back(name, seq)
            line.held_back.append(seq)

    @rule(name=names)
    def read_what_cannot_be_delivered(self, name: str) -> None:
        line, seq = self.lines[name], self.next_seq
        self.next_seq += 1
        if self.keys.cut(name):
            line.left_behind.append(seq)
            return
        self.keys.hold_back(name, seq)
        line.held_back.append(seq)

    @rule(needed=st.sets(st.integers(1, 60), max_size=3))
    def memory_is_short(self, needed: set[int]) -> None:
        """Half of what long lines hold back is left behind, unless it is needed."""
        long = [line for line in self.lines.values() if len(line.held_back) > 1]
        before = sum(len(line.held_back) for line in long)
        self.keys.cut_long_lines(needed.__contains__)
        kept = 0
        for line in long:
            forgotten = [seq for seq in line.held_back if seq not in self.keys]
            line.held_back = [seq for seq in line.held_back if seq in self.keys]
            assert line.held_back
            assert needed.isdisjoint(forgotten)
            line.left_behind = forgotten + line.left_behind
            kept += len(line.held_back)
        assert needed or 2 * kept <= before or kept == len(long)

    @precondition(lambda self: self.keys.hungry)
    @rule(count=st.integers(0, 3), is_all=st.booleans())
    def the_first_hungry_one_is_read_again(self, count: int, is_all: bool) -> None:
        key = next(iter(self.keys.hungry))
        line = self.lines[key.name]
        if is_all:
            self.read_on(key.name, len(line.left_behind), self.next_seq, is_all=True)
        else:
            end = [*line.left_behind, self.next_seq, self.next_seq, self.next_seq][count]
            self.read_on(key.name, min(count, len(line.left_behind)), end, is_all=False)
        if key in self.keys.hungry:
            assert list(self.keys.hungry)[-1] is key

    def read_on(self, name: str, count: int, end: int, *, is_all: bool) -> None:
        """Some of what was left behind is held back, and all below ``end`` was looked at."""
        line, key = self.lines[name], self.keys.cut(name)
        assert key is not None
        for seq in line.left_behind[:count]:
            self.keys.hold_back(name, seq)
        line.held_back += line.left_behind[:count]
        line.left_behind = line.left_behind[count:]
        self.keys.advance(key, end, is_all=is_all)

    @rule(who=consumers, count=st.integers(1, 3))
    def deliver_what_was_held_back(self, who: Consumer, count: int) -> None:
        for _ in range(count):
            self.deliver_one(who)

    def deliver_one(self, who: Consumer) -> None:
        candidates = {n for n, line in self.lines.items() if line.held_back and line.may_get(who)}
        key = self.keys.next_for(who)
        if key is None:
            assert not candidates
            return
        assert key.name in candidates
        line = self.lines[key.name]
        assert list(key.held_back) == line.held_back
        seq = line.held_back.pop(0)
        self.keys.deliver(key.name, seq, who)
        self.note_delivery(line, seq, who)

    @precondition(lambda self: self.outstanding())
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        name, seq = data.draw(st.sampled_from(self.outstanding()))
        line = self.lines[name]
        assert self.keys.is_next(seq) == (line.out[0] == seq)
        line.acked.add(seq)
        final = []
        while line.out and line.out[0] in line.acked:
            final.append(line.out.pop(0))
            line.acked.remove(final[-1])
        assert self.keys.acknowledge(seq) == final

    @precondition(lambda self: self.outstanding())
    @rule(data=st.data(), rest_s=st.sampled_from([None, 0.0, 1.0, 2.0, FOREVER]))
    def fail(self, data: st.DataObject, rest_s: float | None) -> None:
        """A nack or an expiry, with its rest; or (None) a delivery that did not arrive."""
        name, seq = data.draw(st.sampled_from(self.outstanding()))
        line = self.lines[name]
        at = line.out.index(seq)
        taken = line.out[at:]
        assert self.keys.take_back(seq) == taken
        assert self.keys.take_back(seq) == []
        line.held_back = taken + line.held_back
        line.out = line.out[:at]
        line.acked.difference_update(taken)
        line.rests_until = 0.0
        line.forget_expiry_but_of(seq)
        if rest_s is not None:
            line.expired = (seq, seq + 100)
            self.keys.note_expiry(seq, seq + 100)
            line.rests_until = self.now + rest_s if rest_s else 0.0
            key = self.keys.of(seq)
            assert key is not None
            self.keys.rest(key, line.rests_until)

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.keys.wake(self.now)
        for line in self.lines.values():
            if line.rests_until <= self.now:
                line.rests_until = 0.0

    @precondition(lambda self: self.keys.held_back)
    @rule(data=st.data())
    def what_is_held_back_is_done(self, data: st.DataObject) -> None:
        """Forwarded, deleted, or acknowledged late."""
        held_back = [seq for line in self.lines.values() for seq in line.held_back]
        seqs = data.draw(st.lists(st.sampled_from(held_back), max_size=2, unique=True))
        self.keys.discard(seqs)
        self.note_done(seqs)

    @rule(first=st.integers(0, 60), count=st.integers(0, 3))
    def a_stretch_is_done(self, first: int, count: int) -> None:
        held_back = [seq for line in self.lines.values() for seq in line.held_back]
        gone = [seq for seq in held_back if first <= seq < first + count]
        assert sorted(self.keys.discard_between(first, first + count)) == sorted(gone)
        self.note_done(gone)

    @rule(really=st.sampled_from([False] * 7 + [True]))
    def seek(self, really: bool) -> None:
        if not really:
            return
        self.keys.clear()
        self.lines = {name: Line() for name in NAMES}

    @invariant()
    def the_model_agrees(self) -> None:
        lines = self.lines.values()
        in_use = {n for n, one in self.lines.items() if one.out or one.held_back}
        cut = {name for name in NAMES if self.keys.cut(name)}
        assert len(self.keys) == len(in_use | cut)
        assert {key.name for key in self.keys.hungry} == {
            name for name in cut if not self.lines[name].held_back
        }
        assert self.keys.held_back == sum(len(line.held_back) for line in lines)
        assert self.keys.provisional == sum(len(line.acked) for line in lines)
        for seq in range(1, self.next_seq):
            assert (seq in self.keys) == any(seq in line.out + line.held_back for line in lines)

    @invariant()
    def what_is_left_behind_is_behind_the_cut(self) -> None:
        for name, line in self.lines.items():
            key = self.keys.cut(name)
            if line.left_behind:
                assert key is not None
                assert max([0, *line.out, *line.held_back]) < key.cut_at <= line.left_behind[0]

    @invariant()
    def what_can_go_out_is_counted(self) -> None:
        able = any(
            line.held_back and line.may_get(who)
            for line in self.lines.values()
            for who in CONSUMERS
        )
        assert not able or self.keys.ready

    @invariant()
    def somebody_can_tell_when_the_next_rest_is_over(self) -> None:
        rests = [line.rests_until for line in self.lines.values()]
        expected = min((one for one in rests if 0 < one < FOREVER), default=None)
        assert self.keys.next_time() == expected

    @invariant()
    def a_late_ack_counts_while_nothing_happened_since(self) -> None:
        for line in self.lines.values():
            for seq in line.held_back:
                counts = line.expired is not None and line.expired[0] == seq and not line.out
                assert self.keys.has_expired(seq, seq + 100) == counts

    # --- parts of the above

    def outstanding(self) -> list[tuple[str, int]]:
        """Those that are not acknowledged."""
        return [
            (name, seq)
            for name, line in self.lines.items()
            for seq in line.out
            if seq not in line.acked
        ]

    def note_delivery(self, line: Line, seq: int, who: Consumer) -> None:
        line.out.append(seq)
        line.holder = who

    def note_done(self, seqs: list[int]) -> None:
        for line in self.lines.values():
            if line.held_back and line.held_back[0] in seqs:
                line.rests_until = 0.0
            line.held_back = [seq for seq in line.held_back if seq not in seqs]
            if not line.out and not line.held_back:
                line.expired = None

    def fail_first_out(self, name: str, rest_s: float) -> None:
        line = self.lines[name]
        line.forget_expiry_but_of(line.out[0])
        line.held_back = self.keys.take_back(line.out[0]) + line.held_back
        line.rests_until = rest_s


TestKeys = KeysMachine.TestCase
TestKeys.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
