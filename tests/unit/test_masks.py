"""Update masks: which paths there are, and what they do."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from ams_grpc.broker.catalog import SubscriptionConfig, TopicConfig
from ams_grpc.broker.errors import InvalidArgument, Unimplemented
from ams_grpc.broker.policies import DAY_US, SECOND_US, PushConfig, RetryPolicy
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.services import convert, masks

RESOURCES: list[type[Message]] = [pb.Topic, pb.Subscription, pb.Snapshot]


def topic() -> pb.Topic:
    return pb.Topic(
        name="projects/p/topics/orders",
        labels={"team": "a", "stage": "dev"},
        message_retention_duration=Duration(seconds=600),
        message_storage_policy=pb.MessageStoragePolicy(
            allowed_persistence_regions=["europe-west1", "europe-west2"]
        ),
    )


def subscription() -> pb.Subscription:
    return pb.Subscription(
        name="projects/p/subscriptions/billing",
        topic="projects/p/topics/orders",
        push_config=pb.PushConfig(),
        ack_deadline_seconds=60,
        retain_acked_messages=True,
        message_retention_duration=Duration(seconds=600),
        labels={"team": "a"},
        expiration_policy=pb.ExpirationPolicy(ttl=Duration(seconds=86_400)),
        state=pb.Subscription.ACTIVE,
    )


def snapshot() -> pb.Snapshot:
    return pb.Snapshot(
        name="projects/p/snapshots/friday",
        topic="projects/p/topics/orders",
        expire_time=Timestamp(seconds=1_800_000_000),
        labels={"team": "a"},
    )


def updated(update: pb.Subscription, *paths: str) -> SubscriptionConfig:
    """What a subscription is set to after an update."""
    return convert.subscription_config(masks.apply(subscription(), update, FieldMask(paths=paths)))


# --- which paths there are ----------------------------------------------------------------------


@pytest.mark.parametrize("resource", RESOURCES)
def test_a_mask_has_paths(resource: type[Message]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        masks.check(resource(), FieldMask())

    assert caught.value.message == (
        f"The update_mask in the Update{resource.DESCRIPTOR.name}Request must be set, "
        "and must contain a non-empty paths list."
    )
    assert caught.value.field == "update_mask"


UNKNOWN = ["", "*", ".", "ackDeadlineSeconds", "nothing", "labels.team", "labels.", "name.x"]


@pytest.mark.parametrize(
    "path",
    [
        *UNKNOWN,
        "pushConfig",
        "push_config.nothing",
        "push_config.",
        "push_config.oidc_token.audience",
        "expiration_policy.ttl.seconds",
        "message_retention_duration.seconds",
        "tags.a",
    ],
)
def test_unknown_paths_of_a_subscription_are_refused(path: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        masks.check(pb.Subscription(), FieldMask(paths=["labels", path]))

    assert caught.value.message == (
        f"Invalid update_mask provided in the UpdateSubscriptionRequest: '{path}' is not a known "
        "Subscription field. Note that field paths must be of the form 'push_config' rather than "
        "'pushConfig'."
    )


@pytest.mark.parametrize("path", [*UNKNOWN, "schemaSettings", "schema_settings.nothing"])
def test_unknown_paths_of_a_topic_are_refused(path: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        masks.check(pb.Topic(), FieldMask(paths=[path]))

    assert caught.value.message == (
        f"Invalid update_mask provided in the UpdateTopicRequest: '{path}' is not a known Topic "
        "field. Note that field paths must be of the form 'schema_settings' rather than "
        "'schemaSetings'."
    )


@pytest.mark.parametrize("path", [*UNKNOWN, "expireTime", "expire_time.seconds"])
def test_unknown_paths_of_a_snapshot_are_refused(path: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        masks.check(pb.Snapshot(), FieldMask(paths=[path]))

    assert caught.value.message == (
        f"Invalid update_mask provided in the UpdateSnapshotRequest: '{path}' is not a known "
        "Snapshot field. Note that field paths must be of the form 'expire_time' rather than "
        "'expireTime'."
    )


MUTABLE = {
    "Topic": {
        "labels",
        "message_storage_policy",
        "kms_key_name",
        "schema_settings",
        "message_retention_duration",
        "ingestion_data_source_settings",
        "message_transforms",
    },
    "Subscription": {
        "push_config",
        "bigquery_config",
        "cloud_storage_config",
        "bigtable_config",
        "ack_deadline_seconds",
        "retain_acked_messages",
        "message_retention_duration",
        "labels",
        "expiration_policy",
        "dead_letter_policy",
        "retry_policy",
        "enable_exactly_once_delivery",
        "message_transforms",
    },
    "Snapshot": {"labels", "expire_time"},
}

IMMUTABLE = [
    (resource, field.name)
    for resource in RESOURCES
    for field in resource.DESCRIPTOR.fields
    if field.name not in MUTABLE[resource.DESCRIPTOR.name]
]


@pytest.mark.parametrize("resource, path", IMMUTABLE)
def test_immutable_fields_stay(resource: type[Message], path: str) -> None:
    kind = resource.DESCRIPTOR.name
    with pytest.raises(InvalidArgument) as caught:
        masks.check(resource(), FieldMask(paths=[path]))

    assert caught.value.message == (
        f"Invalid update_mask provided in the Update{kind}Request: the '{path}' field in the "
        f"{kind} is not mutable."
    )


@pytest.mark.parametrize("resource", RESOURCES)
def test_all_other_fields_can_be_updated(resource: type[Message]) -> None:
    masks.check(resource(), FieldMask(paths=sorted(MUTABLE[resource.DESCRIPTOR.name])))


@pytest.mark.parametrize(
    "resource, path",
    [
        (pb.Topic, "schema_settings.schema"),
        (pb.Topic, "schema_settings.encoding"),
        (pb.Topic, "schema_settings.first_revision_id"),
        (pb.Topic, "schema_settings.last_revision_id"),
        (pb.Subscription, "expiration_policy.ttl"),
        (pb.Subscription, "push_config.push_endpoint"),
        (pb.Subscription, "dead_letter_policy.max_delivery_attempts"),
        (pb.Subscription, "retry_policy.minimum_backoff"),
        (pb.Subscription, "bigquery_config.table"),
        (pb.Subscription, "cloud_storage_config.bucket"),
    ],
)
def test_parts_of_some_fields_can_be_updated(resource: type[Message], path: str) -> None:
    masks.check(resource(), FieldMask(paths=[path]))


# --- what they do -------------------------------------------------------------------------------


def test_only_masked_fields_are_taken() -> None:
    update = pb.Subscription(ack_deadline_seconds=20, labels={"b": "c"}, filter="not read")

    result = masks.apply(subscription(), update, FieldMask(paths=["ack_deadline_seconds"]))

    expected = subscription()
    expected.ack_deadline_seconds = 20
    assert result == expected


def test_what_is_stored_and_the_request_stay_as_they_are() -> None:
    stored, update = subscription(), pb.Subscription(labels={"b": "c"})

    masks.apply(stored, update, FieldMask(paths=["labels", "expiration_policy.ttl"]))

    assert (stored, update) == (subscription(), pb.Subscription(labels={"b": "c"}))


def test_one_bad_path_spoils_the_update() -> None:
    with pytest.raises(InvalidArgument):
        updated(pb.Subscription(), "labels", "nothing")


def test_maps_are_replaced() -> None:
    assert updated(pb.Subscription(labels={"b": "c"}), "labels").labels == {"b": "c"}


def test_lists_are_replaced() -> None:
    policy = pb.MessageStoragePolicy(allowed_persistence_regions=["us-east1"])

    result = masks.apply(
        topic(),
        pb.Topic(message_storage_policy=policy),
        FieldMask(paths=["message_storage_policy"]),
    )

    assert result.message_storage_policy == policy


def test_a_path_may_be_given_twice() -> None:
    config = updated(pb.Subscription(labels={"b": "c"}), "labels", "labels")

    assert config.labels == {"b": "c"}


def test_an_absent_field_gets_its_default() -> None:
    defaults = updated(
        pb.Subscription(),
        "ack_deadline_seconds",
        "retain_acked_messages",
        "message_retention_duration",
        "labels",
        "expiration_policy",
        "push_config",
    )

    assert defaults == SubscriptionConfig()


def test_an_absent_field_is_removed_from_a_topic() -> None:
    paths = ["labels", "message_retention_duration", "message_storage_policy", "kms_key_name"]

    result = masks.apply(topic(), pb.Topic(), FieldMask(paths=paths))

    assert convert.topic_config(result) == TopicConfig()


def test_an_empty_expiration_policy_means_never() -> None:
    update = pb.Subscription(expiration_policy=pb.ExpirationPolicy())

    assert updated(update, "expiration_policy").expiration_ttl_us is None


def test_the_ttl_can_be_updated_alone() -> None:
    update = pb.Subscription(expiration_policy=pb.ExpirationPolicy(ttl=Duration(seconds=172_800)))

    assert updated(update, "expiration_policy.ttl").expiration_ttl_us == 2 * DAY_US


@pytest.mark.parametrize(
    "update", [pb.Subscription(), pb.Subscription(expiration_policy=pb.ExpirationPolicy())]
)
def test_a_policy_whose_ttl_alone_is_cleared_means_never(update: pb.Subscription) -> None:
    assert updated(update, "expiration_policy.ttl").expiration_ttl_us is None


@pytest.mark.parametrize(
    "paths",
    [
        ("expiration_policy", "expiration_policy.ttl"),
        ("expiration_policy.ttl", "expiration_policy"),
    ],
)
def test_a_field_outweighs_its_parts(paths: tuple[str, ...]) -> None:
    assert updated(pb.Subscription(), *paths).expiration_ttl_us == 31 * DAY_US


def test_a_snapshot_can_be_told_when_to_expire() -> None:
    update = pb.Snapshot(expire_time=Timestamp(seconds=1_800_000_001), labels={"not": "read"})

    result = masks.apply(snapshot(), update, FieldMask(paths=["expire_time"]))

    assert result.expire_time == update.expire_time
    assert result.labels == {"team": "a"}


# --- policies -----------------------------------------------------------------------------------


def test_a_policy_is_replaced_as_a_whole() -> None:
    stored = subscription()
    stored.retry_policy.minimum_backoff.seconds = 20
    update = pb.Subscription(retry_policy=pb.RetryPolicy(maximum_backoff=Duration(seconds=60)))

    result = masks.apply(stored, update, FieldMask(paths=["retry_policy"]))

    assert convert.subscription_config(result).retry == RetryPolicy(10 * SECOND_US, 60 * SECOND_US)


def test_a_part_of_a_policy_leaves_its_other_parts() -> None:
    stored = subscription()
    stored.retry_policy.minimum_backoff.seconds = 20
    update = pb.Subscription(retry_policy=pb.RetryPolicy(maximum_backoff=Duration(seconds=60)))

    result = masks.apply(stored, update, FieldMask(paths=["retry_policy.maximum_backoff"]))

    assert convert.subscription_config(result).retry == RetryPolicy(20 * SECOND_US, 60 * SECOND_US)


def test_a_part_brings_a_policy_that_was_not_there() -> None:
    update = pb.Subscription(retry_policy=pb.RetryPolicy(minimum_backoff=Duration(seconds=1)))

    config = updated(update, "retry_policy.minimum_backoff")

    assert config.retry == RetryPolicy(SECOND_US, 600 * SECOND_US)


def test_an_absent_policy_is_removed() -> None:
    stored = subscription()
    stored.retry_policy.SetInParent()
    stored.dead_letter_policy.dead_letter_topic = "projects/p/topics/dead"

    result = masks.apply(
        stored, pb.Subscription(), FieldMask(paths=["retry_policy", "dead_letter_policy"])
    )

    assert convert.subscription_config(result) == convert.subscription_config(subscription())


def test_the_endpoint_can_be_updated_alone() -> None:
    stored = subscription()
    stored.push_config.push_endpoint = "https://example.com/a"
    stored.push_config.attributes["x-goog-version"] = "v1beta1"
    update = pb.Subscription(push_config=pb.PushConfig(push_endpoint="https://example.com/b"))

    result = masks.apply(stored, update, FieldMask(paths=["push_config.push_endpoint"]))

    assert convert.subscription_config(result).push == PushConfig(
        "https://example.com/b", {"x-goog-version": "v1beta1"}
    )


def test_subscribers_pull_again_when_the_push_config_is_cleared() -> None:
    stored = subscription()
    stored.push_config.push_endpoint = "https://example.com/a"

    result = masks.apply(stored, pb.Subscription(), FieldMask(paths=["push_config"]))

    assert convert.subscription_config(result).push is None


@pytest.mark.parametrize("path", ["bigquery_config", "bigquery_config.table", "bigtable_config"])
def test_setting_what_is_not_supported_is_refused(path: str) -> None:
    update = pb.Subscription(
        bigquery_config=pb.BigQueryConfig(table="p.d.t"),
        bigtable_config=pb.BigtableConfig(table="t"),
    )

    with pytest.raises(Unimplemented) as caught:
        updated(update, path)

    assert caught.value.field == path.partition(".")[0]


@pytest.mark.parametrize(
    "path",
    [
        "push_config",
        "push_config.push_endpoint",
        "push_config.attributes",
        "bigquery_config",
        "bigquery_config.table",
        "cloud_storage_config.bucket",
        "bigtable_config",
        "dead_letter_policy",
        "dead_letter_policy.max_delivery_attempts",
        "retry_policy",
        "retry_policy.minimum_backoff",
        "enable_exactly_once_delivery",
        "message_transforms",
    ],
)
def test_clearing_what_is_clear_changes_nothing(path: str) -> None:
    assert updated(pb.Subscription(), path) == convert.subscription_config(subscription())


def test_setting_a_field_beside_the_mask_is_not_read() -> None:
    update = pb.Subscription(
        ack_deadline_seconds=20,
        retry_policy=pb.RetryPolicy(),
        bigquery_config=pb.BigQueryConfig(table="p.d.t"),
    )

    config = updated(update, "ack_deadline_seconds")

    assert (config.ack_deadline_s, config.retry) == (20, None)
