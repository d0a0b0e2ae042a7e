"""Protobuf <-> records.

Every field of a topic or subscription that a caller sets is taken over, or ignored because it is
output-only (Pub/Sub: so are ``tags``, which are never returned), or refused here, with its path.
None is dropped without a word; a test walks over all of them.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from ams_grpc.broker.catalog import (
    DEFAULT_ACK_DEADLINE_S,
    DEFAULT_EXPIRATION_US,
    SECOND_US,
    MessageStoragePolicy,
    Snapshot,
    Subscription,
    SubscriptionConfig,
    Topic,
    TopicConfig,
)
from ams_grpc.broker.errors import InvalidArgument, Unimplemented, invalid_argument
from ams_grpc.broker.names import DELETED_TOPIC, SnapshotName, TopicName
from ams_grpc.broker.rules import default_retention_us
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb

_UNSUPPORTED_OF_TOPICS: Final = frozenset(
    {"schema_settings", "ingestion_data_source_settings", "message_transforms"}
)
_UNSUPPORTED_OF_SUBSCRIPTIONS: Final = frozenset(
    {
        "push_config",
        "bigquery_config",
        "cloud_storage_config",
        "bigtable_config",
        "enable_message_ordering",
        "filter",
        "dead_letter_policy",
        "retry_policy",
        "enable_exactly_once_delivery",
        "message_transforms",
    }
)

# --- topics -------------------------------------------------------------------------------------


def topic_config(topic: pb.Topic) -> TopicConfig:
    """What a caller sets on a topic. Raises InvalidArgument, Unimplemented."""
    _refuse(topic, _UNSUPPORTED_OF_TOPICS)
    return TopicConfig(
        labels=dict(topic.labels),
        message_retention_us=(
            duration_us(topic.message_retention_duration, "message_retention_duration")
            if topic.HasField("message_retention_duration")
            else None
        ),
        kms_key_name=topic.kms_key_name,
        message_storage_policy=(
            _storage_policy(topic.message_storage_policy)
            if topic.HasField("message_storage_policy")
            else None
        ),
    )


def topic_pb(topic: Topic) -> pb.Topic:
    """Pub/Sub: a topic on which nothing is set shows its name and nothing else."""
    config = topic.config
    return pb.Topic(
        name=str(topic.name),
        labels=config.labels,
        message_retention_duration=_optional_duration_pb(config.message_retention_us),
        kms_key_name=config.kms_key_name,
        message_storage_policy=(
            _storage_policy_pb(config.message_storage_policy)
            if config.message_storage_policy is not None
            else None
        ),
    )


def _storage_policy(policy: pb.MessageStoragePolicy) -> MessageStoragePolicy:
    return MessageStoragePolicy(
        tuple(policy.allowed_persistence_regions), policy.enforce_in_transit
    )


def _storage_policy_pb(policy: MessageStoragePolicy) -> pb.MessageStoragePolicy:
    return pb.MessageStoragePolicy(
        allowed_persistence_regions=policy.allowed_persistence_regions,
        enforce_in_transit=policy.enforce_in_transit,
    )


# --- subscriptions ------------------------------------------------------------------------------


def subscription_config(subscription: pb.Subscription) -> SubscriptionConfig:
    """What a caller sets on a subscription, with defaults in place of what it left out.

    Raises InvalidArgument, Unimplemented.
    """
    _refuse(subscription, _UNSUPPORTED_OF_SUBSCRIPTIONS)
    expiration_ttl_us = _expiration_ttl_us(subscription)
    return SubscriptionConfig(
        ack_deadline_s=subscription.ack_deadline_seconds or DEFAULT_ACK_DEADLINE_S,
        retain_acked_messages=subscription.retain_acked_messages,
        message_retention_us=(
            duration_us(subscription.message_retention_duration, "message_retention_duration")
            if subscription.HasField("message_retention_duration")
            else default_retention_us(expiration_ttl_us)
        ),
        labels=dict(subscription.labels),
        expiration_ttl_us=expiration_ttl_us,
    )


def subscription_pb(subscription: Subscription) -> pb.Subscription:
    """Pub/Sub: defaults are shown; so are an empty ``push_config`` (pull) and the state."""
    config = subscription.config
    return pb.Subscription(
        name=str(subscription.name),
        topic=_topic_name(subscription.topic_name),
        push_config=pb.PushConfig(),
        ack_deadline_seconds=config.ack_deadline_s,
        retain_acked_messages=config.retain_acked_messages,
        message_retention_duration=duration_pb(config.message_retention_us),
        labels=config.labels,
        expiration_policy=pb.ExpirationPolicy(ttl=_optional_duration_pb(config.expiration_ttl_us)),
        detached=subscription.detached,
        topic_message_retention_duration=_optional_duration_pb(subscription.topic_retention_us),
        state=pb.Subscription.ACTIVE,
    )


def _expiration_ttl_us(subscription: pb.Subscription) -> int | None:
    """Pub/Sub: no policy means 31 days, a policy without ttl means never."""
    if not subscription.HasField("expiration_policy"):
        return DEFAULT_EXPIRATION_US
    policy = subscription.expiration_policy
    return duration_us(policy.ttl, "expiration_policy.ttl") if policy.HasField("ttl") else None


# --- snapshots and seeks ------------------------------------------------------------------------


def snapshot_pb(snapshot: Snapshot) -> pb.Snapshot:
    """Pub/Sub: name, topic, expire time in milliseconds, labels."""
    return pb.Snapshot(
        name=str(snapshot.name),
        topic=_topic_name(snapshot.topic_name),
        expire_time=timestamp_pb(snapshot.expire_us - snapshot.expire_us % 1_000),
        labels=snapshot.labels,
    )


def snapshot_expire_us(snapshot: pb.Snapshot) -> int:
    """The expire time in an update. It has no default, so it can be moved but not cleared."""
    if not snapshot.HasField("expire_time"):
        raise invalid_argument("expire_time", field="expire_time")
    return timestamp_us(snapshot.expire_time, "expire_time")


def seek_target(request: pb.SeekRequest) -> int | SnapshotName:
    """Where to seek: a moment, or a snapshot. Raises InvalidArgument."""
    match request.WhichOneof("target"):
        case "snapshot":
            return SnapshotName.parse(request.snapshot)
        case "time":
            if not _is_moment(request.time):
                raise InvalidArgument(
                    "An invalid time was specified in the SeekRequest. "
                    "See definition of Timestamp.",
                    field="time",
                )
            return _moment_us(request.time)
        case _:
            raise InvalidArgument(
                "No target was specified in the SeekRequest. "
                "Must specify either a time or a snapshot"
            )


# --- time ---------------------------------------------------------------------------------------

_MAX_DURATION_S: Final = 315_576_000_000
_MIN_TIMESTAMP_S: Final = -62_135_596_800
_MAX_TIMESTAMP_S: Final = 253_402_300_799
_MAX_NANOS: Final = 999_999_999


def duration_us(duration: Duration, field: str) -> int:
    """A duration in microseconds; finer parts are cut off.

    It may be negative: bounds are the broker's. Raises InvalidArgument, naming ``field``, for what
    google.protobuf.Duration does not allow.
    """
    seconds, nanos = duration.seconds, duration.nanos
    if abs(seconds) > _MAX_DURATION_S or abs(nanos) > _MAX_NANOS or seconds * nanos < 0:
        raise invalid_argument(field, field=field)
    return seconds * SECOND_US + int(nanos / 1_000)


def duration_pb(duration_us: int) -> Duration:
    """``duration_us`` is not negative."""
    seconds, micros = divmod(duration_us, SECOND_US)
    return Duration(seconds=seconds, nanos=micros * 1_000)


def _optional_duration_pb(duration_us: int | None) -> Duration | None:
    return None if duration_us is None else duration_pb(duration_us)


def timestamp_us(timestamp: Timestamp, field: str) -> int:
    """A moment in microseconds; finer parts are cut off. Raises InvalidArgument."""
    if not _is_moment(timestamp):
        raise invalid_argument(field, field=field)
    return _moment_us(timestamp)


def timestamp_pb(time_us: int) -> Timestamp:
    seconds, micros = divmod(time_us, SECOND_US)
    return Timestamp(seconds=seconds, nanos=micros * 1_000)


def _is_moment(timestamp: Timestamp) -> bool:
    """google.protobuf.Timestamp: years 1 to 9999, nanoseconds not negative."""
    return (
        _MIN_TIMESTAMP_S <= timestamp.seconds <= _MAX_TIMESTAMP_S
        and 0 <= timestamp.nanos <= _MAX_NANOS
    )


def _moment_us(timestamp: Timestamp) -> int:
    return timestamp.seconds * SECOND_US + timestamp.nanos // 1_000


# --- what all share -----------------------------------------------------------------------------


def _topic_name(name: TopicName | None) -> str:
    return DELETED_TOPIC if name is None else str(name)


def check_push_config(config: pb.PushConfig) -> None:
    """Pub/Sub: an empty one says that subscribers pull. Raises Unimplemented for any other."""
    for part, _ in config.ListFields():
        raise _not_supported(f"push_config.{part.name}")


def _refuse(message: Message, unsupported: AbstractSet[str]) -> None:
    """Raises Unimplemented if a field out of ``unsupported`` is set."""
    for field, value in message.ListFields():
        if field.name == "push_config":
            check_push_config(value)
        elif field.name in unsupported:
            raise _not_supported(field.name)


def _not_supported(path: str) -> Unimplemented:
    return Unimplemented(
        f"The field '{path}' is not supported by this version of the service.", field=path
    )
