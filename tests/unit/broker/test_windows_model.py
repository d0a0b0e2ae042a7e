"""AMS's window against a naive model of it, with a subscriber of Pub/Sub beside.

Whatever happens: AMS's callers see what AMS would show them, nobody gets what is done, and in the end
everything else is still there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ams_grpc.broker.catalog import SubscriptionConfig, TopicConfig
from ams_grpc.broker.errors import AmsRefusal, InvalidArgument
from ams_grpc.broker.policies import DAY_US
from tests.unit.broker.fakes import ManualClock, Stored
from tests.unit.broker.world import ORDERS, TOPIC, Received, World

T = TypeVar("T")
DEADLINE_S = 3
LEASE_S = 10  # the least that a subscriber of Pub/Sub gets


@dataclass
class Opened:
    """``next_offset`` and ``pending_ack`` of AMS, and where the pull began."""

    start: int
    end: int
    second: int


class Windowed(RuleBasedStateMachine):
    """Publishers, pulls in windows, a subscriber, time, and restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.world = World(ManualClock(), Stored())
        self.published = 0
        self.done: set[int] = set()
        self.opened: Opened | None = None
        self.held: dict[int, tuple[Received, float]] = {}  # by whom Pub/Sub knows, until when
        self.given = 0

    @initialize(cache_bytes=st.sampled_from([1, 1 << 20]))
    def begin(self, cache_bytes: int) -> None:
        self.world.cache_bytes = cache_bytes
        self.world.start()
        self.do(self.create())

    async def create(self) -> None:
        topic = await self.world.topics.create(TOPIC, TopicConfig(message_retention_us=7 * DAY_US))
        self.world.stored.next_seqs[topic.id] = 0
        config = SubscriptionConfig(ack_deadline_s=DEADLINE_S)
        await self.world.subscriptions.create(ORDERS, TOPIC, config, min_ack_deadline_s=0)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        try:
            self.everything_else_is_still_there()
        finally:
            self.world.broker.drain()
            self.loop.close()

    def everything_else_is_still_there(self) -> None:
        rest = sorted(set(range(self.published)) - self.done)
        while rest:
            self.pull_in_window(2)
            self.acknowledge(rest[:2][-1] + 1)
            rest = rest[2:]
        self.pull_in_window(1)
        assert self.done == set(range(self.published))

    @property
    def offset(self) -> int:
        return next(seq for seq in range(self.published + 1) if seq not in self.done)

    @property
    def second(self) -> int:
        return self.world.clock.now_us() // 1_000_000

    # --- callers of AMS

    @rule(number=st.integers(1, 3))
    def publish(self, number: int) -> None:
        self.do(self.world.publish(*[b"message"] * number))
        self.published += number

    @rule(max_messages=st.integers(1, 4))
    def pull_in_window(self, max_messages: int) -> None:
        offset = self.offset
        shown = [seq for seq in range(offset, self.published) if seq not in self.done]
        shown = shown[:max_messages]
        found = self.do(self.world.broker.windowed.pull(ORDERS, max_messages))
        assert list(found.seqs) == shown
        end = shown[-1] + 1 if shown else offset
        self.opened = Opened(offset, end, self.second) if end else None
        self.given += len(shown)

    @rule(end=st.integers(1, 12))
    def acknowledge(self, end: int) -> None:
        opened, expected = self.opened, ""
        if opened is None:
            expected = "no ack pending"
        elif not opened.start < end <= opened.end:
            expected = "wrong ack"
        elif self.second - opened.second > DEADLINE_S:
            expected = "ack timeout"
        acknowledging = self.world.broker.windowed.acknowledge(ORDERS, end)
        if expected:
            with pytest.raises(AmsRefusal, match=expected):
                self.do(acknowledging)
        else:
            self.do(acknowledging)
            self.done |= set(range(end))
            self.opened = None

    @rule(seq=st.integers(-1, 12))
    def move(self, seq: int) -> None:
        moving = self.world.broker.windowed.move(ORDERS, seq)
        if not 0 <= seq <= self.published:
            with pytest.raises(InvalidArgument):
                self.do(moving)
        else:
            self.do(moving)
            self.done = set(range(seq))
            self.opened = None
            self.held = {}

    # --- a subscriber of Pub/Sub

    @rule(max_messages=st.integers(1, 3))
    def deliver(self, max_messages: int) -> None:
        found = self.do(self.world.pull(max_messages))
        free = set(range(self.published)) - self.done - self.held.keys()
        # A pull is answered as soon as there is one: how many more there are depends on the reading.
        assert bool(free) <= len(found) <= min(max_messages, len(free))
        for message in found:
            assert message.seq in free
            self.held[message.seq] = message, self.world.clock.monotonic() + LEASE_S

    @rule(which=st.integers(0, 5))
    def settle(self, which: int) -> None:
        for seq, (message, _) in list(self.held.items())[which : which + 1]:
            self.do(self.world.ack(message))
            self.done.add(seq)
            del self.held[seq]

    @rule(which=st.integers(0, 5))
    def hand_back(self, which: int) -> None:
        for seq, (message, _) in list(self.held.items())[which : which + 1]:
            self.do(self.world.nack(message))
            del self.held[seq]

    # --- what comes over both

    @rule(seconds=st.sampled_from([0.5, 1, DEADLINE_S, LEASE_S]))
    def time_passes(self, seconds: float) -> None:
        self.do(self.advance(seconds))
        now = self.world.clock.monotonic()
        self.held = {seq: held for seq, held in self.held.items() if held[1] > now}

    async def advance(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @rule()
    def restart(self) -> None:
        self.do(self.stop_and_start())
        self.held = {}

    async def stop_and_start(self) -> None:
        self.world.broker.drain()
        self.world.commits.commit()
        self.world.start()

    @invariant()
    def it_stands_where_the_model_says(self) -> None:
        if not self.world.stored.subscriptions:
            return
        offsets = self.do(self.world.broker.windowed.offsets(ORDERS))
        assert (offsets.low, offsets.high, offsets.current) == (0, self.published, self.offset)
        subscription = self.world.stored.subscriptions[ORDERS]
        consumption = self.do(self.world.broker.windowed.consumption(subscription))
        assert consumption.messages == self.given


TestWindowed = Windowed.TestCase
TestWindowed.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
