"""Pulling in windows, as AMS does: alone, and beside subscribers of Pub/Sub."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ams_grpc.broker import views, windowed
from ams_grpc.broker.catalog import SubscriptionConfig, TopicConfig
from ams_grpc.broker.errors import (
    AckIdsRefused,
    AmsRefusal,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    StorageUnavailable,
)
from ams_grpc.broker.figures import Consumption
from ams_grpc.broker.filters import parse_filter
from ams_grpc.broker.policies import DAY_US, StorageExport
from ams_grpc.broker.views import FilteredView, PlainView, Stretch
from ams_grpc.broker.windowed import Offsets, WindowedPulls
from tests.unit.broker.world import ORDERS, TOPIC, World, begun

RETENTION_US = 7 * DAY_US


@pytest.fixture
async def ams(empty: World) -> World:
    """A topic that retains for seven days and begins with offset 0, and a subscription."""
    await create(empty)
    return empty


async def create(world: World, **config: object) -> None:
    topic = await world.topics.create(TOPIC, TopicConfig(message_retention_us=RETENTION_US))
    world.stored.next_seqs[topic.id] = 0
    subscription = SubscriptionConfig(**config)  # type: ignore[arg-type]
    await world.subscriptions.create(ORDERS, TOPIC, subscription)


def windows(world: World) -> WindowedPulls:
    return world.broker.windowed


async def pull(world: World, max_messages: int = 100, wait_s: float = 0.0) -> list[int]:
    return list((await windows(world).pull(ORDERS, max_messages, wait_s)).seqs)


async def ack(world: World, offset: int) -> None:
    await windows(world).acknowledge(ORDERS, offset + 1)


async def offsets(world: World) -> tuple[int, int, int]:
    """max, min, current."""
    found: Offsets = await windows(world).offsets(ORDERS)
    return found.high, found.low, found.current


async def move(world: World, offset: int) -> None:
    await windows(world).move(ORDERS, offset)


@contextmanager
def refused(reason: str, text: str) -> Iterator[None]:
    with pytest.raises(AmsRefusal) as caught:
        yield
    assert caught.value.info is not None
    assert (caught.value.info.reason, caught.value.message) == (reason, text)


NO_ACK_PENDING = ("NO_ACK_PENDING", "no ack pending")
WRONG_ACK = ("WRONG_ACK", "wrong ack")
ACK_TIMEOUT = ("ACK_TIMEOUT", "ack timeout")


# --- AMS alone ------------------------------------------------------------------------------------


async def test_the_worked_example_of_ams(ams: World) -> None:
    """What happens at which second; the ack deadline is 10 s."""
    await ams.publish(*[b"%d" % number for number in range(5)])
    assert await pull(ams, 3) == [0, 1, 2]
    ams.clock.advance(2)
    assert await pull(ams, 3) == [0, 1, 2]
    ams.clock.advance(1)
    with refused(*WRONG_ACK):
        await ack(ams, 3)
    ams.clock.advance(11)
    with refused(*ACK_TIMEOUT):
        await ack(ams, 2)
    ams.clock.advance(1)
    assert await pull(ams, 2) == [0, 1]
    ams.clock.advance(1)
    with refused(*WRONG_ACK):
        await ack(ams, 2)
    ams.clock.advance(1)
    await ack(ams, 1)
    ams.clock.advance(1)
    with refused(*NO_ACK_PENDING):
        await ack(ams, 1)
    ams.clock.advance(1)
    assert await pull(ams, 10) == [2, 3, 4]
    ams.clock.advance(1)
    await move(ams, 1)
    ams.clock.advance(1)
    with refused(*NO_ACK_PENDING):
        await ack(ams, 4)
    assert await offsets(ams) == (5, 0, 1)


async def test_the_life_of_a_subscription_of_ams(ams: World) -> None:
    assert await offsets(ams) == (0, 0, 0)
    assert await pull(ams) == []
    with refused(*NO_ACK_PENDING):
        await ack(ams, 0)
    await ams.publish(b"0", b"1", b"2")
    assert await pull(ams, 2) == [0, 1]
    assert await pull(ams, 0) == [0]
    with refused(*WRONG_ACK):
        await ack(ams, 1)
    assert await pull(ams, 10) == [0, 1, 2]
    await ack(ams, 2)
    with refused(*NO_ACK_PENDING):
        await ack(ams, 2)
    assert await offsets(ams) == (3, 0, 3)
    for outside in (4, -1):
        with pytest.raises(InvalidArgument, match="Offset out of bounds"):
            await move(ams, outside)
    assert await offsets(ams) == (3, 0, 3)
    await move(ams, 3)
    await move(ams, 0)
    assert await offsets(ams) == (3, 0, 0)
    assert await pull(ams) == [0, 1, 2]


@pytest.mark.parametrize("waited_s, is_late", [(10.9, False), (11.0, True)])
async def test_the_deadline_counts_in_whole_seconds(
    ams: World, waited_s: float, is_late: bool
) -> None:
    await ams.publish(b"0")
    await pull(ams)
    ams.clock.advance(waited_s)
    if is_late:
        with refused(*ACK_TIMEOUT):
            await ack(ams, 0)
        assert await pull(ams) == [0]
    await ack(ams, 0)


async def test_a_deadline_of_0_means_within_the_same_second(ams: World) -> None:
    await ams.publish(b"0")
    await pull(ams)
    await ams.subscriptions.update(
        ORDERS, lambda _: SubscriptionConfig(ack_deadline_s=0), min_ack_deadline_s=0
    )
    ams.clock.advance(1)
    with refused(*ACK_TIMEOUT):
        await ack(ams, 0)
    await pull(ams)
    await ack(ams, 0)


async def test_an_empty_pull_at_an_offset_above_0_opens_a_window_with_nothing_in_it(
    ams: World,
) -> None:
    await ams.publish(b"0")
    await move(ams, 1)
    assert await pull(ams) == []
    with refused(*WRONG_ACK):
        await ack(ams, 0)


async def test_the_window_survives_a_restart(ams: World) -> None:
    await ams.publish(b"0", b"1", b"2")
    await pull(ams, 2)
    await ams.commits.flushed()
    ams.restart()
    with refused(*WRONG_ACK):
        await ack(ams, 2)
    await ack(ams, 1)
    ams.restart()
    with refused(*NO_ACK_PENDING):
        await ack(ams, 1)
    assert await pull(ams) == [2]


async def test_an_ack_is_answered_when_it_is_on_disk(ams: World) -> None:
    await ams.publish(b"0")
    await pull(ams)
    ams.commits.answers.clear()
    acking = await begun(ack(ams, 0))
    assert not acking.done()
    ams.commits.answers.set()
    await acking
    subscription = ams.stored.subscriptions[ORDERS]
    assert ams.stored.cursors[subscription.id].floor == 1


async def test_a_window_that_could_not_be_written_is_written_later(ams: World) -> None:
    await ams.publish(b"0")
    await pull(ams)
    ams.commits.commit_in_vain()
    ams.commits.commit()
    ams.restart()
    await ack(ams, 0)


async def test_asking_for_messages_that_are_not_there_writes_nothing_until_the_end(
    ams: World,
) -> None:
    await ams.publish(b"0")
    await pull(ams)
    await ack(ams, 0)
    await pull(ams)
    assert ams.commits.unwritten == 0
    subscription = ams.stored.subscriptions[ORDERS]
    asked_us = ams.clock.now_us()
    ams.broker.drain()
    ams.commits.commit()
    window = ams.stored.cursors[subscription.id].window
    assert window is not None
    assert (window.start, window.end, window.pulled_us) == (1, 1, asked_us)


async def test_what_was_pulled_is_counted_again_when_it_is_pulled_again(ams: World) -> None:
    subscription = ams.stored.subscriptions[ORDERS]
    nothing = await windows(ams).consumption(subscription)
    assert nothing == Consumption()

    await ams.publish(b"0", b"1", b"2")
    pulled = await windows(ams).pull(ORDERS, 2)
    pulled.count_data(8)
    first = await windows(ams).consumption(subscription)
    assert first.last is not None
    assert (first.messages, first.byte_size, first.last.per_second) == (2, 8, 2.0)

    ams.clock.advance(4)
    pulled = await windows(ams).pull(ORDERS, 2)
    pulled.count_data(8)
    await ams.commits.flushed()
    ams.restart()
    second = await windows(ams).consumption(subscription)  # nothing runs
    assert second.last is not None
    assert (second.messages, second.byte_size, second.last.per_second) == (4, 16, 0.5)

    await ack(ams, 1)
    assert await windows(ams).consumption(subscription) == second


async def test_a_pull_gives_no_more_than_fits(ams: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windowed, "MAX_BYTES", 10)
    monkeypatch.setattr(windowed, "MAX_MESSAGES", 3)
    await ams.publish(b"a" * 100, b"b" * 6, b"c" * 6, b"d")
    await ams.publish(b"e", b"f", b"g", b"h")
    for expected in ([0], [1, 2], [3, 4, 5], [6, 7]):
        assert await pull(ams, 1 << 30) == expected
        await ack(ams, expected[-1])


async def test_a_cache_smaller_than_a_pull_is_enough(ams: World) -> None:
    ams.cache_bytes = 1
    ams.restart()
    for number in range(20):
        await ams.publish(b"%d" % number)
    assert await pull(ams) == list(range(20))


# --- offsets and times ----------------------------------------------------------------------------


async def test_what_has_expired_is_passed_over_and_its_window_closes(ams: World) -> None:
    await ams.publish(b"0", b"1")
    ams.clock.advance(86_400)
    await ams.publish(b"2")
    await pull(ams, 1)
    ams.clock.advance(6 * 86_400 + 1)
    assert await offsets(ams) == (3, 2, 2)
    with refused(*NO_ACK_PENDING):
        await ack(ams, 0)
    assert await pull(ams) == [2]


async def test_a_pull_does_not_give_what_has_expired(ams: World) -> None:
    await ams.publish(b"0", b"1")
    ams.clock.advance(86_400)
    await ams.publish(b"2")
    ams.clock.advance(6 * 86_400 + 1)
    assert await pull(ams) == [2]
    await ack(ams, 2)
    assert await offsets(ams) == (3, 2, 3)


async def test_what_a_snapshot_holds_does_not_expire(ams: World) -> None:
    await ams.publish(b"0", b"1")
    runtime = await ams.runtime()
    runtime.kept_from = 0
    ams.clock.advance(7 * 86_400 + 1)
    assert await offsets(ams) == (2, 0, 0)
    assert await pull(ams) == [0, 1]


async def test_a_time_is_the_offset_of_what_was_published_then_or_later(ams: World) -> None:
    at = windows(ams).offset_at
    assert await at(ORDERS, 0) is None
    await ams.publish(b"0", b"1")
    first_us = ams.clock.now_us()
    ams.clock.advance(1)
    await ams.publish(b"2")
    assert await at(ORDERS, 0) == 0
    assert await at(ORDERS, first_us) == 0
    assert await at(ORDERS, first_us + 1) == 2
    assert await at(ORDERS, ams.clock.now_us() + 1) is None
    ams.clock.advance(7 * 86_400)
    assert await at(ORDERS, 0) == 2  # the others have expired


# --- waiting --------------------------------------------------------------------------------------


async def test_a_pull_waits_for_the_first_message_and_holds_up_nobody(ams: World) -> None:
    waiting = await begun(pull(ams, 10, wait_s=60))
    assert await pull(ams) == []
    assert not waiting.done()
    await ams.publish(b"0", b"1")
    assert await waiting == [0, 1]


async def test_a_pull_waits_no_longer_than_it_may(ams: World) -> None:
    assert await pull(ams, wait_s=0.001) == []


async def test_a_pull_that_waits_sees_what_a_seek_brings_back(ams: World) -> None:
    await ams.publish(b"0")
    await pull(ams)
    await ack(ams, 0)
    waiting = await begun(pull(ams, wait_s=60))
    await move(ams, 0)
    assert await waiting == [0]


async def test_a_pull_that_waits_goes_with_its_caller_and_leaves_nothing(ams: World) -> None:
    waiting = await begun(pull(ams, wait_s=60))
    waiting.cancel()
    await asyncio.wait([waiting])
    runtime = await ams.runtime()
    assert not runtime._watching  # nothing else shows it
    assert runtime.window is None


async def test_a_pull_that_waits_ends_with_the_subscription_and_with_the_service(
    ams: World,
) -> None:
    waiting = await begun(pull(ams, wait_s=60))
    await ams.subscriptions.delete(ORDERS)
    with pytest.raises(NotFound):
        await waiting
    await ams.subscriptions.create(ORDERS, TOPIC, SubscriptionConfig())
    waiting = await begun(pull(ams, wait_s=60))
    ams.broker.drain()
    assert await waiting == []


# --- beside subscribers of Pub/Sub ----------------------------------------------------------------


async def test_what_is_acknowledged_in_a_window_does_not_come_to_subscribers(ams: World) -> None:
    await ams.publish(b"0", b"1", b"2", b"3")
    [held] = await ams.pull(1)
    assert await pull(ams, 3) == [0, 1, 2]  # whoever holds them
    await ack(ams, 2)
    assert await ams.pull_data() == [b"3"]
    ams.clock.advance(11)
    await ams.ack(held)
    assert await ams.pull_data() == [b"3"]
    ams.restart()
    assert await ams.pull_data() == [b"3"]


async def test_what_a_subscriber_has_handed_back_and_a_window_acknowledged_is_done(
    ams: World,
) -> None:
    await ams.publish(b"0", b"1")
    await ams.nack(*await ams.pull(1))
    await pull(ams, 1)
    await ack(ams, 0)
    stream = await ams.stream()
    assert stream.data == [b"1"]


async def test_what_subscribers_have_acknowledged_is_not_shown(ams: World) -> None:
    await ams.publish(*[b"%d" % number for number in range(6)])
    received = await ams.pull()
    await ams.ack(received[1], received[3])
    assert await pull(ams, 3) == [0, 2, 4]
    await ack(ams, 4)
    assert await offsets(ams) == (6, 0, 5)
    assert await pull(ams) == [5]


async def test_an_ack_counts_although_a_subscriber_was_faster(ams: World) -> None:
    await ams.publish(*[b"%d" % number for number in range(4)])
    received = await ams.pull()
    assert await pull(ams, 3) == [0, 1, 2]
    await ams.ack(*received[:2])
    assert await offsets(ams) == (4, 0, 2)
    await ack(ams, 1)  # it was given, and is done
    assert await pull(ams) == [2, 3]


async def test_what_is_acknowledged_while_a_pull_reads_is_not_shown(ams: World) -> None:
    await ams.publish(b"0", b"1")
    await ams.publish(b"2")
    received = await ams.pull()
    topic_id = ams.stored.topics[TOPIC].id
    ams.broker.log.forget(topic_id)
    ams.broker.log.add(ams.stored.batches[topic_id][0])
    ams.reader.answers.clear()
    pulling = await begun(pull(ams))
    await ams.ack(received[1])
    ams.reader.answers.set()
    assert await pulling == [0, 2]


async def test_a_seek_while_a_pull_reads_begins_it_anew(ams: World) -> None:
    await ams.publish(b"0")
    await ams.publish(b"1")
    await move(ams, 1)
    ams.broker.log.forget(ams.stored.topics[TOPIC].id)
    ams.reader.answers.clear()
    pulling = await begun(pull(ams))
    (await ams.runtime()).seek(0, 0)
    ams.reader.answers.set()
    assert await pulling == [0, 1]


async def test_a_seek_closes_the_window_and_makes_ack_ids_stale(ams: World) -> None:
    await ams.publish(b"0", b"1")
    [held] = await ams.pull(1)
    await pull(ams)
    await ams.snapshots.seek_to_time(ORDERS, 0)
    with refused(*NO_ACK_PENDING):
        await ack(ams, 1)
    await move(ams, 0)
    await ams.ack(held)
    assert await pull(ams) == [0, 1]


async def test_moving_brings_back_all_from_there_on(ams: World) -> None:
    await ams.publish(b"0", b"1", b"2", b"3")
    received = await ams.pull()
    await ams.ack(received[0], received[2])
    await move(ams, 1)
    assert await offsets(ams) == (4, 0, 1)
    assert await ams.pull_data() == [b"1", b"2", b"3"]


async def test_with_exactly_once_delivery_a_lease_outlasts_the_window(empty: World) -> None:
    """Who holds a message may still confirm it; who holds it no more is refused."""
    await create(empty, exactly_once=True, ack_deadline_s=10)
    await empty.publish(b"0", b"1")
    held, late = await empty.pull()
    await pull(empty)
    await ack(empty, 1)
    await empty.ack(held)
    empty.clock.advance(11)
    with pytest.raises(AckIdsRefused):
        await empty.ack(late)
    assert await empty.pull() == []


async def test_with_ordering_the_key_goes_on_behind_the_window(empty: World) -> None:
    await create(empty, ordered=True)
    await empty.publish(b"k:0", b"k:1", b"k:2", b"k:3")
    stream = await empty.stream(max_messages=3)
    await empty.ack(stream.messages[1])  # provisional, and so it is shown
    assert await pull(empty, 3) == [0, 1, 2]
    await ack(empty, 1)
    (await empty.runtime()).remove(stream.consumer)
    empty.clock.advance(11)
    again = await empty.stream()
    assert again.data == [b"k:2", b"k:3"]


async def test_a_subscription_that_exports_is_not_pulled_from(empty: World) -> None:
    await create(empty, export=StorageExport("bucket-of-orders"))
    with pytest.raises(FailedPrecondition, match="not supported"):
        await pull(empty)
    with pytest.raises(FailedPrecondition, match="not supported"):
        await ack(empty, 0)


# --- what a subscription does not see -------------------------------------------------------------


class Some:
    """The log without odd seqs, and with ``failing`` ones that cannot be shown."""

    def __init__(self, world: World, view: PlainView, takes_s: float, *failing: int) -> None:
        self._world = world
        self._view = view
        self._takes_s = takes_s
        self._failing = failing

    def find(self, seq: int) -> Stretch | None:
        window = self._view.find(seq)
        if window is None:
            return None
        seqs = range(window.first_seq, window.end_seq)
        pairs = zip(seqs, window.messages, strict=True)
        shown = [message if seq % 2 == 0 else None for seq, message in pairs]
        failures = {seq: "it fails" for seq in self._failing if seq in seqs}
        return Stretch(window.first_seq, window.publish_time_us, shown, failures)

    async def load(self, seq: int) -> int | None:
        self._world.clock.advance(self._takes_s)
        return await self._view.load(seq)


async def see_some(world: World, *failing: int, takes_s: float = 0) -> None:
    runtime = await world.runtime()
    view = PlainView(world.broker.log, runtime.subscription.topic_id)
    runtime.use_view(Some(world, view, takes_s, *failing))


async def test_what_is_filtered_out_is_not_shown_and_never_waits(ams: World) -> None:
    await see_some(ams)
    await ams.publish(*[b"%d" % number for number in range(6)])
    assert await pull(ams, 2) == [0, 2]
    await ack(ams, 2)
    assert await pull(ams) == [4]
    await ack(ams, 4)
    assert await pull(ams) == []
    assert (await ams.runtime()).floor == 6


async def test_what_cannot_be_shown_ends_the_window_before_it(ams: World) -> None:
    await see_some(ams, 2)
    await ams.publish(*[b"%d" % number for number in range(6)])
    assert await pull(ams) == [0]
    with refused(*WRONG_ACK):
        await ack(ams, 4)
    await ack(ams, 0)
    with refused("INTERNAL", "Message retrieved from broker network has invalid JSON Structure"):
        await pull(ams)
    await move(ams, 3)
    assert await pull(ams) == [4]


async def test_what_is_stored_no_more_is_passed_over(ams: World) -> None:
    for data in (b"0", b"1", b"2"):
        await ams.publish(data)
    topic_id = ams.stored.topics[TOPIC].id
    del ams.stored.batches[topic_id][1]
    ams.broker.log.forget(topic_id)
    assert await pull(ams) == [0, 2]
    await ack(ams, 2)
    assert await offsets(ams) == (3, 0, 3)


async def test_a_pull_that_reads_for_long_ends_with_what_it_has(ams: World) -> None:
    ams.cache_bytes = 1
    ams.restart()
    for _ in range(5):
        await ams.publish(b"even", b"odd")
    await see_some(ams, takes_s=3)
    assert await pull(ams) == [0, 2]
    await ack(ams, 2)
    assert await pull(ams) == [4, 6]


async def test_a_filter_sifts_what_a_pull_reads_a_part_at_a_time(
    ams: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "_SIFTED_AT_ONCE", 3)
    runtime = await ams.runtime()
    wanted = parse_filter('attributes.is = "wanted"')
    topic_id = runtime.subscription.topic_id
    view = FilteredView(ams.broker.log, topic_id, wanted, lambda message: {"is": message.decode()})
    runtime.use_view(view)
    await ams.publish(*[b"other"] * 8, b"wanted", b"other")
    await ams.publish(b"other", b"wanted")
    assert await pull(ams) == [8, 11]
    await ack(ams, 8)
    assert await offsets(ams) == (12, 0, 11)


async def test_without_the_database_a_pull_gives_what_it_has_or_says_so(ams: World) -> None:
    await ams.publish(b"0")
    await ams.publish(b"1")
    topic_id = ams.stored.topics[TOPIC].id
    await ams.runtime()
    ams.broker.log.forget(topic_id)
    ams.reader.failing = True
    with pytest.raises(StorageUnavailable):
        await pull(ams)
    ams.broker.log.add(ams.stored.batches[topic_id][0])
    assert await pull(ams) == [0]
    with refused(*WRONG_ACK):
        await ack(ams, 1)
    ams.reader.failing = False
    assert await pull(ams) == [0, 1]
