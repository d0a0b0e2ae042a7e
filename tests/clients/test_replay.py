"""Seeks and snapshots: what comes again, and what does not."""

from __future__ import annotations

import datetime as dt
import time
from functools import partial
from typing import Any

import pytest
from google.api_core import exceptions
from google.protobuf.field_mask_pb2 import FieldMask
from google.pubsub_v1 import types

from tests.clients.pubsub import PubSub, data_of
from tests.server import eventually

UTC = dt.UTC
WEEK = dt.timedelta(days=7)


def now() -> dt.datetime:
    return dt.datetime.now(UTC)


def publish_at_different_times(pubsub: PubSub, topic: str, *data: bytes) -> None:
    """One after the other, no two in the same millisecond."""
    for each in data:
        pubsub.publish(topic, each)
        eventually(partial(has_begun, int(time.time() * 1000) + 2))


def has_begun(millisecond: int) -> bool:
    return time.time() * 1000 >= millisecond


def seek(pubsub: PubSub, subscription: str, to: Any) -> None:
    """To a moment, or to a snapshot."""
    target = {"snapshot": to} if isinstance(to, str) else {"time": to}
    pubsub.subscriber.seek(request={"subscription": subscription, **target})


# --- to a time --------------------------------------------------------------------------------------


def test_a_seek_brings_back_what_was_acknowledged_and_retained(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, retain_acked_messages=True)
    publish_at_different_times(pubsub, orders, b"1", b"2", b"3")
    received = pubsub.pull_all(warehouse, 3)
    pubsub.acknowledge(warehouse, *received)

    seek(pubsub, warehouse, received[1].message.publish_time)

    assert data_of(pubsub.pull_all(warehouse, 2)) == [b"2", b"3"]
    assert pubsub.pull_now(warehouse) == []


