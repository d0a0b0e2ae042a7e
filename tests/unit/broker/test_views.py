"""Views: a topic's log as one subscription sees it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace

import pytest

from ams_grpc.broker.catalog import Subscription, SubscriptionConfig
from ams_grpc.broker.filters import parse_filter
from ams_grpc.broker.log import Log
from ams_grpc.broker.policies import CompressionMode, CompressionTransform
from ams_grpc.broker.ports import StoredBatch
from ams_grpc.broker.views import FilteredView, PlainView, Recent, Stretch, View
from tests.unit.broker.fakes import ManualClock, MemoryLog, Stored, decode, encode
from tests.unit.broker.world import ORDERS, Received, World

RETAIN_ACKED = SubscriptionConfig(retain_acked_messages=True, filter="attributes:even")


def attributes_of(message: bytes) -> Mapping[str, str]:
    """A message of these tests is a number."""
    return {"even": ""} if int(message) % 2 == 0 else {}


EVEN = replace(parse_filter("attributes:even"), needles=())  # the word itself is in no number


def even_view(log: Log, subscription: Subscription) -> View:
    return FilteredView(log, subscription.topic_id, EVEN, attributes_of)


@pytest.fixture
async def filtered(empty: World) -> World:
    empty.runtimes._view_of = even_view
    await empty.create(subscription=RETAIN_ACKED)
    return empty


# --- filters ----------------------------------------------------------------------------------------


async def test_what_does_not_match_is_not_delivered_and_counts_as_acknowledged(
    filtered: World,
) -> None:
    await filtered.publish(b"1", b"2", b"3", b"4", b"5")

    received = await filtered.pull()
    assert [message.data for message in received] == [b"2", b"4"]
    await filtered.ack(*received)
    assert (await filtered.runtime()).floor == received[-1].seq + 2
    assert (await filtered.runtime()).undelivered == 0


async def test_a_seek_brings_back_what_matches_and_nothing_else(filtered: World) -> None:
    before_us = filtered.clock.now_us()
    await filtered.publish(b"1", b"2", b"3")
    await filtered.ack(*await filtered.pull())

    await filtered.snapshots.seek_to_time(ORDERS, before_us)

    assert await filtered.pull_data() == [b"2"]


async def test_a_restart_finds_done_what_did_not_match(filtered: World) -> None:
    await filtered.publish(b"1", b"2", b"3", b"5")
    await filtered.pull()
    filtered.commits.commit()

    filtered.restart()
    filtered.runtimes._view_of = even_view

    runtime = await filtered.runtime()
    assert runtime.cursor_state().floor > 0
    assert await filtered.pull_data() == [b"2"]


class Counting:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, message: bytes) -> Mapping[str, str]:
        self.calls += 1
        return attributes_of(message)


def log_of(*batches: StoredBatch, cache_bytes: int = 1 << 24) -> Log:
    log = Log(MemoryLog(Stored()), decode, cache_bytes=cache_bytes, read_bytes=1 << 20)
    for batch in batches:
        log.add(batch)
    return log


def batch_of(first_seq: int, *messages: bytes) -> StoredBatch:
    return StoredBatch(1, first_seq, len(messages), 5, encode(messages))


async def test_a_batch_is_looked_at_once_for_all_its_messages() -> None:
    counting = Counting()
    view = FilteredView(log_of(batch_of(10, b"1", b"2", b"3")), 1, EVEN, counting)

    windows = [view.find(seq) for seq in (10, 11, 12)]

    assert counting.calls == 3
    assert windows[0] is windows[1] is windows[2]
    assert windows[0] is not None
    assert (windows[0].first_seq, windows[0].end_seq) == (10, 13)
    assert list(windows[0].messages) == [None, b"2", None]
    assert not windows[0].is_whole


async def test_a_batch_that_matches_as_a_whole_is_shown_as_it_is() -> None:
    log = log_of(batch_of(10, b"2", b"4"))

    assert FilteredView(log, 1, EVEN, attributes_of).find(10) is log.find(1, 10)


async def test_only_messages_with_the_needles_are_taken_apart() -> None:
    counting = Counting()
    log = log_of(batch_of(1, b"10", b"22", b"33", b"120"))
    view = FilteredView(log, 1, replace(EVEN, needles=(b"2",)), counting)

    window = view.find(1)

    assert window is not None
    assert list(window.messages) == [None, b"22", None, b"120"]
    assert counting.calls == 2


async def test_after_many_messages_the_event_loop_gets_its_turn() -> None:
    """`find` says that it does not know, and the runtime comes back through `load`."""
    many = [batch_of(i * 1000, *[b"1"] * 1000) for i in range(30)]
    view = FilteredView(log_of(*many), 1, EVEN, attributes_of)

    found = [seq for seq in range(0, 30_000, 1000) if view.find(seq) is not None]

    assert found == list(range(0, 20_000, 1000))
    assert await view.load(20_000) == 20_000
    assert view.find(20_000) is not None


async def test_a_batch_of_very_many_messages_is_shown_in_parts() -> None:
    """Each is looked at once, and none of it in one step with the event loop."""
    numbers = [b"%d" % number for number in range(50_000)]
    threads: list[str] = []

    def noting(payload: bytes, first_seq: int, count: int, publish_time_us: int) -> list[bytes]:
        threads.append(threading.current_thread().name)
        return decode(payload, first_seq, count, publish_time_us)

    log = Log(MemoryLog(Stored()), noting, cache_bytes=1 << 24, read_bytes=1 << 20)
    log.add(batch_of(10, *numbers))
    counting = Counting()
    view = FilteredView(log, 1, EVEN, counting)

    seq, shown, steps = 10, list[bytes | None](), []
    while seq < 50_010:
        assert view.find(seq) is None
        before = counting.calls
        assert await view.load(seq) == seq
        steps.append(counting.calls - before)
        window = view.find(seq)
        assert window is not None
        assert window.first_seq == seq
        shown += window.messages
        seq = window.end_seq

    assert shown == [number if int(number) % 2 == 0 else None for number in numbers]
    assert steps == [20_000, 20_000, 10_000]
    assert len(threads) == 1
    assert threads != [threading.current_thread().name]


async def test_very_many_messages_are_delivered_like_few(filtered: World) -> None:
    await filtered.publish(*[b"1"] * 30_000, b"2", *[b"3"] * 30_000, b"4")

    received: list[Received] = []
    while len(received) < 2:
        received += await filtered.pull()
    assert [message.data for message in received] == [b"2", b"4"]
    await filtered.ack(*received)
    assert (await filtered.runtime()).undelivered == 0


def test_a_view_remembers_few_windows_and_few_bytes() -> None:
    recent = Recent()
    for first_seq in range(0, 100, 10):
        recent.add(Stretch(first_seq, 5, [b"x"] * 10))
    assert [seq for seq in range(0, 100, 10) if recent.find(seq) is not None] == [60, 70, 80, 90]

    recent.add(Stretch(100, 5, [b"x" * 3_000_000]))
    assert [seq for seq in range(0, 110, 10) if recent.find(seq) is not None] == [100]


# --- changes ----------------------------------------------------------------------------------------


async def test_new_transforms_are_seen_by_the_next_delivery(
    empty: World, clock: ManualClock
) -> None:
    def view_of(log: Log, subscription: Subscription) -> View:
        if subscription.config.transforms:
            return even_view(log, subscription)  # any view that shows something else
        return PlainView(log, subscription.topic_id)

    empty.runtimes._view_of = view_of
    await empty.create()
    await empty.publish(b"1", b"2", b"3", b"4")
    assert [message.data for message in await empty.pull(1)] == [b"1"]

    transforms = (CompressionTransform(CompressionMode.COMPRESS),)
    await empty.subscriptions.update(ORDERS, lambda s: replace(s.config, transforms=transforms))

    assert await empty.pull_data() == [b"2", b"4"]
