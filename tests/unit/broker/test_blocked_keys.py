"""A key that is blocked in front of a long backlog of its own holds up no other, and costs no memory."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Iterable

import pytest

from ams_grpc.broker.catalog import SubscriptionConfig
from ams_grpc.broker.policies import SECOND_US, RetryPolicy
from ams_grpc.broker.runtime import SubscriptionRuntime
from tests.unit.broker.fakes import ManualClock, Stored
from tests.unit.broker.world import Stream, World, eventually

MAX_OUTSTANDING = 100
BACKLOG = 3_000
REST_S = 5


@pytest.fixture
async def world(clock: ManualClock) -> World:
    """An ordered subscription that keeps a hundred messages in memory."""
    world = World(clock, Stored(), cache_bytes=50_000, max_outstanding=MAX_OUTSTANDING)
    world.start()
    retry = RetryPolicy(REST_S * SECOND_US, REST_S * SECOND_US)
    await world.create(subscription=SubscriptionConfig(ordered=True, retry=retry))
    return world


async def publish(world: World, keys: Iterable[str]) -> list[bytes]:
    """One message of each key; fifty in a batch."""
    messages = [f"{key}:{number}".encode() for number, key in enumerate(keys)]
    for start in range(0, len(messages), 50):
        await world.publish(*messages[start : start + 50])
    return messages


async def at_rest(world: World) -> SubscriptionRuntime:
    """Nothing is read or read again any more."""
    runtime = await world.runtime()
    while runtime.busy or runtime.gleaning:
        await runtime.settled()
        await asyncio.sleep(0)
    return runtime


async def consume(world: World, *streams: Stream) -> list[bytes]:
    """Acknowledge what comes, until nothing does: all of it, in the order in which it came."""
    came: list[bytes] = []
    settled = dict.fromkeys(streams, 0)
    while True:
        await at_rest(world)
        before = len(came)
        for stream in streams:
            new = stream.messages[settled[stream] :]
            if new:
                settled[stream] += len(new)
                came += [message.data for message in new]
                await world.ack(*new)
        if len(came) == before:
            return came


def of_key(key: str, messages: Iterable[bytes]) -> list[bytes]:
    return [message for message in messages if message.startswith(key.encode() + b":")]


async def test_what_was_deleted_while_a_consumer_has_it_is_passed_by(world: World) -> None:
    """It is not done until it comes back, and it cannot be read."""
    world.cache_bytes = 1
    world.restart()
    for message in (b"k:0", b"k:1", b"k:2", b"free"):
        await world.publish(message)
    (zero,) = await world.pull(1)
    assert await world.pull_data() == [b"free"]
    runtime = await at_rest(world)
    assert runtime._places.make_room()
    del world.stored.batches[runtime.subscription.topic_id][-1]
    await world.ack(zero)
    (one,) = await world.pull()
    await eventually(lambda: not runtime.gleaning)
    await world.ack(one)
    assert await world.pull_data() == [b"k:2"]


async def test_others_go_on_while_a_message_is_not_acknowledged(world: World) -> None:
    stuck = await world.stream(max_messages=1)
    messages = await publish(world, ["stuck"] * BACKLOG + ["other", "", "other"])
    other = await world.stream()

    runtime = await at_rest(world)

    assert stuck.data == [b"stuck:0"]
    assert other.data == messages[-3:]
    assert runtime._places.in_memory <= MAX_OUTSTANDING

    await world.ack(*other.messages)
    runtime.remove(other.consumer)
    assert await consume(world, stuck) == messages[:BACKLOG]
    assert runtime.floor == runtime.unread.stop
    assert len(runtime._places.keys or ()) == 0


async def test_others_go_on_while_the_first_of_a_key_is_not_acknowledged_but_all_later_ones_are(
    world: World,
) -> None:
    stuck = await world.stream()
    messages = await publish(world, ["stuck"] * BACKLOG + ["other"])
    settled = 1
    while new := stuck.messages[settled:]:
        settled += len(new)
        await world.ack(*new)
        await at_rest(world)

    assert stuck.data[-1] == messages[-1]


async def test_others_go_on_while_a_key_rests(world: World) -> None:
    stream = await world.stream()
    await world.publish(b"stuck:first")
    await world.nack(stream.messages[0])
    messages = await publish(world, ["stuck"] * BACKLOG + ["other"])

    await at_rest(world)

    assert stream.data[1:] == messages[-1:]
    stream.deliveries.clear()
    world.clock.advance(REST_S)
    assert await consume(world, stream) == [b"stuck:first", *messages[:BACKLOG]]


async def test_a_failure_in_front_of_what_was_left_behind_repeats_all_later_ones(
    world: World,
) -> None:
    stuck = await world.stream(max_messages=10)
    messages = await publish(world, ["stuck"] * BACKLOG + ["other"])
    other = await world.stream()
    runtime = await at_rest(world)
    await world.ack(*other.messages)
    runtime.remove(other.consumer)
    assert stuck.data == messages[:10]

    await world.ack(*stuck.messages[6:])
    await world.ack(*stuck.messages[:5])
    await world.nack(stuck.messages[5])
    stuck.deliveries.clear()
    world.clock.advance(REST_S)

    assert await consume(world, stuck) == messages[5:BACKLOG]


async def test_after_a_restart_order_holds_and_what_others_acknowledged_is_done(
    world: World,
) -> None:
    await world.stream(max_messages=1)
    messages = await publish(world, ["stuck"] * BACKLOG + ["other"] * 10)
    other = await world.stream()
    await at_rest(world)
    await world.ack(*other.messages)
    world.commits.commit()

    world.restart()
    stream = await world.stream(max_messages=20)
    await at_rest(world)

    assert await consume(world, stream) == messages[:BACKLOG]


async def test_many_keys_with_long_backlogs_share_what_is_read(world: World) -> None:
    keys = [f"key{number}" for number in range(10)]
    messages = await publish(world, keys * (BACKLOG // 10))
    streams = [await world.stream(max_messages=5) for _ in range(3)]
    await at_rest(world)

    came = await consume(world, *streams)

    assert sorted(came) == sorted(messages)
    for key in keys:
        assert of_key(key, came) == of_key(key, messages)
    (batches,) = world.stored.batches.values()
    assert world.reader.calls.count("read") < 4 * len(batches)


async def test_a_seek_forgets_what_was_left_behind(world: World) -> None:
    await world.stream(max_messages=1)
    messages = await publish(world, ["stuck"] * BACKLOG + ["other"])
    other = await world.stream()
    runtime = await at_rest(world)
    keys = runtime._places.keys
    assert keys is not None
    assert keys.cut("stuck") is not None

    last = runtime.unread.stop - 1
    runtime.seek(last, last)
    await at_rest(world)

    assert other.data == [messages[-1], messages[-1]]
    assert keys.cut("stuck") is None


async def test_memory_does_not_grow_with_the_backlog_of_a_blocked_key(world: World) -> None:
    await world.stream(max_messages=1)
    await publish(world, ["stuck"] * 20_000 + ["other"])
    other = Stream()
    runtime = await world.runtime()
    tracemalloc.start()
    try:
        runtime.add(other.consumer)
        await at_rest(world)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(other.messages) == 1
    assert peak < 20_000 * 10
