"""The pace of pushing: slow start, and pauses when the endpoint fails."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ams_grpc.push.pace import LINEAR_FROM, MAX_PAUSE_S, MIN_PAUSE_S, START_WINDOW, Pace


def succeed(pace: Pace, times: int, *, latency_s: float = 0.1, now: float = 1000.0) -> None:
    for _ in range(times):
        pace.succeeded(now - latency_s, now)


def fail(pace: Pace, times: int, now: float) -> None:
    for _ in range(times):
        pace.failed(now, now)


def round_of_failures(pace: Pace, now: float) -> float:
    """Fail until the pace pauses; gives the length of the pause."""
    for _ in range(pace.window):
        pace.failed(now, now)
        if pace.paused_until > now:
            return pace.paused_until - now
    raise AssertionError("it does not pause")


def test_it_starts_with_a_few_requests_and_doubles_with_each_round_that_goes_well() -> None:
    pace = Pace(100)
    windows = [pace.window]

    for _ in range(6):
        succeed(pace, pace.window)
        windows.append(pace.window)

    assert windows == [START_WINDOW, 6, 12, 24, 48, 96, 100]


def test_a_window_of_thousands_grows_in_steps() -> None:
    pace = Pace(10_000)
    while pace.window < LINEAR_FROM:
        succeed(pace, pace.window)
    before = pace.window

    succeed(pace, pace.window)

    assert pace.window == before + 100


def test_a_slow_endpoint_gets_no_more_requests_at_once() -> None:
    pace = Pace(100)

    succeed(pace, 50, latency_s=1.0)

    assert pace.window == START_WINDOW
    assert pace.paused_until == 0.0


def test_a_few_failures_keep_the_window_and_make_no_pause() -> None:
    pace = Pace(100)
    while pace.window < 96:
        succeed(pace, pace.window)

    for _ in range(10):
        fail(pace, 2, 1000.0)
        succeed(pace, 94)

    assert pace.window == 96
    assert pace.paused_until == 0.0


def test_one_failure_in_a_hundred_lets_the_window_grow() -> None:
    pace = Pace(1000)
    while pace.window < 192:
        succeed(pace, pace.window)

    fail(pace, 1, 1000.0)
    succeed(pace, 191)

    assert pace.window == 384


def test_when_failures_prevail_the_window_is_halved_down_to_where_it_began() -> None:
    pace = Pace(100)
    while pace.window < 96:
        succeed(pace, pace.window)
    windows = []

    for second in range(6):
        round_of_failures(pace, 2000.0 + 100 * second)
        windows.append(pace.window)

    assert windows == [48, 24, 12, 6, 3, 3]


def test_pauses_grow_from_a_tenth_of_a_second_to_a_minute() -> None:
    pace = Pace(100)
    pauses = [round(round_of_failures(pace, 2000.0 + 100 * number), 3) for number in range(12)]

    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60.0, 60.0]


def test_successes_shorten_the_next_pause() -> None:
    pace = Pace(100)
    for number in range(5):
        round_of_failures(pace, 2000.0 + 100 * number)

    succeed(pace, 3, now=3000.0)

    assert round(round_of_failures(pace, 3001.0), 3) == 0.4


def test_requests_that_had_begun_before_a_pause_fail_without_another_one() -> None:
    pace = Pace(100)
    while pace.window < 96:
        succeed(pace, pace.window)
    begun_at = 1999.0
    for _ in range(49):
        pace.failed(begun_at, 2000.0)
    window, pause = pace.window, pace.paused_until
    assert pause > 2000.0

    for _ in range(47):
        pace.failed(begun_at, 2000.05)

    assert (pace.window, pace.paused_until) == (window, pause)


@given(st.integers(1, 2))
def test_a_limit_below_the_start_is_kept(limit: int) -> None:
    pace = Pace(limit)

    assert pace.window == limit
    succeed(pace, 20)
    assert pace.window == limit
    round_of_failures(pace, 2000.0)
    assert pace.window == limit


class OneEndpoint(RuleBasedStateMachine):
    """Whatever the endpoint answers, the pace stays within its bounds, and comes back."""

    LIMIT = 20

    def __init__(self) -> None:
        super().__init__()
        self.pace = Pace(self.LIMIT)
        self.now = 1000.0
        self.begun: list[float] = []

    @property
    def _is_paused(self) -> bool:
        return self.pace.paused_until > self.now

    @precondition(lambda self: not self._is_paused and len(self.begun) < self.pace.window)
    @rule(number=st.integers(1, 20))
    def requests_begin(self, number: int) -> None:
        for _ in range(min(number, self.pace.window - len(self.begun))):
            self.begun.append(self.now)

    @precondition(lambda self: self.begun)
    @rule(data=st.data(), number=st.integers(1, 20))
    def requests_succeed(self, data: st.DataObject, number: int) -> None:
        for _ in range(min(number, len(self.begun))):
            window, paused_until = self.pace.window, self.pace.paused_until
            at = data.draw(st.integers(0, len(self.begun) - 1))
            self.pace.succeeded(self.begun.pop(at), self.now)
            assert window <= self.pace.window <= max(2 * window, START_WINDOW)
            assert self.pace.paused_until == paused_until

    @precondition(lambda self: self.begun)
    @rule(data=st.data(), number=st.integers(1, 20))
    def requests_fail(self, data: st.DataObject, number: int) -> None:
        for _ in range(min(number, len(self.begun))):
            window, was_paused = self.pace.window, self._is_paused
            at = data.draw(st.integers(0, len(self.begun) - 1))
            self.pace.failed(self.begun.pop(at), self.now)
            assert self.pace.window <= window
            if self._is_paused and not was_paused:
                length = self.pace.paused_until - self.now
                assert MIN_PAUSE_S * 0.999 <= length <= MAX_PAUSE_S

    @rule(seconds=st.sampled_from([0.01, 0.5, 2.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def the_window_is_within_bounds(self) -> None:
        assert START_WINDOW <= self.pace.window <= self.LIMIT

    @invariant()
    def no_pause_is_longer_than_a_minute(self) -> None:
        assert self.pace.paused_until <= self.now + MAX_PAUSE_S

    def teardown(self) -> None:
        """An endpoint that works again gets all that it can take."""
        self.now += 61.0
        for _ in range(10 * self.LIMIT):
            assert not self._is_paused
            self.pace.succeeded(self.now, self.now)
        assert self.pace.window == self.LIMIT


TestOneEndpoint = OneEndpoint.TestCase
