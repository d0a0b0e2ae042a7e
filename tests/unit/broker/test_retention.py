"""The pass that looks after what time does."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import NoReturn

import pytest

from ams_grpc.broker.broker import Broker
from ams_grpc.broker.catalog import SubscriptionConfig
from ams_grpc.broker.errors import NotFound, StorageUnavailable, UnreadableMessages
from ams_grpc.broker.names import SubscriptionName
from ams_grpc.broker.policies import HOUR_US
from ams_grpc.broker.retention import Retention
from tests.unit.broker.fakes import Lagging, ManualClock
from tests.unit.broker.world import ORDERS, TOPIC, World, eventually, snapshot_name


async def run_once(world: World) -> None:
    await world.broker.retention.run_once()


async def test_a_pass_purges_each_topic_until_nothing_is_left_to_delete(world: World) -> None:
    world.upkeep.bites_to_purge = {1: 3, 2: 0, 3: 1}
    await run_once(world)
    assert not any(world.upkeep.bites_to_purge.values())
    assert world.upkeep.calls[-1] == "forget_deleted_topics"


async def test_messages_past_their_retention_are_done(world: World) -> None:
    await world.publish(b"1", b"2", b"3")
    world.upkeep.lagging = [Lagging(ORDERS, 3)]
    await run_once(world)
    world.commits.commit()
    assert world.stored.cursors[(await world.runtime()).subscription.id].floor == 3
    assert await world.pull_data() == [b"3"]


async def test_messages_whose_retention_was_lengthened_meanwhile_stay(world: World) -> None:
    await world.publish(b"1", b"2")
    world.upkeep.lagging = [Lagging(ORDERS, 2, retention_us=HOUR_US)]
    await run_once(world)
    assert await world.pull_data() == [b"1", b"2"]


async def test_messages_that_a_snapshot_holds_by_now_stay(world: World) -> None:
    await world.publish(b"1", b"2")
    await world.snapshots.create(snapshot_name("snap"), ORDERS, {})
    world.upkeep.lagging = [Lagging(ORDERS, 2)]
    await run_once(world)
    assert await world.pull_data() == [b"1", b"2"]


async def test_messages_past_their_retention_are_done_though_some_wait_or_are_held(
    world: World, clock: ManualClock
) -> None:
    await world.publish(b"1", b"2", b"3", b"4")
    [first, second, _] = await world.pull(3)
    await world.nack(second)
    world.upkeep.lagging = [Lagging(ORDERS, 4)]
    await run_once(world)
    await world.ack(first)
    clock.advance(60)
    assert await world.pull_data() == [b"4"]
    assert (await world.runtime()).floor == 4


async def test_retention_of_more_than_a_runtime_has_heard_of_does_no_harm(world: World) -> None:
    stream = await world.stream()
    await world.publish(b"1")
    world.upkeep.lagging = [Lagging(ORDERS, 5)]
    await run_once(world)
    runtime = await world.runtime()
    assert runtime.undelivered == 0
    runtime.wake(stream.consumer)
    await world.publish(b"2", b"3", b"4")
    await world.publish(b"5")
    assert stream.data == [b"1", b"5"]


async def test_a_subscription_gone_meanwhile_does_not_stop_the_pass(world: World) -> None:
    detached = SubscriptionName("project", "detached")
    await world.subscriptions.create(detached, TOPIC, SubscriptionConfig())
    await world.subscriptions.detach(detached)
    missing = SubscriptionName("project", "missing")
    world.upkeep.unused = [replace(world.stored.subscriptions[ORDERS], name=missing)]
    world.upkeep.lagging = [Lagging(missing, 3), Lagging(detached, 3)]
    world.upkeep.bites_to_purge = {1: 1}
    await run_once(world)
    assert world.upkeep.bites_to_purge == {1: 0}


async def test_an_unused_subscription_is_deleted_and_its_streams_end(world: World) -> None:
    stream = await world.stream()
    world.upkeep.unused = [world.stored.subscriptions[ORDERS]]
    await run_once(world)
    assert isinstance(stream.error, NotFound)
    assert ORDERS not in world.stored.subscriptions


async def test_use_and_open_streams_are_activity_and_looking_after_it_is_not(world: World) -> None:
    used, idle = world.stored.subscriptions[ORDERS], SubscriptionName("project", "idle")
    await world.subscriptions.create(idle, TOPIC, SubscriptionConfig())
    world.upkeep.lagging = [Lagging(idle, 1)]
    await run_once(world)
    await run_once(world)
    assert world.upkeep.touched == [[], []]

    await world.pull()
    await run_once(world)
    await run_once(world)
    assert world.upkeep.touched[2:] == [[used.id], []]

    await world.stream()
    await run_once(world)
    await run_once(world)
    assert world.upkeep.touched[4:] == [[used.id], [used.id]]


async def test_what_an_expired_snapshot_held_expires(empty: World, clock: ManualClock) -> None:
    await empty.create(subscription=SubscriptionConfig(message_retention_us=HOUR_US))
    await empty.publish(b"held")
    await empty.snapshots.create(snapshot_name("snap"), ORDERS, {})
    clock.advance(6 * 86_400)
    assert await empty.pull_data() == [b"held"]

    clock.advance(86_400)
    await run_once(empty)

    assert await empty.pull_data() == []


async def test_a_pass_fails_when_storage_does(world: World) -> None:
    world.upkeep.failing = True
    with pytest.raises(StorageUnavailable):
        await run_once(world)


@pytest.mark.parametrize("error", [RuntimeError, StorageUnavailable, UnreadableMessages])
async def test_a_topic_that_cannot_be_purged_keeps_no_other_from_it(
    world: World, caplog: pytest.LogCaptureFixture, error: type[Exception]
) -> None:
    world.upkeep.bites_to_purge = {1: 2, 2: 2, 3: 2}
    world.upkeep.bad_topics = {2: error("it is bad")}
    await run_once(world)
    assert world.upkeep.bites_to_purge == {1: 0, 2: 2, 3: 0}
    assert world.upkeep.calls[-2:] == ["free_space", "forget_deleted_topics"]
    [said] = caplog.messages
    assert "topic 2" in said


async def test_a_pass_is_put_off_when_the_database_goes_away_in_its_middle(world: World) -> None:
    away = StorageUnavailable("The database does not answer.")
    world.upkeep.bites_to_purge = dict.fromkeys(range(100), 1)
    world.upkeep.bad_topics = dict.fromkeys(range(1, 100), away)
    with pytest.raises(StorageUnavailable):
        await run_once(world)
    assert world.upkeep.calls.count("purge_topic") < 10


async def test_a_subscription_that_cannot_be_read_does_not_stop_the_pass(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> NoReturn:
        raise UnreadableMessages("damaged")

    monkeypatch.setattr(world.runtimes, "runtime", refuse)
    world.upkeep.lagging = [Lagging(ORDERS, 3)]
    world.upkeep.bites_to_purge = {1: 1}
    await run_once(world)
    assert world.upkeep.bites_to_purge == {1: 0}


async def test_passes_go_on_whatever_happens(world: World, clock: ManualClock) -> None:
    class OneBadPass(type(world.upkeep)):  # type: ignore[misc]
        async def expired_floors(self, now_us: int) -> list[Lagging]:
            if len(self.alive_us) == 1:
                raise RuntimeError("a bug")
            return list(await super().expired_floors(now_us))

    upkeep = OneBadPass(world.stored)
    upkeep.failures = 2
    subscriptions, runtimes, ledger = world.subscriptions, world.runtimes, world.broker.ledger
    retention = Retention(upkeep, subscriptions, runtimes, ledger, clock, interval_s=0)
    task = asyncio.ensure_future(retention.run())
    await eventually(lambda: "forget_deleted_topics" in upkeep.calls)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert upkeep.resumed_us == [clock.now_us()]
    assert upkeep.calls[:3] == ["resume"] * 3
    assert len(upkeep.alive_us) >= 2


async def test_the_broker_looks_after_retention_while_it_is_open(world: World) -> None:
    async with world.broker as broker:
        assert isinstance(broker, Broker)
        stream = await world.stream()
        await eventually(lambda: "forget_deleted_topics" in world.upkeep.calls)
    assert stream.error is not None
    assert not broker._tasks
