"""What push workers share: whose tokens go with requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from aiohttp import web

from ams_grpc.broker.catalog import Subscription, SubscriptionConfig
from ams_grpc.broker.endpoints import EndpointRules
from ams_grpc.broker.names import SubscriptionName, TopicName
from ams_grpc.broker.policies import OidcToken, PushConfig
from ams_grpc.push.push import AmsPushSettings, PushRoom, PushSettings
from ams_grpc.services.ams.data import shown_data
from tests.unit.broker.fakes import ManualClock, Stored
from tests.unit.broker.world import World

AMS = AmsPushSettings(lambda: "ams.example:443", unseal=str, data_text=shown_data)


async def secrets(name: str, make: Callable[[], bytes]) -> bytes:
    return make()


@pytest.mark.parametrize("email, comes", [("pusher@a.example", True), ("root@a.example", False)])
async def test_a_stored_account_that_is_not_listed_any_more_gets_no_tokens(
    email: str, comes: bool
) -> None:
    """And nothing is pushed without one."""
    came: list[str] = []

    async def take(request: web.Request) -> web.Response:
        came.append(request.headers["Authorization"])
        return web.Response()

    app = web.Application()
    app.router.add_post("/", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    world = World(ManualClock(), Stored())
    world.start()
    config = PushConfig(f"http://127.0.0.1:{runner.addresses[0][1]}/", oidc_token=OidcToken(email))
    subscription = Subscription(
        id=7,
        name=SubscriptionName("p", "orders"),
        version=1,
        topic_id=1,
        topic_name=TopicName("p", "orders"),
        topic_retention_us=None,
        start_seq=0,
        detached=False,
        config=SubscriptionConfig(push=config),
    )
    rules = EndpointRules(http=True, loopback=True, accounts=["pusher@a.example"])
    settings = PushSettings("https://issuer.example")

    async with (
        asyncio.timeout(30),
        PushRoom(settings, rules, world.runtimes, secrets, world.clock, AMS) as room,
    ):
        outcome = await room._push(subscription, config, b"", None)
    await runner.cleanup()

    assert outcome.accepted is comes
    assert outcome.kind == ("ack" if comes else "refused")
    assert len(came) == comes
