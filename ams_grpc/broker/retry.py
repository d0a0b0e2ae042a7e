"""How often deliveries of a message failed, and how long it rests before the next.

A nack, a missed ack deadline, a refused push and a failed transform are failures; the end of a
stream and a restart are not (Pub/Sub: DeadLetterPolicy.max_delivery_attempts). Counts are kept in
memory while a message waits, and are stored for subscriptions with a dead-letter policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from ams_grpc.broker.policies import SECOND_US, RetryPolicy

NACKED: Final = 0
"""In place of a grant that expired: no grant has this number."""

_LEAST_DOUBLED_US: Final = SECOND_US
_LONGEST_SHIFT: Final = 32
_FIRST_OWN_S: Final = 0.1
_LONGEST_OWN_S: Final = 60.0


def backoff_s(policy: RetryPolicy | None, failures: int) -> float:
    """Seconds that a message rests after its failure number ``failures`` (from 1).

    Without a policy none. Pub/Sub: RetryPolicy; a minimum of 0 doubles from one second,
    unless both bounds are 0.
    """
    if policy is None or not policy.maximum_backoff_us:
        return 0.0
    least_us = policy.minimum_backoff_us or _LEAST_DOUBLED_US
    rest_us = least_us << min(failures - 1, _LONGEST_SHIFT)
    return min(policy.maximum_backoff_us, rest_us) / SECOND_US


def own_backoff_s(failures: int) -> float:
    """Seconds that a message rests at least when the service itself failed: a transform, a push.

    Otherwise it would fail again at once, and so on, and keep what is new from going out. 100 ms,
    doubling to 60 s.
    """
    return min(_LONGEST_OWN_S, _FIRST_OWN_S * (1 << min(failures - 1, _LONGEST_SHIFT)))


class Attempts:
    """Failures of the messages of one subscription that have any."""

    def __init__(self, stored: Mapping[int, int]) -> None:
        self._failures = dict(stored)
        self._reasons: dict[int, str] = {}
        self._expired: dict[int, int] = {}  # seq -> the grant that expired, if none failed since
        self._changed: set[int] = set()
        self._stored = set(stored)  # or about to be

    @property
    def changed(self) -> bool:
        """True if there may be something to store."""
        return bool(self._changed)

    def __bool__(self) -> bool:
        return bool(self._failures)

    def failures(self, seq: int) -> int:
        """How many deliveries of it have failed."""
        return self._failures.get(seq, 0)

    def reason(self, seq: int) -> str:
        """Why the last one failed, where the service knows; else empty."""
        return self._reasons.get(seq, "")

    def expired(self, seq: int) -> int | None:
        """The delivery that missed its deadline, if that was its last failure."""
        return self._expired.get(seq)

    def fail(self, seq: int, reason: str = "", expired: int = NACKED) -> int:
        """One more failed, perhaps since that grant ``expired``: how many it are now."""
        failures = self._failures[seq] = self._failures.get(seq, 0) + 1
        self._changed.add(seq)
        if reason:
            self._reasons[seq] = reason
        else:
            self._reasons.pop(seq, None)
        if expired != NACKED:
            self._expired[seq] = expired
        else:
            self._expired.pop(seq, None)
        return failures

    def of_deliveries(self, seqs: Iterable[int]) -> Sequence[int]:
        """Pub/Sub: the delivery attempt of each, 1 for the first."""
        failures = self._failures
        if not failures:
            return [1] * len(list(seqs))
        return [failures.get(seq, 0) + 1 for seq in seqs]

    def forget(self, seqs: Iterable[int]) -> None:
        """These are done."""
        for seq in seqs:
            if self._failures.pop(seq, None) is not None:
                self._changed.add(seq)
                self._reasons.pop(seq, None)
                self._expired.pop(seq, None)

    def forget_below(self, end: int) -> None:
        """All below ``end`` is done."""
        self.forget_if(lambda seq: seq < end)

    def forget_if(self, is_done: Callable[[int], bool]) -> None:
        """All that ``is_done`` says so of is done."""
        if self._failures:
            self.forget([seq for seq in self._failures if is_done(seq)])

    def store_all(self) -> None:
        """From now on they are stored, those of before included."""
        self._changed.update(self._failures)

    def clear(self) -> None:
        """A seek: all start again."""
        self.forget(list(self._failures))

    def take_changes(self, *, store: bool) -> dict[int, int]:
        """What is not stored yet: by seq, the failures; 0 for those that are forgotten.

        Unless they are to ``store``, only those that are stored and are to go.
        """
        changes: dict[int, int] = {}
        for seq in self._changed:
            failures = self._failures.get(seq, 0)
            if failures and store:
                changes[seq] = failures
                self._stored.add(seq)
            elif not failures and seq in self._stored:
                changes[seq] = 0
                self._stored.discard(seq)
        self._changed.clear()
        return changes

    def put_back(self, changes: Mapping[int, int]) -> None:
        """These were not stored after all."""
        self._stored |= changes.keys()  # perhaps: nobody knows
        self._changed |= changes.keys()
