"""What keeps messages, subscriptions and snapshots, and what does not."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, text

from ams_grpc.broker.catalog import DEFAULT_RETENTION_US, SubscriptionConfig, Topic
from ams_grpc.broker.errors import NotFound
from ams_grpc.broker.names import SnapshotName, SubscriptionName
from ams_grpc.storage import Storage, paging, purging
from ams_grpc.storage.backlogs import Backlog
from tests.storage.world import (
    DAY_US,
    ManualClock,
    acknowledge,
    cursor,
    publish,
    snapshot,
    stored,
    subscription,
    topic,
)


async def purge(storage: Storage, clock: ManualClock, of: Topic) -> int:
    """As the retention pass does it; returns how many batches went."""
    total = 0
    while purged := await storage.upkeep.purge_topic(of.id, clock.us):
        total += purged
    return total


async def left(storage: Storage, of: Topic) -> list[int]:
    """The first seqs of what is stored."""
    return [first for first, _, _ in await stored(storage, of)]


async def test_filtered_subscriptions_that_are_not_at_the_end_are_found(storage: Storage) -> None:
    orders, others = await topic(storage), await topic(storage, "others")
    await subscription(storage, others, "no-messages", filter="attributes:a")
    await subscription(storage, orders, "no-filter", labels={"filter": "x"})
    lagging = await subscription(storage, orders, "lagging", filter="attributes:a")
    done = await subscription(storage, orders, "done", filter="attributes:a")
    gone = await subscription(storage, orders, "gone", filter="attributes:a")
    await publish(storage, orders, b"a", b"b")
    await acknowledge(storage, done, 0, 1)
    await storage.catalog.detach_subscription(gone)

    assert await storage.upkeep.filtered_backlogs() == [lagging.name]


class TestMessages:
    async def test_nothing_keeps_those_of_a_topic_without_subscriptions(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        orders = await topic(storage)
        await publish(storage, orders, b"a", b"b")
        assert await storage.upkeep.topics_with_messages(clock.us) == [orders.id]

        assert await purge(storage, clock, orders) == 2

        assert await left(storage, orders) == []
        assert await storage.upkeep.topics_with_messages(clock.us) == []
        assert await publish(storage, orders, b"c") == [2]

    async def test_a_subscription_keeps_what_it_has_not_acknowledged(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        orders = await topic(storage)
        slow, fast = [await subscription(storage, orders, name) for name in ("slow", "fast")]
        await publish(storage, orders, b"a", b"b", b"c", b"d")
        await acknowledge(storage, fast, 0, 1, 2, 3)
        assert await storage.upkeep.topics_with_messages(clock.us) == []
        assert await purge(storage, clock, orders) == 0
        await acknowledge(storage, slow, 0, 1, 3)
        assert await storage.upkeep.topics_with_messages(clock.us) == [orders.id]

        assert await purge(storage, clock, orders) == 2

        assert await left(storage, orders) == [2, 3]

    async def test_a_batch_goes_only_as_a_whole(self, storage: Storage, clock: ManualClock) -> None:
        orders = await topic(storage)
        billing = await subscription(storage, orders)
        await storage.commits.append(orders, b"abc", 3)
        await acknowledge(storage, billing, 0, 1)
        assert await purge(storage, clock, orders) == 0
        await acknowledge(storage, billing, 2)
        assert await purge(storage, clock, orders) == 1

    async def test_a_detached_subscription_keeps_nothing(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        orders = await topic(storage)
        billing = await subscription(storage, orders)
        await publish(storage, orders, b"a")
        await storage.catalog.detach_subscription(billing)
        await publish(storage, orders, b"b")

        assert await purge(storage, clock, orders) == 2

    async def test_a_subscription_may_retain_what_it_has_acknowledged(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        orders = await topic(storage)
        await publish(storage, orders, b"before it existed")
        billing = await subscription(
            storage, orders, retain_acked_messages=True, message_retention_us=DAY_US
        )
        await publish(storage, orders, b"a")
        clock.advance(1_000_000)
        await publish(storage, orders, b"b")
        await acknowledge(storage, billing, 1, 2)

        assert await storage.upkeep.topics_with_messages(clock.us) == [orders.id]
        assert await purge(storage, clock, orders) == 1
        assert await left(storage, orders) == [1, 2]
        assert await storage.upkeep.topics_with_messages(clock.us) == []
        clock.advance(DAY_US - 500_000)
        assert await storage.upkeep.topics_with_messages(clock.us) == [orders.id]
        assert await purge(storage, clock, orders) == 1
        assert await left(storage, orders) == [2]
        clock.advance(DAY_US)
        assert await purge(storage, clock, orders) == 1

    async def test_retaining_what_is_acknowledged_does_not_shorten_what_is_not(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        orders = await topic(storage)
        await subscription(storage, orders, retain_acked_messages=True, message_retention_us=DAY_US)
        await publish(storage, orders, b"a")
        clock.advance(2 * DAY_US)

        assert await purge(storage, clock, orders) == 0

    async def test_a_topic_may_retain_its_messages(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        orders = await topic(storage, message_retention_us=DAY_US)
        await publish(storage, orders, b"a")
        clock.advance(DAY_US // 2)
        await publish(storage, orders, b"b")
        assert await purge(storage, clock, orders) == 0
        clock.advance(DAY_US // 2)
        assert await storage.upkeep.topics_with_messages(clock.us) == []
        assert await purge(storage, clock, orders) == 0
        clock.advance(1)
        assert await storage.upkeep.topics_with_messages(clock.us) == [orders.id]
        assert await purge(storage, clock, orders) == 1
        assert await left(storage, orders) == [1]
        assert await storage.upkeep.topics_with_messages(clock.us) == []

    async def test_a_deleted_topic_retains_nothing(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        orders = await topic(storage, message_retention_us=DAY_US)
        await publish(storage, orders, b"a")
        await storage.catalog.delete_topic(orders)

        assert await storage.upkeep.topics_with_messages(clock.us) == [orders.id]
        assert await purge(storage, clock, orders) == 1

    async def test_only_topics_of_which_something_can_go_are_returned(
        self, storage: Storage, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And all of them, on whatever page."""
        monkeypatch.setattr(paging, "PAGE_ROWS", 2)
        for number in range(4):
            kept = await topic(storage, f"kept-{number}", message_retention_us=DAY_US)
            bare = await topic(storage, f"bare-{number}")
            for retains in (True, False):
                await subscription(
                    storage,
                    bare,
                    f"sub-{number}-{retains}",
                    retain_acked_messages=retains,
                    message_retention_us=DAY_US * number,
                )
            for to in (kept, bare):
                await publish(storage, to, b"a")
            for retains in (True, False):
                name = SubscriptionName("shop", f"sub-{number}-{retains}")
                await acknowledge(storage, await storage.catalog.subscription(name), 0)
        clock.advance(DAY_US + DAY_US // 2)
        for number in range(4):
            empty = await topic(storage, f"empty-{number}")
            await subscription(storage, empty, f"sub-{number}")
        await publish(
            storage, await topic(storage, "kept-now", message_retention_us=2 * DAY_US), b"a"
        )

        found = await storage.upkeep.topics_with_messages(clock.us)

        names = [
            made.name.id
            for made in await storage.catalog.topics("shop", "", 100)
            if made.id in found
        ]
        assert names == ["bare-0", "bare-1", "kept-0", "kept-1", "kept-2", "kept-3"]
        for number in found:
            assert await storage.upkeep.purge_topic(number, clock.us) == 1
        for other in await storage.catalog.topics("shop", "", 100):
            assert await storage.upkeep.purge_topic(other.id, clock.us) == 0

    async def test_a_pass_over_idle_topics_writes_nothing(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        for number in range(3):
            idle = await topic(storage, f"idle-{number}", message_retention_us=DAY_US)
            await publish(storage, idle, b"a")
        before = storage.commits.commits
        for topic_id in await storage.upkeep.topics_with_messages(clock.us):
            await storage.upkeep.purge_topic(topic_id, clock.us)
        assert storage.commits.commits == before

    async def test_a_snapshot_keeps_what_was_unacknowledged_and_all_that_followed(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        orders = await topic(storage)
        billing = await subscription(storage, orders)
        await publish(storage, orders, b"a", b"b")
        await acknowledge(storage, billing, 0)
        await snapshot(storage, billing, expire_us=clock.us + DAY_US)
        await publish(storage, orders, b"c")
        await acknowledge(storage, billing, 1, 2)

        assert await purge(storage, clock, orders) == 1
        assert await storage.upkeep.topics_with_messages(clock.us) == []
        clock.advance(DAY_US)
        assert await storage.upkeep.delete_expired_snapshots(clock.us) == 1
        assert await storage.upkeep.topics_with_messages(clock.us) == [orders.id]
        assert await purge(storage, clock, orders) == 2

    async def test_an_expired_snapshot_keeps_nothing(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        orders = await topic(storage)
        billing = await subscription(storage, orders)
        await publish(storage, orders, b"a")
        await snapshot(storage, billing, expire_us=clock.us + DAY_US)
        await acknowledge(storage, billing, 0)
        clock.advance(DAY_US)

        assert await purge(storage, clock, orders) == 1

    async def test_they_go_in_small_bites(
        self, storage: Storage, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        orders = await topic(storage)
        await publish(storage, orders, *[b"0123456789"] * 9)

        assert await storage.upkeep.purge_topic(orders.id, clock.us, 4) == 4
        monkeypatch.setattr(purging, "PURGE_BYTES", 25)
        assert await storage.upkeep.purge_topic(orders.id, clock.us, 4) == 2
        monkeypatch.setattr(purging, "PURGE_BYTES", 1)
        assert await storage.upkeep.purge_topic(orders.id, clock.us, 4) == 1
        assert await left(storage, orders) == [7, 8]

    async def test_other_topics_are_left_alone(self, storage: Storage, clock: ManualClock) -> None:
        orders, bills = await topic(storage), await topic(storage, "bills")
        await publish(storage, orders, b"a")
        await publish(storage, bills, b"b")
        await purge(storage, clock, orders)
        assert await left(storage, bills) == [0]
        assert await storage.upkeep.purge_topic(4711, clock.us) == 0


class TestUnacknowledgedMessages:
    async def test_they_expire_after_the_retention_of_their_subscription(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        orders = await topic(storage)
        await subscription(storage, orders, message_retention_us=DAY_US)
        await subscription(storage, orders, "patient")
        await publish(storage, orders, b"a")
        clock.advance(DAY_US)
        await publish(storage, orders, b"b")
        assert await storage.upkeep.expired_floors(clock.us) == []
        clock.advance(1_000)

        [expired] = await storage.upkeep.expired_floors(clock.us)

        assert (expired.subscription.id, expired.cutoff) == ("billing", 1)
        assert expired.retention_us == DAY_US
        clock.advance(DAY_US)
        assert [found.cutoff for found in await storage.upkeep.expired_floors(clock.us)] == [2]

    async def test_a_longer_retention_of_the_topic_counts(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        orders = await topic(storage, message_retention_us=2 * DAY_US)
        await subscription(storage, orders, message_retention_us=DAY_US)
        await publish(storage, orders, b"a")
        clock.advance(DAY_US + 1_000)
        assert await storage.upkeep.expired_floors(clock.us) == []
        await storage.catalog.delete_topic(orders)
        [expired] = await storage.upkeep.expired_floors(clock.us)
        assert expired.retention_us == DAY_US

    async def test_the_retention_of_the_topic_is_told_if_it_is_the_longer_one(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        orders = await topic(storage, message_retention_us=2 * DAY_US)
        await subscription(storage, orders, message_retention_us=DAY_US)
        await publish(storage, orders, b"a")
        clock.advance(2 * DAY_US + 1_000)
        [expired] = await storage.upkeep.expired_floors(clock.us)
        assert expired.retention_us == 2 * DAY_US

    async def test_each_floor_counts_for_itself(
        self, storage: Storage, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also in the midst of a batch, and on whatever page."""
        monkeypatch.setattr(paging, "PAGE_ROWS", 2)
        orders = await topic(storage)
        made = [
            await subscription(storage, orders, f"at-{floor}", message_retention_us=DAY_US)
            for floor in range(5)
        ]
        await storage.commits.append(orders, b"abc", 3)
        clock.advance(DAY_US + 1_000)
        await publish(storage, orders, b"d")
        for floor, one in enumerate(made):
            await acknowledge(storage, one, *range(floor))

        found = await storage.upkeep.expired_floors(clock.us)

        assert [(one.subscription.id, one.cutoff) for one in found] == [
            ("at-0", 3),
            ("at-1", 3),
            ("at-2", 3),
        ]

    async def test_what_is_not_stored_any_more_does_not_count(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        orders = await topic(storage)
        await subscription(storage, orders, message_retention_us=DAY_US)
        await publish(storage, orders, b"a")
        clock.advance(2 * DAY_US)
        await publish(storage, orders, b"b")

        def lose(connection: Connection) -> None:
            connection.execute(text("UPDATE topics SET first_seq = 1"))
            connection.execute(text("DELETE FROM batches WHERE first_seq = 0"))

        await storage.commits.run(lose)
        assert await storage.upkeep.expired_floors(clock.us) == []

    async def test_what_a_snapshot_holds_has_not_expired(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        orders = await topic(storage)
        first = await subscription(storage, orders, "first", message_retention_us=DAY_US)
        second = await subscription(storage, orders, "second", message_retention_us=DAY_US)
        await publish(storage, orders, b"a", b"b")
        await acknowledge(storage, second, 0)
        await snapshot(storage, second, expire_us=clock.us + 7 * DAY_US)
        clock.advance(DAY_US + 1_000)

        [expired] = await storage.upkeep.expired_floors(clock.us)

        assert (expired.subscription, expired.cutoff) == (first.name, 1)

    async def test_what_is_acknowledged_or_detached_does_not_expire(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        orders = await topic(storage)
        done = await subscription(storage, orders, "done")
        gone = await subscription(storage, orders, "gone")
        await publish(storage, orders, b"a")
        await acknowledge(storage, done, 0)
        await storage.catalog.detach_subscription(gone)
        clock.advance(DEFAULT_RETENTION_US * 2)
        assert await storage.upkeep.expired_floors(clock.us) == []


class TestDeletedTopics:
    async def test_they_are_forgotten_when_nothing_refers_to_them(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        orders = await topic(storage)
        billing = await subscription(storage, orders)
        await publish(storage, orders, b"a")
        await snapshot(storage, billing, expire_us=clock.us + DAY_US)
        await storage.catalog.delete_topic(orders)
        assert await storage.upkeep.forget_deleted_topics() == 0
        await storage.catalog.delete_subscription(billing)
        assert await storage.upkeep.forget_deleted_topics() == 0
        await storage.catalog.delete_snapshot(
            await storage.catalog.snapshot(SnapshotName("shop", "before"))
        )
        assert await storage.upkeep.forget_deleted_topics() == 0
        await purge(storage, clock, orders)

        assert await storage.upkeep.forget_deleted_topics() == 1

        assert (await topic(storage)).id > orders.id

    async def test_others_are_not(self, storage: Storage) -> None:
        await topic(storage)
        assert await storage.upkeep.forget_deleted_topics() == 0


class TestSnapshots:
    async def test_they_go_when_they_have_expired(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        billing = await subscription(storage, await topic(storage))
        await acknowledge(storage, billing, 7)
        await snapshot(storage, billing, "one", expire_us=clock.us + DAY_US)
        two = await snapshot(storage, billing, "two", expire_us=clock.us + 2 * DAY_US)
        assert await storage.upkeep.delete_expired_snapshots(clock.us) == 0
        clock.advance(DAY_US)

        assert await storage.upkeep.delete_expired_snapshots(clock.us) == 1

        [kept] = await storage.catalog.snapshots("shop", "", 10)
        assert kept.name == two
        assert (await storage.catalog.snapshot_cursor(kept)).chunks.keys() == {0}


class TestSubscriptions:
    async def test_they_are_inactive_after_their_ttl_without_use(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        orders = await topic(storage)
        used, unused = [
            await subscription(storage, orders, name, expiration_ttl_us=DAY_US)
            for name in ("used", "unused")
        ]
        await subscription(storage, orders, "never", expiration_ttl_us=None)
        clock.advance(DAY_US - 1)
        assert await storage.upkeep.inactive(clock.us) == []
        await storage.upkeep.touch([used.id, 4711], clock.us)
        await storage.upkeep.touch([], clock.us)
        clock.advance(1)

        assert await storage.upkeep.inactive(clock.us) == [unused]

    async def test_they_are_found_on_whatever_page(
        self, storage: Storage, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(paging, "PAGE_ROWS", 2)
        orders = await topic(storage)
        made = [
            await subscription(storage, orders, f"sub-{n}", expiration_ttl_us=DAY_US)
            for n in range(5)
        ]
        await storage.catalog.delete_subscription(made.pop(1))
        clock.advance(DAY_US)
        assert await storage.upkeep.inactive(clock.us) == made

    async def test_use_does_not_count_backwards(self, storage: Storage, clock: ManualClock) -> None:
        billing = await subscription(storage, await topic(storage), expiration_ttl_us=DAY_US)
        await storage.upkeep.touch([billing.id], clock.us - 10)
        assert await storage.upkeep.inactive(clock.us + DAY_US - 1) == []

    async def test_the_time_that_the_service_was_down_does_not_count(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        await storage.upkeep.resume(clock.us)
        billing = await subscription(storage, await topic(storage), expiration_ttl_us=DAY_US)
        clock.advance(DAY_US // 2)
        await storage.upkeep.alive(clock.us)
        clock.advance(100 * DAY_US)

        await storage.upkeep.resume(clock.us)

        clock.advance(DAY_US // 2 - 1)
        assert await storage.upkeep.inactive(clock.us) == []
        clock.advance(1)
        assert await storage.upkeep.inactive(clock.us) == [billing]

    async def test_those_used_since_the_last_sign_of_life_do_not_gain_time(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        await storage.upkeep.resume(clock.us)
        clock.advance(DAY_US)
        billing = await subscription(storage, await topic(storage), expiration_ttl_us=DAY_US)
        await storage.upkeep.resume(clock.us)
        clock.advance(DAY_US)
        assert await storage.upkeep.inactive(clock.us) == [billing]


class TestBacklogs:
    async def test_they_count_what_is_not_acknowledged(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        orders = await topic(storage)
        billing, idle = [await subscription(storage, orders, name) for name in ("bill", "idle")]
        gone = await subscription(storage, orders, "gone")
        await storage.catalog.detach_subscription(gone)
        began_us = clock.us
        for payload, count in ((b"aaa", 3), (b"bb", 2)):
            await storage.commits.append(orders, payload, count)
            clock.advance(1_000_000)
        await acknowledge(storage, billing, 0, 1, 2, 4)
        await storage.catalog.create_subscription(
            SubscriptionName("shop", "new"), orders.name, SubscriptionConfig()
        )

        found = {backlog.subscription.id: backlog for backlog in await storage.upkeep.backlogs()}

        assert found == {
            "bill": Backlog(billing.name, orders.name, 1, began_us + 1_000_000),
            "idle": Backlog(idle.name, orders.name, 5, began_us),
            "new": Backlog(SubscriptionName("shop", "new"), orders.name, 0, None),
        }
        await storage.catalog.delete_topic(orders)
        assert {backlog.topic for backlog in await storage.upkeep.backlogs()} == {None}

    async def test_what_is_not_stored_any_more_does_not_count(self, storage: Storage) -> None:
        orders = await topic(storage)
        billing = await subscription(storage, orders)
        await publish(storage, orders, b"a", b"b", b"c")
        await storage.commits.run(
            lambda connection: connection.execute(text("UPDATE topics SET first_seq = 2")).rowcount
        )
        [backlog] = await storage.upkeep.backlogs()
        assert backlog.messages == 1
        assert (await cursor(storage, billing)).floor == 0


async def test_a_subscription_that_was_deleted_has_no_upkeep(
    storage: Storage, clock: ManualClock
) -> None:
    orders = await topic(storage)
    billing = await subscription(storage, orders)
    await publish(storage, orders, b"a")
    await storage.catalog.delete_subscription(billing)
    clock.advance(400 * DAY_US)

    assert await storage.upkeep.backlogs() == []
    assert await storage.upkeep.expired_floors(clock.us) == []
    assert await storage.upkeep.inactive(clock.us) == []
    with pytest.raises(NotFound):
        await storage.catalog.cursor(billing)
