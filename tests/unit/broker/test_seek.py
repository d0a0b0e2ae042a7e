"""Seeking: to a time, and to a snapshot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from ams_grpc.broker.catalog import SubscriptionConfig, TopicConfig
from ams_grpc.broker.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from ams_grpc.broker.names import SubscriptionName, TopicName
from ams_grpc.broker.policies import DAY_US, HOUR_US, SECOND_US
from tests.unit.broker.fakes import ManualClock
from tests.unit.broker.world import ORDERS, TOPIC, World, snapshot_name

RETAIN_ACKED = SubscriptionConfig(retain_acked_messages=True)
TWO_DAYS_S = 2 * 86_400


async def publish_each_second(world: World, *messages: bytes) -> list[int]:
    """Publish them one by one; when that was."""
    times = []
    for message in messages:
        world.clock.advance(1)
        times.append(world.clock.now_us())
        await world.publish(message)
    world.clock.advance(1)
    return times


# --- to a time ----------------------------------------------------------------------------------


async def test_seeking_back_brings_acknowledged_messages_if_the_subscription_retains_them(
    empty: World,
) -> None:
    await empty.create(subscription=RETAIN_ACKED)
    [_, second_us, _] = await publish_each_second(empty, b"1", b"2", b"3")
    await empty.ack(*await empty.pull())

    await empty.snapshots.seek_to_time(ORDERS, second_us)

    assert await empty.pull_data() == [b"2", b"3"]


async def test_seeking_back_brings_only_unacknowledged_messages_otherwise(world: World) -> None:
    [first_us, _, _] = await publish_each_second(world, b"1", b"2", b"3")
    [first, second, third] = await world.pull()
    await world.ack(first, third)

    await world.snapshots.seek_to_time(ORDERS, first_us)

    [again] = await world.pull()
    assert again.seq == second.seq


async def test_seeking_to_now_drops_the_backlog(world: World) -> None:
    await publish_each_second(world, b"1", b"2", b"3")
    await world.snapshots.seek_to_time(ORDERS, world.clock.now_us())
    assert await world.pull() == []
    await world.publish(b"4")
    assert await world.pull_data() == [b"4"]


async def test_seeking_into_the_future_drops_only_what_there_is(world: World) -> None:
    await publish_each_second(world, b"1")
    await world.snapshots.seek_to_time(ORDERS, world.clock.now_us() + DAY_US)
    assert await world.pull() == []
    await world.publish(b"2")
    assert await world.pull_data() == [b"2"]


async def test_seeking_forward_drops_what_was_published_before(world: World) -> None:
    [_, _, third_us] = await publish_each_second(world, b"1", b"2", b"3")
    await world.snapshots.seek_to_time(ORDERS, third_us)
    assert await world.pull_data() == [b"3"]


async def test_a_message_published_just_then_is_included(world: World) -> None:
    [_, second_us] = await publish_each_second(world, b"1", b"2")
    await world.snapshots.seek_to_time(ORDERS, second_us + 1)
    assert await world.pull() == []


async def test_a_subscription_does_not_get_what_was_published_before_it_was_made(
    empty: World,
) -> None:
    await empty.create()
    [first_us] = await publish_each_second(empty, b"before")
    late = SubscriptionName("project", "late")
    await empty.subscriptions.create(late, TOPIC, RETAIN_ACKED)
    await publish_each_second(empty, b"after")
    await empty.snapshots.seek_to_time(late, first_us)
    assert await empty.pull_data(name=late) == [b"after"]


async def test_unless_the_topic_retains_it(empty: World) -> None:
    await empty.create(topic=TopicConfig(message_retention_us=DAY_US))
    [first_us] = await publish_each_second(empty, b"before")
    late = SubscriptionName("project", "late")
    await empty.subscriptions.create(late, TOPIC, SubscriptionConfig())
    assert await empty.pull(name=late) == []
    await empty.snapshots.seek_to_time(late, first_us)
    assert await empty.pull_data(name=late) == [b"before"]


async def test_what_the_topic_retains_comes_back_though_acknowledged(empty: World) -> None:
    await empty.create(topic=TopicConfig(message_retention_us=DAY_US))
    await publish_each_second(empty, b"old")
    empty.clock.advance(TWO_DAYS_S)
    await publish_each_second(empty, b"new")
    await empty.ack(*await empty.pull())

    await empty.snapshots.seek_to_time(ORDERS, 0)

    assert await empty.pull_data() == [b"new"]


async def test_acknowledged_messages_past_the_retention_stay_gone(empty: World) -> None:
    config = replace(RETAIN_ACKED, message_retention_us=DAY_US)
    await empty.create(subscription=config)
    await publish_each_second(empty, b"old")
    await empty.ack(*await empty.pull())
    empty.clock.advance(TWO_DAYS_S)
    await publish_each_second(empty, b"new")
    await empty.snapshots.seek_to_time(ORDERS, 0)
    assert await empty.pull_data() == [b"new"]


async def test_a_seek_ends_all_leases_and_their_ack_ids_are_stale(world: World) -> None:
    [first_us] = await publish_each_second(world, b"1")
    [old] = await world.pull()

    await world.snapshots.seek_to_time(ORDERS, first_us)

    runtime = await world.runtime()
    assert runtime.outstanding == 0
    await world.ack(old)
    await world.extend(600, old)
    assert await world.pull_data() == [b"1"]
    await world.ack(old)
    assert runtime.outstanding == 1


async def test_a_seek_gives_streams_their_credit_back_and_leaves_them_open(world: World) -> None:
    [first_us, _] = await publish_each_second(world, b"1", b"2")
    stream = await world.stream(max_messages=1)
    await world.snapshots.seek_to_time(ORDERS, first_us)
    assert stream.data == [b"1", b"1"]
    assert stream.error is None


async def test_a_seek_that_was_answered_survives_a_crash(empty: World) -> None:
    await empty.create(subscription=RETAIN_ACKED)
    [first_us, _] = await publish_each_second(empty, b"1", b"2")
    messages = await empty.pull()
    await empty.ack(*messages)
    await empty.snapshots.seek_to_time(ORDERS, first_us)
    empty.restart()
    await empty.ack(*messages)
    assert await empty.pull_data() == [b"1", b"2"]


# --- snapshots ----------------------------------------------------------------------------------


async def test_a_snapshot_brings_back_what_was_unacknowledged_and_what_came_after(
    world: World,
) -> None:
    await world.publish(b"1")
    await world.publish(b"2")
    [first, second] = await world.pull()
    await world.ack(first)
    await world.snapshots.create(snapshot_name("snap"), ORDERS, {})
    await world.publish(b"3")
    await world.ack(second, *await world.pull())
    assert await world.pull() == []

    for _ in range(2):
        await world.snapshots.seek(ORDERS, snapshot_name("snap"))
        assert await world.pull_data() == [b"2", b"3"]


async def test_a_snapshot_imposes_its_state_on_another_subscription_of_the_topic(
    world: World,
) -> None:
    await world.publish(b"1", b"2", b"3")
    [_, second, _] = await world.pull()
    await world.ack(second)
    await world.snapshots.create(snapshot_name("snap"), ORDERS, {})
    late = SubscriptionName("project", "late")
    await world.subscriptions.create(late, TOPIC, SubscriptionConfig())
    await world.snapshots.seek(late, snapshot_name("snap"))
    assert await world.pull_data(name=late) == [b"1", b"3"]


async def test_what_a_snapshot_holds_outlasts_the_retention(
    empty: World, clock: ManualClock
) -> None:
    await empty.create(subscription=SubscriptionConfig(message_retention_us=HOUR_US))
    await empty.publish(b"before")
    await empty.ack(*await empty.pull())
    await empty.publish(b"held")
    await empty.snapshots.create(snapshot_name("snap"), ORDERS, {})
    clock.advance(7200)
    await empty.snapshots.seek(ORDERS, snapshot_name("snap"))
    assert await empty.pull_data() == [b"held"]

    await empty.snapshots.delete(snapshot_name("snap"))
    clock.advance(10)
    assert await empty.pull_data() == []


async def test_the_snapshot_counts_also_after_a_restart(empty: World, clock: ManualClock) -> None:
    await empty.create(subscription=SubscriptionConfig(message_retention_us=HOUR_US))
    await empty.publish(b"held")
    await empty.snapshots.create(snapshot_name("snap"), ORDERS, {})
    clock.advance(7200)
    empty.restart()
    assert await empty.pull_data() == [b"held"]


async def test_a_snapshot_lives_seven_days_less_the_age_of_its_backlog(
    world: World, clock: ManualClock
) -> None:
    await world.publish(b"old")
    clock.advance(3600.0005)
    await world.publish(b"new")
    snapshot = await world.snapshots.create(snapshot_name("snap"), ORDERS, {"a": "b"})
    created_us = clock.now_us()
    exact_us = created_us + 7 * DAY_US - 3600_000_500
    assert snapshot.expire_us == exact_us // 1000 * 1000
    assert snapshot.created_us == created_us
    assert snapshot.labels == {"a": "b"}


async def test_a_snapshot_of_an_empty_backlog_lives_seven_days(
    world: World, clock: ManualClock
) -> None:
    await world.publish(b"1")
    await world.ack(*await world.pull())
    clock.advance(3600)
    snapshot = await world.snapshots.create(snapshot_name("snap"), ORDERS, {})
    assert snapshot.expire_us == clock.now_us() + 7 * DAY_US


@pytest.mark.parametrize("over_us, refused", [(0, False), (1, True)])
async def test_a_backlog_that_is_too_old_is_refused(
    empty: World, clock: ManualClock, over_us: int, refused: bool
) -> None:
    await empty.create(subscription=SubscriptionConfig(message_retention_us=31 * DAY_US))
    await empty.publish(b"old")
    clock.advance((7 * DAY_US - HOUR_US + over_us) / SECOND_US)
    create = empty.snapshots.create(snapshot_name("snap"), ORDERS, {})
    if not refused:
        assert (await create).expire_us == clock.now_us() + HOUR_US
        return
    with pytest.raises(FailedPrecondition) as refusal:
        await create
    assert str(refusal.value) == (
        "The operation could not be completed because the requested source subscription's "
        "backlog is too old."
    )


async def test_a_snapshot_without_a_name_gets_one(world: World) -> None:
    snapshot = await world.snapshots.create(None, ORDERS, {})
    assert snapshot.name.project == ORDERS.project
    assert await world.snapshots.get(snapshot.name) == snapshot


async def test_a_name_is_taken_once_and_its_subscription_must_exist(world: World) -> None:
    await world.snapshots.create(snapshot_name("snap"), ORDERS, {})
    with pytest.raises(AlreadyExists):
        await world.snapshots.create(snapshot_name("snap"), ORDERS, {})
    with pytest.raises(NotFound):
        await world.snapshots.create(
            snapshot_name("other"), SubscriptionName("project", "missing"), {}
        )


async def test_an_expired_snapshot_is_not_found(world: World, clock: ManualClock) -> None:
    await world.snapshots.create(snapshot_name("snap"), ORDERS, {})
    clock.advance(7 * 86_400)
    with pytest.raises(NotFound):
        await world.snapshots.seek(ORDERS, snapshot_name("snap"))


async def test_a_snapshot_of_another_topic_is_refused(world: World) -> None:
    await world.snapshots.create(snapshot_name("snap"), ORDERS, {})
    await world.topics.delete(TOPIC)
    await world.topics.create(TOPIC, TopicConfig())  # of the same name, but another
    late = SubscriptionName("project", "late")
    await world.subscriptions.create(late, TOPIC, SubscriptionConfig())
    with pytest.raises(FailedPrecondition) as refusal:
        await world.snapshots.seek(late, snapshot_name("snap"))
    assert str(refusal.value).startswith(
        "The subscription's topic projects/project/topics/orders is different from that of the "
        "snapshot "
    )
    with pytest.raises(NotFound):
        await world.snapshots.seek(late, snapshot_name("missing"))


async def test_snapshots_are_listed_by_name(world: World) -> None:
    for name in ("ccc", "aaa", "bbb"):
        await world.snapshots.create(snapshot_name(name), ORDERS, {})
    first = await world.snapshots.list("project", "", 2)
    assert [snapshot.name.id for snapshot in first] == ["aaa", "bbb"]
    rest = await world.snapshots.list("project", str(first[-1].name), 2)
    assert [snapshot.name.id for snapshot in rest] == ["ccc"]
    assert len(await world.topics.snapshots(TopicName("project", "orders"), "", 10)) == 3


@pytest.mark.parametrize(
    "expire_us",
    [
        pytest.param(lambda now, _created: now, id="now"),
        pytest.param(lambda _now, created: created + 7 * DAY_US + 1, id="after seven days"),
    ],
)
async def test_an_expire_time_out_of_bounds_is_refused(
    world: World, clock: ManualClock, expire_us: Callable[[int, int], int]
) -> None:
    snapshot = await world.snapshots.create(snapshot_name("snap"), ORDERS, {})
    clock.advance(60)
    refused = expire_us(clock.now_us(), snapshot.created_us)
    with pytest.raises(InvalidArgument):
        await world.snapshots.update(snapshot.name, lambda old: (refused, old.labels))


async def test_a_snapshot_is_updated_and_deleted_though_others_change_it_meanwhile(
    world: World, clock: ManualClock
) -> None:
    snapshot = await world.snapshots.create(snapshot_name("snap"), ORDERS, {})
    soon_us = clock.now_us() + HOUR_US
    world.catalog.aborts = 2
    updated = await world.snapshots.update(snapshot.name, lambda _: (soon_us, {"a": "b"}))
    assert (updated.expire_us, updated.labels) == (soon_us, {"a": "b"})

    world.catalog.aborts = 100
    with pytest.raises(Aborted):
        await world.snapshots.update(snapshot.name, lambda _: (soon_us, {}))

    world.catalog.aborts = 2
    await world.snapshots.delete(snapshot.name)
    with pytest.raises(NotFound):
        await world.snapshots.get(snapshot.name)
