"""Topics, subscriptions and snapshots as stored."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from ams_grpc.broker.ams_push import AmsEndpoint, AmsMattermost, AmsPush
from ams_grpc.broker.catalog import SubscriptionConfig, TopicConfig
from ams_grpc.broker.cursor import CHUNK_SEQS
from ams_grpc.broker.errors import Aborted, AlreadyExists, NotFound
from ams_grpc.broker.names import SnapshotName, SubscriptionName, TopicName
from ams_grpc.broker.policies import MessageStoragePolicy
from ams_grpc.broker.ports import CursorState
from ams_grpc.storage import Storage
from tests.storage.world import (
    DAY_US,
    ManualClock,
    acknowledge,
    busy_writer,
    publish,
    snapshot,
    subscription,
    topic,
)

ORDERS = TopicName("shop", "orders")
BILLING = SubscriptionName("shop", "billing")
BEFORE = SnapshotName("shop", "before")
UNSORTED = ["b", "a", "Z", "a-b", "aa", "a.b", "ab", "~", "%41"]


def ids(prefix: str) -> list[str]:
    return [f"{prefix}{suffix}" for suffix in UNSORTED]


class TestTopics:
    async def test_one_is_read_as_it_was_made(self, storage: Storage) -> None:
        config = TopicConfig(
            labels={"größe": "klein"},
            message_retention_us=DAY_US,
            kms_key_name="key",
            message_storage_policy=MessageStoragePolicy(("europe",), enforce_in_transit=True),
        )

        made = await storage.catalog.create_topic(ORDERS, config)

        assert made.config == config
        assert await storage.catalog.topic(ORDERS) == made

    async def test_one_that_exists_is_not_made_again(self, storage: Storage) -> None:
        made = await topic(storage)
        with pytest.raises(AlreadyExists, match="orders"):
            await storage.catalog.create_topic(ORDERS, TopicConfig(labels={"a": "b"}))
        assert await storage.catalog.topic(ORDERS) == made

    async def test_of_two_makers_at_once_one_succeeds(self, storage: Storage) -> None:
        async with busy_writer(storage.commits):
            results = asyncio.gather(
                topic(storage), topic(storage), topic(storage, "bills"), return_exceptions=True
            )
            await asyncio.sleep(0)
        kinds = sorted(type(result).__name__ for result in await results)
        assert kinds == ["AlreadyExists", "Topic", "Topic"]

    async def test_one_that_is_missing_is_not_found(self, storage: Storage) -> None:
        with pytest.raises(NotFound, match="orders"):
            await storage.catalog.topic(ORDERS)

    async def test_a_change_gives_it_a_new_version(self, storage: Storage) -> None:
        made = await topic(storage)
        changed = await storage.catalog.update_topic(made, TopicConfig(labels={"a": "b"}))

        assert changed.version == made.version + 1
        assert changed.config.labels == {"a": "b"}
        assert await storage.catalog.topic(ORDERS) == changed

    async def test_a_change_that_rests_on_an_old_version_is_refused(self, storage: Storage) -> None:
        made = await topic(storage)
        changed = await storage.catalog.update_topic(made, TopicConfig(labels={"a": "b"}))

        with pytest.raises(Aborted):
            await storage.catalog.update_topic(made, TopicConfig())
        with pytest.raises(Aborted):
            await storage.catalog.delete_topic(made)
        assert await storage.catalog.topic(ORDERS) == changed

    async def test_a_deleted_one_is_gone_and_its_subscriptions_say_so(
        self, storage: Storage
    ) -> None:
        made = await topic(storage, message_retention_us=DAY_US)
        attached = await subscription(storage, made)
        assert (attached.topic_name, attached.topic_retention_us) == (ORDERS, DAY_US)
        await storage.catalog.delete_topic(made)

        with pytest.raises(NotFound):
            await storage.catalog.topic(ORDERS)
        with pytest.raises(Aborted):
            await storage.catalog.delete_topic(made)
        left = await storage.catalog.subscription(BILLING)
        assert left == replace(attached, topic_name=None, topic_retention_us=None)
        again = await topic(storage)
        assert again.id != made.id
        assert (await storage.catalog.subscription(BILLING)).topic_name is None
        assert await storage.catalog.topic_subscriptions(again, "", 10) == []

    async def test_they_are_listed_by_the_bytes_of_their_names(self, storage: Storage) -> None:
        for name in ids("tt"):
            await topic(storage, name)
        await storage.catalog.create_topic(TopicName("shop-2", "other"), TopicConfig())
        await storage.catalog.create_topic(TopicName("sho", "other"), TopicConfig())

        listed = await storage.catalog.topics("shop", "", 100)
        assert [found.name.id for found in listed] == sorted(ids("tt"))

        first = await storage.catalog.topics("shop", "", 4)
        second = await storage.catalog.topics("shop", str(first[-1].name), 100)
        assert [*first, *second] == listed
        assert await storage.catalog.topics("empty", "", 100) == []

    async def test_some_of_them_are_listed_as_if_there_were_no_others(
        self, storage: Storage
    ) -> None:
        names = sorted(ids("tt"))
        for name in names:
            await topic(storage, name)
        some = [*names[1::2], *(f"tt-gone-{number}" for number in range(20))]

        async def listed(after: str, limit: int) -> list[TopicName]:
            found = await storage.catalog.topics("shop", after, limit, some)
            return [each.name for each in found]

        wanted = [TopicName("shop", each) for each in names[1::2]]
        assert await listed("", 100) == wanted
        assert await listed("", 2) == wanted[:2]
        assert await listed(str(wanted[1]), 1) == wanted[2:3]
        assert await listed(str(wanted[-1]), 100) == []
        assert await storage.catalog.topics("shop", "", 100, []) == []

    async def test_deleted_ones_are_not_listed(self, storage: Storage) -> None:
        await storage.catalog.delete_topic(await topic(storage))
        assert await storage.catalog.topics("shop", "", 100) == []

    async def test_their_attached_subscriptions_are_listed(self, storage: Storage) -> None:
        orders, bills = await topic(storage), await topic(storage, "bills")
        for name in ids("ss"):
            await subscription(storage, orders, name)
        await subscription(storage, bills, "other")
        await storage.catalog.detach_subscription(await subscription(storage, orders, "detached"))
        foreign = await storage.catalog.create_subscription(
            SubscriptionName("elsewhere", "foreign"), ORDERS, SubscriptionConfig()
        )

        names = await storage.catalog.topic_subscriptions(orders, "", 100)
        assert names == [
            foreign.name,
            *(SubscriptionName("shop", name) for name in sorted(ids("ss"))),
        ]
        assert await storage.catalog.topic_subscriptions(orders, str(names[2]), 2) == names[3:5]


class TestSubscriptions:
    async def test_one_is_read_as_it_was_made(self, storage: Storage) -> None:
        orders = await topic(storage)
        config = SubscriptionConfig(
            ack_deadline_s=600,
            retain_acked_messages=True,
            message_retention_us=DAY_US,
            labels={"a": "b"},
            expiration_ttl_us=None,
        )

        made = await storage.catalog.create_subscription(BILLING, ORDERS, config)

        assert made.config == config
        assert (made.topic_id, made.topic_name, made.detached) == (orders.id, ORDERS, False)
        assert await storage.catalog.subscription(BILLING) == made

    async def test_a_new_one_begins_behind_all_messages_handed_in_before(
        self, storage: Storage
    ) -> None:
        orders = await topic(storage)
        await publish(storage, orders, b"a", b"b")
        async with busy_writer(storage.commits):
            before = storage.commits.append(orders, b"c", 1)
            making = asyncio.ensure_future(subscription(storage, orders))
            await asyncio.sleep(0)
            after = storage.commits.append(orders, b"d", 1)
        made = await making

        assert [(await before).first_seq, (await after).first_seq] == [2, 3]
        assert made.start_seq == 3
        assert await storage.catalog.cursor(made) == CursorState(3, 0, {})

    async def test_its_topic_must_exist(self, storage: Storage) -> None:
        with pytest.raises(NotFound, match="orders"):
            await storage.catalog.create_subscription(BILLING, ORDERS, SubscriptionConfig())
        with pytest.raises(NotFound):
            await storage.catalog.subscription(BILLING)

    async def test_that_it_exists_is_said_before_that_its_topic_does_not(
        self, storage: Storage
    ) -> None:
        made = await subscription(storage, await topic(storage))
        with pytest.raises(AlreadyExists, match="billing"):
            await storage.catalog.create_subscription(
                BILLING, TopicName("shop", "missing"), SubscriptionConfig()
            )
        assert await storage.catalog.subscription(BILLING) == made

    async def test_one_that_exists_is_not_made_again(self, storage: Storage) -> None:
        orders, bills = await topic(storage), await topic(storage, "bills")
        made = await subscription(storage, orders)
        for of in (orders, bills):
            with pytest.raises(AlreadyExists, match="billing"):
                await subscription(storage, of)
        assert await storage.catalog.subscription(BILLING) == made

    async def test_a_change_gives_it_a_new_version(self, storage: Storage) -> None:
        made = await subscription(storage, await topic(storage))
        config = SubscriptionConfig(ack_deadline_s=30)
        changed = await storage.catalog.update_subscription(made, config)

        assert changed == replace(made, version=made.version + 1, config=config)
        assert await storage.catalog.subscription(BILLING) == changed

    async def test_a_change_that_rests_on_an_old_version_is_refused(self, storage: Storage) -> None:
        made = await subscription(storage, await topic(storage))
        changed = await storage.catalog.update_subscription(made, SubscriptionConfig())

        with pytest.raises(Aborted):
            await storage.catalog.update_subscription(made, SubscriptionConfig())
        with pytest.raises(Aborted):
            await storage.catalog.detach_subscription(made)
        with pytest.raises(Aborted):
            await storage.catalog.delete_subscription(made)
        assert await storage.catalog.subscription(BILLING) == changed

    async def test_a_detached_one_keeps_nothing(self, storage: Storage) -> None:
        orders = await topic(storage)
        made = await subscription(storage, orders)
        await publish(storage, orders, b"a", b"b", b"c")
        await acknowledge(storage, made, 1)
        detached = await storage.catalog.detach_subscription(made)

        assert detached == replace(made, version=made.version + 1, detached=True)
        assert await storage.catalog.subscription(BILLING) == detached
        assert await storage.catalog.cursor(detached) == CursorState(3, 0, {})

    async def test_a_deleted_one_is_gone_with_its_cursor(self, storage: Storage) -> None:
        made = await subscription(storage, await topic(storage))
        await acknowledge(storage, made, 5)
        await storage.catalog.delete_subscription(made)

        with pytest.raises(NotFound):
            await storage.catalog.subscription(BILLING)
        with pytest.raises(NotFound):
            await storage.catalog.cursor(made)
        with pytest.raises(Aborted):
            await storage.catalog.delete_subscription(made)

    async def test_one_made_again_has_nothing_of_the_old_one(self, storage: Storage) -> None:
        orders = await topic(storage)
        old = await subscription(storage, orders)
        await acknowledge(storage, old, 5)
        await storage.catalog.delete_subscription(old)
        new = await subscription(storage, orders)

        assert new.id != old.id
        assert await storage.catalog.cursor(new) == CursorState(0, 0, {})

    async def test_one_that_ams_pushes_to_is_read_as_it_was_made(self, storage: Storage) -> None:
        endpoint = AmsEndpoint("https://a.b/größe", "hash", sealed_authorization="sealed")
        push = AmsPush(endpoint, max_messages=-(1 << 63), period_ms=(1 << 63) - 1)
        made = await subscription(storage, await topic(storage), ams_push=push)
        assert await storage.catalog.worked() == [made]

        push = AmsPush(AmsMattermost("https://a.b/c", "ams", "alerts"), base64_decode=True)
        config = replace(made.config, ams_push=push)
        changed = await storage.catalog.update_subscription(made, config)

        assert changed.config == config
        assert await storage.catalog.worked() == [changed]
        assert await storage.catalog.subscription(BILLING) == changed

    async def test_they_are_listed_by_the_bytes_of_their_names(self, storage: Storage) -> None:
        orders = await topic(storage)
        for name in ids("ss"):
            await subscription(storage, orders, name)

        listed = await storage.catalog.subscriptions("shop", "", 100)
        assert [found.name.id for found in listed] == sorted(ids("ss"))
        assert await storage.catalog.subscriptions("shop", str(listed[3].name), 2) == listed[4:6]
        assert await storage.catalog.subscriptions("sho", "", 100) == []
        some = [listed[2].name.id, "missing", listed[5].name.id]
        assert await storage.catalog.subscriptions("shop", "", 9, some) == [listed[2], listed[5]]


class TestSnapshots:
    async def test_one_holds_the_cursor_of_its_moment(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        orders = await topic(storage)
        made_from = await subscription(storage, orders)
        await acknowledge(storage, made_from, 0, 5, 3 * CHUNK_SEQS)
        state = await storage.catalog.cursor(made_from)
        expire_us = clock.us + DAY_US

        made = await storage.catalog.create_snapshot(
            BEFORE, made_from, state, expire_us, {"a": "b"}
        )
        await acknowledge(storage, made_from, 1, 2)

        assert (made.name, made.topic_id, made.topic_name) == (BEFORE, orders.id, ORDERS)
        assert (made.created_us, made.expire_us, made.labels) == (clock.us, expire_us, {"a": "b"})
        assert await storage.catalog.snapshot(BEFORE) == made
        assert await storage.catalog.snapshot_cursor(made) == state

    async def test_its_subscription_must_exist(self, storage: Storage, clock: ManualClock) -> None:
        made_from = await subscription(storage, await topic(storage))
        state = await storage.catalog.cursor(made_from)
        await storage.catalog.delete_subscription(made_from)
        with pytest.raises(NotFound, match="billing"):
            await storage.catalog.create_snapshot(BEFORE, made_from, state, clock.us + 1, {})

    async def test_one_that_exists_is_not_made_again(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        made_from = await subscription(storage, await topic(storage))
        await snapshot(storage, made_from, expire_us=clock.us + DAY_US)
        with pytest.raises(AlreadyExists, match="before"):
            await snapshot(storage, made_from, expire_us=clock.us + DAY_US)

    async def test_an_expired_one_does_not_exist(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        orders = await topic(storage)
        made_from = await subscription(storage, orders)
        await acknowledge(storage, made_from, 5)
        await snapshot(storage, made_from, expire_us=clock.us + DAY_US)
        old = await storage.catalog.snapshot(BEFORE)
        assert await storage.catalog.topic_snapshots(orders, "", 10) == [BEFORE]
        clock.advance(DAY_US)

        with pytest.raises(NotFound):
            await storage.catalog.snapshot(BEFORE)
        assert await storage.catalog.snapshots("shop", "", 10) == []
        assert await storage.catalog.topic_snapshots(orders, "", 10) == []
        await snapshot(storage, made_from, expire_us=clock.us + DAY_US)
        assert (await storage.catalog.snapshot(BEFORE)).id != old.id

    async def test_it_outlives_its_subscription_and_its_topic(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        orders = await topic(storage)
        made_from = await subscription(storage, orders)
        await snapshot(storage, made_from, expire_us=clock.us + DAY_US)
        await storage.catalog.delete_subscription(made_from)
        assert (await storage.catalog.snapshot(BEFORE)).topic_name == ORDERS
        await storage.catalog.delete_topic(orders)

        left = await storage.catalog.snapshot(BEFORE)
        assert (left.topic_id, left.topic_name) == (orders.id, None)

    async def test_a_change_that_rests_on_an_old_version_is_refused(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        made_from = await subscription(storage, await topic(storage))
        await snapshot(storage, made_from, expire_us=clock.us + DAY_US)
        old = await storage.catalog.snapshot(BEFORE)
        changed = await storage.catalog.update_snapshot(old, clock.us + 5, {"a": "b"})

        assert changed == replace(old, expire_us=clock.us + 5, labels={"a": "b"})
        assert await storage.catalog.snapshot(BEFORE) == changed
        with pytest.raises(Aborted):
            await storage.catalog.update_snapshot(old, clock.us + 6, {})
        with pytest.raises(Aborted):
            await storage.catalog.delete_snapshot(old)

    async def test_a_deleted_one_is_gone(self, storage: Storage, clock: ManualClock) -> None:
        made_from = await subscription(storage, await topic(storage))
        await acknowledge(storage, made_from, 5)
        await snapshot(storage, made_from, expire_us=clock.us + DAY_US)
        made = await storage.catalog.snapshot(BEFORE)
        await storage.catalog.delete_snapshot(made)

        with pytest.raises(NotFound):
            await storage.catalog.snapshot(BEFORE)
        with pytest.raises(NotFound):
            await storage.catalog.snapshot_cursor(made)

    async def test_they_are_listed_by_the_bytes_of_their_names(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        orders = await topic(storage)
        made_from = await subscription(storage, orders)
        for name in ids("sn"):
            await snapshot(storage, made_from, name, expire_us=clock.us + DAY_US)

        listed = await storage.catalog.snapshots("shop", "", 100)
        names = [found.name for found in listed]
        assert [name.id for name in names] == sorted(ids("sn"))
        assert await storage.catalog.snapshots("shop", str(names[3]), 2) == listed[4:6]
        assert await storage.catalog.topic_snapshots(orders, str(names[3]), 2) == names[4:6]
