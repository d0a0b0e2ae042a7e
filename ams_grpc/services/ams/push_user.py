"""The push worker: with AMS a user whose token is configured, who pulls what is pushed.

Here the service pushes by itself. But where such a user is configured, it has to be there, and is in
the access lists of what is pushed, since tools of AMS look for it there.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from ams_grpc.auth.access_lists import AccessLists
from ams_grpc.auth.authentication import Authenticator
from ams_grpc.auth.principals import Principal
from ams_grpc.auth.projects import Members
from ams_grpc.broker.ams_push import AmsPush
from ams_grpc.broker.errors import Conflict, TooManyAttempts, Unauthenticated, ams
from ams_grpc.broker.names import SubscriptionName

_PEER: Final = "push worker"


class PushUser:
    """``token`` empty: there is none, and nothing has to be done."""

    def __init__(
        self, token: str, authenticator: Authenticator, members: Members, lists: AccessLists
    ) -> None:
        self._token = token
        self._authenticator = authenticator
        self._members = members
        self._lists = lists

    async def is_missing(self) -> bool:
        """Whether the token that is configured is nobody's."""
        return bool(self._token) and await self._name() is None

    async def check(self) -> None:
        """Raises what AMS answers when the user is missing."""
        if await self.is_missing():
            raise ams("INTERNAL", "Push functionality is currently unavailable")

    async def follow(
        self, caller: Principal, name: SubscriptionName, old: AmsPush | None, new: AmsPush | None
    ) -> None:
        """A subscription was pushed like ``old``, and is now like ``new``.

        AMS: the user is in the access list while messages are delivered.
        """
        was, shall_be = (push is not None and push.verified for push in (old, new))
        if was == shall_be or not self._token or (user := await self._name()) is None:
            return
        if not shall_be:
            await self._lists.remove(caller, name, user)
            return
        with suppress(Conflict):  # it is a member already
            await self._members.add(caller, name.project, user)
        await self._lists.add(caller, name, user)

    async def _name(self) -> str | None:
        # Strangers may ask for the status, so this asks the database as seldom as for a caller.
        try:
            return (await self._authenticator.identify(self._token, _PEER)).name
        except (Unauthenticated, TooManyAttempts):
            return None
