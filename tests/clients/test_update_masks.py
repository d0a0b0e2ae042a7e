"""Updates: which fields a mask may name, and what naming one does."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import pytest
from google.api_core import exceptions
from google.protobuf.field_mask_pb2 import FieldMask
from google.pubsub_v1 import types

from tests.clients.pubsub import PubSub

DAY = dt.timedelta(days=1)
HOUR = dt.timedelta(hours=1)
SECOND = dt.timedelta(seconds=1)


def update_topic(pubsub: PubSub, paths: Sequence[str], **fields: Any) -> Any:
    return pubsub.publisher.update_topic(
        request={"topic": fields, "update_mask": FieldMask(paths=paths)}
    )


def update_subscription(pubsub: PubSub, paths: Sequence[str], **fields: Any) -> Any:
    return pubsub.subscriber.update_subscription(
        request={"subscription": fields, "update_mask": FieldMask(paths=paths)}
    )


def update_snapshot(pubsub: PubSub, paths: Sequence[str], **fields: Any) -> Any:
    return pubsub.subscriber.update_snapshot(
        request={"snapshot": fields, "update_mask": FieldMask(paths=paths)}
    )


# --- what a mask does -------------------------------------------------------------------------------


def test_only_the_fields_of_the_mask_change(pubsub: PubSub) -> None:
    orders = pubsub.topic(labels={"a": "1"}, message_retention_duration=HOUR)

    updated = update_topic(
        pubsub, ["labels"], name=orders, labels={"b": "2"}, message_retention_duration=DAY
    )

    assert updated == types.Topic(name=orders, labels={"b": "2"}, message_retention_duration=HOUR)
    assert pubsub.publisher.get_topic(topic=orders) == updated


def test_every_mutable_field_of_a_topic_can_change(pubsub: PubSub) -> None:
    changed = types.Topic(
        name=pubsub.topic(),
        labels={"b": "2"},
        message_retention_duration=DAY,
        kms_key_name="projects/p/locations/eu/keyRings/r/cryptoKeys/k",
        message_storage_policy={"allowed_persistence_regions": ["europe-north1"]},
    )
    mask = FieldMask(
        paths=["labels", "message_retention_duration", "kms_key_name", "message_storage_policy"]
    )

    pubsub.publisher.update_topic(request={"topic": changed, "update_mask": mask})

    assert pubsub.publisher.get_topic(topic=changed.name) == changed


def test_every_mutable_field_of_a_subscription_can_change(pubsub: PubSub) -> None:
    warehouse = pubsub.subscription(pubsub.topic())
    dead = pubsub.topic("dead")
    changed = pubsub.subscriber.get_subscription(subscription=warehouse)
    changed.labels = {"b": "2"}
    changed.ack_deadline_seconds = 60
    changed.retain_acked_messages = True
    changed.message_retention_duration = DAY
    changed.expiration_policy = {"ttl": 2 * DAY}
    changed.retry_policy = {"minimum_backoff": 1 * SECOND, "maximum_backoff": 60 * SECOND}
    changed.dead_letter_policy = {"dead_letter_topic": dead, "max_delivery_attempts": 7}
    changed.enable_exactly_once_delivery = True
    mask = FieldMask(
        paths=[
            "labels",
            "ack_deadline_seconds",
            "retain_acked_messages",
            "message_retention_duration",
            "expiration_policy",
            "retry_policy",
            "dead_letter_policy",
            "enable_exactly_once_delivery",
            "push_config",
        ]
    )

    pubsub.subscriber.update_subscription(request={"subscription": changed, "update_mask": mask})

    assert pubsub.subscriber.get_subscription(subscription=warehouse) == changed


def test_a_field_that_the_mask_names_and_the_update_lacks_gets_its_default(
    pubsub: PubSub,
) -> None:
    orders = pubsub.topic(
        labels={"a": "1"},
        message_retention_duration=HOUR,
        kms_key_name="projects/p/locations/eu/keyRings/r/cryptoKeys/k",
        message_storage_policy={"allowed_persistence_regions": ["europe-north1"]},
    )
    plain = pubsub.subscriber.get_subscription(
        subscription=pubsub.subscription(pubsub.topic("other"), "plain")
    )
    warehouse = pubsub.subscription(
        orders,
        labels={"a": "1"},
        ack_deadline_seconds=60,
        retain_acked_messages=True,
        message_retention_duration=DAY,
        expiration_policy={},
        retry_policy={},
        dead_letter_policy={"dead_letter_topic": orders},
        enable_exactly_once_delivery=True,
    )

    topic = update_topic(
        pubsub,
        ["labels", "message_retention_duration", "kms_key_name", "message_storage_policy"],
        name=orders,
    )
    subscription = update_subscription(
        pubsub,
        [
            "labels",
            "ack_deadline_seconds",
            "retain_acked_messages",
            "message_retention_duration",
            "expiration_policy",
            "retry_policy",
            "dead_letter_policy",
            "enable_exactly_once_delivery",
        ],
        name=warehouse,
    )

    assert topic == types.Topic(name=orders)
    plain.name, plain.topic = warehouse, orders
    assert subscription == plain


def test_the_time_to_live_can_be_named_by_itself(pubsub: PubSub) -> None:
    warehouse = pubsub.subscription(pubsub.topic())

    updated = update_subscription(
        pubsub, ["expiration_policy.ttl"], name=warehouse, expiration_policy={"ttl": 9 * DAY}
    )

    assert updated.expiration_policy.ttl == 9 * DAY


def test_one_bad_value_keeps_the_whole_update_back(pubsub: PubSub) -> None:
    warehouse = pubsub.subscription(pubsub.topic())
    before = pubsub.subscriber.get_subscription(subscription=warehouse)

    with pytest.raises(exceptions.InvalidArgument):
        update_subscription(
            pubsub,
            ["labels", "ack_deadline_seconds"],
            name=warehouse,
            labels={"b": "2"},
            ack_deadline_seconds=9,
        )

    assert pubsub.subscriber.get_subscription(subscription=warehouse) == before


def test_a_changed_deadline_counts_for_the_next_delivery(lenient_pubsub: PubSub) -> None:
    pubsub = lenient_pubsub
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, ack_deadline_seconds=600)
    assert pubsub.pull_now(warehouse) == []

    update_subscription(pubsub, ["ack_deadline_seconds"], name=warehouse, ack_deadline_seconds=1)
    pubsub.publish(orders, b"hello")

    assert pubsub.pull(warehouse)[0].message == pubsub.pull(warehouse)[0].message


# --- which masks are refused ------------------------------------------------------------------------

UPDATES = {
    "topic": (update_topic, "UpdateTopicRequest"),
    "subscription": (update_subscription, "UpdateSubscriptionRequest"),
    "snapshot": (update_snapshot, "UpdateSnapshotRequest"),
}
every_kind = pytest.mark.parametrize("kind", UPDATES)


def resource(pubsub: PubSub, kind: str) -> str:
    """A topic, a subscription or a snapshot."""
    topic = pubsub.topic()
    if kind == "topic":
        return topic
    subscription = pubsub.subscription(topic)
    return subscription if kind == "subscription" else pubsub.snapshot(subscription)


@every_kind
def test_an_update_needs_a_mask(pubsub: PubSub, kind: str) -> None:
    update, request = UPDATES[kind]

    with pytest.raises(exceptions.InvalidArgument) as refusal:
        update(pubsub, [], name=resource(pubsub, kind))

    assert refusal.value.message == (
        f"The update_mask in the {request} must be set, and must contain a non-empty paths list."
    )


UNKNOWN = [
    ("subscription", "ackDeadlineSeconds"),
    ("subscription", "nonsense"),
    ("subscription", "labels.a"),
    ("subscription", "expiration_policy.nonsense"),
    ("subscription", "*"),
    ("topic", "messageRetentionDuration"),
    ("topic", "nonsense"),
    ("topic", "labels.a"),
    ("topic", "message_retention_duration.seconds"),
    ("snapshot", "nonsense"),
    ("snapshot", "labels.a"),
]
HOW_PATHS_LOOK = {
    "subscription": "'push_config' rather than 'pushConfig'.",
    "topic": "'schema_settings' rather than 'schemaSetings'.",
}


@pytest.mark.parametrize("kind, path", UNKNOWN)
def test_an_unknown_path_is_refused(pubsub: PubSub, kind: str, path: str) -> None:
    update, request = UPDATES[kind]

    with pytest.raises(exceptions.InvalidArgument) as refusal:
        update(pubsub, ["labels", path], name=resource(pubsub, kind))

    assert refusal.value.message.startswith(
        f"Invalid update_mask provided in the {request}: '{path}' is not a known "
        f"{kind.capitalize()} field. Note that field paths must be of the form "
        f"{HOW_PATHS_LOOK.get(kind, '')}"
    )


IMMUTABLE = {
    "topic": ["name", "satisfies_pzs", "state", "tags"],
    "subscription": [
        "name",
        "topic",
        "filter",
        "enable_message_ordering",
        "detached",
        "state",
        "topic_message_retention_duration",
        "analytics_hub_subscription_info",
        "tags",
    ],
    "snapshot": ["name", "topic"],
}


@pytest.mark.parametrize(
    "kind, path", [(kind, path) for kind, paths in IMMUTABLE.items() for path in paths]
)
def test_an_immutable_path_is_refused(pubsub: PubSub, kind: str, path: str) -> None:
    update, request = UPDATES[kind]

    with pytest.raises(exceptions.InvalidArgument) as refusal:
        update(pubsub, [path], name=resource(pubsub, kind))

    assert refusal.value.message == (
        f"Invalid update_mask provided in the {request}: the '{path}' field in the "
        f"{kind.capitalize()} is not mutable."
    )


@every_kind
def test_a_bad_mask_is_reported_before_a_missing_resource(pubsub: PubSub, kind: str) -> None:
    update, _ = UPDATES[kind]
    missing = f"{pubsub.path}/{kind}s/nowhere"

    with pytest.raises(exceptions.InvalidArgument):
        update(pubsub, ["nonsense"], name=missing)
    with pytest.raises(exceptions.NotFound, match=r"Resource not found \(resource=nowhere\)\."):
        update(pubsub, ["labels"], name=missing)


@every_kind
def test_the_name_in_an_update_is_checked(pubsub: PubSub, kind: str) -> None:
    update, _ = UPDATES[kind]

    with pytest.raises(exceptions.InvalidArgument, match=r"Invalid resource name given \(name=\)"):
        update(pubsub, ["labels"], name="")
