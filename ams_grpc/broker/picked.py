"""What one delivery is to hold, while it is being picked."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate


class Picked:
    """Messages picked for one delivery, up to a number and about up to a size in bytes."""

    __slots__ = ("_max_bytes", "_max_messages", "failures", "messages", "seqs", "size", "sizes")

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self.seqs: Sequence[int] = ()
        self.messages: list[bytes] = []
        self.sizes: list[int] = []
        self.size = 0
        self.failures: list[tuple[int, str]] = []
        """Seqs that were to be in it and cannot be delivered now, and why."""

    @property
    def room(self) -> int:
        """How many more messages it may hold."""
        return self._max_messages - len(self.messages)

    @property
    def free_bytes(self) -> int:
        """How many more bytes it may hold; the message that fills it may go beyond."""
        return self._max_bytes - self.size

    @property
    def full(self) -> bool:
        return self.size >= self._max_bytes or len(self.messages) >= self._max_messages

    def failed(self, seq: int, reason: str) -> None:
        """It cannot be delivered now."""
        self.failures.append((seq, reason))

    def add(self, seqs: Sequence[int], messages: list[bytes]) -> int | None:
        """Add messages until it is full. Returns the first seq that found no place."""
        sizes = list(map(len, messages))
        size = sum(sizes)
        unfit = None
        if self.size + size > self._max_bytes:
            # Up to the message that fills it: one above the limit must not block for ever.
            fit = bisect_left(list(accumulate(sizes)), self._max_bytes - self.size) + 1
            if fit < len(sizes):
                unfit = seqs[fit]
                seqs, messages, sizes = seqs[:fit], messages[:fit], sizes[:fit]
                size = sum(sizes)
        if self.messages:
            self.seqs = _join(self.seqs, seqs)
            self.messages += messages
            self.sizes += sizes
        else:
            self.seqs, self.messages, self.sizes = seqs, messages, sizes
        self.size += size
        return unfit


def _join(left: Sequence[int], right: Sequence[int]) -> Sequence[int]:
    """Seqs after each other: two ranges that meet make one, anything else a list that grows."""
    if isinstance(left, range) and isinstance(right, range) and left.stop == right.start:
        return range(left.start, right.stop)
    joined = left if isinstance(left, list) else list(left)
    joined.extend(right)
    return joined
