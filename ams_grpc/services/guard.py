"""Lets calls in: who calls, by the token in the metadata, and whether they may.

Implements ``frame.Guard``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, cast

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from ams_grpc.auth import audit
from ams_grpc.auth.authentication import Authenticator
from ams_grpc.auth.authorization import Authorizer
from ams_grpc.auth.principals import Principal
from ams_grpc.broker.catalog import Subscription
from ams_grpc.broker.errors import (
    NotFound,
    PermissionDenied,
    StorageUnavailable,
    Unauthenticated,
    not_authorized,
)
from ams_grpc.broker.names import ResourceName, SubscriptionName
from ams_grpc.services.callers import set_caller
from ams_grpc.services.frame import Context, Settle, parse
from ams_grpc.services.needs import RULES, Need, Rule

_BEARER: Final = "bearer "


class TokenGuard:
    """Knows callers by ``authorization: Bearer TOKEN`` or ``x-api-key: TOKEN``.

    ``find`` looks up a subscription; it raises NotFound.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        authorizer: Authorizer,
        find: Callable[[SubscriptionName], Awaitable[Subscription]],
    ) -> None:
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._find = find

    async def identify(self, context: Context, _size: int = 0) -> Principal:
        """Who calls. Raises Unauthenticated, TooManyAttempts."""
        token = token_of(context)
        if not token:
            raise Unauthenticated(
                "The request does not have valid authentication credentials: it needs an AMS token "
                "in the metadata, as authorization: Bearer TOKEN or x-api-key: TOKEN."
            )
        return await self._authenticator.identify(token, peer_of(context))

    async def admit(
        self, caller: Principal, method: MethodDescriptor, request: Any
    ) -> Settle | None:
        """Raises PermissionDenied; InvalidArgument; NotFound for a project.

        What is returned, for methods that change something, is to be called when they have ended.
        """
        rule = _rule(method)
        needs = tuple(rule.needs(request))
        await self.check(caller, needs)
        set_caller(caller)
        if not rule.changes:
            return None
        return settle(
            self._authorizer, caller, method.name, needs[0].target, partial(rule.given, request)
        )

    def stream(self, method: MethodDescriptor, context: Context) -> Context:
        """The same call, which can be used only as long as the caller may."""
        return cast("Context", _Stream(self, method, context))

    async def allowed(
        self, context: Context, name: ResourceName, permissions: Sequence[str]
    ) -> Sequence[str]:
        """Those of ``permissions`` that the caller has. Raises Unauthenticated, InvalidArgument.

        Pub/Sub: TestIamPermissions.
        """
        caller = await self.identify(context)
        return await self._authorizer.permissions(caller, name, permissions)

    async def check(self, caller: Principal, needs: Sequence[Need]) -> None:
        """Raises PermissionDenied; NotFound for a project."""
        for need in needs:
            try:
                await self._authorizer.check(caller, need.permission, need.target, need.action)
            except PermissionDenied:
                if not await self._may_on_topic(caller, need):
                    raise

    async def _may_on_topic(self, caller: Principal, need: Need) -> bool:
        """What is missing is told to nobody here: that would be more than a refusal says."""
        if not need.on_topic or not isinstance(need.target, SubscriptionName):
            return False
        with suppress(NotFound, PermissionDenied):
            topic = (await self._find(need.target)).topic_name
            if topic is not None:
                await self._authorizer.check(caller, need.on_topic, topic)
                return True
        return False


class _Stream:
    """A streaming call. Its rights are asked for again with each request and each response.

    What was asked a moment ago is remembered by those who are asked, so this costs little; and a
    token that is taken away, or a right, ends the stream before anything more is said.
    """

    def __init__(self, guard: TokenGuard, method: MethodDescriptor, context: Context) -> None:
        self._guard = guard
        self._context = context
        self._request_class = GetMessageClass(method.input_type)
        self._rule = _rule(method)
        self._needs: tuple[Need, ...] | None = None

    async def read(self) -> object:
        """The next request. Raises what ``admit`` and ``identify`` do."""
        message: object = await self._context.read()
        if isinstance(message, bytes):
            if self._needs is None:
                request = parse(self._request_class, message)
                needs = tuple(self._rule.needs(request))
                await self._ask(needs)
                self._needs = needs
            else:
                await self._ask_again()
        return message

    async def write(self, response: bytes) -> None:
        """Raises what ``admit`` and ``identify`` do."""
        await self._ask_again()
        await self._context.write(response)

    async def _ask(self, needs: Sequence[Need]) -> None:
        caller = await self._guard.identify(self._context)
        await self._guard.check(caller, needs)

    async def _ask_again(self) -> None:
        # While the database is away streams stay open, and what was so is taken to be so still.
        with suppress(StorageUnavailable):
            await self._ask(self._needs or ())


def settle(
    authorizer: Authorizer,
    caller: Principal,
    action: str,
    target: object,
    given: Callable[[], str] = str,
) -> Settle:
    """What follows a call that changes something: it counts, and goes into the audit log."""

    def settled(succeeded: bool) -> None:
        # Also when it failed: a commit may have happened that nobody knows of.
        authorizer.forget()
        if succeeded:
            audit.record(caller, action, target, given())

    return settled


def _rule(method: MethodDescriptor) -> Rule:
    rule = RULES.get(method.full_name)
    if rule is None:
        raise not_authorized()
    return rule


def token_of(context: Context) -> str:
    """The token that came with a call; empty if there is none. The last of several counts."""
    token = ""
    for key, value in context.invocation_metadata() or ():
        if key == "authorization":
            text = _text(value)
            if text[: len(_BEARER)].lower() == _BEARER:
                return text[len(_BEARER) :].strip()
        elif key == "x-api-key":
            token = _text(value).strip()
    return token


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def peer_of(context: Context) -> str:
    """The other machine: ``ipv4:192.0.2.1:4711`` without its port."""
    return context.peer().rpartition(":")[0]
