"""Policies of resources, as they are set, read and asked for, on what is really stored."""

from __future__ import annotations

import asyncio

import pytest

from ams_grpc.broker.access import Policies
from ams_grpc.broker.errors import Aborted, InvalidArgument, NotFound
from ams_grpc.broker.iam import NO_POLICY_ETAG, Binding, Condition, Policy
from ams_grpc.broker.names import (
    ResourceName,
    SchemaName,
    SnapshotName,
    SubscriptionName,
    TopicName,
)
from ams_grpc.storage import Storage
from tests.storage.world import DAY_US, ManualClock, busy_writer, snapshot, subscription, topic

ORDERS = TopicName("shop", "orders")
BILLING = SubscriptionName("shop", "billing")
BEFORE = SnapshotName("shop", "before")

PUBLIC = Binding("roles/pubsub.viewer", ("allUsers",))
EDITORS = Binding("roles/pubsub.editor", ("domain:google.com", "user:größe@example.com"))
SOMETIMES = Binding(
    "roles/pubsub.viewer",
    ("group:a@example.com",),
    Condition('request.time < timestamp("2030-01-01T00:00:00Z")', "t", "d", "l"),
)

every_kind = pytest.mark.parametrize("name", [ORDERS, BILLING, BEFORE], ids=lambda name: name.kind)


@pytest.fixture
def policies(storage: Storage) -> Policies:
    return Policies(
        storage.policies,
        {
            TopicName: storage.catalog.topic,
            SubscriptionName: storage.catalog.subscription,
            SnapshotName: storage.catalog.snapshot,
        },
    )


@pytest.fixture(autouse=True)
async def resources(storage: Storage, clock: ManualClock) -> None:
    """A topic, a subscription and a snapshot."""
    orders = await topic(storage)
    billing = await subscription(storage, orders)
    await snapshot(storage, billing, expire_us=clock.now_us() + DAY_US)


# --- setting and reading ------------------------------------------------------------------------


@every_kind
async def test_a_resource_has_no_policy_at_first(policies: Policies, name: ResourceName) -> None:
    assert await policies.get(name) == Policy((), NO_POLICY_ETAG)


@every_kind
async def test_a_policy_is_read_as_it_was_set(policies: Policies, name: ResourceName) -> None:
    made = await policies.set(name, [EDITORS, PUBLIC, SOMETIMES], version=3)

    assert made.bindings == (EDITORS, PUBLIC, SOMETIMES)
    assert len(made.etag) == 9
    assert await policies.get(name, 3) == made
    assert await policies.get(name) == made.without_conditions()


async def test_each_resource_has_a_policy_of_its_own(policies: Policies) -> None:
    await policies.set(ORDERS, [PUBLIC])

    assert (await policies.get(BILLING)).bindings == ()


async def test_a_policy_is_replaced_as_a_whole(policies: Policies) -> None:
    first = await policies.set(ORDERS, [PUBLIC])
    second = await policies.set(ORDERS, [EDITORS])

    assert await policies.get(ORDERS) == second
    assert second.bindings == (EDITORS,)
    assert second.etag != first.etag


async def test_a_policy_without_bindings_is_still_one(policies: Policies) -> None:
    first = await policies.set(ORDERS, [PUBLIC])

    cleared = await policies.set(ORDERS, [], etag=first.etag)

    assert (cleared.bindings, cleared.version) == ((), 1)
    assert cleared.etag not in {first.etag, NO_POLICY_ETAG}


async def test_bindings_that_are_not_given_stay(policies: Policies) -> None:
    first = await policies.set(ORDERS, [PUBLIC])

    second = await policies.set(ORDERS, None)

    assert second.bindings == first.bindings
    assert second.etag != first.etag


async def test_policies_outlive_the_process(policies: Policies, storage: Storage) -> None:
    made = await policies.set(ORDERS, [PUBLIC])

    assert await storage.policies.policy("topics", (await storage.catalog.topic(ORDERS)).id) == made


async def test_a_wrong_binding_changes_nothing(policies: Policies) -> None:
    made = await policies.set(ORDERS, [PUBLIC])

    with pytest.raises(InvalidArgument):
        await policies.set(ORDERS, [EDITORS, Binding("roles/nonsense")])
    with pytest.raises(InvalidArgument):
        await policies.set(ORDERS, [EDITORS], version=2)

    assert await policies.get(ORDERS) == made


async def test_a_reader_asks_for_a_version_that_exists(policies: Policies) -> None:
    with pytest.raises(InvalidArgument):
        await policies.get(ORDERS, 2)


# --- read, change, write ------------------------------------------------------------------------


async def test_whoever_writes_back_what_is_stale_is_refused(policies: Policies) -> None:
    await policies.set(ORDERS, [PUBLIC])
    read = await policies.get(ORDERS)
    newer = await policies.set(ORDERS, [EDITORS], etag=read.etag)

    with pytest.raises(Aborted) as caught:
        await policies.set(ORDERS, [], etag=read.etag)

    assert caught.value.message.startswith("There were concurrent policy changes. Please retry ")
    assert await policies.get(ORDERS) == newer


async def test_the_first_policy_can_be_written_back_too(policies: Policies) -> None:
    read = await policies.get(ORDERS)
    await policies.set(ORDERS, [PUBLIC], etag=read.etag)

    with pytest.raises(Aborted):
        await policies.set(ORDERS, [EDITORS], etag=read.etag)


