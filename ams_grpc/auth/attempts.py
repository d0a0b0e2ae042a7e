"""How often one peer may guess."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ams_grpc.broker.errors import TooManyAttempts

BURST: Final = 50
PER_SECOND: Final = 5.0
MAX_PEERS: Final = 10_000


class FailedAttempts:
    """A bucket of failures for each peer, which drains with time.

    ``now`` gives seconds. Of more than ``max_peers`` those are forgotten that failed longest ago.
    """

    def __init__(
        self,
        now: Callable[[], float],
        *,
        burst: int = BURST,
        per_second: float = PER_SECOND,
        max_peers: int = MAX_PEERS,
    ) -> None:
        self._now = now
        self._burst = burst
        self._per_second = per_second
        self._max_peers = max_peers
        self._peers: dict[str, tuple[float, float]] = {}  # level of the bucket, and when

    def check(self, peer: str) -> None:
        """Raises TooManyAttempts while the peer's bucket is full."""
        if peer in self._peers and self._level(peer) > self._burst - 1:
            raise TooManyAttempts("Too many failed authentications. Please try again later.")

    def failed(self, peer: str) -> None:
        """One more."""
        level = self._level(peer) + 1
        self._peers.pop(peer, None)  # to the end
        self._peers[peer] = (level, self._now())
        if len(self._peers) > self._max_peers:
            del self._peers[next(iter(self._peers))]

    def _level(self, peer: str) -> float:
        level, since = self._peers.get(peer, (0.0, 0.0))
        return max(0.0, level - (self._now() - since) * self._per_second)
