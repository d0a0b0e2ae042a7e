"""Which messages of one subscription are out at subscribers, and until when.

One ``Lease`` covers all messages of one delivery that end at the same moment, so a delivery costs
one heap entry, not one a message. Moments are seconds of the monotonic clock.

A lease ends by an ack, a nack, its deadline, or a seek. Extending some of its messages moves
them to a new lease of the same grant.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush
from itertools import count, repeat
from typing import Final

from ams_grpc.broker.consumers import Consumer

_COMPACT_FROM: Final = 512  # ended leases in the heap, before it is worth rebuilding


class Lease:
    """Messages of one delivery (``grant``) held by one consumer until one deadline."""

    __slots__ = ("consumer", "deadline", "grant", "held", "seqs")

    def __init__(
        self, grant: int, consumer: Consumer, deadline: float, seqs: Sequence[int]
    ) -> None:
        self.grant = grant
        self.consumer = consumer
        self.deadline = deadline
        self.seqs = seqs
        """The messages it began with; some may have been released since."""
        self.held = len(seqs)


class Leases:
    """All leases of one subscription."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[Lease, int]] = {}  # seq -> its lease, its size in bytes
        self._heap: list[tuple[float, int, Lease]] = []
        self._order = count()
        self._ended = 0  # leases in the heap that hold nothing any more

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, seq: int) -> bool:
        return seq in self._held

    def grant(
        self,
        grant: int,
        consumer: Consumer,
        deadline: float,
        seqs: Sequence[int],
        sizes: Sequence[int],
    ) -> None:
        """Lease ``seqs``, none of which is leased, to ``consumer`` until ``deadline``."""
        lease = Lease(grant, consumer, deadline, seqs)
        self._held.update(zip(seqs, zip(repeat(lease), sizes), strict=False))
        heappush(self._heap, (deadline, next(self._order), lease))

    def between(self, first: int, end: int) -> list[int]:
        """What is leased from ``first`` up to ``end``."""
        return [seq for seq in self._held if first <= seq < end]

    def grant_of(self, seq: int) -> int | None:
        """The delivery under which ``seq`` is held."""
        entry = self._held.get(seq)
        return None if entry is None else entry[0].grant

    def release(self, grant: int, seqs: Iterable[int]) -> list[int]:
        """End the leases of those ``seqs`` that are held under ``grant``, and name them.

        Gives their consumers the credit back.
        """
        held = self._held
        released: list[int] = []
        messages: dict[Lease, int] = defaultdict(int)
        sizes: dict[Lease, int] = defaultdict(int)
        for seq in seqs:
            entry = held.get(seq)
            if entry is not None and entry[0].grant == grant:
                del held[seq]
                lease = entry[0]
                messages[lease] += 1
                sizes[lease] += entry[1]
                released.append(seq)
        for lease, number in messages.items():
            lease.consumer.settle(number, sizes[lease])
            self._shrink(lease, number)
        return released

    def extend(self, grant: int, seqs: Iterable[int], deadline: float) -> None:
        """Move the deadline of those ``seqs`` that are held under ``grant``."""
        held = self._held
        moved: dict[Lease, tuple[Lease, list[int]]] = {}
        for seq in seqs:
            entry = held.get(seq)
            if entry is None or entry[0].grant != grant:
                continue
            old, size = entry
            if old not in moved:
                moved[old] = (Lease(grant, old.consumer, deadline, ()), [])
            new, new_seqs = moved[old]
            held[seq] = (new, size)
            new_seqs.append(seq)
        for old, (new, new_seqs) in moved.items():
            new.seqs, new.held = new_seqs, len(new_seqs)
            heappush(self._heap, (deadline, next(self._order), new))
            self._shrink(old, len(new_seqs))

    def expire(self, now: float) -> list[tuple[int, list[int]]]:
        """End every lease whose deadline is at or before ``now``: pairs of grant and seqs."""
        expired: list[tuple[int, list[int]]] = []
        heap = self._heap
        while heap and heap[0][0] <= now:
            lease = heappop(heap)[2]
            if lease.held == 0:
                self._ended -= 1
                continue
            held = self._held
            seqs = [seq for seq in lease.seqs if (at := held.get(seq)) and at[0] is lease]
            size = sum(held.pop(seq)[1] for seq in seqs)
            lease.consumer.settle(len(seqs), size)
            lease.held, lease.seqs = 0, ()
            expired.append((lease.grant, seqs))
        return expired

    def clear(self) -> None:
        """End all leases (a seek), and give all credit back."""
        for lease, size in self._held.values():
            lease.consumer.settle(1, size)
        self._held.clear()
        self._heap.clear()
        self._ended = 0

    def held(self) -> dict[int, tuple[float, list[int]]]:
        """All that is leased: by grant, the latest deadline and the seqs."""
        held: dict[int, tuple[float, list[int]]] = {}
        for seq, (lease, _) in self._held.items():
            deadline, seqs = held.get(lease.grant, (lease.deadline, []))
            seqs.append(seq)
            held[lease.grant] = max(deadline, lease.deadline), seqs
        return held

    def next_deadline(self) -> float | None:
        """When the next lease ends; None if there is none."""
        heap = self._heap
        while heap and heap[0][2].held == 0:
            heappop(heap)
            self._ended -= 1
        return heap[0][0] if heap else None

    def _shrink(self, lease: Lease, number: int) -> None:
        lease.held -= number
        if lease.held:
            return
        lease.seqs = ()  # the heap keeps the lease until its deadline, but not its messages
        self._ended += 1
        if self._ended > _COMPACT_FROM and self._ended * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].held]
            heapify(self._heap)
            self._ended = 0
