"""The part of ``broker.clock.Clock`` that storage needs."""

from __future__ import annotations

from typing import Protocol


class WallClock(Protocol):
    """What is written down comes from here; waiting is the event loop's business."""

    def now_us(self) -> int:
        """Microseconds since 1970 UTC. Called from several threads."""
        ...
