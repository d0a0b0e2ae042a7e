"""Topics and subscriptions as resources: created, shown, listed, deleted, detached."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from google.api_core import exceptions
from google.pubsub_v1 import types

from tests.clients.pubsub import PubSub, data_of

DAY = dt.timedelta(days=1)


# --- topics -----------------------------------------------------------------------------------------


def test_a_plain_topic_shows_its_name_and_nothing_else(pubsub: PubSub) -> None:
    name = f"{pubsub.path}/topics/orders"

    created = pubsub.publisher.create_topic(name=name)

    assert created == types.Topic(name=name)
    assert pubsub.publisher.get_topic(topic=name) == created
    assert list(pubsub.publisher.list_topics(project=pubsub.path)) == [created]


def test_a_topic_shows_what_was_set_on_it(pubsub: PubSub) -> None:
    topic = types.Topic(
        name=f"{pubsub.path}/topics/orders",
        labels={"team": "sales", "größe": "xl", "empty": ""},
        message_retention_duration=dt.timedelta(seconds=600, milliseconds=500),
        kms_key_name="projects/p/locations/eu/keyRings/r/cryptoKeys/k",
        message_storage_policy={
            "allowed_persistence_regions": ["europe-north1", "europe-west1"],
            "enforce_in_transit": True,
        },
    )

    pubsub.publisher.create_topic(request=topic)

    assert pubsub.publisher.get_topic(topic=topic.name) == topic


def test_what_is_output_only_on_a_topic_is_ignored(pubsub: PubSub) -> None:
    name = f"{pubsub.path}/topics/orders"

    created = pubsub.publisher.create_topic(
        request={
            "name": name,
            "satisfies_pzs": True,
            "state": types.Topic.State.INGESTION_RESOURCE_ERROR,
            "tags": {"123/environment": "production"},
        }
    )

    assert created == types.Topic(name=name)


def test_a_second_topic_of_the_same_name_is_refused(pubsub: PubSub) -> None:
    orders = pubsub.topic()

    with pytest.raises(exceptions.AlreadyExists) as refusal:
        pubsub.publisher.create_topic(name=orders)

    assert refusal.value.message == "Resource already exists in the project (resource=orders)."


def test_a_deleted_topic_is_gone(pubsub: PubSub) -> None:
    orders = pubsub.topic()

    pubsub.publisher.delete_topic(topic=orders)

    for call in (pubsub.publisher.get_topic, pubsub.publisher.delete_topic):
        with pytest.raises(exceptions.NotFound, match=r"Resource not found \(resource=orders\)\."):
            call(topic=orders)
    with pytest.raises(exceptions.NotFound):
        pubsub.publish(orders, b"x")
    assert list(pubsub.publisher.list_topics(project=pubsub.path)) == []


def test_subscriptions_of_a_deleted_topic_stay_with_what_they_have(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    pubsub.publish(orders, b"last")

    pubsub.publisher.delete_topic(topic=orders)

    shown = pubsub.subscriber.get_subscription(subscription=warehouse)
    assert shown.topic == "_deleted-topic_"
    assert data_of(pubsub.pull(warehouse)) == [b"last"]


def test_a_topic_created_anew_has_nothing_to_do_with_the_old_one(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    old = pubsub.subscription(orders, "old")
    pubsub.publisher.delete_topic(topic=orders)

    pubsub.topic()
    new = pubsub.subscription(orders, "new")
    pubsub.publish(orders, b"hello")

    assert pubsub.subscriber.get_subscription(subscription=old).topic == "_deleted-topic_"
    assert list(pubsub.publisher.list_topic_subscriptions(topic=orders)) == [new]
    assert data_of(pubsub.pull(new)) == [b"hello"]
    assert pubsub.pull_now(old) == []


# --- subscriptions ----------------------------------------------------------------------------------


def test_a_plain_subscription_shows_its_defaults(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    name = f"{pubsub.path}/subscriptions/warehouse"

    created = pubsub.subscriber.create_subscription(name=name, topic=orders)

    assert created == types.Subscription(
        name=name,
        topic=orders,
        push_config={},
        ack_deadline_seconds=10,
        message_retention_duration=7 * DAY,
        expiration_policy={"ttl": 31 * DAY},
        state=types.Subscription.State.ACTIVE,
    )
    assert "push_config" in created
    assert pubsub.subscriber.get_subscription(subscription=name) == created
    assert list(pubsub.subscriber.list_subscriptions(project=pubsub.path)) == [created]
    assert list(pubsub.publisher.list_topic_subscriptions(topic=orders)) == [name]


def test_a_subscription_shows_what_was_set_on_it(pubsub: PubSub) -> None:
    orders = pubsub.topic(message_retention_duration=DAY)
    subscription = types.Subscription(
        name=f"{pubsub.path}/subscriptions/warehouse",
        topic=orders,
        ack_deadline_seconds=600,
        retain_acked_messages=True,
        message_retention_duration=dt.timedelta(seconds=600, milliseconds=500),
        labels={"team": "sales"},
        expiration_policy={"ttl": 365 * DAY},
    )

    created = pubsub.subscriber.create_subscription(request=subscription)

    expected: Any = types.Subscription(subscription)
    expected.topic_message_retention_duration = DAY
    expected.push_config = {}
    expected.state = types.Subscription.State.ACTIVE
    assert created == expected
    assert pubsub.subscriber.get_subscription(subscription=created.name) == expected


def test_a_subscription_shows_its_topics_retention_as_it_is_now(pubsub: PubSub) -> None:
    orders = pubsub.topic(message_retention_duration=DAY)
    warehouse = pubsub.subscription(orders)

    pubsub.publisher.update_topic(
        request={
            "topic": {"name": orders, "message_retention_duration": 2 * DAY},
            "update_mask": {"paths": ["message_retention_duration"]},
        }
    )

    shown = pubsub.subscriber.get_subscription(subscription=warehouse)
    assert shown.topic_message_retention_duration == 2 * DAY
    pubsub.publisher.delete_topic(topic=orders)
    shown = pubsub.subscriber.get_subscription(subscription=warehouse)
    assert "topic_message_retention_duration" not in shown


def test_an_empty_expiration_policy_means_never(pubsub: PubSub) -> None:
    warehouse = pubsub.subscription(pubsub.topic(), expiration_policy={})

    shown = pubsub.subscriber.get_subscription(subscription=warehouse)

    assert "expiration_policy" in shown
    assert "ttl" not in shown.expiration_policy


def test_a_short_expiration_shortens_the_default_retention(pubsub: PubSub) -> None:
    warehouse = pubsub.subscription(pubsub.topic(), expiration_policy={"ttl": DAY})

    shown = pubsub.subscriber.get_subscription(subscription=warehouse)

    assert shown.message_retention_duration == DAY


def test_what_is_output_only_on_a_subscription_is_ignored(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    plain = pubsub.subscription(orders, "plain")

    adorned = pubsub.subscription(
        orders,
        "adorned",
        state=types.Subscription.State.RESOURCE_ERROR,
        detached=True,
        topic_message_retention_duration=DAY,
        analytics_hub_subscription_info={"listing": "l"},
        tags={"123/environment": "production"},
    )

    expected = pubsub.subscriber.get_subscription(subscription=plain)
    expected.name = adorned
    assert pubsub.subscriber.get_subscription(subscription=adorned) == expected


def test_a_subscription_without_a_name_gets_one_in_its_topics_project(pubsub: PubSub) -> None:
    orders = pubsub.topic()

    created = pubsub.subscriber.create_subscription(request={"topic": orders})

    assert created.name.startswith(f"{pubsub.path}/subscriptions/")
    assert pubsub.subscriber.get_subscription(subscription=created.name) == created


def test_a_subscription_can_be_in_another_project_than_its_topic(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    elsewhere = f"{pubsub.path}-other/subscriptions/warehouse"
    pubsub.subscriber.create_subscription(name=elsewhere, topic=orders)

    pubsub.publish(orders, b"hello")

    assert data_of(pubsub.pull(elsewhere)) == [b"hello"]
    assert list(pubsub.subscriber.list_subscriptions(project=pubsub.path)) == []


def test_a_second_subscription_of_the_same_name_is_refused(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    pubsub.subscription(orders)

    with pytest.raises(exceptions.AlreadyExists) as refusal:
        pubsub.subscription(orders)

    assert refusal.value.message == "Resource already exists in the project (resource=warehouse)."


def test_a_deleted_subscription_is_gone_with_its_messages(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    pubsub.publish(orders, b"1", b"2")
    [held] = pubsub.pull(warehouse, max_messages=1)

    pubsub.subscriber.delete_subscription(subscription=warehouse)

    with pytest.raises(exceptions.NotFound, match=r"Resource not found \(resource=warehouse\)\."):
        pubsub.pull_now(warehouse)
    with pytest.raises(exceptions.NotFound):
        pubsub.acknowledge(warehouse, held)
    with pytest.raises(exceptions.NotFound):
        pubsub.modify_ack_deadline(warehouse, 10, held)
    with pytest.raises(exceptions.NotFound):
        pubsub.subscriber.delete_subscription(subscription=warehouse)
    pubsub.subscription(orders)
    assert pubsub.pull_now(warehouse) == []
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.acknowledge(warehouse, held)  # of the earlier subscription, not of this one


def test_a_detached_subscription_exists_and_delivers_nothing(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    pubsub.publish(orders, b"1", b"2")
    [held] = pubsub.pull(warehouse, max_messages=1)

    pubsub.publisher.detach_subscription(request={"subscription": warehouse})

    shown = pubsub.subscriber.get_subscription(subscription=warehouse)
    assert shown.detached
    assert shown.topic == orders
    assert list(pubsub.publisher.list_topic_subscriptions(topic=orders)) == []
    assert list(pubsub.subscriber.list_subscriptions(project=pubsub.path)) == [shown]
    refused: Iterable[Callable[[], object]] = (
        lambda: pubsub.pull_now(warehouse),
        lambda: pubsub.acknowledge(warehouse, held),
        lambda: pubsub.modify_ack_deadline(warehouse, 10, held),
    )
    for call in refused:
        with pytest.raises(exceptions.FailedPrecondition) as refusal:
            call()
        assert refusal.value.message == "Subscription is detached."
    with pytest.raises(exceptions.FailedPrecondition) as refusal:
        pubsub.publisher.detach_subscription(request={"subscription": warehouse})
    assert refusal.value.message == "Subscription already detached."


def test_an_empty_push_config_leaves_a_subscription_as_it_is(pubsub: PubSub) -> None:
    warehouse = pubsub.subscription(pubsub.topic())

    pubsub.subscriber.modify_push_config(subscription=warehouse, push_config=types.PushConfig())

    with pytest.raises(exceptions.NotFound):
        pubsub.subscriber.modify_push_config(
            subscription=f"{pubsub.path}/subscriptions/nowhere", push_config=types.PushConfig()
        )


# --- lists ------------------------------------------------------------------------------------------


def make_topics(pubsub: PubSub, ids: Sequence[str]) -> list[str]:
    return [pubsub.topic(topic_id) for topic_id in ids]


def make_subscriptions(pubsub: PubSub, ids: Sequence[str]) -> list[str]:
    orders = pubsub.topic()
    return [pubsub.subscription(orders, subscription_id) for subscription_id in ids]


def make_snapshots(pubsub: PubSub, ids: Sequence[str]) -> list[str]:
    warehouse = pubsub.subscription(pubsub.topic())
    return [pubsub.snapshot(warehouse, snapshot_id) for snapshot_id in ids]


def delete_topic(pubsub: PubSub, name: str) -> None:
    pubsub.publisher.delete_topic(topic=name)


def delete_subscription(pubsub: PubSub, name: str) -> None:
    pubsub.subscriber.delete_subscription(subscription=name)


def delete_snapshot(pubsub: PubSub, name: str) -> None:
    pubsub.subscriber.delete_snapshot(snapshot=name)


def list_topics(pubsub: PubSub, **page: Any) -> Any:
    return pubsub.publisher.list_topics(request={"project": pubsub.path, **page})


def list_subscriptions(pubsub: PubSub, **page: Any) -> Any:
    return pubsub.subscriber.list_subscriptions(request={"project": pubsub.path, **page})


def list_snapshots(pubsub: PubSub, **page: Any) -> Any:
    return pubsub.subscriber.list_snapshots(request={"project": pubsub.path, **page})


def list_topic_subscriptions(pubsub: PubSub, **page: Any) -> Any:
    topic = f"{pubsub.path}/topics/orders"
    return pubsub.publisher.list_topic_subscriptions(request={"topic": topic, **page})


def list_topic_snapshots(pubsub: PubSub, **page: Any) -> Any:
    topic = f"{pubsub.path}/topics/orders"
    return pubsub.publisher.list_topic_snapshots(request={"topic": topic, **page})


LISTS = {
    "topics": (make_topics, list_topics, delete_topic),
    "subscriptions": (make_subscriptions, list_subscriptions, delete_subscription),
    "snapshots": (make_snapshots, list_snapshots, delete_snapshot),
    "topic subscriptions": (make_subscriptions, list_topic_subscriptions, delete_subscription),
    "topic snapshots": (make_snapshots, list_topic_snapshots, delete_snapshot),
}
every_list = pytest.mark.parametrize("make, show, delete", LISTS.values(), ids=LISTS)


def names(listed: Iterable[Any]) -> list[str]:
    return [each if isinstance(each, str) else each.name for each in listed]


@every_list
def test_a_list_is_ordered_by_name_and_comes_in_pages(
    pubsub: PubSub, make: Callable[..., list[str]], show: Any, delete: Any
) -> None:
    made = make(pubsub, ["nnn", "aaa", "zzz", "mmm", "a-a", "aaa~", "Aaa"])

    pages = [names(_items(page)) for page in show(pubsub, page_size=3).pages]

    assert [name for page in pages for name in page] == sorted(made)
    assert [len(page) for page in pages] == [3, 3, 1]


@every_list
def test_a_page_that_is_exactly_full_is_the_last(
    pubsub: PubSub, make: Callable[..., list[str]], show: Any, delete: Any
) -> None:
    make(pubsub, ["aaa", "bbb", "ccc", "ddd"])

    pages = list(show(pubsub, page_size=2).pages)

    assert len(pages) == 2
    assert pages[-1].next_page_token == ""


@every_list
def test_a_page_token_stays_good_when_its_item_is_deleted(
    pubsub: PubSub, make: Callable[..., list[str]], show: Any, delete: Any
) -> None:
    made = make(pubsub, ["aaa", "bbb", "ccc", "ddd"])
    first = next(show(pubsub, page_size=2).pages)

    delete(pubsub, made[1])

    rest = show(pubsub, page_size=2, page_token=first.next_page_token)
    assert names(rest) == made[2:]


@every_list
def test_page_sizes_from_0_to_1000_are_accepted(
    pubsub: PubSub, make: Callable[..., list[str]], show: Any, delete: Any
) -> None:
    made = make(pubsub, ["aaa", "bbb"])

    assert names(show(pubsub, page_size=0)) == names(show(pubsub, page_size=1000)) == made
    for size in (-1, 1001):
        with pytest.raises(exceptions.InvalidArgument) as refusal:
            show(pubsub, page_size=size)
        assert refusal.value.message == (
            f"The value for page_size is out of bounds. You passed {size} in the request, "
            "but the value must be between 0 and 1000."
        )


@every_list
def test_a_made_up_page_token_is_refused(
    pubsub: PubSub, make: Callable[..., list[str]], show: Any, delete: Any
) -> None:
    make(pubsub, ["aaa", "bbb"])

    for token in ("garbage", "AAAA", "ä"):
        with pytest.raises(exceptions.InvalidArgument) as refusal:
            show(pubsub, page_token=token)
        assert refusal.value.message == f"Invalid page token given (token={token})."


def test_a_page_token_of_another_list_is_refused(pubsub: PubSub) -> None:
    make_topics(pubsub, ["aaa", "bbb"])
    token = next(list_topics(pubsub, page_size=1).pages).next_page_token

    with pytest.raises(exceptions.InvalidArgument):
        list_subscriptions(pubsub, page_token=token)


@pytest.mark.parametrize("show", [list_topic_subscriptions, list_topic_snapshots])
def test_lists_of_a_missing_topic_say_that_it_is_missing(pubsub: PubSub, show: Any) -> None:
    with pytest.raises(exceptions.NotFound, match=r"Resource not found \(resource=orders\)\."):
        show(pubsub)


@pytest.mark.parametrize("show", [list_topics, list_subscriptions, list_snapshots])
def test_lists_of_an_unknown_project_are_empty(pubsub: PubSub, show: Any) -> None:
    assert names(show(pubsub)) == []


def _items(page: Any) -> Any:
    """The one repeated field of a list's response."""
    [field] = [field for field in type(page).meta.fields if field != "next_page_token"]
    return getattr(page, field)
