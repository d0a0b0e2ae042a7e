"""Time, handed in: nothing else in the broker reads a clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one to wait with, one to write down."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back. For deadlines within this process."""
        ...

    def now_us(self) -> int:
        """Microseconds since 1970 UTC. For what is stored or shown."""
        ...

    def call_at(self, moment: float, callback: Callable[[], None]) -> Alarm:
        """Call back on the event loop at ``moment`` of the monotonic clock, or soon after."""
        ...


class Alarm(Protocol):
    """A call that will be made."""

    def cancel(self) -> None: ...


class SystemClock:
    """The machine's clocks, and the running event loop's timers."""

    def monotonic(self) -> float:
        return time.monotonic()

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def call_at(self, moment: float, callback: Callable[[], None]) -> Alarm:
        return asyncio.get_running_loop().call_later(max(0.0, moment - self.monotonic()), callback)