def test_without_retention_a_seek_brings_back_only_what_is_unacknowledged(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    publish_at_different_times(pubsub, orders, b"1", b"2", b"3")
    received = pubsub.pull_all(warehouse, 3)
    pubsub.acknowledge(warehouse, *received[:2])

    seek(pubsub, warehouse, received[0].message.publish_time)

    assert data_of(pubsub.pull(warehouse)) == [b"3"]


def test_a_seek_to_now_leaves_nothing(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    publish_at_different_times(pubsub, orders, b"1", b"2", b"3")
    [held] = pubsub.pull(warehouse, max_messages=1)

    seek(pubsub, warehouse, now())

    assert pubsub.pull_now(warehouse) == []
    pubsub.modify_ack_deadline(warehouse, 0, held)  # a lease from before the seek
    assert pubsub.pull_now(warehouse) == []
    pubsub.publish(orders, b"4")
    assert data_of(pubsub.pull(warehouse)) == [b"4"]


def test_a_seek_into_the_future_leaves_what_is_published_afterwards(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    pubsub.publish(orders, b"before")

    seek(pubsub, warehouse, now() + dt.timedelta(days=1))
    pubsub.publish(orders, b"after")

    assert data_of(pubsub.pull(warehouse)) == [b"after"]


def test_a_seek_takes_messages_back_from_those_who_hold_them(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, ack_deadline_seconds=600)
    pubsub.publish(orders, b"hello")
    [held] = pubsub.pull(warehouse)

    seek(pubsub, warehouse, held.message.publish_time)

    [again] = pubsub.pull(warehouse)
    assert again.message == held.message
    pubsub.acknowledge(warehouse, held)  # out of date: without effect
    pubsub.modify_ack_deadline(warehouse, 0, again)
    assert data_of(pubsub.pull(warehouse)) == [b"hello"]


def test_a_topics_retention_reaches_subscriptions_that_came_later(pubsub: PubSub) -> None:
    orders = pubsub.topic(message_retention_duration=dt.timedelta(hours=1))
    start = now() - dt.timedelta(seconds=1)
    pubsub.publish(orders, b"early")
    warehouse = pubsub.subscription(orders)
    assert pubsub.pull_now(warehouse) == []

    seek(pubsub, warehouse, start)

    assert data_of(pubsub.pull(warehouse)) == [b"early"]


BAD_SEEKS: dict[str, tuple[dict[str, object], type[Exception], str]] = {
    "no target": (
        {},
        exceptions.InvalidArgument,
        "No target was specified in the SeekRequest. Must specify either a time or a snapshot",
    ),
    "a time beyond the year 9999": (
        {"time": {"seconds": 253_402_300_800}},
        exceptions.InvalidArgument,
        "An invalid time was specified in the SeekRequest. See definition of Timestamp.",
    ),
    "a snapshot that does not exist": (
        {"snapshot": "projects/p/snapshots/nowhere"},
        exceptions.NotFound,
        "Resource not found (resource=nowhere).",
    ),
    "a snapshot with a bad name": (
        {"snapshot": "nowhere"},
        exceptions.InvalidArgument,
        "Invalid resource name given (name=nowhere).",
    ),
}


@pytest.mark.parametrize("target, error, text", BAD_SEEKS.values(), ids=BAD_SEEKS)
def test_a_bad_seek_is_refused(
    pubsub: PubSub, target: dict[str, object], error: type[Exception], text: str
) -> None:
    warehouse = pubsub.subscription(pubsub.topic())
    raw = types.SeekRequest.pb()(subscription=warehouse, **target)

    with pytest.raises(error) as refusal:
        pubsub.subscriber.seek(types.SeekRequest.wrap(raw))

    assert text in str(refusal.value)


# --- to a snapshot ----------------------------------------------------------------------------------


def test_a_snapshot_holds_what_was_unacknowledged_and_what_came_later(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    pubsub.publish(orders, b"1", b"2")
    first, second = pubsub.pull_all(warehouse, 2)
    pubsub.acknowledge(warehouse, first)
    before = pubsub.snapshot(warehouse)
    pubsub.publish(orders, b"3")
    pubsub.acknowledge(warehouse, second, *pubsub.pull(warehouse))

    for _ in range(2):  # a snapshot can be used many times
        seek(pubsub, warehouse, before)

        again = pubsub.pull_all(warehouse, 2)
        assert data_of(again) == [b"2", b"3"]
        assert pubsub.pull_now(warehouse) == []
        pubsub.acknowledge(warehouse, *again)


def test_a_snapshot_can_be_imposed_on_another_subscription_of_its_topic(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, "warehouse")
    pubsub.publish(orders, b"1")
    before = pubsub.snapshot(warehouse)
    accounting = pubsub.subscription(orders, "accounting")
    pubsub.publish(orders, b"2")
    pubsub.acknowledge(accounting, *pubsub.pull(accounting))

    seek(pubsub, accounting, before)

    assert data_of(pubsub.pull_all(accounting, 2)) == [b"1", b"2"]


def test_a_snapshot_outlives_its_subscription(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, "warehouse")
    pubsub.publish(orders, b"1")
    before = pubsub.snapshot(warehouse)
    pubsub.subscriber.delete_subscription(subscription=warehouse)
    accounting = pubsub.subscription(orders, "accounting")

    seek(pubsub, accounting, before)

    assert data_of(pubsub.pull(accounting)) == [b"1"]


def test_a_snapshot_of_another_topic_is_refused(pubsub: PubSub) -> None:
    orders, invoices = pubsub.topic("orders"), pubsub.topic("invoices")
    snapshot = pubsub.snapshot(pubsub.subscription(orders, "warehouse"))
    accounting = pubsub.subscription(invoices, "accounting")

    with pytest.raises(exceptions.FailedPrecondition) as refusal:
        seek(pubsub, accounting, snapshot)

    assert refusal.value.message == (
        f"The subscription's topic {invoices} is different from that of the snapshot {orders}; "
        "they must match in order for Seek work. Note that if a topic is deleted and then "
        "re-created with the same name, it is considered a distinct topic for these purposes."
    )


def test_a_snapshot_of_a_topic_that_was_created_anew_is_refused(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    snapshot = pubsub.snapshot(pubsub.subscription(orders, "old"))
    pubsub.publisher.delete_topic(topic=orders)
    pubsub.topic()
    new = pubsub.subscription(orders, "new")

    with pytest.raises(exceptions.FailedPrecondition, match="considered a distinct topic"):
        seek(pubsub, new, snapshot)

    shown = pubsub.subscriber.get_snapshot(snapshot=snapshot)
    assert shown.topic == "_deleted-topic_"


# --- snapshots as resources -------------------------------------------------------------------------


def test_a_snapshot_is_created_shown_listed_and_deleted(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    name = f"{pubsub.path}/snapshots/before"
    earliest = now()

    created = pubsub.subscriber.create_snapshot(
        request={"name": name, "subscription": warehouse, "labels": {"reason": "upgrade"}}
    )

    assert created.name == name
    assert created.topic == orders
    assert created.labels == {"reason": "upgrade"}
    life = created.expire_time - earliest
    assert WEEK - dt.timedelta(milliseconds=1) <= life < WEEK + dt.timedelta(minutes=1)
    assert created.expire_time.nanosecond % 1_000_000 == 0
    assert pubsub.subscriber.get_snapshot(snapshot=name) == created
    assert list(pubsub.subscriber.list_snapshots(project=pubsub.path)) == [created]
    assert list(pubsub.publisher.list_topic_snapshots(topic=orders)) == [name]

    pubsub.subscriber.delete_snapshot(snapshot=name)

    assert list(pubsub.subscriber.list_snapshots(project=pubsub.path)) == []
    assert list(pubsub.publisher.list_topic_snapshots(topic=orders)) == []
    with pytest.raises(exceptions.NotFound, match=r"\(resource=before\)"):
        pubsub.subscriber.get_snapshot(snapshot=name)
    with pytest.raises(exceptions.NotFound):
        pubsub.subscriber.delete_snapshot(snapshot=name)


def test_a_snapshot_without_a_name_gets_one(pubsub: PubSub) -> None:
    warehouse = pubsub.subscription(pubsub.topic())

    created = pubsub.subscriber.create_snapshot(request={"subscription": warehouse})

    assert created.name.startswith(f"{pubsub.path}/snapshots/")
    assert pubsub.subscriber.get_snapshot(snapshot=created.name) == created


def test_a_second_snapshot_of_the_same_name_is_refused(pubsub: PubSub) -> None:
    warehouse = pubsub.subscription(pubsub.topic())
    pubsub.snapshot(warehouse)

    with pytest.raises(
        exceptions.AlreadyExists,
        match=r"Resource already exists in the project \(resource=before\)\.",
    ):
        pubsub.snapshot(warehouse)


def test_a_snapshot_of_a_missing_or_detached_subscription_is_refused(pubsub: PubSub) -> None:
    with pytest.raises(exceptions.NotFound, match=r"\(resource=nowhere\)"):
        pubsub.snapshot(f"{pubsub.path}/subscriptions/nowhere")
    warehouse = pubsub.subscription(pubsub.topic())
    pubsub.publisher.detach_subscription(request={"subscription": warehouse})

    with pytest.raises(exceptions.FailedPrecondition):
        pubsub.snapshot(warehouse)
    with pytest.raises(exceptions.FailedPrecondition):
        seek(pubsub, warehouse, now())


def test_labels_and_expire_time_of_a_snapshot_can_be_changed(pubsub: PubSub) -> None:
    snapshot = pubsub.snapshot(pubsub.subscription(pubsub.topic()), labels={"a": "1", "b": "2"})
    sooner = (now() + dt.timedelta(hours=2)).replace(microsecond=123_000)

    pubsub.subscriber.update_snapshot(
        request={
            "snapshot": {"name": snapshot, "labels": {"c": "3"}, "expire_time": sooner},
            "update_mask": FieldMask(paths=["labels", "expire_time"]),
        }
    )

    shown = pubsub.subscriber.get_snapshot(snapshot=snapshot)
    assert shown.labels == {"c": "3"}
    assert shown.expire_time == sooner


@pytest.mark.parametrize("days", [-1, 8])
def test_a_snapshot_expires_in_the_future_and_within_a_week(pubsub: PubSub, days: int) -> None:
    snapshot = pubsub.snapshot(pubsub.subscription(pubsub.topic()))
    before = pubsub.subscriber.get_snapshot(snapshot=snapshot)

    with pytest.raises(exceptions.InvalidArgument, match="expire_time"):
        pubsub.subscriber.update_snapshot(
            request={
                "snapshot": {
                    "name": snapshot,
                    "expire_time": now() + dt.timedelta(days=days),
                },
                "update_mask": FieldMask(paths=["expire_time"]),
            }
        )

    assert pubsub.subscriber.get_snapshot(snapshot=snapshot) == before