@pytest.mark.parametrize("before", [[], [PUBLIC]], ids=["none-before", "one-before"])
async def test_of_two_who_write_back_at_once_one_succeeds(
    policies: Policies, storage: Storage, before: list[Binding]
) -> None:
    if before:
        await policies.set(ORDERS, before)
    read = await policies.get(ORDERS)

    async with busy_writer(storage.commits):
        changes = [
            asyncio.ensure_future(policies.set(ORDERS, [binding], etag=read.etag))
            for binding in (PUBLIC, EDITORS)
        ]
        await asyncio.sleep(0)
    results = await asyncio.gather(*changes, return_exceptions=True)

    [made] = [result for result in results if isinstance(result, Policy)]
    [refusal] = [result for result in results if isinstance(result, Aborted)]
    assert refusal.message.startswith("There were concurrent policy changes.")
    assert await policies.get(ORDERS) == made


async def test_without_an_etag_the_last_one_wins(policies: Policies, storage: Storage) -> None:
    async with busy_writer(storage.commits):
        changes = [
            asyncio.ensure_future(policies.set(ORDERS, [binding])) for binding in (PUBLIC, EDITORS)
        ]
        await asyncio.sleep(0)
    made = await asyncio.gather(*changes)

    assert await policies.get(ORDERS) in made


async def test_who_knows_of_no_conditions_cannot_write_back_what_has_some(
    policies: Policies,
) -> None:
    made = await policies.set(ORDERS, [SOMETIMES], version=3)

    with pytest.raises(InvalidArgument, match=r"policy\.version must be 3"):
        await policies.set(ORDERS, [PUBLIC], version=1, etag=made.etag)

    assert await policies.get(ORDERS, 3) == made
    assert (await policies.set(ORDERS, [PUBLIC], version=3, etag=made.etag)).version == 1


# --- what becomes of resources ------------------------------------------------------------------


@every_kind
async def test_a_missing_resource_has_no_policy(policies: Policies, name: ResourceName) -> None:
    missing = type(name)("shop", "missing")

    with pytest.raises(NotFound, match=r"Resource not found \(resource=missing\)\."):
        await policies.get(missing)
    with pytest.raises(NotFound):
        await policies.set(missing, [PUBLIC])


async def test_a_kind_that_nobody_can_find_has_no_resources(policies: Policies) -> None:
    with pytest.raises(NotFound):
        await policies.get(SchemaName("shop", "order"))


async def remake(storage: Storage, clock: ManualClock) -> None:
    """Delete everything, and make it again under the same names."""
    await storage.catalog.delete_snapshot(await storage.catalog.snapshot(BEFORE))
    await storage.catalog.delete_subscription(await storage.catalog.subscription(BILLING))
    await storage.catalog.delete_topic(await storage.catalog.topic(ORDERS))
    billing = await subscription(storage, await topic(storage))
    await snapshot(storage, billing, expire_us=clock.now_us() + DAY_US)


@every_kind
async def test_a_resource_that_is_made_again_starts_without_policy(
    policies: Policies, storage: Storage, clock: ManualClock, name: ResourceName
) -> None:
    await policies.set(name, [PUBLIC])

    await remake(storage, clock)

    assert await policies.get(name) == Policy()


async def test_no_policy_stays_behind(
    policies: Policies, storage: Storage, clock: ManualClock
) -> None:
    for name in (ORDERS, BILLING, BEFORE):
        await policies.set(name, [PUBLIC])
    found = [
        ("topics", (await storage.catalog.topic(ORDERS)).id),
        ("subscriptions", (await storage.catalog.subscription(BILLING)).id),
        ("snapshots", (await storage.catalog.snapshot(BEFORE)).id),
    ]

    clock.advance(DAY_US)
    assert await storage.upkeep.delete_expired_snapshots(clock.now_us()) == 1
    await storage.catalog.delete_subscription(await storage.catalog.subscription(BILLING))
    await storage.catalog.delete_topic(await storage.catalog.topic(ORDERS))
    assert await storage.upkeep.forget_deleted_topics() == 1

    for kind, resource_id in found:
        assert await storage.policies.policy(kind, resource_id) == Policy()


async def test_a_resource_that_is_gone_gets_no_policy(storage: Storage) -> None:
    billing = await storage.catalog.subscription(BILLING)
    await storage.catalog.delete_subscription(billing)

    with pytest.raises(Aborted):
        await storage.policies.set_policy(
            "subscriptions", billing.id, Policy((PUBLIC,), b"new"), instead_of=NO_POLICY_ETAG
        )


# --- permissions --------------------------------------------------------------------------------


async def test_as_long_as_callers_are_unknown_they_may_do_all_there_is(policies: Policies) -> None:
    asked = [
        "pubsub.subscriptions.consume",
        "pubsub.subscriptions.nonsense",
        "pubsub.topics.publish",
        "pubsub.subscriptions.get",
    ]

    assert await policies.test(BILLING, asked) == [
        "pubsub.subscriptions.consume",
        "pubsub.subscriptions.get",
    ]


async def test_on_a_missing_resource_nobody_may_do_anything(policies: Policies) -> None:
    missing = TopicName("shop", "missing")

    assert list(await policies.test(missing, ["pubsub.topics.publish"])) == []
    with pytest.raises(InvalidArgument):
        await policies.test(missing, ["pubsub.topics.*"])
