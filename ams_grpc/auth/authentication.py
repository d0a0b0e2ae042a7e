"""From a token to who calls."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from ams_grpc.auth.attempts import FailedAttempts
from ams_grpc.auth.memory import MAX_REMEMBERED
from ams_grpc.auth.ports import Accounts
from ams_grpc.auth.principals import Principal
from ams_grpc.auth.tokens import Vault, is_plausible
from ams_grpc.broker.errors import Unauthenticated

REMEMBERED_S: Final = 4.0
"""How long something stays known here; what another process changes counts after that, or, where
whole admissions are remembered, within a second more."""


class _Known(NamedTuple):
    """Whose token something was, until when that counts, and before which change."""

    principal: Principal
    until: float
    generation: int


class Authenticator:
    """Knows the callers. ``now`` gives seconds; see ``forget`` for what is remembered."""

    def __init__(self, accounts: Accounts, vault: Vault, now: Callable[[], float]) -> None:
        self._accounts = accounts
        self._vault = vault
        self._now = now
        self._attempts = FailedAttempts(now)
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._generation = 0

    async def identify(self, token: str, peer: str) -> Principal:
        """Whose token it is.

        Raises Unauthenticated; TooManyAttempts when ``peer`` has failed too often, unless the token
        was good when it was last looked up.
        """
        if not is_plausible(token):  # which need not be looked up, and takes no turn of others
            self._attempts.check(peer, spares=False)
            raise self._failed(peer)
        found = self._known.get(token)  # found by its hash, whose key nobody knows
        if found is None:
            self._attempts.check(peer)
        elif found.until > self._now() and found.generation == self._generation:
            return found.principal
        principal = await self._look_up(token)
        if principal is None:
            raise self._failed(peer)
        return principal

    def forget(self) -> None:
        """Accounts have changed: what was known may be wrong, and is looked up again."""
        self._generation += 1

    async def _look_up(self, token: str) -> Principal | None:
        generation = self._generation
        user = await self._accounts.user_by_digest(self._vault.digest(token))
        self._known.pop(token, None)
        if user is None:
            return None
        principal = Principal.of(user)
        self._known[token] = _Known(principal, self._now() + REMEMBERED_S, generation)
        if len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)
        return principal

    def _failed(self, peer: str) -> Unauthenticated:
        self._attempts.failed(peer)
        return Unauthenticated("Unauthorized")
