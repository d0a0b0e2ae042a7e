"""How fast to push: how many requests at once, and when to wait.

A round is as many results as the window is wide. A round that goes well widens the window, one in
which failures prevail halves it, and is followed by a pause for the whole subscription. Pauses grow
from one to the next; successes in between shorten the next one.

Failures of requests that had begun before a pause are the same trouble, and count no second time.

Pub/Sub: slow start, doubling while more than 99 % succeed within a second, linear above 3,000;
push backoff from 100 ms to 60 s.
"""

from __future__ import annotations

from typing import Final

START_WINDOW: Final = 3
"""Also the smallest: a message that always fails must leave room for others."""
LINEAR_FROM: Final = 3000
_LINEAR_STEP: Final = 100
_FAILURES_ALLOWED: Final = 0.01
_SLOW_S: Final = 1.0

MIN_PAUSE_S: Final = 0.1
MAX_PAUSE_S: Final = 60.0
_MAX_LEVEL: Final = 11  # with it, a pause is at its longest


class Pace:
    """The pace of one subscription. Moments are seconds of the monotonic clock."""

    def __init__(self, max_window: int) -> None:
        self._max_window = max_window
        self.window = min(START_WINDOW, max_window)
        """How many requests may run at once."""
        self.paused_until = 0.0
        """No request begins before this moment."""
        self._paused_at = 0.0
        self._level = 0
        self._begin_round()

    def succeeded(self, begun_at: float, now: float) -> None:
        """A message was accepted."""
        self._level = max(0, self._level - 1)
        self._results += 1
        self._latencies_s += now - begun_at
        self._end_round_if_complete()

    def failed(self, begun_at: float, now: float) -> None:
        """A message was not accepted; ``paused_until`` may have moved."""
        if begun_at < self._paused_at:
            return
        self._results += 1
        self._failures += 1
        if self._failures * 2 > self.window:
            self.window = max(min(START_WINDOW, self._max_window), self.window // 2)
            self._pause(now)
            self._begin_round()
        else:
            self._end_round_if_complete()

    def _pause(self, now: float) -> None:
        self._level = min(self._level + 1, _MAX_LEVEL)
        self._paused_at = now
        self.paused_until = now + min(MIN_PAUSE_S * 2 ** (self._level - 1), MAX_PAUSE_S)

    def _begin_round(self) -> None:
        self._results = 0
        self._failures = 0
        self._latencies_s = 0.0

    def _end_round_if_complete(self) -> None:
        if self._results < self.window:
            return
        successes = self._results - self._failures
        if (
            self._failures <= _FAILURES_ALLOWED * self._results
            and self._latencies_s < _SLOW_S * successes
        ):
            wider = self.window * 2 if self.window < LINEAR_FROM else self.window + _LINEAR_STEP
            self.window = min(wider, self._max_window)
        self._begin_round()
