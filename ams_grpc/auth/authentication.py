"""From a token to who calls."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from ams_grpc.auth.attempts import FailedAttempts
from ams_grpc.auth.ports import Accounts
from ams_grpc.auth.principals import Principal
from ams_grpc.auth.tokens import Vault, is_plausible
from ams_grpc.broker.errors import Unauthenticated

REMEMBERED_S: Final = 5.0
"""How long something stays known here; what another process changes counts after that."""
MAX_REMEMBERED: Final = 10_000


class Authenticator:
    """Knows the callers. ``now`` gives seconds; see ``forget`` for what is remembered."""

    def __init__(self, accounts: Accounts, vault: Vault, now: Callable[[], float]) -> None:
        self._accounts = accounts
        self._vault = vault
        self._now = now
        self._attempts = FailedAttempts(now)
        self._known: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()
        self._generation = 0

    async def identify(self, token: str, peer: str) -> Principal:
        """Whose token it is.

        Raises Unauthenticated; TooManyAttempts when ``peer`` has failed too often, unless the token
        is one that was good a moment ago.
        """
        if not is_plausible(token):
            self._attempts.check(peer)
            raise self._failed(peer)
        digest = self._vault.digest(token)
        found = self._known.get(digest)
        if found is not None and found[1] > self._now():
            return found[0]
        if found is None:
            self._attempts.check(peer)
        principal = await self._look_up(digest)
        if principal is None:
            raise self._failed(peer)
        return principal

    def forget(self) -> None:
        """Accounts have changed: what was known may be wrong."""
        self._generation += 1
        self._known.clear()

    async def _look_up(self, digest: bytes) -> Principal | None:
        generation = self._generation
        user = await self._accounts.user_by_digest(digest)
        self._known.pop(digest, None)
        if user is None:
            return None
        principal = Principal.of(user)
        if generation == self._generation:
            self._known[digest] = (principal, self._now() + REMEMBERED_S)
            if len(self._known) > MAX_REMEMBERED:
                self._known.popitem(last=False)
        return principal

    def _failed(self, peer: str) -> Unauthenticated:
        self._attempts.failed(peer)
        return Unauthenticated("Unauthorized")
