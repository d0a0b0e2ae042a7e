"""When the next cycle of an AMS push subscription begins.

AMS asks for messages in every cycle, also when there are none. Here nobody asks in vain: what comes
while nothing is to be pushed begins a cycle of its own, and ``idle`` makes up for those in between.
"""

from __future__ import annotations

from typing import Final, Protocol

from ams_grpc.broker.ams_push import AmsPush

SLOWSTART_FIRST_S: Final = 1.0
SLOWSTART_SHORTEST_S: Final = 0.3
SLOWSTART_LONGEST_S: Final = 24 * 3600.0


class Pace(Protocol):
    """Seconds between cycles."""

    first_s: float
    """From the activation to the first cycle."""

    def idle(self, seconds: float) -> None:
        """A cycle begins, so long after it could have."""
        ...

    def after(self, *, failed: bool) -> float:
        """A cycle has ended: how long until the next one."""
        ...


class Linear:
    """AMS: always the same period, after failures too."""

    first_s = 0.0

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s

    def idle(self, seconds: float) -> None:
        """It makes no difference."""

    def after(self, *, failed: bool) -> float:
        return self._period_s


class Slowstart:
    """AMS: halved by each cycle that goes well, doubled by each that fails; afresh after failures."""

    first_s = SLOWSTART_FIRST_S

    def __init__(self) -> None:
        self._interval_s = SLOWSTART_FIRST_S
        self._failing = False

    def idle(self, seconds: float) -> None:
        """AMS: a cycle without messages goes well if the one before did."""
        while seconds > 0 and not self._failing and self._interval_s > SLOWSTART_SHORTEST_S:
            self._shorten()
            seconds -= self._interval_s

    def after(self, *, failed: bool) -> float:
        if failed:
            self._interval_s = min(SLOWSTART_LONGEST_S, 2 * self._interval_s)
        elif self._failing:
            self._interval_s = SLOWSTART_FIRST_S
        else:
            self._shorten()
        self._failing = failed
        return self._interval_s

    def _shorten(self) -> None:
        self._interval_s = max(SLOWSTART_SHORTEST_S, self._interval_s / 2)


def pace_of(push: AmsPush) -> Pace:
    """A new pace, as the subscription says."""
    return Slowstart() if push.period_ms is None else Linear(push.period_ms / 1000)
