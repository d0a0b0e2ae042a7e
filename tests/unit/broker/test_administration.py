"""Topics and subscriptions: changing them, publishing to them, and starting what runs."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from ams_grpc.broker.catalog import Subscription, SubscriptionConfig, TopicConfig
from ams_grpc.broker.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ShuttingDown,
    StorageUnavailable,
)
from ams_grpc.broker.names import SubscriptionName, TopicName
from ams_grpc.broker.policies import DAY_US, DeadLetterPolicy, PushConfig
from tests.unit.broker.fakes import ManualClock, Stored, encode
from tests.unit.broker.world import ORDERS, TOPIC, Stream, World, begun, eventually

# --- publishing ---------------------------------------------------------------------------------


async def test_publishing_answers_with_consecutive_seqs(world: World, clock: ManualClock) -> None:
    first = await world.topics.publish(TOPIC, encode([b"1", b"2"]), 2)
    second = await world.topics.publish(TOPIC, encode([b"3"]), 1)
    assert (first.first_seq, second.first_seq) == (1, 3)
    assert first.publish_time_us == clock.now_us()


async def test_publishing_looks_again_when_its_topic_has_changed(world: World) -> None:
    await world.publish(b"1")
    topic = world.stored.topics[TOPIC]
    world.stored.topics[TOPIC] = replace(topic, version=topic.version + 1)  # by another node
    await world.publish(b"2")
    assert await world.pull_data() == [b"1", b"2"]


async def test_publishing_to_a_topic_that_is_gone_is_refused(world: World) -> None:
    await world.publish(b"1")
    del world.stored.topics[TOPIC]  # by another node
    with pytest.raises(NotFound) as refusal:
        await world.publish(b"2")
    assert str(refusal.value) == "Resource not found (resource=orders)."


async def test_publishing_gives_up_when_its_topic_changes_all_the_time(world: World) -> None:
    world.commits.aborts = 1000
    with pytest.raises(Aborted):
        await world.publish(b"1")


async def test_publishing_fails_when_storage_does(world: World) -> None:
    world.commits.failing = True
    with pytest.raises(StorageUnavailable):
        await world.publish(b"1")


async def test_what_was_appended_without_a_word_is_found_by_catching_up(world: World) -> None:
    stream = await world.stream()
    topic_id = world.stored.topics[TOPIC].id
    world.stored.append(topic_id, encode([b"1"]), 1, world.clock.now_us())
    assert stream.data == []
    world.broker.uncertain([topic_id, 999])
    await eventually(lambda: stream.data == [b"1"])


async def test_catching_up_goes_on_until_storage_answers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ams_grpc.broker.broker._RETRY_S", 0)
    stream = await world.stream()
    topic_id = world.stored.topics[TOPIC].id
    world.stored.append(topic_id, encode([b"1"]), 1, world.clock.now_us())
    world.reader.failures = 3
    world.broker.uncertain([topic_id])
    await eventually(lambda: stream.data == [b"1"])


# --- topics -------------------------------------------------------------------------------------


async def test_a_topic_is_made_once(world: World) -> None:
    with pytest.raises(AlreadyExists):
        await world.topics.create(TOPIC, TopicConfig())
    assert (await world.topics.get(TOPIC)).name == TOPIC
    assert [topic.name for topic in await world.topics.list("project", "", 10)] == [TOPIC]
    assert await world.topics.list("project", str(TOPIC), 10) == []


async def test_a_change_starts_again_when_somebody_else_was_faster(world: World) -> None:
    world.catalog.aborts = 3
    seen = []

    def label(topic: object) -> TopicConfig:
        seen.append(topic)
        return TopicConfig(labels={"a": "b"})

    topic = await world.topics.update(TOPIC, label)
    assert topic.config.labels == {"a": "b"}
    assert len(seen) == 4

    world.catalog.aborts = 3
    config = SubscriptionConfig(ack_deadline_s=20)
    subscription = await world.subscriptions.update(ORDERS, lambda _: config)
    assert subscription.config.ack_deadline_s == 20


async def test_changes_that_never_succeed_are_given_up(world: World) -> None:
    world.catalog.aborts = 1000
    for work in (
        world.topics.update(TOPIC, lambda topic: topic.config),
        world.topics.delete(TOPIC),
        world.subscriptions.update(ORDERS, lambda subscription: subscription.config),
        world.subscriptions.detach(ORDERS),
        world.subscriptions.delete(ORDERS),
    ):
        with pytest.raises(Aborted):
            await work


async def test_what_a_change_makes_is_checked(world: World) -> None:
    with pytest.raises(InvalidArgument):
        await world.topics.update(TOPIC, lambda _: TopicConfig(message_retention_us=1))
    with pytest.raises(InvalidArgument):
        await world.subscriptions.update(ORDERS, lambda _: SubscriptionConfig(ack_deadline_s=1))


async def test_subscriptions_outlive_their_topic_and_deliver_what_they_have(world: World) -> None:
    await world.publish(b"1")
    await world.runtime()
    await world.topics.delete(TOPIC)
    subscription = (await world.runtime()).subscription
    assert subscription.topic_name is None
    assert await world.pull_data() == [b"1"]
    with pytest.raises(NotFound):
        await world.publish(b"2")


async def test_a_topic_of_the_same_name_is_another_topic(world: World) -> None:
    await world.publish(b"old")
    await world.topics.delete(TOPIC)
    await world.topics.create(TOPIC, TopicConfig())
    fresh = SubscriptionName("project", "fresh")
    await world.subscriptions.create(fresh, TOPIC, SubscriptionConfig())
    await world.publish(b"new")
    assert await world.pull_data() == [b"old"]
    assert await world.pull_data(name=fresh) == [b"new"]


async def test_changing_a_topic_passes_over_a_subscription_deleted_meanwhile(world: World) -> None:
    other = SubscriptionName("project", "other")
    await world.subscriptions.create(other, TOPIC, SubscriptionConfig())
    await world.runtime()
    await world.runtime(name=other)
    del world.stored.subscriptions[ORDERS]  # by another node
    await world.topics.update(TOPIC, lambda _: TopicConfig(message_retention_us=DAY_US))
    assert (await world.runtime(name=other)).subscription.topic_retention_us == DAY_US


# --- subscriptions ------------------------------------------------------------------------------


async def test_a_subscription_without_a_name_gets_one(world: World) -> None:
    subscription = await world.subscriptions.create(None, TOPIC, SubscriptionConfig())
    assert subscription.name.project == TOPIC.project
    assert await world.subscriptions.get(subscription.name) == subscription
    names = await world.topics.subscriptions(TOPIC, "", 10)
    assert set(names) == {ORDERS, subscription.name}
    assert len(await world.subscriptions.list("project", "", 10)) == 2


async def test_a_subscription_needs_a_topic_and_a_name_of_its_own(world: World) -> None:
    missing = TopicName("project", "missing")
    with pytest.raises(NotFound):
        await world.subscriptions.create(None, missing, SubscriptionConfig())
    with pytest.raises(AlreadyExists):
        await world.subscriptions.create(ORDERS, TOPIC, SubscriptionConfig())
    with pytest.raises(InvalidArgument):
        await world.subscriptions.create(None, TOPIC, SubscriptionConfig(ack_deadline_s=5))


MISSING = DeadLetterPolicy(TopicName("project", "missing"))


async def test_the_topic_of_dead_letters_exists_when_a_subscription_is_created(
    world: World,
) -> None:
    config = SubscriptionConfig(dead_letter=MISSING)
    with pytest.raises(NotFound, match=r"\(resource=missing\)"):
        await world.subscriptions.create(None, TOPIC, config)
    await world.topics.create(MISSING.topic, TopicConfig())
    created = await world.subscriptions.create(None, TOPIC, config)
    assert created.config.dead_letter == MISSING


async def test_what_is_addressed_is_looked_for_before_the_topic_of_dead_letters(
    world: World,
) -> None:
    config = SubscriptionConfig(dead_letter=MISSING)
    with pytest.raises(AlreadyExists):
        await world.subscriptions.create(ORDERS, TOPIC, config)
    with pytest.raises(NotFound, match=r"\(resource=nowhere\)"):
        await world.subscriptions.create(None, TopicName("project", "nowhere"), config)


async def test_the_topic_of_dead_letters_exists_when_a_subscription_is_updated(
    world: World,
) -> None:
    with pytest.raises(NotFound, match=r"\(resource=missing\)"):
        await world.subscriptions.update(ORDERS, lambda _: SubscriptionConfig(dead_letter=MISSING))
    assert (await world.subscriptions.get(ORDERS)).config == SubscriptionConfig()


async def test_a_topic_of_dead_letters_that_went_later_is_in_no_update_s_way(
    world: World,
) -> None:
    await world.topics.create(MISSING.topic, TopicConfig())
    await world.subscriptions.update(ORDERS, lambda _: SubscriptionConfig(dead_letter=MISSING))
    await world.topics.delete(MISSING.topic)
    updated = await world.subscriptions.update(
        ORDERS, lambda subscription: replace(subscription.config, labels={"team": "a"})
    )
    assert updated.config == SubscriptionConfig(dead_letter=MISSING, labels={"team": "a"})


async def test_a_changed_ack_deadline_counts_for_the_next_pull(
    world: World, clock: ManualClock
) -> None:
    await world.publish(b"1")
    await world.runtime()
    config = SubscriptionConfig(ack_deadline_s=60)
    await world.subscriptions.update(ORDERS, lambda _: config)
    await world.pull()
    clock.advance(59)
    assert await world.pull() == []
    clock.advance(1)
    assert len(await world.pull()) == 1


async def test_a_subscription_made_again_starts_anew(world: World) -> None:
    await world.publish(b"old")
    [old] = await world.pull()
    await world.subscriptions.delete(ORDERS)
    await world.subscriptions.create(ORDERS, TOPIC, SubscriptionConfig())
    assert await world.pull() == []
    with pytest.raises(InvalidArgument):
        await world.ack(old)


# --- starting -----------------------------------------------------------------------------------


async def test_callers_that_come_while_a_subscription_starts_share_one_runtime(
    world: World,
) -> None:
    starts = [await begun(world.runtime()) for _ in range(3)]
    assert len({id(runtime) for runtime in await asyncio.gather(*starts)}) == 1


async def test_a_caller_that_goes_away_does_not_stop_the_start_for_others(world: World) -> None:
    first = asyncio.ensure_future(world.runtime())
    second = asyncio.ensure_future(world.runtime())
    await asyncio.sleep(0)
    first.cancel()
    assert await second is await world.runtime()


async def test_a_start_that_failed_is_tried_again_by_the_next_caller(world: World) -> None:
    await world.publish(b"1")
    world.reader.failing = True
    with pytest.raises(StorageUnavailable):
        await world.pull()
    world.reader.failing = False
    assert await world.pull_data() == [b"1"]


async def test_nobody_gets_a_runtime_whose_start_may_still_fail(world: World) -> None:
    start = asyncio.ensure_future(world.runtime())
    await eventually(world.runtimes.running)
    late = asyncio.ensure_future(world.runtime())
    world.reader.failing = True
    for caller in (start, late):
        with pytest.raises(StorageUnavailable):
            await caller


async def test_nothing_appended_during_the_start_is_missed(world: World) -> None:
    start = asyncio.ensure_future(world.runtime())
    number = 0
    while not start.done():
        await world.publish(b"%d" % number)
        number += 1
    assert number > 1
    assert await world.pull_data() == [b"%d" % one for one in range(number)]


@pytest.mark.parametrize("steps", range(8))
async def test_a_subscription_deleted_while_it_starts_does_not_run(
    world: World, steps: int
) -> None:
    start = asyncio.ensure_future(world.runtime())
    for _ in range(steps):
        await asyncio.sleep(0)
    await world.subscriptions.delete(ORDERS)
    await asyncio.gather(start, return_exceptions=True)
    assert world.runtimes.running() == []
    with pytest.raises(NotFound):
        await world.pull()


@pytest.mark.parametrize("steps", range(8))
async def test_a_subscription_detached_while_it_starts_does_not_run(
    world: World, steps: int
) -> None:
    start = asyncio.ensure_future(world.runtime())
    for _ in range(steps):
        await asyncio.sleep(0)
    await world.subscriptions.detach(ORDERS)
    await asyncio.gather(start, return_exceptions=True)
    assert world.runtimes.running() == []
    with pytest.raises(FailedPrecondition):
        await world.pull()


@pytest.mark.parametrize("steps", range(8))
async def test_a_change_made_while_it_starts_is_not_missed(world: World, steps: int) -> None:
    start = asyncio.ensure_future(world.runtime())
    for _ in range(steps):
        await asyncio.sleep(0)
    await world.subscriptions.update(ORDERS, lambda _: SubscriptionConfig(ack_deadline_s=77))
    assert (await start).subscription.config.ack_deadline_s == 77


@pytest.mark.parametrize("steps", range(8))
async def test_a_subscription_that_starts_during_the_shutdown_ends_at_once(
    world: World, steps: int
) -> None:
    stream = Stream()
    start = asyncio.ensure_future(world.runtime())
    for _ in range(steps):
        await asyncio.sleep(0)
    world.broker.drain()
    with pytest.raises(ShuttingDown):
        (await start).add(stream.consumer)
    assert world.runtimes.running() == []


# --- the cache ----------------------------------------------------------------------------------


async def test_the_cache_stays_within_its_bounds(clock: ManualClock) -> None:
    world = World(clock, Stored(), cache_bytes=1000)
    world.start()
    await world.create()
    for number in range(100):
        await world.publish(b"%d" % number)
    stream = await world.stream()
    await eventually(lambda: len(stream.messages) == 100)
    assert stream.data == [b"%d" % number for number in range(100)]
    assert world.broker.log.cached_bytes <= 1000
    await world.subscriptions.delete(ORDERS)
    assert world.broker.log.cached_bytes == 0


async def test_the_subscriptions_of_one_topic_read_each_batch_once(world: World) -> None:
    others = [SubscriptionName("project", f"sub-{number}") for number in range(3)]
    for name in others:
        await world.subscriptions.create(name, TOPIC, SubscriptionConfig())
    await world.publish(b"1")
    for name in others:
        assert await world.pull_data(name=name) == [b"1"]
    assert world.reader.calls.count("read") == 1


async def test_a_deletion_that_was_told_otherwise_ends_the_streams_when_tried_again(
    world: World,
) -> None:
    stream = await world.stream()
    del world.stored.subscriptions[ORDERS]  # committed, but the answer got lost

    with pytest.raises(NotFound):
        await world.subscriptions.delete(ORDERS)

    assert isinstance(stream.error, NotFound)


async def test_a_new_subscription_ends_what_is_left_of_an_old_one_of_its_name(
    world: World,
) -> None:
    stream = await world.stream()
    del world.stored.subscriptions[ORDERS]

    await world.subscriptions.create(ORDERS, TOPIC, SubscriptionConfig())

    assert isinstance(stream.error, NotFound)
    await world.publish(b"new")
    assert await world.pull_data() == [b"new"]


# --- projects that move or go ---------------------------------------------------------------------


class Workforce:
    """Remembers what workers are told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    def changed(self, subscription: Subscription) -> None:
        self.told.append(("changed", subscription.id))

    def gone(self, subscription_id: int) -> None:
        self.told.append(("gone", subscription_id))


@pytest.mark.parametrize("move", [True, False])
async def test_streams_of_a_project_that_moved_or_went_end_and_workers_know(
    world: World, move: bool
) -> None:
    stream = await world.stream()
    await world.publish(b"known by its old name")
    subscription = await world.catalog.subscription(ORDERS)
    workforce = world.subscriptions.workers = Workforce()
    del world.stored.subscriptions[ORDERS]
    del world.stored.topics[TOPIC]

    told = [("gone", subscription.id)]

    if move:
        name = SubscriptionName("new", ORDERS.id)
        config = replace(subscription.config, push=PushConfig("https://example.org"))
        world.stored.subscriptions[name] = replace(subscription, name=name, config=config)
        await world.broker.moved(TOPIC.project, "new", [subscription.id])
        told.append(("changed", subscription.id))
    else:
        await world.broker.removed(TOPIC.project, [subscription.id])

    assert isinstance(stream.error, NotFound)
    assert workforce.told == told
    with pytest.raises(NotFound):
        await world.publish(b"late")
    with pytest.raises(NotFound):
        await world.pull()
