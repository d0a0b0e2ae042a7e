"""ams.v1.Subscriptions: push, as AMS has it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Protocol

from google.protobuf.empty_pb2 import Empty

from ams_grpc.broker.ams_push import AmsEndpoint, AmsPush
from ams_grpc.broker.catalog import Subscription, SubscriptionConfig
from ams_grpc.broker.errors import ams
from ams_grpc.broker.names import SubscriptionName
from ams_grpc.broker.subscriptions import Subscriptions
from ams_grpc.pb.ams.v1 import pubsub_pb2 as pb
from ams_grpc.services.ams.names import ams_words
from ams_grpc.services.ams.push_configs import PushConfigs, is_empty
from ams_grpc.services.ams.push_user import PushUser
from ams_grpc.services.callers import caller
from ams_grpc.services.frame import Context


class Deliveries(Protocol):
    """Who pushes; see ``push.ams.room``."""

    def status(self, subscription: Subscription) -> str: ...

    def farewell(self, subscription: Subscription) -> str: ...


class PushDesk:
    """What is to be done about push when subscriptions are made, shown, changed and deleted.

    ``enabled`` False: none can be made a push subscription.
    """

    def __init__(
        self, configs: PushConfigs, user: PushUser, deliveries: Deliveries, *, enabled: bool
    ) -> None:
        self._configs = configs
        self._user = user
        self._deliveries = deliveries
        self._enabled = enabled

    async def is_crippled(self) -> bool:
        """AMS: whether the user is missing whose token is configured for push."""
        return await self._user.is_missing()

    async def check(self) -> None:
        """Raises AmsRefusal unless there is push."""
        if not self._enabled:
            raise ams("CONFLICT", "Push functionality is currently disabled")
        await self._user.check()

    async def read_new(self, given: pb.PushConfig) -> AmsPush | None:
        """For a new subscription; None: subscribers pull. Raises InvalidArgument, AmsRefusal."""
        if is_empty(given):
            return None
        await self.check()
        return self._configs.created(given)

    async def reader(self, given: pb.PushConfig) -> Callable[[AmsPush | None], AmsPush | None]:
        """What makes the new configuration out of the old one, and raises InvalidArgument.

        Raises AmsRefusal. AMS: to pull one can always go back.
        """
        if is_empty(given):
            return lambda _old: None
        await self.check()
        return lambda old: self._configs.modified(given, old)

    async def changed(
        self, name: SubscriptionName, old: AmsPush | None, new: AmsPush | None
    ) -> None:
        """A subscription is stored that was pushed like ``old``, and is now like ``new``."""
        await self._user.follow(caller(), name, old, new)

    def shown(self, config: SubscriptionConfig) -> pb.PushConfig:
        """What a subscription shows of its push."""
        return self._configs.shown(config)

    def status(self, subscription: Subscription) -> str:
        """How delivery fares; empty for a subscription that AMS does not push to."""
        push = subscription.config.ams_push
        return self._deliveries.status(subscription) if push and push.verified else ""

    def farewell(self, subscription: Subscription) -> str:
        """What is said when it is deleted, beforehand; empty if nothing is."""
        push = subscription.config.ams_push
        return self._deliveries.farewell(subscription) if push and push.verified else ""


class SubscriptionPush:
    """How subscriptions are pushed.

    ``verify`` asks an endpoint for its hash, and gives what is wrong, or an empty text.
    """

    def __init__(
        self,
        subscriptions: Subscriptions,
        desk: PushDesk,
        verify: Callable[[AmsEndpoint], Awaitable[str]],
    ) -> None:
        self._subscriptions = subscriptions
        self._desk = desk
        self._verify = verify

    async def ModifyPushConfig(self, request: Any, context: Context) -> Empty:
        """Raises NotFound, InvalidArgument, AmsRefusal."""
        name = SubscriptionName(request.project, request.subscription)
        with ams_words("Subscription"):
            await self._subscriptions.get(name)
        modified = await self._desk.reader(request.push_config)
        await self._update(name, modified)
        return Empty()

    async def VerifyPushEndpoint(self, request: Any, context: Context) -> Empty:
        """Raises NotFound, AmsRefusal."""
        await self._desk.check()
        name = SubscriptionName(request.project, request.subscription)
        with ams_words("Subscription"):
            config = (await self._subscriptions.get(name)).config
        if config.push is not None:  # Pub/Sub's own, which needs no verification
            raise _verified_already()
        asked = _unverified(config.ams_push)
        fault = await self._verify(asked)
        if fault:
            raise _failed(fault)

        def verified(push: AmsPush | None) -> AmsPush | None:
            now = _unverified(push)
            if (now.url, now.verification_hash) != (asked.url, asked.verification_hash):
                raise _failed("Wrong verification hash")  # it was another one's
            return None if push is None else replace(push, target=replace(now, verified=True))

        await self._update(name, verified)
        return Empty()

    async def _update(
        self, name: SubscriptionName, change: Callable[[AmsPush | None], AmsPush | None]
    ) -> None:
        old: AmsPush | None = None

        def changed(subscription: Subscription) -> SubscriptionConfig:
            nonlocal old
            old = subscription.config.ams_push
            return replace(subscription.config, push=None, ams_push=change(old))

        with ams_words("Subscription"):
            updated = await self._subscriptions.update(name, changed)
        await self._desk.changed(name, old, updated.config.ams_push)


def _unverified(push: AmsPush | None) -> AmsEndpoint:
    """The endpoint that is to be verified. Raises AmsRefusal if there is none."""
    if push is None or not isinstance(push.target, AmsEndpoint):
        raise ams("CONFLICT", "Subscription is not in http push mode")
    if push.verified:
        raise _verified_already()
    return push.target


def _verified_already() -> Exception:
    return ams("CONFLICT", "Push endpoint is already verified")


def _failed(fault: str) -> Exception:
    return ams("VERIFICATION_FAILED", f"Endpoint verification failed.{fault}")
