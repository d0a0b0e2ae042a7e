"""Messages of one subscription that were delivered, and are to be delivered again.

Some rest first: until their backoff is over. Moments are seconds of the monotonic clock.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Final

_STALE_ENTRIES: Final = 1000  # so many entries in a heap that mean nothing any more do no harm


class Waiting:
    """Which messages wait, and from when on they may go out."""

    def __init__(self) -> None:
        self._seqs: set[int] = set()
        self._rests_until: dict[int, float] = {}
        self._ready: list[int] = []  # heap of seqs, some that do not wait any more
        self._resting: list[tuple[float, int]] = []  # heap, as stale as that

    def __len__(self) -> int:
        return len(self._seqs)

    def __contains__(self, seq: int) -> bool:
        return seq in self._seqs

    @property
    def ready(self) -> int:
        """How many may go out now."""
        return len(self._seqs) - len(self._rests_until)

    def add(self, seq: int, until: float = 0.0) -> None:
        """It waits; if ``until`` is given, it rests until that moment."""
        self._seqs.add(seq)
        if until:
            self._rests_until[seq] = until
            heappush(self._resting, (until, seq))
        else:
            self._rests_until.pop(seq, None)
            heappush(self._ready, seq)
        if len(self._ready) + len(self._resting) > 2 * len(self._seqs) + _STALE_ENTRIES:
            self._rebuild()

    def discard(self, seq: int) -> None:
        """It waits no more, if it did."""
        self._rests_until.pop(seq, None)
        self._seqs.discard(seq)

    def discard_between(self, first: int, end: int) -> None:
        """Those from ``first`` up to ``end`` wait no more."""
        for seq in [seq for seq in self._seqs if first <= seq < end]:
            self.discard(seq)

    def first_ready(self) -> int | None:
        """The lowest seq that may go out now."""
        ready = self._ready
        while ready:
            seq = ready[0]
            if seq in self._seqs and seq not in self._rests_until:
                return seq
            heappop(ready)
        return None

    def wake(self, now: float) -> None:
        """Those whose rest is over may go out."""
        while self._resting and self._resting[0][0] <= now:
            until, seq = heappop(self._resting)
            if self._rests_until.get(seq) == until:
                del self._rests_until[seq]
                heappush(self._ready, seq)

    def next_time(self) -> float | None:
        """When the next rest is over."""
        resting = self._resting
        while resting and self._rests_until.get(resting[0][1]) != resting[0][0]:
            heappop(resting)
        return resting[0][0] if resting else None

    def clear(self) -> None:
        self._seqs.clear()
        self._rests_until.clear()
        self._ready.clear()
        self._resting.clear()

    def _rebuild(self) -> None:
        self._ready = [seq for seq in self._seqs if seq not in self._rests_until]
        self._resting = [(until, seq) for seq, until in self._rests_until.items()]
        heapify(self._ready)
        heapify(self._resting)
