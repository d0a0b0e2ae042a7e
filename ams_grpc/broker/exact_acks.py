"""Acks and deadlines under exactly-once delivery: each id is accepted, or refused with a reason.

Only the latest ack id of a message counts, and only while its lease is valid. Of an ack it is known
for a while that it was accepted: whoever lost the answer asks again.
"""

from __future__ import annotations

from collections.abc import Iterable

from ams_grpc.broker.ack_ids import AckIds
from ams_grpc.broker.clock import Clock
from ams_grpc.broker.exactly_once import Accepted, Confirmation
from ams_grpc.broker.places import Places


class ExactAcks:
    """Settles ack ids of one subscription. Leases past their deadline must have been ended."""

    def __init__(self, places: Places, ack_ids: AckIds, clock: Clock) -> None:
        self._places = places
        self._ack_ids = ack_ids
        self._clock = clock
        self._accepted = Accepted()

    def acknowledge(self, ack_ids: Iterable[str]) -> tuple[Confirmation, int]:
        """What became of each id, and how many messages were settled by them.

        With ordering, an ack is refused while an earlier message of the key is not acknowledged.
        """
        places, keys = self._places, self._places.keys
        answer = Confirmation()
        now = self._clock.monotonic()
        done: list[int] = []
        settled: dict[int, list[int]] = {}
        for seq, grant, ack_id in self._in_order(ack_ids, answer):
            if places.leases.grant_of(seq) != grant:
                known = self._accepted.has(grant, seq, now)
                (answer.accepted if known else answer.invalid).append(ack_id)
            elif keys is not None and seq in keys and not keys.is_next(seq):
                answer.unordered.append(ack_id)
            else:
                places.release(grant, (seq,))
                settled.setdefault(grant, []).append(seq)
                answer.accepted.append(ack_id)
                done += places.final((seq,))
        for grant, seqs in settled.items():
            self._accepted.add(grant, seqs, now)
        places.done(done)
        return answer, sum(map(len, settled.values()))

    def modify_ack_deadline(self, ack_ids: Iterable[str], seconds: int) -> tuple[Confirmation, int]:
        """What became of each id, and how many messages were handed back (``seconds`` 0)."""
        answer = Confirmation()
        by_grant: dict[int, list[int]] = {}
        for seq, grant, ack_id in self._in_order(ack_ids, answer):
            if self._places.leases.grant_of(seq) == grant:
                by_grant.setdefault(grant, []).append(seq)
                answer.accepted.append(ack_id)
            else:
                answer.invalid.append(ack_id)
        nacked = 0
        for grant, seqs in by_grant.items():
            if seconds > 0:
                self._places.extend(grant, seqs, seconds)
            else:
                nacked += self._places.nack(grant, seqs)
        return answer, nacked

    def next_time(self) -> float | None:
        """When there is something to ``forget``."""
        return self._accepted.next_time()

    def forget(self, now: float) -> None:
        """What is too old to be asked for again."""
        self._accepted.forget(now)

    def clear(self) -> None:
        """A seek: no ack id of before counts any more."""
        self._accepted.clear()

    def _in_order(self, ack_ids: Iterable[str], answer: Confirmation) -> list[tuple[int, int, str]]:
        """Seq, grant and id of what can be valid, by seq; the rest is ``answer.invalid``."""
        found: list[tuple[int, int, str]] = []
        for ack_id in dict.fromkeys(ack_ids):
            delivered = self._ack_ids.read(ack_id)
            if delivered is None or delivered.epoch != self._places.cursor.epoch:
                answer.invalid.append(ack_id)
            else:
                found.append((delivered.seqs[0], delivered.grant, ack_id))
        found.sort()
        return found
