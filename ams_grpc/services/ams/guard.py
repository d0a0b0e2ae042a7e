"""Lets calls of ams.v1 in. Implements ``frame.Guard``.

AMS: its order of refusals is a part of its API, and clients match the texts: names are names (400), a
token is there (401), the project exists (404, whatever the token), the token is somebody's who has a
role here (401), the role allows the call (403), and the access list does (403).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf.descriptor import MethodDescriptor

from ams_grpc.auth.authentication import Authenticator
from ams_grpc.auth.authorization import Authorizer
from ams_grpc.auth.checks import no_project
from ams_grpc.auth.memory import Memory
from ams_grpc.auth.principals import Principal
from ams_grpc.broker.errors import TooManyAttempts, Unauthenticated
from ams_grpc.services.ams.actions import Action, action_of
from ams_grpc.services.ams.names import ams_words
from ams_grpc.services.ams.texts import check_texts
from ams_grpc.services.callers import set_caller
from ams_grpc.services.frame import Context, Settle
from ams_grpc.services.guard import peer_of, settle, token_of

_PUBLISH: Final = "topics:publish"
"""Messages are kept as bytes, and may have anything in them."""


_REMEMBERED_S: Final = 1.0
"""How long a caller is let in again for the same without being looked into. Short, since what it
rests on is itself remembered for some seconds."""


LARGE_REQUEST_BYTES: Final = 64 * 1024
"""More is not parsed for a token that is nobody's. The bridge asks ``Access`` before it sends so much,
and so keeps AMS's order."""


@dataclass(slots=True)  # not frozen, which takes longer for each call
class Claim:
    """A token, perhaps none, and the call that it came with."""

    token: str = field(repr=False)
    context: Context

    @property
    def peer(self) -> str:
        """The machine that it came from."""
        return peer_of(self.context)


class AmsGuard:
    """Knows callers by their token; see ``guard.TokenGuard``.

    ``access_lists`` False: AMS's per_resource_auth is off.
    """

    def __init__(
        self, authenticator: Authenticator, authorizer: Authorizer, *, access_lists: bool = True
    ) -> None:
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._access_lists = access_lists
        self._admitted: Memory[tuple[str, ...], Principal] = authorizer.memory(_REMEMBERED_S)

    async def identify(self, context: Context, size: int) -> Claim:
        """What the caller claims. ``admit`` looks into it, since AMS's first refusals need the request.

        Raises Unauthenticated, TooManyAttempts if the request is large.
        """
        claim = Claim(token_of(context), context)
        if size > LARGE_REQUEST_BYTES and await self._owner(claim) is None:
            raise Unauthenticated("Unauthorized")
        return claim

    async def admit(self, caller: Claim, method: MethodDescriptor, request: Any) -> Settle | None:
        """Raises InvalidArgument, Unauthenticated, NotFound, PermissionDenied, TooManyAttempts."""
        action = action_of(method)
        if action.open:
            action.check_names(request)
            if caller.token:
                # Then nobody calls; but who has failed too often is not told that a token is bad.
                with suppress(Unauthenticated, *(() if action.token else (TooManyAttempts,))):
                    set_caller(await self._authenticator.identify(caller.token, caller.peer))
            return None
        key = (caller.token, action.name, *action.names(request))
        principal = self._admitted.get(key)
        if principal is None:
            generation = self._admitted.generation
            principal = await self._look_into(caller, action, request)
            self._admitted.keep(key, principal, generation)
        if action.name != _PUBLISH:
            check_texts(request)
        set_caller(principal)
        if not action.changes:
            return None
        return settle(self._authorizer, principal, action.name, action.target(request))

    async def _look_into(self, caller: Claim, action: Action, request: Any) -> Principal:
        """Who makes a call that they may make, by its token and by what its path names."""
        action.check_names(request)
        if not caller.token:
            raise Unauthenticated("Unauthorized")
        # Looked up first, so that those who guess are slowed down before they ask for projects.
        principal = await self._owner(caller)
        project = action.project(request)
        if project is not None and not await self._authorizer.exists(project):
            raise no_project()
        if principal is None:
            raise Unauthenticated("Unauthorized")
        role_in = request.project if "project" in action.variables else None
        await self._authorizer.check_action(principal, action.name, role_in)
        resource = action.resource(request)
        if resource is not None and self._access_lists:
            with ams_words("Topic" if resource.kind == "topics" else "Subscription"):
                await self._authorizer.check_list(principal, action.name, resource)
        return principal

    async def _owner(self, caller: Claim) -> Principal | None:
        """Whose the token is; None: nobody's, or there is none. Raises TooManyAttempts."""
        if not caller.token:
            return None
        try:
            return await self._authenticator.identify(caller.token, caller.peer)
        except Unauthenticated:
            return None

    def stream(self, method: MethodDescriptor, context: Context) -> Context:
        """AMS has no streams."""
        raise NotImplementedError(method.full_name)
