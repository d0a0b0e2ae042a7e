"""From a token to who calls."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from ams_grpc.auth.attempts import FailedAttempts
from ams_grpc.auth.memory import MAX_REMEMBERED, Memory
from ams_grpc.auth.ports import Accounts
from ams_grpc.auth.principals import Principal
from ams_grpc.auth.tokens import Vault, is_plausible
from ams_grpc.broker.errors import Unauthenticated

REMEMBERED_S: Final = 4.0
"""How long something stays known here; what another process changes counts after that, or, where
whole admissions are remembered, within a second more."""


class Authenticator:
    """Knows the callers. ``now`` gives seconds; see ``forget`` for what is remembered."""

    def __init__(self, accounts: Accounts, vault: Vault, now: Callable[[], float]) -> None:
        self._accounts = accounts
        self._vault = vault
        self._attempts = FailedAttempts(now)
        # By the tokens themselves: a dictionary finds them by a hash whose key nobody knows.
        self._callers: Memory[str, Principal] = Memory(now, REMEMBERED_S)
        self._good: OrderedDict[bytes, None] = OrderedDict()
        """Digests of tokens that were somebody's when they were last looked up."""

    async def identify(self, token: str, peer: str) -> Principal:
        """Whose token it is.

        Raises Unauthenticated; TooManyAttempts when ``peer`` has failed too often, unless the token
        was good when it was last looked up.
        """
        principal = self._callers.get(token)
        if principal is not None:
            return principal
        if not is_plausible(token):  # which need not be looked up, and takes no turn of others
            self._attempts.check(peer, spares=False)
            raise self._failed(peer)
        digest = self._vault.digest(token)
        if digest not in self._good:
            self._attempts.check(peer)
        generation = self._callers.generation
        user = await self._accounts.user_by_digest(digest)
        self._good.pop(digest, None)
        if user is None:
            raise self._failed(peer)
        self._good[digest] = None
        if len(self._good) > MAX_REMEMBERED:
            self._good.popitem(last=False)
        principal = Principal.of(user)
        self._callers.keep(token, principal, generation)
        return principal

    def forget(self) -> None:
        """Accounts have changed: what was known may be wrong, and is looked up again."""
        self._callers.forget()

    def _failed(self, peer: str) -> Unauthenticated:
        self._attempts.failed(peer)
        return Unauthenticated("Unauthorized")
