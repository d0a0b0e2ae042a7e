"""AMS's push as methods: who is asked first, and what Pub/Sub's methods make of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from ams_grpc.auth.principals import SHELL, Principal
from ams_grpc.auth.tokens import SealedTexts, Vault
from ams_grpc.broker.ams_push import AmsEndpoint, AmsMattermost, AmsPush
from ams_grpc.broker.catalog import Subscription, SubscriptionConfig
from ams_grpc.broker.endpoints import EndpointRules
from ams_grpc.broker.errors import BrokerError, Conflict, TooManyAttempts, Unauthenticated
from ams_grpc.broker.names import SubscriptionName
from ams_grpc.pb.ams.v1 import pubsub_pb2 as ams_pb
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.services.ams.push import PushDesk, SubscriptionPush
from ams_grpc.services.ams.push_configs import PushConfigs
from ams_grpc.services.ams.push_user import PushUser
from ams_grpc.services.callers import set_caller
from ams_grpc.services.subscriber import Subscriber
from tests.unit.broker.fakes import ManualClock, Stored
from tests.unit.broker.world import ORDERS, World

URL = "https://recv.example.org/hook"
HTTP = ams_pb.PushConfig(type="http_endpoint", push_endpoint=URL)
UNVERIFIED = AmsPush(AmsEndpoint(URL, "hash"), max_messages=4, base64_decode=True)
VERIFIED = replace(UNVERIFIED, target=AmsEndpoint(URL, "hash", verified=True))
MATTERMOST = AmsPush(AmsMattermost("https://chat.example.org/hooks/abc"))
DISABLED = "Push functionality is currently disabled"
UNAVAILABLE = "Push functionality is currently unavailable"
NO_SUBSCRIPTION = "Subscription doesn't exist"
TOKEN = "w" * 64
ANY: Any = None


class Accounts:
    """A push worker, perhaps, and who is a member and in access lists."""

    def __init__(self) -> None:
        self.tokens = {TOKEN: "worker"}
        self.stranger: BrokerError = Unauthenticated("Unauthorized")
        self.members: set[tuple[str, str]] = set()
        self.listed: set[tuple[SubscriptionName, str]] = set()

    async def identify(self, token: str, _peer: str) -> Principal:
        if token not in self.tokens:
            raise self.stranger
        return Principal("1", self.tokens[token])

    def as_members(self) -> Any:
        return _With(self._add_member)

    def as_lists(self) -> Any:
        return _With(self._add_to_list, self._remove)

    async def _add_member(self, _caller: Any, project: str, user: str) -> None:
        if (project, user) in self.members:
            raise Conflict("member")
        self.members.add((project, user))

    async def _add_to_list(self, _caller: Any, name: SubscriptionName, user: str) -> None:
        assert (name.project, user) in self.members
        self.listed.add((name, user))

    async def _remove(self, _caller: Any, name: SubscriptionName, user: str) -> None:
        self.listed.discard((name, user))


class _With:
    def __init__(self, add: Callable[..., Any], remove: Callable[..., Any] | None = None) -> None:
        self.add = add
        self.remove = remove


class Service(World):
    """The methods, on a broker of their own."""

    def start(self, *, enabled: bool = True, token: str = "") -> None:
        super().start()
        set_caller(SHELL)
        self.accounts = Accounts()
        known: Any = self.accounts
        user = PushUser(token, known, self.accounts.as_members(), self.accounts.as_lists())
        sealed = SealedTexts(Vault(b"secret"), "a test")
        self.desk = PushDesk(
            PushConfigs(EndpointRules().accepts, sealed), user, self, enabled=enabled
        )
        self.push = SubscriptionPush(self.subscriptions, self.desk, self._verify)
        self.fault = ""
        self.meanwhile: AmsPush | None = UNVERIFIED

    def status(self, subscription: Subscription) -> str:
        return "active"

    def farewell(self, subscription: Subscription) -> str:
        return "farewell"

    async def _verify(self, endpoint: AmsEndpoint) -> str:
        if self.meanwhile is not UNVERIFIED:
            await self.store(self.meanwhile)
        return self.fault

    async def store(self, push: AmsPush | None) -> None:
        await self.subscriptions.update(ORDERS, lambda old: replace(old.config, ams_push=push))

    async def kept(self) -> AmsPush | None:
        return (await self.subscriptions.get(ORDERS)).config.ams_push

    async def modify(self, config: ams_pb.PushConfig, name: str = ORDERS.id) -> None:
        request = ams_pb.ModifyPushConfigRequest(
            project=ORDERS.project, subscription=name, push_config=config
        )
        await self.push.ModifyPushConfig(request, ANY)

    async def verify(self, name: str = ORDERS.id) -> None:
        request = ams_pb.SubscriptionRequest(project=ORDERS.project, subscription=name)
        await self.push.VerifyPushEndpoint(request, ANY)


async def service(push: AmsPush | None = None, **options: Any) -> Service:
    world = Service(ManualClock(), Stored())
    world.start(**options)
    await world.create(subscription=SubscriptionConfig(ams_push=push))
    return world


async def refused(work: Any) -> tuple[str, str]:
    """Text and reason."""
    with pytest.raises(BrokerError) as error:
        await work
    info = error.value.info
    return error.value.message, "" if info is None else info.reason


# --- modifyPushConfig -------------------------------------------------------------------------------


async def test_to_push_and_back_to_pull() -> None:
    world = await service()

    await world.modify(HTTP)
    push = await world.kept()
    assert push is not None
    assert (push.url, push.verified) == (URL, False)
    await world.modify(ams_pb.PushConfig())

    assert await world.kept() is None
    await world.publish(b"1")
    assert await world.pull_data() == [b"1"]


async def test_a_missing_subscription_comes_before_all_else() -> None:
    world = await service(enabled=False)
    assert await refused(world.modify(HTTP, "none")) == (NO_SUBSCRIPTION, "")


async def test_without_push_one_can_only_go_back_to_pull() -> None:
    world = await service(VERIFIED, enabled=False)
    assert await refused(world.modify(HTTP)) == (DISABLED, "CONFLICT")
    assert await refused(world.desk.read_new(HTTP)) == (DISABLED, "CONFLICT")
    assert await world.desk.read_new(ams_pb.PushConfig()) is None

    await world.modify(ams_pb.PushConfig())

    assert await world.kept() is None


async def test_without_the_worker_that_is_configured_it_is_the_same() -> None:
    world = await service(VERIFIED, token="x" * 64)
    assert await refused(world.modify(HTTP)) == (UNAVAILABLE, "INTERNAL")
    assert await refused(world.desk.read_new(HTTP)) == (UNAVAILABLE, "INTERNAL")
    assert await refused(world.verify("none")) == (UNAVAILABLE, "INTERNAL")

    await world.modify(ams_pb.PushConfig())

    assert await world.kept() is None


@pytest.mark.parametrize(
    "token, stranger, is_crippled",
    [
        ("", Unauthenticated("Unauthorized"), False),
        (TOKEN, Unauthenticated("Unauthorized"), False),
        ("x" * 64, Unauthenticated("Unauthorized"), True),
        ("x" * 64, TooManyAttempts("later"), True),
    ],
)
async def test_push_is_crippled_without_the_worker_that_is_configured(
    token: str, stranger: BrokerError, is_crippled: bool
) -> None:
    world = await service(token=token)
    world.accounts.stranger = stranger

    assert await world.desk.is_crippled() is is_crippled


# --- verifyPushEndpoint -----------------------------------------------------------------------------


async def test_a_verified_endpoint_is_stored_with_all_the_rest() -> None:
    world = await service(UNVERIFIED)

    await world.verify()

    assert await world.kept() == VERIFIED
    assert await refused(world.verify()) == ("Push endpoint is already verified", "CONFLICT")


@pytest.mark.parametrize("push", [None, MATTERMOST])
async def test_only_endpoints_are_verified(push: AmsPush | None) -> None:
    world = await service(push)
    text = "Subscription is not in http push mode"
    assert await refused(world.verify()) == (text, "CONFLICT")


async def test_push_that_is_off_comes_before_a_missing_subscription() -> None:
    assert await refused((await service(enabled=False)).verify("none")) == (DISABLED, "CONFLICT")
    assert await refused((await service()).verify("none")) == (NO_SUBSCRIPTION, "")


async def test_an_endpoint_that_does_not_show_the_hash_is_not_verified() -> None:
    world = await service(UNVERIFIED)
    world.fault = "Wrong verification hash"
    text = "Endpoint verification failed.Wrong verification hash"
    assert await refused(world.verify()) == (text, "VERIFICATION_FAILED")
    assert await world.kept() == UNVERIFIED


@pytest.mark.parametrize(
    "meanwhile, text",
    [
        (
            AmsPush(AmsEndpoint(f"{URL}2", "hash")),
            "Endpoint verification failed.Wrong verification hash",
        ),
        (
            AmsPush(AmsEndpoint(URL, "hash2")),
            "Endpoint verification failed.Wrong verification hash",
        ),
        (VERIFIED, "Push endpoint is already verified"),
        (None, "Subscription is not in http push mode"),
    ],
)
async def test_what_was_changed_while_the_endpoint_was_asked_is_not_verified_by_it(
    meanwhile: AmsPush | None, text: str
) -> None:
    world = await service(UNVERIFIED)
    world.meanwhile = meanwhile

    assert (await refused(world.verify()))[0] == text

    assert await world.kept() == meanwhile


# --- the push worker's user -------------------------------------------------------------------------


async def test_the_worker_is_in_the_access_list_while_messages_are_delivered() -> None:
    world = await service(UNVERIFIED, token=TOKEN)
    entry = {(ORDERS, "worker")}

    await world.verify()
    assert world.accounts.listed == entry
    await world.modify(HTTP)  # the same endpoint
    assert world.accounts.listed == entry
    other = ams_pb.PushConfig(type="http_endpoint", push_endpoint=f"{URL}2")
    await world.modify(other)
    assert world.accounts.listed == set()
    await world.modify(ams_pb.PushConfig(mattermost_url="https://chat.example.org/hooks/abc"))
    assert world.accounts.listed == entry
    await world.modify(ams_pb.PushConfig())

    assert world.accounts.listed == set()


async def test_a_worker_who_is_gone_changes_nobodys_access() -> None:
    world = await service(VERIFIED, token=TOKEN)
    world.accounts.listed = {(ORDERS, "alice")}
    world.accounts.tokens = {"other": "alice"}

    await world.modify(ams_pb.PushConfig())

    assert world.accounts.listed == {(ORDERS, "alice")}


# --- shown and deleted ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "push, said", [(None, False), (UNVERIFIED, False), (VERIFIED, True), (MATTERMOST, True)]
)
async def test_only_of_what_is_delivered_there_is_something_to_say(
    push: AmsPush | None, said: bool
) -> None:
    world = await service(push)
    subscription = await world.subscriptions.get(ORDERS)

    assert world.desk.status(subscription) == ("active" if said else "")
    assert world.desk.farewell(subscription) == ("farewell" if said else "")


# --- through Pub/Sub's methods ----------------------------------------------------------------------


async def test_pubsub_sees_a_push_subscription() -> None:
    world = await service(UNVERIFIED)
    request = pb.GetSubscriptionRequest(subscription=str(ORDERS))

    shown = await Subscriber(world.broker).GetSubscription(request, ANY)

    assert shown.push_config == pb.PushConfig(push_endpoint=URL)


async def test_an_update_of_something_else_leaves_amss_push_alone() -> None:
    world = await service(VERIFIED)
    update = pb.UpdateSubscriptionRequest(
        subscription=pb.Subscription(name=str(ORDERS), ack_deadline_seconds=60),
        update_mask=FieldMask(paths=["ack_deadline_seconds"]),
    )

    shown = await Subscriber(world.broker).UpdateSubscription(update, ANY)

    assert shown.ack_deadline_seconds == 60
    assert await world.kept() == VERIFIED


@pytest.mark.parametrize("endpoint", ["", "https://example.com/new"])
async def test_a_push_config_of_pubsub_replaces_amss_and_the_other_way_round(
    endpoint: str,
) -> None:
    world = await service(VERIFIED)
    wanted = pb.PushConfig(push_endpoint=endpoint)
    request = pb.ModifyPushConfigRequest(subscription=str(ORDERS), push_config=wanted)

    await Subscriber(world.broker).ModifyPushConfig(request, ANY)

    config = (await world.subscriptions.get(ORDERS)).config
    assert config.worker == ("push" if endpoint else None)
    await world.modify(HTTP)
    assert (await world.subscriptions.get(ORDERS)).config.worker == "ams_push"


@pytest.mark.parametrize("path", ["push_config", "push_config.push_endpoint"])
async def test_an_update_of_the_push_config_replaces_it_too(path: str) -> None:
    world = await service(VERIFIED)
    update = pb.UpdateSubscriptionRequest(
        subscription=pb.Subscription(name=str(ORDERS)), update_mask=FieldMask(paths=[path])
    )

    await Subscriber(world.broker).UpdateSubscription(update, ANY)

    assert (await world.subscriptions.get(ORDERS)).config.worker is None
