"""Delivering, acknowledging, and coming back: one subscription as its subscribers see it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from ams_grpc.broker.catalog import SubscriptionConfig
from ams_grpc.broker.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ShuttingDown,
    StorageUnavailable,
    UnreadableMessages,
)
from ams_grpc.broker.names import SubscriptionName
from ams_grpc.broker.picking import MAX_DELIVERY_MESSAGES
from ams_grpc.broker.policies import DAY_US
from ams_grpc.broker.ports import StoredBatch
from tests.unit.broker.fakes import ManualClock, Stored
from tests.unit.broker.world import ORDERS, TOPIC, Stream, World, begun, eventually

# --- what is delivered --------------------------------------------------------------------------


async def test_a_subscription_gets_every_message_published_after_it_and_none_before(
    world: World,
) -> None:
    await world.publish(b"before")
    late = SubscriptionName("project", "late")
    await world.subscriptions.create(late, TOPIC, SubscriptionConfig())
    await world.publish(b"after")

    assert await world.pull_data(name=late) == [b"after"]
    assert await world.pull_data() == [b"before", b"after"]


async def test_a_leased_message_is_not_delivered_twice(world: World) -> None:
    await world.publish(b"one")
    assert await world.pull_data() == [b"one"]
    assert await world.pull_data() == []


async def test_a_stream_gets_what_is_published_while_it_is_open(world: World) -> None:
    stream = await world.stream()
    await world.publish(b"one", b"two")
    assert stream.data == [b"one", b"two"]
    assert "read" not in world.reader.calls  # what is read at once need not come from storage


async def test_a_burst_is_shared_between_idle_streams(world: World) -> None:
    streams = [await world.stream() for _ in range(4)]
    await world.publish(*[b"%d" % number for number in range(100)])
    assert [len(stream.messages) for stream in streams] == [25, 25, 25, 25]


async def test_single_messages_go_to_idle_streams_in_turn(world: World) -> None:
    streams = [await world.stream() for _ in range(3)]
    for number in range(6):
        await world.publish(b"%d" % number)
    assert [len(stream.messages) for stream in streams] == [2, 2, 2]


async def test_those_that_left_take_no_share(world: World) -> None:
    for _ in range(50):
        assert await world.pull() == []
    first, second = await world.stream(), await world.stream()
    await world.publish(*[b"%d" % number for number in range(10)])
    assert [len(stream.messages) for stream in (first, second)] == [5, 5]


async def test_polling_an_empty_subscription_leaves_nothing_behind(world: World) -> None:
    for _ in range(100):
        await world.pull()
    runtime = await world.runtime()
    assert not runtime._line
    assert not runtime._consumers


async def test_a_delivery_is_bounded_however_long_the_backlog(world: World) -> None:
    await world.publish(*[b"x"] * (MAX_DELIVERY_MESSAGES + 1))
    assert len(await world.pull(10**6)) == MAX_DELIVERY_MESSAGES
    assert len(await world.pull(10**6)) == 1


async def test_a_message_larger_than_the_byte_limit_is_delivered_alone(world: World) -> None:
    await world.publish(b"large" * 100, b"small", b"small")
    stream = await world.stream(max_bytes=10)
    assert stream.data == [b"large" * 100]

    await world.ack(stream.messages[0])

    assert stream.data[1:] == [b"small", b"small"]


async def test_a_stream_gets_no_more_messages_than_its_limit(world: World) -> None:
    await world.publish(b"1", b"2", b"3")
    stream = await world.stream(max_messages=2)
    assert stream.data == [b"1", b"2"]


async def test_an_acknowledgement_from_elsewhere_frees_the_stream(world: World) -> None:
    await world.publish(b"1", b"2")
    stream = await world.stream(max_messages=1)
    await world.ack(stream.messages[0])
    assert stream.data == [b"1", b"2"]


async def test_an_expired_lease_frees_the_stream(world: World, clock: ManualClock) -> None:
    await world.publish(b"1")
    stream = await world.stream(max_messages=1, ack_deadline_s=60)
    clock.advance(59)
    assert stream.data == [b"1"]
    clock.advance(1)
    assert stream.data == [b"1", b"1"]


async def test_a_busy_stream_gets_nothing_until_it_is_free_again(world: World) -> None:
    stream = await world.stream()
    stream.consumer.ready = False
    await world.publish(b"1")
    assert stream.data == []
    (await world.runtime()).wake(stream.consumer)
    assert stream.data == [b"1"]


async def test_what_a_stream_held_when_it_ended_stays_leased_until_its_deadline(
    world: World, clock: ManualClock
) -> None:
    await world.publish(b"1", b"2")
    stream = await world.stream(ack_deadline_s=10)
    (await world.runtime()).remove(stream.consumer)
    assert await world.pull() == []
    await world.ack(stream.messages[0])

    clock.advance(10)

    assert await world.pull_data() == [b"2"]


# --- pulling ------------------------------------------------------------------------------------


async def test_a_pull_waits_for_a_message(world: World) -> None:
    pull = await begun(world.pulls.pull(ORDERS, 10, 60))
    assert not pull.done()
    await world.publish(b"1")
    await eventually(pull.done)
    assert await pull is not None


async def test_a_pull_waits_only_so_long(world: World) -> None:
    assert await world.pulls.pull(ORDERS, 10, 0.001) is None


async def test_waiting_pulls_get_one_answer_each(world: World) -> None:
    pulls = [await begun(world.pulls.pull(ORDERS, 10, 60)) for _ in range(2)]
    await world.publish(b"1")
    await eventually(lambda: any(pull.done() for pull in pulls))
    assert [pull.done() for pull in pulls] == [True, False]
    await world.publish(b"2")
    await eventually(pulls[1].done)


async def test_a_pull_that_does_not_wait_still_gets_what_is_only_in_storage(world: World) -> None:
    await world.publish(b"1")
    world.restart()
    assert await world.pull_data() == [b"1"]


async def test_a_pull_that_does_not_wait_answers_when_its_messages_have_arrived(
    clock: ManualClock,
) -> None:
    """Also while more is being read for others."""
    world = World(clock, Stored(), cache_bytes=1)
    world.start()
    await world.create()
    for number in range(4):
        await world.publish(b"%d" % number)
    world.reader.answers.clear()
    pull = await begun(world.pull(1))
    stream = asyncio.ensure_future(world.stream())
    await begun(asyncio.sleep(0))

    reads = world.reader.calls.count("read")
    world.reader.answers.set()
    await eventually(lambda: world.reader.calls.count("read") > reads)
    world.reader.answers.clear()

    await eventually(pull.done)
    world.reader.answers.set()
    await stream


async def test_a_pull_cancelled_while_it_waits_takes_nothing(world: World) -> None:
    pull = await begun(world.pulls.pull(ORDERS, 10, 60))
    pull.cancel()
    await eventually(pull.done)
    await world.publish(b"1")
    assert await world.pull_data() == [b"1"]


async def test_a_pull_cancelled_when_it_has_its_messages_gives_them_back(world: World) -> None:
    pull = await begun(world.pulls.pull(ORDERS, 10, 60))
    runtime = await world.runtime()
    await world.publish(b"1")
    assert runtime.outstanding == 1
    pull.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pull
    assert runtime.counters.sent == 0
    assert await world.pull_data() == [b"1"]


@pytest.mark.parametrize("max_messages", [0, -1])
async def test_a_pull_for_no_messages_is_refused(world: World, max_messages: int) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        await world.pull(max_messages)
    assert str(refusal.value) == (
        "You have passed an invalid argument to the service (argument=max_messages)."
    )


async def test_a_pull_from_a_missing_subscription_is_refused(world: World) -> None:
    with pytest.raises(NotFound):
        await world.pull(name=SubscriptionName("project", "missing"))


# --- coming back --------------------------------------------------------------------------------


async def test_an_unacknowledged_message_comes_back_after_its_ack_deadline(
    world: World, clock: ManualClock
) -> None:
    await world.publish(b"1")
    [first] = await world.pull()
    clock.advance(9.999)
    assert await world.pull() == []
    clock.advance(0.001)

    [again] = await world.pull()

    assert again.seq == first.seq
    assert again.ack_id != first.ack_id


async def test_a_nacked_message_comes_back_at_once(world: World) -> None:
    await world.publish(b"1")
    [first] = await world.pull()
    await world.nack(first)
    [again] = await world.pull()
    assert again.seq == first.seq
    assert again.ack_id != first.ack_id


async def test_messages_that_come_back_come_before_fresh_ones_and_oldest_first(
    world: World,
) -> None:
    await world.publish(b"1", b"2", b"3", b"4", b"5")
    first, second, third = await world.pull(3)
    await world.nack(third)
    await world.nack(first, second)
    assert await world.pull_data() == [b"1", b"2", b"3", b"4", b"5"]


async def test_extending_moves_the_deadline_counted_from_now(
    world: World, clock: ManualClock
) -> None:
    await world.publish(b"1")
    [message] = await world.pull()
    clock.advance(9)
    await world.extend(20, message)
    clock.advance(19)
    assert await world.pull() == []
    clock.advance(1)
    assert len(await world.pull()) == 1


async def test_extending_can_shorten_a_lease(world: World, clock: ManualClock) -> None:
    await world.publish(b"1", b"2")
    [first, _] = await world.pull()
    await world.extend(1, first)
    clock.advance(1)
    assert await world.pull_data() == [b"1"]


async def test_extending_after_the_lease_expired_leases_the_message_again(
    world: World, clock: ManualClock
) -> None:
    await world.publish(b"1")
    [message] = await world.pull()
    clock.advance(11)
    await world.extend(10, message)
    assert await world.pull() == []

    await world.ack(message)

    clock.advance(60)
    assert await world.pull() == []
    assert (await world.runtime()).floor == message.seq + 1


async def test_extending_a_message_delivered_again_does_nothing(
    world: World, clock: ManualClock
) -> None:
    await world.publish(b"1")
    [old] = await world.pull()
    clock.advance(10)
    await world.pull()
    await world.extend(600, old)
    clock.advance(10)
    assert await world.pull_data() == [b"1"]


@pytest.mark.parametrize("seconds", [-1, 601])
async def test_a_deadline_out_of_bounds_is_refused(world: World, seconds: int) -> None:
    await world.publish(b"1")
    [message] = await world.pull()
    with pytest.raises(InvalidArgument) as refusal:
        await world.extend(seconds, message)
    assert str(refusal.value) == (
        f"Invalid ack deadline given (ack_deadline={seconds}). "
        "The ack deadline must be between 0 and 600 seconds."
    )


async def test_an_idle_subscription_sets_no_alarm(world: World, clock: ManualClock) -> None:
    await world.stream()
    assert clock.alarms == 0
    await world.publish(*[b"x"] * 10)
    assert clock.alarms == 1


# --- acknowledging ------------------------------------------------------------------------------


async def test_an_acknowledged_message_does_not_come_back(world: World, clock: ManualClock) -> None:
    await world.publish(b"1")
    await world.ack(*await world.pull())
    clock.advance(60)
    assert await world.pull() == []


async def test_an_acknowledgement_that_was_answered_survives_a_crash(world: World) -> None:
    await world.publish(b"1", b"2", b"3")
    [_, second, _] = await world.pull()
    await world.ack(second)
    world.restart()
    assert await world.pull_data() == [b"1", b"3"]


async def test_an_acknowledgement_is_not_answered_before_it_is_written(world: World) -> None:
    await world.publish(b"1")
    messages = await world.pull()
    world.commits.answers.clear()
    ack = await begun(world.ack(*messages))
    assert not ack.done()
    world.commits.answers.set()
    await ack


async def test_an_acknowledgement_that_cannot_be_written_is_an_error(world: World) -> None:
    await world.publish(b"1")
    messages = await world.pull()
    world.commits.failing = True
    with pytest.raises(StorageUnavailable):
        await world.ack(*messages)

    world.commits.failing = False
    world.commits.commit()
    world.restart()

    assert await world.pull() == []


async def test_an_expired_message_can_be_acknowledged_until_it_is_delivered_again(
    world: World, clock: ManualClock
) -> None:
    await world.publish(b"1")
    [message] = await world.pull()
    clock.advance(11)
    await world.ack(message)
    assert await world.pull() == []


async def test_a_stale_ack_id_has_no_effect_on_the_newer_delivery(
    world: World, clock: ManualClock
) -> None:
    await world.publish(b"1")
    [old] = await world.pull()
    clock.advance(11)
    [new] = await world.pull()

    await world.ack(old)
    await world.nack(old)

    assert await world.pull() == []
    clock.advance(11)
    assert await world.pull_data() == [b"1"]
    await world.ack(new)  # stale by now, too
    clock.advance(11)
    assert await world.pull_data() == [b"1"]


async def test_a_nacked_message_cannot_be_acknowledged(world: World) -> None:
    await world.publish(b"1")
    [message] = await world.pull()
    await world.nack(message)
    await world.ack(message)
    assert await world.pull_data() == [b"1"]


async def test_acknowledging_twice_is_no_error(world: World) -> None:
    await world.publish(b"1", b"2")
    [first, _] = await world.pull()
    await world.ack(first, first)
    await world.ack(first)
    assert (await world.runtime()).counters.acked == 1


async def test_an_ack_id_from_before_a_restart_counts_until_the_message_is_delivered_again(
    world: World,
) -> None:
    await world.publish(b"1", b"2")
    [first, second] = await world.pull()
    world.restart()

    await world.ack(first)
    assert await world.pull_data() == [b"2"]

    await world.ack(second)
    assert (await world.runtime()).outstanding == 1


async def test_one_malformed_ack_id_fails_the_whole_request(world: World) -> None:
    await world.publish(b"1")
    [message] = await world.pull()
    for call in (
        world.pulls.acknowledge(ORDERS, [message.ack_id, "garbage"]),
        world.pulls.modify_ack_deadline(ORDERS, [message.ack_id, "garbage"], 0),
    ):
        with pytest.raises(InvalidArgument) as refusal:
            await call
        assert str(refusal.value) == (
            "You have passed an invalid ack ID to the service (ack_id=garbage)."
        )
    assert (await world.runtime()).outstanding == 1


async def test_on_a_stream_a_malformed_ack_id_is_passed_over(world: World) -> None:
    await world.publish(b"1")
    [message] = await world.pull()
    runtime = await world.runtime()
    runtime.acknowledge(["garbage", message.ack_id], lenient=True)
    assert (runtime.outstanding, runtime.counters.acked) == (0, 1)


async def test_an_ack_id_of_another_subscription_is_refused(world: World) -> None:
    other = SubscriptionName("project", "other")
    await world.subscriptions.create(other, TOPIC, SubscriptionConfig())
    await world.publish(b"1")
    [message] = await world.pull()
    await world.pull(name=other)
    with pytest.raises(InvalidArgument):
        await world.ack(message, name=other)


async def test_no_ack_ids_at_all_is_refused(world: World) -> None:
    for call in (
        world.pulls.acknowledge(ORDERS, []),
        world.pulls.modify_ack_deadline(ORDERS, [], 10),
    ):
        with pytest.raises(InvalidArgument) as refusal:
            await call
        assert str(refusal.value) == "You have not specified an ack ID in the request."


# --- retention ----------------------------------------------------------------------------------


async def test_a_message_past_its_retention_is_not_delivered(
    world: World, clock: ManualClock
) -> None:
    await world.publish(b"old")
    clock.advance(1)
    await world.publish(b"new")
    clock.advance(7 * DAY_US / 1e6 - 1)
    assert await world.pull_data() == [b"new"]
    assert (await world.runtime()).floor == 2


async def test_a_message_past_its_retention_does_not_come_back(
    world: World, clock: ManualClock
) -> None:
    await world.publish(b"old")
    [message] = await world.pull()
    clock.advance(7 * DAY_US / 1e6)
    assert await world.pull() == []
    assert (await world.runtime()).floor == message.seq + 1


async def test_the_longer_retention_of_the_topic_counts(world: World, clock: ManualClock) -> None:
    await world.topics.update(
        TOPIC, lambda topic: type(topic.config)(message_retention_us=8 * DAY_US)
    )
    await world.publish(b"old")
    clock.advance(7.5 * DAY_US / 1e6)
    assert await world.pull_data() == [b"old"]


async def test_a_shorter_retention_drops_older_messages_at_once(
    world: World, clock: ManualClock
) -> None:
    await world.publish(b"old")
    await world.runtime()
    clock.advance(3600)
    await world.subscriptions.update(
        ORDERS, lambda _: SubscriptionConfig(message_retention_us=600 * 1_000_000)
    )
    assert await world.pull() == []


async def test_what_retention_took_from_storage_is_passed_over(world: World) -> None:
    await world.publish(b"1", b"2")
    await world.publish(b"3")
    await world.publish(b"4")
    topic_id = (await world.runtime()).subscription.topic_id
    del world.stored.batches[topic_id][0:2]
    world.restart()
    assert await world.pull_data() == [b"4"]
    assert (await world.runtime()).floor == 4


async def test_a_message_that_waits_when_it_is_gone_from_storage_is_passed_over(
    clock: ManualClock,
) -> None:
    world = World(clock, Stored(), cache_bytes=1)
    world.start()
    await world.create()
    await world.publish(b"1")
    await world.publish(b"2")
    [first] = await world.pull(1)
    await world.pull(1)  # now the cache has forgotten the first
    del world.stored.batches[(await world.runtime()).subscription.topic_id][0]

    await world.nack(first)

    assert await world.pull() == []
    runtime = await world.runtime()
    assert runtime.floor == 2
    assert runtime.undelivered == 0
    assert not runtime.busy


# --- the ends of things -------------------------------------------------------------------------


async def test_deleting_a_subscription_ends_its_streams_and_pulls(world: World) -> None:
    stream = await world.stream()
    pull = await begun(world.pulls.pull(ORDERS, 10, 60))

    await world.subscriptions.delete(ORDERS)

    assert isinstance(stream.error, NotFound)
    assert str(stream.error) == "Resource not found (resource=orders-sub)."
    with pytest.raises(NotFound):
        await pull
    with pytest.raises(NotFound):
        await world.pull()


async def test_detaching_a_subscription_ends_its_streams_and_pulls(world: World) -> None:
    stream = await world.stream()
    pull = await begun(world.pulls.pull(ORDERS, 10, 60))

    await world.subscriptions.detach(ORDERS)

    assert isinstance(stream.error, FailedPrecondition)
    for again in (pull, world.pull(), world.snapshots.seek_to_time(ORDERS, 0)):
        with pytest.raises(FailedPrecondition):
            await again
    with pytest.raises(FailedPrecondition):
        await world.subscriptions.detach(ORDERS)


async def test_shutting_down_ends_streams_and_pulls_and_starts_no_more(world: World) -> None:
    stream = await world.stream()
    pull = await begun(world.pulls.pull(ORDERS, 10, 60))

    world.broker.drain()
    world.broker.drain()

    assert isinstance(stream.error, ShuttingDown)
    for again in (pull, world.pull(), world.pull(name=SubscriptionName("project", "another"))):
        with pytest.raises((ShuttingDown, NotFound)):
            await again


async def test_closing_while_messages_are_being_read_ends_the_reading(world: World) -> None:
    await world.publish(b"1")
    world.restart()
    world.reader.answers.clear()
    pull = await begun(world.pulls.pull(ORDERS, 10, 60))
    runtime = await world.runtime()
    assert runtime.busy
    world.broker.drain()
    with pytest.raises(ShuttingDown):
        await pull
    assert not runtime.busy


async def test_nothing_is_lost_when_storage_does_not_answer_for_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ams_grpc.broker.reading._RETRY_S", 0)
    await world.publish(b"1")
    world.restart()
    runtime = await world.runtime()
    world.reader.failures = 3
    stream = Stream()
    runtime.add(stream.consumer)
    await runtime.settled()
    assert world.reader.calls.count("read") == 4
    assert stream.data == [b"1"]


async def test_reading_what_is_damaged_is_tried_again_less_and_less_often(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_sleep, real_read = asyncio.sleep, world.reader.read
    rests: list[float] = []

    async def sleep(seconds: float) -> None:
        if seconds:
            rests.append(seconds)
        await real_sleep(0)

    async def read(topic_id: int, seq: int, max_bytes: int) -> Sequence[StoredBatch]:
        if len(rests) < 12:
            raise UnreadableMessages("it is damaged")
        return await real_read(topic_id, seq, max_bytes)

    await world.publish(b"1")
    world.restart()
    monkeypatch.setattr(world.reader, "read", read)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    stream = Stream()
    runtime = await world.runtime()
    runtime.add(stream.consumer)
    await runtime.settled()

    assert stream.data == [b"1"]
    assert rests == sorted(rests)
    assert rests[0] < 1
    assert set(rests[9:]) == {60}


async def test_a_seek_beyond_what_is_damaged_delivers_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_read = world.reader.read

    async def read(topic_id: int, seq: int, max_bytes: int) -> Sequence[StoredBatch]:
        if seq < 2:
            raise UnreadableMessages("it is damaged")
        return await real_read(topic_id, seq, max_bytes)

    monkeypatch.setattr("ams_grpc.broker.reading._RETRY_S", 0)
    await world.publish(b"1")
    await world.publish(b"2")
    world.restart()
    monkeypatch.setattr(world.reader, "read", read)
    stream = Stream()
    runtime = await world.runtime()
    runtime.add(stream.consumer)
    runtime.seek(2, 2)
    await runtime.settled()
    await runtime.settled()

    assert stream.data == [b"2"]


async def test_leases_are_limited_however_much_consumers_ask_for(world: World) -> None:
    runtime = await world.runtime()
    runtime._max_outstanding = runtime._picker._max_outstanding = 3
    stream = await world.stream()
    for data in (b"1", b"2", b"3", b"4", b"5"):
        await world.publish(data)
    assert stream.data == [b"1", b"2", b"3"]

    await world.ack(stream.messages[0])

    assert stream.data == [b"1", b"2", b"3", b"4"]
