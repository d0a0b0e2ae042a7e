"""What is counted, against what was done: messages by day, the last publish, periods, nodes."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from ams_grpc.auth.principals import SHELL as ROOT
from ams_grpc.auth.records import Membership
from ams_grpc.auth.users import UserChanges
from ams_grpc.broker import errors
from ams_grpc.broker.catalog import Topic, TopicConfig
from ams_grpc.broker.figures import (
    Consumption,
    Delivered,
    Event,
    NodeUsage,
    ProjectFigures,
    ProjectPeriod,
    TopicTotals,
)
from ams_grpc.broker.names import TopicName
from ams_grpc.identity import NobodyHome, identity
from ams_grpc.storage import Storage
from tests.storage.world import DAY_US, ManualClock, publish, subscription, topic

SECOND_US = 1_000_000


async def purge(storage: Storage, of: Topic, clock: ManualClock, max_rows: int = 500) -> None:
    while await storage.upkeep.purge_topic(of.id, clock.us, max_rows):
        pass


def today(clock: ManualClock) -> int:
    return clock.us // DAY_US


@pytest.mark.parametrize("seed", range(4))
async def test_days_are_what_a_count_of_every_publish_gives(
    storage: Storage, clock: ManualClock, seed: int
) -> None:
    """Whatever is published, purged, deleted and made again, over days and within a millisecond."""
    chance = random.Random(seed)
    counted: dict[str, Counter[int]] = {"orders": Counter(), "returns": Counter()}
    live = {name: await topic(storage, name) for name in counted}
    for _ in range(80):
        name = chance.choice(list(live))
        of = live[name]
        match chance.randrange(20):
            case 0:
                await storage.catalog.delete_topic(of)
                live[name] = await topic(storage, name)
            case 1 | 2:
                await storage.upkeep.purge_topic(of.id, clock.us, chance.choice((1, 2, 500)))
            case 3 | 4 | 5 | 6 | 7:
                clock.advance(chance.choice((1_000, DAY_US // 3, DAY_US, 3 * DAY_US)))
            case _:
                number = chance.randint(1, 5)
                await storage.commits.append(of, b"x" * number, number)
                counted[name][today(clock)] += number

    for name, expected in counted.items():
        found = await storage.figures.days_of_topic(live[name], 1000)
        assert found == sorted(expected.items(), reverse=True)
    both = counted["orders"] + counted["returns"]
    assert both
    assert await storage.figures.days_of_project("shop", 1000) == sorted(both.items(), reverse=True)
    assert await storage.figures.days_of_project("shop", 2) == sorted(both.items())[:-3:-1]
    assert await storage.figures.days_of_project("sho", 1000) == []


async def test_messages_that_went_before_anybody_counted_are_on_no_day(
    storage: Storage, clock: ManualClock
) -> None:
    orders = await topic(storage)
    await publish(storage, orders, b"a", b"b")
    await storage.commits.run(
        lambda connection: connection.exec_driver_sql("DELETE FROM batches WHERE first_seq = 0")
    )
    assert await storage.figures.days_of_topic(orders, 30) == [(today(clock), 1)]
    await purge(storage, orders, clock)
    assert await storage.figures.days_of_topic(orders, 30) == [(today(clock), 1)]


class TestTopics:
    async def test_one_that_is_new(self, storage: Storage) -> None:
        found = await storage.figures.topic(await topic(storage))
        assert (found.messages, found.byte_size, found.subscriptions) == (0, 0, 0)
        assert found.last is None

    async def test_what_was_published_and_who_subscribes(self, storage: Storage) -> None:
        orders = await topic(storage)
        await subscription(storage, orders)
        gone = await subscription(storage, orders, "gone")
        await storage.catalog.detach_subscription(gone)
        await publish(storage, orders, b"abc", b"de")
        found = await storage.figures.topic(orders)
        assert (found.messages, found.byte_size, found.subscriptions) == (2, 5, 1)

    async def test_totals_are_of_all_that_there_are(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        await storage.catalog.delete_topic(await topic(storage, "gone"))
        orders = await topic(storage)
        await publish(storage, orders, b"abc", b"de")
        await storage.upkeep.purge_topic(orders.id, clock.us, 1)
        assert await storage.figures.totals() == [TopicTotals(orders.name, 2, 5, 1)]

    async def test_one_that_is_gone(self, storage: Storage) -> None:
        orders = await topic(storage)
        await storage.catalog.delete_topic(orders)
        with pytest.raises(errors.NotFound):
            await storage.figures.topic(orders)

    @pytest.mark.parametrize("purged", [False, True])
    async def test_the_last_publish_and_the_one_before_are_known_whatever_is_left_of_them(
        self, storage: Storage, clock: ManualClock, purged: bool
    ) -> None:
        async def last() -> Event | None:
            if purged:
                await purge(storage, orders, clock)
            return (await storage.figures.topic(orders)).last

        orders = await topic(storage)
        first_us = clock.us
        await storage.commits.append(orders, b"abc", 3)
        assert await last() == Event(first_us, 3, 0)
        clock.advance(2 * SECOND_US)
        await storage.commits.append(orders, b"a", 1)
        await last()
        await storage.commits.append(orders, b"abcd", 4)  # within the same millisecond
        found = await last()
        assert found == Event(clock.us, 5, first_us)
        assert found is not None
        assert found.per_second == 2.5
        clock.advance(SECOND_US)
        await storage.commits.append(orders, b"a", 1)
        assert await last() == Event(clock.us, 1, clock.us - SECOND_US)

    async def test_a_publish_that_is_half_gone_is_the_same(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        orders = await topic(storage)
        for _ in range(3):
            clock.advance(SECOND_US)
            await storage.commits.append(orders, b"ab", 2)
        before = (await storage.figures.topic(orders)).last
        await storage.upkeep.purge_topic(orders.id, clock.us, 1)
        assert (await storage.figures.topic(orders)).last == before


class TestProjects:
    async def test_what_is_in_one(self, storage: Storage) -> None:
        orders = await topic(storage)
        await storage.catalog.delete_topic(await topic(storage, "gone"))
        await subscription(storage, orders)
        await storage.catalog.create_topic(TopicName("shopping", "x"), TopicConfig())
        assert await storage.figures.project("shop") == ProjectFigures(1, 1)

    async def test_a_period(self, storage: Storage, clock: ManualClock) -> None:
        known = identity(storage, clock, NobodyHome())
        for name in ("shop", "depot", "idle"):
            await known.projects.create(ROOT, name)

        async def member(name: str, *projects: str) -> None:
            entries = tuple(Membership(each) for each in projects)
            await known.users.create(ROOT, name, UserChanges(memberships=entries))

        first = today(clock)
        orders = await topic(storage)
        await member("pat", "shop")
        await publish(storage, orders, b"a", b"b")
        clock.advance(DAY_US)
        await purge(storage, orders, clock)
        await publish(storage, orders, b"c")
        await subscription(storage, orders)
        await member("zoe", "shop", "depot")
        crates = await storage.catalog.create_topic(TopicName("depot", "crates"), TopicConfig())
        await publish(storage, crates, b"d")
        unknown = await storage.catalog.create_topic(TopicName("unknown", "x"), TopicConfig())
        await publish(storage, unknown, b"e")
        every = ["shop", "depot", "idle", "unknown"]

        both_days = await storage.figures.period(every, first, first + 1)

        assert both_days == [
            ProjectPeriod("depot", 1, 1, 0, 1),
            ProjectPeriod("shop", 3, 1, 1, 2),
        ]
        figures = storage.figures
        assert await figures.period(["shop"], first, first) == [ProjectPeriod("shop", 2, 1, 0, 1)]
        second = await figures.period(["shop"], first + 1, first + 9)
        assert second == [ProjectPeriod("shop", 1, 0, 1, 1)]
        assert await figures.period(every, first - 9, first - 1) == []
        assert await figures.period([], first, first + 1) == []
        assert await figures.period(None, first, first + 1) == both_days

    async def test_days_go_with_the_name_and_with_the_project(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        known = identity(storage, clock, NobodyHome())
        await known.projects.create(ROOT, "shop")
        other = await storage.catalog.create_topic(TopicName("store", "orders"), TopicConfig())
        await publish(storage, other, b"a")
        await storage.catalog.delete_topic(other)
        orders = await topic(storage)
        await publish(storage, orders, b"a", b"b")
        await purge(storage, orders, clock)
        clock.advance(DAY_US)
        await publish(storage, orders, b"c")
        await purge(storage, orders, clock)

        await known.projects.update(ROOT, "shop", new_name="store")

        renamed = await storage.catalog.topic(TopicName("store", "orders"))
        expected = [(today(clock), 1), (today(clock) - 1, 3)]
        assert await storage.figures.days_of_topic(renamed, 30) == expected
        assert await storage.figures.days_of_project("shop", 30) == []
        await known.projects.delete(ROOT, "store")
        assert await storage.figures.days_of_project("store", 30) == []


async def test_each_node_has_one_pair_until_it_is_gone(
    storage: Storage, clock: ManualClock
) -> None:
    figures = storage.figures
    await figures.note_node(NodeUsage("b", 12.34, 0.06), clock.us)
    await figures.note_node(NodeUsage("a", 250.0, 1.0), clock.us)
    clock.advance(4 * DAY_US)
    await figures.note_node(NodeUsage("b", 3.2, 0.8), clock.us)
    assert await figures.nodes() == [NodeUsage("a", 250.0, 1.0), NodeUsage("b", 3.2, 0.8)]
    clock.advance(4 * DAY_US)
    await figures.note_node(NodeUsage("b", 3.2, 0.8), clock.us)
    assert await figures.nodes() == [NodeUsage("b", 3.2, 0.8)]


class TestConsumption:
    async def test_deliveries_are_added_up(self, storage: Storage, clock: ManualClock) -> None:
        orders = await topic(storage)
        billing, idle = [await subscription(storage, orders, each) for each in ("billing", "idle")]
        store = storage.consumption
        assert await store.consumption(billing) == Consumption()

        await store.add({billing.id: Delivered(3, 30, clock.us), 1 << 40: Delivered(1, 1, 1)})
        await store.add({billing.id: Delivered(2, 5, clock.us + SECOND_US)})

        expected = Consumption(5, 35, Event(clock.us + SECOND_US, 2, clock.us))
        assert await store.consumption(billing) == expected
        assert await store.consumption(idle) == Consumption()

    async def test_they_go_with_their_subscription(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        billing = await subscription(storage, await topic(storage))
        await storage.consumption.add({billing.id: Delivered(3, 30, clock.us)})
        await storage.catalog.delete_subscription(billing)
        assert await storage.consumption.consumption(billing) == Consumption()
