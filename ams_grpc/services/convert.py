"""Protobuf <-> records.

Every field of a topic or subscription that a caller sets is taken over, or ignored because it is
output-only (Pub/Sub: so are ``tags``, which are never returned), or refused here, with its path.
None is dropped without a word; a test walks over all of them.
"""

from __future__ import annotations

from typing import Final

from ams_grpc.broker.catalog import (
    DEFAULT_ACK_DEADLINE_S,
    DEFAULT_EXPIRATION_US,
    EXACTLY_ONCE_ACK_DEADLINE_S,
    Snapshot,
    Subscription,
    SubscriptionConfig,
    Topic,
    TopicConfig,
)
from ams_grpc.broker.errors import InvalidArgument, invalid_argument
from ams_grpc.broker.names import DELETED_TOPIC, SnapshotName, TopicName
from ams_grpc.broker.rules import default_retention_us
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.services import policies
from ams_grpc.services.time import (
    duration_pb,
    duration_us,
    is_moment,
    moment_us,
    optional_duration_pb,
    timestamp_pb,
    timestamp_us,
)

_GOOGLES_OWN: Final = "it needs services of Google that are not here"
_UNSUPPORTED_OF_TOPICS: Final = {"ingestion_data_source_settings": _GOOGLES_OWN}
_UNSUPPORTED_OF_SUBSCRIPTIONS: Final = {
    "bigquery_config": _GOOGLES_OWN,
    "bigtable_config": _GOOGLES_OWN,
}

# --- topics -------------------------------------------------------------------------------------


def topic_config(topic: pb.Topic) -> TopicConfig:
    """What a caller sets on a topic. Raises InvalidArgument, Unimplemented."""
    policies.refuse(topic, _UNSUPPORTED_OF_TOPICS)
    return TopicConfig(
        labels=dict(topic.labels),
        message_retention_us=(
            duration_us(topic.message_retention_duration, "message_retention_duration")
            if topic.HasField("message_retention_duration")
            else None
        ),
        kms_key_name=topic.kms_key_name,
        message_storage_policy=(
            policies.storage_policy(topic.message_storage_policy)
            if topic.HasField("message_storage_policy")
            else None
        ),
        schema_settings=(
            policies.schema_settings(topic.schema_settings)
            if topic.HasField("schema_settings")
            else None
        ),
        transforms=policies.transforms(topic.message_transforms),
    )


def topic_pb(topic: Topic) -> pb.Topic:
    """Pub/Sub: a topic on which nothing is set shows its name and nothing else."""
    config = topic.config
    return pb.Topic(
        name=str(topic.name),
        labels=config.labels,
        message_retention_duration=optional_duration_pb(config.message_retention_us),
        kms_key_name=config.kms_key_name,
        message_storage_policy=(
            policies.storage_policy_pb(config.message_storage_policy)
            if config.message_storage_policy is not None
            else None
        ),
        schema_settings=(
            policies.schema_settings_pb(config.schema_settings)
            if config.schema_settings is not None
            else None
        ),
        message_transforms=policies.transforms_pb(config.transforms),
    )


# --- subscriptions ------------------------------------------------------------------------------


def subscription_config(subscription: pb.Subscription) -> SubscriptionConfig:
    """What a caller sets on a subscription, with defaults in place of what it left out.

    Raises InvalidArgument, Unimplemented.
    """
    policies.refuse(subscription, _UNSUPPORTED_OF_SUBSCRIPTIONS)
    expiration_ttl_us = _expiration_ttl_us(subscription)
    return SubscriptionConfig(
        ack_deadline_s=subscription.ack_deadline_seconds
        or (
            EXACTLY_ONCE_ACK_DEADLINE_S
            if subscription.enable_exactly_once_delivery
            else DEFAULT_ACK_DEADLINE_S
        ),
        retain_acked_messages=subscription.retain_acked_messages,
        message_retention_us=(
            duration_us(subscription.message_retention_duration, "message_retention_duration")
            if subscription.HasField("message_retention_duration")
            else default_retention_us(expiration_ttl_us)
        ),
        labels=dict(subscription.labels),
        expiration_ttl_us=expiration_ttl_us,
        filter=subscription.filter,
        ordered=subscription.enable_message_ordering,
        exactly_once=subscription.enable_exactly_once_delivery,
        retry=(
            policies.retry_policy(subscription.retry_policy)
            if subscription.HasField("retry_policy")
            else None
        ),
        dead_letter=(
            policies.dead_letter_policy(subscription.dead_letter_policy)
            if subscription.HasField("dead_letter_policy")
            else None
        ),
        push=policies.push_config(subscription.push_config),
        export=(
            policies.storage_export(subscription.cloud_storage_config)
            if subscription.HasField("cloud_storage_config")
            else None
        ),
        transforms=policies.transforms(subscription.message_transforms),
    )


def subscription_pb(subscription: Subscription) -> pb.Subscription:
    """Pub/Sub: defaults are shown; so are an empty ``push_config`` (pull) and the state."""
    config = subscription.config
    return pb.Subscription(
        name=str(subscription.name),
        topic=_topic_name(subscription.topic_name),
        push_config=policies.push_config_pb(config),
        ack_deadline_seconds=config.ack_deadline_s,
        retain_acked_messages=config.retain_acked_messages,
        message_retention_duration=duration_pb(config.message_retention_us),
        labels=config.labels,
        expiration_policy=pb.ExpirationPolicy(ttl=optional_duration_pb(config.expiration_ttl_us)),
        detached=subscription.detached,
        topic_message_retention_duration=optional_duration_pb(subscription.topic_retention_us),
        state=(
            pb.Subscription.RESOURCE_ERROR
            if subscription.resource_error
            else pb.Subscription.ACTIVE
        ),
        filter=config.filter,
        enable_message_ordering=config.ordered,
        enable_exactly_once_delivery=config.exactly_once,
        retry_policy=None if config.retry is None else policies.retry_policy_pb(config.retry),
        dead_letter_policy=(
            None
            if config.dead_letter is None
            else policies.dead_letter_policy_pb(config.dead_letter)
        ),
        cloud_storage_config=(
            None
            if config.export is None
            else policies.storage_export_pb(config.export, subscription.resource_error)
        ),
        message_transforms=policies.transforms_pb(config.transforms),
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
            if not is_moment(request.time):
                raise InvalidArgument(
                    "An invalid time was specified in the SeekRequest. "
                    "See definition of Timestamp.",
                    field="time",
                )
            return moment_us(request.time)
        case _:
            raise InvalidArgument(
                "No target was specified in the SeekRequest. "
                "Must specify either a time or a snapshot"
            )


# --- what all share -----------------------------------------------------------------------------


def _topic_name(name: TopicName | None) -> str:
    return DELETED_TOPIC if name is None else str(name)
