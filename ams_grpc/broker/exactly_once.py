"""Exactly-once delivery: what has to be remembered beyond a restart, and after an ack.

While a lease is valid its message is not sent again, whatever happens to the process. So leases are
written, one row a delivery, before their messages are sent; and a deadline is written before a
caller hears that it was moved. Of an ack it is known for a while that it was accepted, since a
caller whose answer was lost asks again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ams_grpc.broker.ports import StoredLease

REMEMBERED_S: Final = 600.0
_REMEMBERED_MESSAGES: Final = 100_000


@dataclass(slots=True)
class Confirmation:
    """What became of each ack id of a request."""

    accepted: list[str] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)
    """Malformed, stale, or expired: for ever so."""
    unordered: list[str] = field(default_factory=list)
    """An earlier message of the key is not acknowledged yet."""

    def __bool__(self) -> bool:
        return bool(self.accepted or self.invalid or self.unordered)


class LeaseBook:
    """The leases of one subscription that are stored, and what of that is not written yet."""

    def __init__(self, stored: Mapping[int, StoredLease]) -> None:
        self._stored = dict(stored)  # grant -> what is written, or is about to be
        self._held: dict[int, int] = {}  # grant -> how many of its messages are leased
        self._changed: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._stored or self._changed)

    def stored(self) -> list[tuple[int, Sequence[int]]]:
        """Grants, oldest first, with the seqs that they were for."""
        return [(grant, self._stored[grant].seqs) for grant in sorted(self._stored)]

    def deadline_us(self, grant: int) -> int:
        """Until when a stored lease is valid."""
        return self._stored[grant].deadline_us

    def hold(self, grant: int, count: int) -> None:
        """After a restart: of a stored lease, ``count`` messages are still out."""
        if count:
            self._held[grant] = count
        else:
            self.release(grant, 0)

    def grant(self, grant: int, deadline_us: int, seqs: Sequence[int]) -> None:
        """A delivery is about to be sent."""
        self._stored[grant] = StoredLease(deadline_us, seqs)
        self._held[grant] = len(seqs)
        self._changed.add(grant)

    def extend(self, grant: int, deadline_us: int) -> None:
        """Some messages of a delivery have until then. What is written never gets shorter."""
        stored = self._stored.get(grant)
        if stored is not None and stored.deadline_us < deadline_us:
            self._stored[grant] = StoredLease(deadline_us, stored.seqs)
            self._changed.add(grant)

    def release(self, grant: int, count: int) -> None:
        """So many messages of a delivery are done."""
        left = self._held.get(grant, 0) - count
        if left > 0:
            self._held[grant] = left
        elif grant in self._stored:
            del self._stored[grant]
            self._held.pop(grant, None)
            self._changed.add(grant)

    def reclaim(self, grant: int, seqs: Iterable[int]) -> None:
        """These messages of a delivery come again: after a restart, too, they are not leased."""
        gone = set(seqs)
        self.release(grant, len(gone))
        stored = self._stored.get(grant)
        if stored is not None:
            left = [seq for seq in stored.seqs if seq not in gone]
            self._stored[grant] = StoredLease(stored.deadline_us, left)
            self._changed.add(grant)

    def clear(self) -> None:
        """No lease is left (a seek, or exactly-once delivery was switched off)."""
        self._changed.update(self._stored)
        self._stored.clear()
        self._held.clear()

    def take_changes(self) -> dict[int, StoredLease | None]:
        """What is not written yet, by grant; None: to be deleted."""
        changes = {grant: self._stored.get(grant) for grant in self._changed}
        self._changed.clear()
        return changes

    def put_back(self, changes: Mapping[int, StoredLease | None]) -> None:
        """These were not written after all."""
        self._changed |= changes.keys()


class Accepted:
    """Acks that were accepted lately: the same again is no failure."""

    def __init__(self) -> None:
        self._seqs: dict[int, set[int]] = {}  # grant -> seqs
        self._order: deque[tuple[float, int, tuple[int, ...]]] = deque()  # until, grant, seqs
        self._number = 0

    def add(self, grant: int, seqs: Iterable[int], now: float) -> None:
        """Acks of ``grant`` were accepted at ``now`` (seconds, monotonic)."""
        added = tuple(seqs)
        self._seqs.setdefault(grant, set()).update(added)
        self._order.append((now + REMEMBERED_S, grant, added))
        self._number += len(added)
        while self._number > _REMEMBERED_MESSAGES:
            self._forget_first()
        self.forget(now)

    def has(self, grant: int, seq: int, now: float) -> bool:
        self.forget(now)
        return seq in self._seqs.get(grant, ())

    def forget(self, now: float) -> None:
        """What is older than ``REMEMBERED_S`` is not known any more."""
        while self._order and self._order[0][0] <= now:
            self._forget_first()

    def next_time(self) -> float | None:
        """When something is to be forgotten; None if nothing is known."""
        return self._order[0][0] if self._order else None

    def clear(self) -> None:
        self._seqs.clear()
        self._order.clear()
        self._number = 0

    def _forget_first(self) -> None:
        _, grant, seqs = self._order.popleft()
        self._number -= len(seqs)
        known = self._seqs[grant]
        known.difference_update(seqs)
        if not known:
            del self._seqs[grant]
