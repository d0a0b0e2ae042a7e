"""Sifting: what a filter leaves out does not stay in the backlog of a subscription nobody reads."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from ams_grpc.broker.catalog import SubscriptionConfig
from ams_grpc.broker.filters import parse_filter
from ams_grpc.broker.names import SubscriptionName
from ams_grpc.broker.sifting import Sifting
from ams_grpc.broker.views import FilteredView
from tests.unit.broker.fakes import decode
from tests.unit.broker.world import ORDERS, TOPIC, World

FILTER = 'attributes.kind = "x"'


class Reads:
    """A message of these tests is its own kind."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, message: bytes) -> Mapping[str, str]:
        self.count += 1
        return {"kind": message.decode()}


@pytest.fixture
def reads() -> Reads:
    return Reads()


@pytest.fixture
async def world(empty: World, reads: Reads) -> World:
    empty.runtimes._view_of = lambda log, subscription: FilteredView(
        log, subscription.topic_id, parse_filter(FILTER), reads
    )
    await empty.create(subscription=SubscriptionConfig(filter=FILTER, retain_acked_messages=True))
    empty.upkeep.filtered = [ORDERS]
    return empty


@pytest.fixture
def sifting(world: World, reads: Reads) -> Sifting:
    return Sifting(
        world.upkeep,
        world.runtimes,
        world.reader,
        decode=decode,
        attributes_of=reads,
        interval_s=1,
    )


async def test_what_does_not_match_is_done_without_any_consumer(
    world: World, sifting: Sifting
) -> None:
    await world.publish(b"a", b"b")
    await world.publish(b"x", b"c", b"x", b"d")

    await sifting.run_once()

    runtime = await world.runtime()
    assert runtime.unread.start == runtime.floor == runtime.unread.stop - 4
    state = runtime.cursor_state()
    assert sum(bits.bit_count() for chunk in state.chunks.values() for bits in chunk) == 2
    assert await world.pull_data() == [b"x", b"x"]


async def test_a_subscription_that_matches_nothing_is_done_with_everything(
    world: World, sifting: Sifting
) -> None:
    await world.publish(b"a", b"b")

    await sifting.run_once()

    assert (await world.runtime()).undelivered == 0


async def test_each_message_is_looked_at_once(world: World, sifting: Sifting, reads: Reads) -> None:
    await world.publish(b"xa", b"x", b"xb")
    await sifting.run_once()
    await world.publish(b"x", b"xc")

    await sifting.run_once()
    await sifting.run_once()

    assert reads.count == 5


async def test_after_a_seek_it_is_looked_at_again(world: World, sifting: Sifting) -> None:
    before_us = world.clock.now_us()
    await world.publish(b"a", b"x", b"b")
    await sifting.run_once()
    await world.ack(*await world.pull())
    await world.snapshots.seek_to_time(ORDERS, before_us)

    await sifting.run_once()

    runtime = await world.runtime()
    assert runtime.undelivered == runtime.unread.stop - runtime.floor == 2
    assert await world.pull_data() == [b"x"]


async def test_what_consumers_hold_stays_theirs(world: World, sifting: Sifting) -> None:
    await world.publish(b"a", b"x", b"x", b"b", b"x")
    [held] = await world.pull(1)

    await sifting.run_once()

    assert (await world.runtime()).outstanding == 1
    await world.ack(held)
    assert await world.pull_data() == [b"x", b"x"]


async def test_a_subscription_that_is_gone_is_passed_by(world: World, sifting: Sifting) -> None:
    world.upkeep.filtered = [SubscriptionName("project", "gone"), ORDERS]
    await world.publish(b"a")

    await sifting.run_once()

    assert (await world.runtime()).undelivered == 0


async def test_it_is_no_use_of_the_subscription(world: World, sifting: Sifting) -> None:
    """One that nobody uses expires all the same."""
    world.runtimes.take_used()
    await world.publish(b"a")

    await sifting.run_once()

    assert world.runtimes.take_used() == set()


async def test_what_goes_wrong_with_one_subscription_is_nothing_to_the_others(
    world: World, sifting: Sifting, reads: Reads
) -> None:
    """Nor is what was looked at looked at again."""
    others = [SubscriptionName("project", f"other-{number}") for number in range(2)]
    config = SubscriptionConfig(filter=FILTER, retain_acked_messages=True)
    for name in others:
        await world.subscriptions.create(name, TOPIC, config)
    world.upkeep.filtered = [others[0], ORDERS, others[1]]
    await world.publish(b"x", b"xa")
    await sifting.run_once()
    await world.publish(b"xb", b"xc", b"xd")
    reads.count = 0
    world.reader.failures = 1

    await sifting.run_once()

    assert reads.count == 2 * 3
    await sifting.run_once()
    assert reads.count == 3 * 3


async def test_an_error_that_nobody_thought_of_is_nothing_to_the_others_either(
    world: World, sifting: Sifting, caplog: pytest.LogCaptureFixture
) -> None:
    other = SubscriptionName("project", "other")
    await world.subscriptions.create(other, TOPIC, SubscriptionConfig(filter=FILTER))
    world.upkeep.filtered = [ORDERS, other]
    await world.publish(b"a")
    broken = await world.runtime()
    broken.pass_over = None  # type: ignore[assignment, method-assign]

    await sifting.run_once()

    assert (await world.runtime(name=other)).undelivered == 0
    assert f"sifting of {ORDERS} failed" in caplog.text


async def test_very_many_messages_do_not_hold_up_the_event_loop(
    world: World, sifting: Sifting, reads: Reads
) -> None:
    await world.publish(*[b"xa"] * 45_001)
    at_once: list[int] = []

    async def watch() -> None:
        while True:
            before = reads.count
            await asyncio.sleep(0)
            at_once.append(reads.count - before)

    watching = asyncio.ensure_future(watch())
    await sifting.run_once()
    watching.cancel()

    assert sum(at_once) == reads.count == 45_001
    assert max(at_once) <= 10_000
    assert (await world.runtime()).undelivered == 0
