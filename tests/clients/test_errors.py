"""Names, bounds and missing resources: each with the status and the text of Pub/Sub."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from google.api_core import exceptions
from google.protobuf.duration_pb2 import Duration
from google.pubsub_v1 import types

from tests.clients.pubsub import PubSub

INVALID = exceptions.InvalidArgument
NAMES = "https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names"


@contextmanager
def refused(error: type[exceptions.GoogleAPICallError], text: str) -> Iterator[None]:
    """What happens inside is answered with this status and exactly this text."""
    with pytest.raises(error) as refusal:
        yield
    assert refusal.value.message == text


# --- names ------------------------------------------------------------------------------------------

VALID_IDS = ["abc", "Abc", "a12", "a.b_c~d+e%-f", "a%zz", "Googabc", "GOOGabc", "a" * 255]
INVALID_IDS = [
    "",
    "ab",
    "a" * 256,
    "1abc",
    "-abc",
    "_abc",
    "goog",
    "googabc",
    "a b",
    "abc ",
    "abc\n",
    "a/b",
    "aüb",
    "a:b",
    "a@b",
    "_deleted-topic_",
]


@pytest.mark.parametrize("topic_id", VALID_IDS)
def test_a_valid_id_names_any_kind_of_resource(pubsub: PubSub, topic_id: str) -> None:
    topic = pubsub.topic(topic_id)
    subscription = pubsub.subscription(topic, topic_id)
    snapshot = pubsub.snapshot(subscription, topic_id)

    assert pubsub.publisher.get_topic(topic=topic).name == topic
    assert pubsub.subscriber.get_subscription(subscription=subscription).name == subscription
    assert pubsub.subscriber.get_snapshot(snapshot=snapshot).name == snapshot


@pytest.mark.parametrize("bad_id", INVALID_IDS)
def test_an_invalid_id_names_nothing(pubsub: PubSub, bad_id: str) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)

    def text(name: str) -> str:
        return f"Invalid resource name given (name={name}). Refer to {NAMES} for more information."

    topic = f"{pubsub.path}/topics/{bad_id}"
    with refused(INVALID, text(topic)):
        pubsub.publisher.create_topic(name=topic)
    subscription = f"{pubsub.path}/subscriptions/{bad_id}"
    with refused(INVALID, text(subscription)):
        pubsub.subscriber.create_subscription(name=subscription, topic=orders)
    with refused(INVALID, text(topic)):
        pubsub.subscription(topic)
    snapshot = f"{pubsub.path}/snapshots/{bad_id}"
    with refused(INVALID, text(snapshot)):
        pubsub.subscriber.create_snapshot(name=snapshot, subscription=warehouse)


BAD_NAMES = [
    "",
    "orders",
    "/projects/p/topics/orders",
    "projects/p/topics/orders/",
    "projects/p/topic/orders",
    "projects/p/Topics/orders",
    "projects//topics/orders",
    "_deleted-topic_",
    "projects/p/nonsense/orders",
    "projects/p/topics/orders/more",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_malformed_name_is_refused_by_every_call(pubsub: PubSub, name: str) -> None:
    publisher, subscriber = pubsub.publisher, pubsub.subscriber
    calls: list[Callable[[], object]] = [
        lambda: publisher.create_topic(name=name),
        lambda: publisher.get_topic(topic=name),
        lambda: publisher.delete_topic(topic=name),
        lambda: publisher.list_topic_subscriptions(topic=name),
        lambda: publisher.list_topic_snapshots(topic=name),
        lambda: publisher.detach_subscription(request={"subscription": name}),
        lambda: pubsub.publish(name, b"x"),
        lambda: subscriber.get_subscription(subscription=name),
        lambda: subscriber.delete_subscription(subscription=name),
        lambda: subscriber.pull(subscription=name, max_messages=1),
        lambda: subscriber.acknowledge(subscription=name, ack_ids=["a"]),
        lambda: subscriber.modify_ack_deadline(
            subscription=name, ack_ids=["a"], ack_deadline_seconds=0
        ),
        lambda: subscriber.modify_push_config(subscription=name, push_config=types.PushConfig()),
        lambda: subscriber.seek(request={"subscription": name, "time": dt.datetime.now(dt.UTC)}),
        lambda: subscriber.create_snapshot(name=f"{pubsub.path}/snapshots/snap", subscription=name),
        lambda: subscriber.get_snapshot(snapshot=name),
        lambda: subscriber.delete_snapshot(snapshot=name),
    ]
    for call in calls:
        with refused(
            INVALID,
            f"Invalid resource name given (name={name}). Refer to {NAMES} for more information.",
        ):
            call()


@pytest.mark.parametrize("project", ["", "p", "projects/", "projects/p/", "projects/p/q"])
def test_a_malformed_project_is_refused_by_every_list(pubsub: PubSub, project: str) -> None:
    for show in (
        pubsub.publisher.list_topics,
        pubsub.subscriber.list_subscriptions,
        pubsub.subscriber.list_snapshots,
    ):
        with pytest.raises(INVALID, match=r"Invalid resource name given"):
            show(project=project)


def test_a_name_of_the_wrong_kind_is_malformed_and_not_missing(pubsub: PubSub) -> None:
    orders = pubsub.topic()

    with pytest.raises(INVALID, match="Invalid resource name given"):
        pubsub.subscriber.get_subscription(subscription=orders)


def test_a_bad_name_is_reported_before_a_missing_topic(pubsub: PubSub) -> None:
    missing = f"{pubsub.path}/topics/nowhere"

    with pytest.raises(INVALID, match="Invalid resource name given"):
        pubsub.subscriber.create_subscription(name="bad", topic=missing)
    with refused(exceptions.NotFound, "Resource not found (resource=nowhere)."):
        pubsub.subscription(missing)


# --- missing resources ------------------------------------------------------------------------------


def test_every_call_says_which_resource_is_missing(pubsub: PubSub) -> None:
    publisher, subscriber = pubsub.publisher, pubsub.subscriber
    topic = f"{pubsub.path}/topics/nowhere"
    subscription = f"{pubsub.path}/subscriptions/nowhere"
    snapshot = f"{pubsub.path}/snapshots/nowhere"
    calls: list[Callable[[], object]] = [
        lambda: publisher.get_topic(topic=topic),
        lambda: publisher.delete_topic(topic=topic),
        lambda: publisher.list_topic_subscriptions(topic=topic),
        lambda: publisher.list_topic_snapshots(topic=topic),
        lambda: publisher.detach_subscription(request={"subscription": subscription}),
        lambda: pubsub.publish(topic, b"x"),
        lambda: subscriber.get_subscription(subscription=subscription),
        lambda: subscriber.delete_subscription(subscription=subscription),
        lambda: subscriber.pull(subscription=subscription, max_messages=1),
        lambda: subscriber.acknowledge(subscription=subscription, ack_ids=["a"]),
        lambda: subscriber.modify_ack_deadline(
            subscription=subscription, ack_ids=["a"], ack_deadline_seconds=0
        ),
        lambda: subscriber.seek(
            request={"subscription": subscription, "time": dt.datetime.now(dt.UTC)}
        ),
        lambda: subscriber.create_snapshot(
            name=f"{pubsub.path}/snapshots/snap", subscription=subscription
        ),
        lambda: subscriber.get_snapshot(snapshot=snapshot),
        lambda: subscriber.delete_snapshot(snapshot=snapshot),
    ]
    for call in calls:
        with refused(exceptions.NotFound, "Resource not found (resource=nowhere)."):
            call()


# --- bounds -----------------------------------------------------------------------------------------


def seconds(value: float) -> Duration:
    duration = Duration()
    duration.FromMicroseconds(round(value * 1_000_000))
    return duration


def retention_text(given: str) -> str:
    return (
        "The value for message retention duration is out of bounds. "
        f"You passed {given} in the request, but the value must be between 10m and 744h."
    )


def ack_deadline_text(given: int) -> str:
    return (
        f"Invalid ack deadline given (ack_deadline={given}). "
        "The ack deadline must be between 10 and 600 seconds."
    )


def label_key_text(key: str, reason: str = "") -> str:
    return (
        "You have passed an invalid argument to the service (argument=Invalid labels: Invalid "
        f'field "labels"; key "{key}" does not conform to regular expression '
        rf'"[\p{{Ll}}\p{{Lo}}][\p{{Ll}}\p{{Lo}}\p{{N}}_-]{{0,62}}"{reason}).'
    )


OUT_OF_BOUNDS: dict[str, tuple[dict[str, Any], str]] = {
    "a deadline of -1": ({"ack_deadline_seconds": -1}, ack_deadline_text(-1)),
    "a deadline of 1": ({"ack_deadline_seconds": 1}, ack_deadline_text(1)),
    "a deadline of 9": ({"ack_deadline_seconds": 9}, ack_deadline_text(9)),
    "a deadline of 601": ({"ack_deadline_seconds": 601}, ack_deadline_text(601)),
    "a retention of 0 s": ({"message_retention_duration": seconds(0)}, retention_text("0s")),
    "a retention of 599 s": (
        {"message_retention_duration": seconds(599)},
        retention_text("9m59s"),
    ),
    "a retention of 31 days and 1 s": (
        {"message_retention_duration": seconds(2_678_401)},
        retention_text("744h0m1s"),
    ),
    "an expiration of 1 h": (
        {"expiration_policy": {"ttl": seconds(3_600)}},
        (
            "The value for expiration duration is too small. "
            "You passed 1h in the request, but the minimum value is 24h."
        ),
    ),
    "an expiration of 86,399 s": (
        {"expiration_policy": {"ttl": seconds(86_399)}},
        (
            "The value for expiration duration is too small. "
            "You passed 23h59m59s in the request, but the minimum value is 24h."
        ),
    ),
    "an expiration of more than a year": (
        {"expiration_policy": {"ttl": seconds(365 * 86_400 + 1)}},
        (
            "The value for expiration duration is too large. "
            "You passed 8760h0m1s in the request, but the maximum value is 8760h."
        ),
    ),
    "a label key in upper case": (
        {"labels": {"Upper": ""}},
        label_key_text(
            "Upper",
            '; first character "U" is not a non-uppercased letter '
            "(Unicode character class Ll or Lo)",
        ),
    ),
    "a label value of 64 characters": (
        {"labels": {"key": "v" * 64}},
        (
            "You have passed an invalid argument to the service (argument=Invalid labels: Invalid "
            f'field "labels.key"; value "{"v" * 64}" exceeds maximum value length 63 with a length '
            "of 64)."
        ),
    ),
}


@pytest.mark.parametrize("fields, text", OUT_OF_BOUNDS.values(), ids=OUT_OF_BOUNDS)
def test_a_subscription_out_of_bounds_is_refused(
    pubsub: PubSub, fields: Mapping[str, Any], text: str
) -> None:
    orders = pubsub.topic()

    with refused(INVALID, text):
        pubsub.subscription(orders, **fields)

    assert list(pubsub.subscriber.list_subscriptions(project=pubsub.path)) == []


BAD_LABELS = {
    "65 labels": {f"key{number}": "" for number in range(65)},
    "a key of 64 characters": {"k" * 64: ""},
    "an empty key": {"": "v"},
    "a key that starts with a digit": {"1st": ""},
    "a key with a blank": {"a b": ""},
    "an upper-case value": {"key": "V"},
}


@pytest.mark.parametrize("labels", BAD_LABELS.values(), ids=BAD_LABELS)
def test_bad_labels_are_refused_on_every_kind_of_resource(
    pubsub: PubSub, labels: Mapping[str, str]
) -> None:
    warehouse = pubsub.subscription(pubsub.topic())

    creations: list[Callable[[], object]] = [
        lambda: pubsub.topic("other", labels=labels),
        lambda: pubsub.subscription(f"{pubsub.path}/topics/orders", "other", labels=labels),
        lambda: pubsub.snapshot(warehouse, labels=labels),
    ]
    for create in creations:
        with pytest.raises(INVALID, match="Invalid labels"):
            create()


WITHIN_BOUNDS: dict[str, dict[str, Any]] = {
    "a deadline of 0": {"ack_deadline_seconds": 0},
    "a deadline of 10": {"ack_deadline_seconds": 10},
    "a deadline of 600": {"ack_deadline_seconds": 600},
    "a retention of 600 s": {"message_retention_duration": seconds(600)},
    "a retention of 600.5 s": {"message_retention_duration": seconds(600.5)},
    "a retention of 31 days": {"message_retention_duration": seconds(2_678_400)},
    "an expiration of a day": {"expiration_policy": {"ttl": seconds(86_400)}},
    "an expiration of a year": {"expiration_policy": {"ttl": seconds(365 * 86_400)}},
    "64 labels": {"labels": {f"key{number}": "" for number in range(64)}},
    "labels of 63 characters": {"labels": {"k" * 63: "v" * 63}},
    "labels in any script": {"labels": {"é世": "ß-_9"}},
}


@pytest.mark.parametrize("fields", WITHIN_BOUNDS.values(), ids=WITHIN_BOUNDS)
def test_a_subscription_within_bounds_is_accepted(
    pubsub: PubSub, fields: Mapping[str, Any]
) -> None:
    pubsub.subscription(pubsub.topic(), **fields)


@pytest.mark.parametrize("retention_s, given", [(0, "0s"), (599, "9m59s"), (2_678_401, "744h0m1s")])
def test_a_topics_retention_is_bounded(pubsub: PubSub, retention_s: int, given: str) -> None:
    with refused(INVALID, retention_text(given)):
        pubsub.topic(message_retention_duration=seconds(retention_s))


def test_a_storage_policy_names_a_region(pubsub: PubSub) -> None:
    with pytest.raises(INVALID, match="message_storage_policy"):
        pubsub.topic(message_storage_policy={"allowed_persistence_regions": []})


def test_a_kms_key_name_looks_like_one(pubsub: PubSub) -> None:
    with pytest.raises(INVALID, match="kms_key_name"):
        pubsub.topic(kms_key_name="my key")


@pytest.mark.parametrize("max_messages", [0, -1])
def test_a_pull_asks_for_at_least_one_message(pubsub: PubSub, max_messages: int) -> None:
    warehouse = pubsub.subscription(pubsub.topic())

    with refused(
        INVALID, "You have passed an invalid argument to the service (argument=max_messages)."
    ):
        pubsub.pull(warehouse, max_messages)


def test_acks_and_deadlines_need_ack_ids(pubsub: PubSub) -> None:
    warehouse = pubsub.subscription(pubsub.topic())

    with refused(INVALID, "You have not specified an ack ID in the request."):
        pubsub.acknowledge(warehouse)
    with refused(INVALID, "You have not specified an ack ID in the request."):
        pubsub.modify_ack_deadline(warehouse, 10)


@pytest.mark.parametrize("given", [-1, 601])
def test_a_modified_deadline_is_bounded(pubsub: PubSub, given: int) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    pubsub.publish(orders, b"x")

    with refused(
        INVALID,
        f"Invalid ack deadline given (ack_deadline={given}). "
        "The ack deadline must be between 0 and 600 seconds.",
    ):
        pubsub.modify_ack_deadline(warehouse, given, *pubsub.pull(warehouse))


def test_acks_of_more_than_half_a_mebibyte_are_refused(pubsub: PubSub) -> None:
    warehouse = pubsub.subscription(pubsub.topic())
    ack_ids = ["x" * 150] * 3_500

    calls: list[Callable[[], object]] = [
        lambda: pubsub.subscriber.acknowledge(subscription=warehouse, ack_ids=ack_ids),
        lambda: pubsub.subscriber.modify_ack_deadline(
            subscription=warehouse, ack_ids=ack_ids, ack_deadline_seconds=10
        ),
    ]
    for call in calls:
        with refused(INVALID, "Request payload size exceeds the limit: 524288 bytes."):
            call()


def test_errors_name_the_field_at_fault(pubsub: PubSub) -> None:
    with pytest.raises(INVALID) as refusal:
        pubsub.subscription(pubsub.topic(), ack_deadline_seconds=9)

    [bad_request] = refusal.value.details
    assert [each.field for each in bad_request.field_violations] == ["ack_deadline_seconds"]
