"""How often one peer may guess.

Guessing is hopeless; what is at stake is the database, which each guess asks. So a peer that fails too
often is not shut out, since others may call from the same address: it shares what little is left for
all such peers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ams_grpc.broker.errors import TooManyAttempts

BURST: Final = 50
PER_SECOND: Final = 5.0
SPARE_PER_SECOND: Final = 50.0
MAX_PEERS: Final = 10_000


class FailedAttempts:
    """A bucket of failures for each peer, which drains with time, and one for those that are full.

    ``now`` gives seconds. Of more than ``max_peers`` those are forgotten that failed longest ago.
    """

    def __init__(
        self,
        now: Callable[[], float],
        *,
        burst: int = BURST,
        per_second: float = PER_SECOND,
        spare_per_second: float = SPARE_PER_SECOND,
        max_peers: int = MAX_PEERS,
    ) -> None:
        self._now = now
        self._burst = burst
        self._per_second = per_second
        self._spare_per_second = spare_per_second
        self._spent = 0.0, 0.0  # as for peers: of what there is to spare
        self._max_peers = max_peers
        self._peers: dict[str, tuple[float, float]] = {}  # level of the bucket, and when

    def check(self, peer: str, *, spares: bool = True) -> None:
        """Raises TooManyAttempts when the peer's bucket is full, and nothing is to spare.

        ``spares`` False: it does not get what is to spare.
        """
        if peer not in self._peers or self._level(peer) <= self._burst - 1:
            return
        spent = self._drained(self._spent, self._spare_per_second) + 1
        if not spares or spent > self._spare_per_second:
            raise TooManyAttempts("Too many failed authentications. Please try again later.")
        self._spent = spent, self._now()

    def failed(self, peer: str) -> None:
        """One more."""
        level = min(self._level(peer) + 1, self._burst)
        self._peers.pop(peer, None)  # to the end
        self._peers[peer] = (level, self._now())
        if len(self._peers) > self._max_peers:
            del self._peers[next(iter(self._peers))]

    def _level(self, peer: str) -> float:
        return self._drained(self._peers.get(peer, (0.0, 0.0)), self._per_second)

    def _drained(self, bucket: tuple[float, float], per_second: float) -> float:
        level, since = bucket
        return max(0.0, level - (self._now() - since) * per_second)
