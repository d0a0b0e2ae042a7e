"""The cursor against a plain set, and against what the storage makes of its changes."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ams_grpc.broker.cursor import CHUNK_SEQS, Cursor
from ams_grpc.broker.ports import CursorChanges, CursorState
from tests.unit.broker.fakes import Stored

SUBSCRIPTION = 7
CHUNKS = 3
END = CHUNKS * CHUNK_SEQS + 16

# Close to the borders of chunks, where all the difficulty is, and now and then anywhere.
borders = st.builds(
    lambda no, by: max(0, no * CHUNK_SEQS + by), st.integers(0, CHUNKS), st.integers(-4, 4)
)
seqs = st.one_of(borders, borders, borders, borders, st.integers(0, END))
runs = st.builds(range, seqs, seqs)
near_runs = st.builds(lambda start, length: range(start, start + length), seqs, st.integers(0, 12))


class CursorMachine(RuleBasedStateMachine):
    """Whatever is acknowledged or sought, in memory and in storage stands the same."""

    def __init__(self) -> None:
        super().__init__()
        self.stored = Stored()
        self.stored.cursors[SUBSCRIPTION] = CursorState(0, 0, {})
        self.cursor = Cursor(SUBSCRIPTION, self.stored.cursors[SUBSCRIPTION])
        self.done: set[int] = set()
        self.epoch = 0
        self.snapshot = (set[int](), self.cursor.state())
        self.in_flight: CursorChanges | None = None

    # --- acknowledging

    @rule(done=st.lists(seqs, max_size=12))
    def acknowledge(self, done: list[int]) -> None:
        self.cursor.mark_done(done)
        self.done |= set(done)

    @rule(run=st.one_of(near_runs, near_runs, near_runs, runs), as_list=st.booleans())
    def acknowledge_a_run(self, run: range, as_list: bool) -> None:
        self.cursor.mark_done([*reversed(run), *run[:2]] if as_list else run)
        self.done |= set(run)

    @rule(ahead=st.integers(0, 5))
    def acknowledge_at_the_floor(self, ahead: int) -> None:
        run = range(self.cursor.floor, min(END, self.cursor.floor + ahead))
        self.cursor.mark_done(run)
        self.done |= set(run)

    @rule(by=st.integers(0, 3), to=st.one_of(st.none(), st.integers(-3, 3)))
    def raise_floor(self, by: int, to: int | None) -> None:
        """A little, or to the end of the chunk."""
        seq = self.cursor.floor + by
        if to is not None:
            seq = (seq // CHUNK_SEQS + 1) * CHUNK_SEQS + to
        seq = min(seq, END)
        self.cursor.raise_floor(seq)
        self.done |= set(range(seq))

    # --- seeking

    @rule(start=st.one_of(st.just(0), seqs), replay_from=seqs)
    def rewind(self, start: int, replay_from: int) -> None:
        self.cursor.rewind(start, replay_from)
        self.done = {seq for seq in self.done if seq < replay_from} | set(range(start))
        self.epoch += 1

    @rule()
    def take_a_snapshot(self) -> None:
        self.snapshot = (set(self.done), self.cursor.state())

    @rule()
    def go_back_to_the_snapshot(self) -> None:
        done, state = self.snapshot
        self.cursor.replace(state.floor, state.chunks)
        self.done = set(done)
        self.epoch += 1

    # --- writing

    @precondition(lambda self: self.in_flight is None)
    @rule()
    def a_write_begins(self) -> None:
        self.in_flight = self.cursor.take_changes()
        self.written = set(self.done)
        assert not self.cursor.changed

    @precondition(lambda self: self.in_flight is not None)
    @rule()
    def the_write_succeeds(self) -> None:
        assert self.in_flight is not None
        self.stored.write(self.in_flight)
        assert self.stored.acked_above_floor[SUBSCRIPTION] == self.in_flight.acked_above_floor
        self.in_flight = None
        reloaded = Cursor(SUBSCRIPTION, self.stored.cursors[SUBSCRIPTION])
        agree(reloaded, self.written)
        for no in self.stored.cursors[SUBSCRIPTION].chunks:
            assert (no + 1) * CHUNK_SEQS > reloaded.floor

    @precondition(lambda self: self.in_flight is not None)
    @rule()
    def the_write_fails(self) -> None:
        assert self.in_flight is not None
        self.cursor.put_back(self.in_flight)
        self.in_flight = None
        assert self.cursor.changed
        self.restart_after_a_last_write()

    @precondition(lambda self: self.in_flight is None)
    @rule()
    def restart_after_a_last_write(self) -> None:
        self.stored.write(self.cursor.take_changes())
        self.cursor = Cursor(SUBSCRIPTION, self.stored.cursors[SUBSCRIPTION])

    # --- what always holds

    @invariant()
    def it_equals_the_set(self) -> None:
        agree(self.cursor, self.done)
        assert self.cursor.epoch == self.epoch

    @invariant()
    def it_finds_what_is_not_done(self) -> None:
        for start in (0, self.cursor.floor, CHUNK_SEQS - 1, CHUNK_SEQS, 2 * CHUNK_SEQS + 3):
            seq = start
            while seq in self.done:
                seq += 1
            assert self.cursor.next_undone(start) == seq

    @invariant()
    def no_chunk_is_kept_that_the_floor_has_passed(self) -> None:
        for no in self.cursor.state().chunks:
            assert (no + 1) * CHUNK_SEQS > self.cursor.floor


def agree(cursor: Cursor, done: set[int]) -> None:
    """The cursor says what the set says."""
    floor = 0
    while floor in done:
        floor += 1
    assert cursor.floor == floor
    above = {seq for seq in done if seq > floor}
    assert cursor.acked_above_floor == len(above)
    assert cursor.top >= max(above, default=floor - 1) + 1
    for border in range(0, END + 1, CHUNK_SEQS):
        for seq in range(max(0, border - 12), border + 12):
            assert cursor.is_done(seq) == (seq in done)
    assert all(map(cursor.is_done, above))
    assert not cursor.is_done(floor)


TestCursor = CursorMachine.TestCase
TestCursor.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_a_seek_that_could_not_be_written_is_written_with_what_came_after_it() -> None:
    stored = Stored()
    stored.cursors[SUBSCRIPTION] = CursorState(0, 0, {})
    cursor = Cursor(SUBSCRIPTION, stored.cursors[SUBSCRIPTION])
    cursor.mark_done([3, CHUNK_SEQS + 3])
    stored.write(cursor.take_changes())
    cursor.rewind(0, 0)
    cursor.put_back(cursor.take_changes())
    cursor.mark_done([5])

    stored.write(cursor.take_changes())

    agree(Cursor(SUBSCRIPTION, stored.cursors[SUBSCRIPTION]), {5})
