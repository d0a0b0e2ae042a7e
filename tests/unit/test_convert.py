"""Protobuf <-> records: nothing a caller sets is lost without a word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from ams_grpc.broker.catalog import Snapshot, Subscription, SubscriptionConfig, Topic, TopicConfig
from ams_grpc.broker.errors import InvalidArgument, Unimplemented
from ams_grpc.broker.names import SchemaName, SnapshotName, SubscriptionName, TopicName
from ams_grpc.broker.policies import (
    DAY_US,
    SECOND_US,
    Encoding,
    MessageStoragePolicy,
    SchemaSettings,
)
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.services import convert, time

TOPIC = TopicName("p", "orders")
SUBSCRIPTION = SubscriptionName("p", "billing")
SNAPSHOT = SnapshotName("p", "friday")


def topic(config: TopicConfig | None = None) -> Topic:
    return Topic(id=1, name=TOPIC, version=1, config=config or TopicConfig())


def subscription(config: SubscriptionConfig | None = None, **known: Any) -> Subscription:
    record: dict[str, Any] = {
        "id": 1,
        "name": SUBSCRIPTION,
        "version": 1,
        "topic_id": 1,
        "topic_name": TOPIC,
        "topic_retention_us": None,
        "start_seq": 0,
        "detached": False,
        "config": config or SubscriptionConfig(),
    }
    return Subscription(**record | known)


# --- every field has its fate -------------------------------------------------------------------

IDENTITY = {"name", "topic"}
"""Names: parsed by the servicers, returned from the record."""

IGNORED_OF_TOPICS = {"satisfies_pzs", "state", "tags"}
IGNORED_OF_SUBSCRIPTIONS = {
    "detached",
    "topic_message_retention_duration",
    "state",
    "analytics_hub_subscription_info",
    "tags",
}
"""Pub/Sub: output-only, or (tags) input-only and never returned."""

RESOURCES: list[tuple[type[Message], set[str]]] = [
    (pb.Topic, IGNORED_OF_TOPICS),
    (pb.Subscription, IGNORED_OF_SUBSCRIPTIONS),
]

FIELDS = [
    pytest.param(resource, field, ignored, id=f"{resource.DESCRIPTOR.name.lower()}.{field.name}")
    for resource, ignored in RESOURCES
    for field in resource.DESCRIPTOR.fields
    if field.name not in IDENTITY
]


@pytest.mark.parametrize("resource, field, ignored", FIELDS)
def test_a_field_is_kept_or_output_only_or_refused(
    resource: type[Message], field: FieldDescriptor, ignored: set[str]
) -> None:
    request = resource()
    fill(request, field)

    fate = fate_of(request, field)

    assert fate == "ignored" if field.name in ignored else fate in {"kept", "refused"}


def fate_of(request: Message, field: FieldDescriptor) -> str:
    try:
        answer = stored_and_shown(request)
    except Unimplemented as refusal:
        path = refusal.field
        return "refused" if path.partition(".")[0] == field.name else f"refused for {path}"
    kept = getattr(answer, field.name) == getattr(request, field.name)
    return "kept" if kept else "ignored"


def stored_and_shown(request: Message) -> Message:
    if isinstance(request, pb.Topic):
        return convert.topic_pb(topic(convert.topic_config(request)))
    assert isinstance(request, pb.Subscription)
    return convert.subscription_pb(subscription(convert.subscription_config(request)))


def fill(message: Message, field: FieldDescriptor) -> None:
    """Set a field, and all that is in it, to something that is not its default."""
    value = getattr(message, field.name)
    if field.message_type and field.message_type.GetOptions().map_entry:
        if field.message_type.fields_by_name["value"].message_type:
            value["key"].SetInParent()
        else:
            value["key"] = "value"
    elif field.message_type:
        inner = value.add() if field.is_repeated else value
        inner.SetInParent()
        for part in field.message_type.fields:
            fill(inner, part)
    elif field.is_repeated:
        value.append(scalar(field))
    else:
        setattr(message, field.name, scalar(field))


def scalar(field: FieldDescriptor) -> object:
    if field.enum_type:
        return field.enum_type.values[-1].number
    if field.containing_type is pb.SchemaSettings.DESCRIPTOR and field.name == "schema":
        return "projects/p/schemas/order"
    kinds: dict[int, object] = {
        FieldDescriptor.CPPTYPE_BOOL: True,
        FieldDescriptor.CPPTYPE_STRING: b"x" if field.type == FieldDescriptor.TYPE_BYTES else "x",
    }
    return kinds.get(field.cpp_type, 7_000)


@pytest.mark.parametrize(
    "request_of_caller, path",
    [
        (
            pb.Topic(ingestion_data_source_settings=pb.IngestionDataSourceSettings()),
            "ingestion_data_source_settings",
        ),
        (pb.Topic(message_transforms=[pb.MessageTransform()]), "message_transforms"),
        (
            pb.Subscription(push_config=pb.PushConfig(push_endpoint="https://example.com")),
            "push_config.push_endpoint",
        ),
        (
            pb.Subscription(push_config=pb.PushConfig(attributes={"x-goog-version": "v1"})),
            "push_config.attributes",
        ),
        (
            pb.Subscription(push_config=pb.PushConfig(oidc_token=pb.PushConfig.OidcToken())),
            "push_config.oidc_token",
        ),
        (
            pb.Subscription(push_config=pb.PushConfig(no_wrapper=pb.PushConfig.NoWrapper())),
            "push_config.no_wrapper",
        ),
        (
            pb.Subscription(
                push_config=pb.PushConfig(pubsub_wrapper=pb.PushConfig.PubsubWrapper())
            ),
            "push_config.pubsub_wrapper",
        ),
        (pb.Subscription(bigquery_config=pb.BigQueryConfig()), "bigquery_config"),
        (pb.Subscription(cloud_storage_config=pb.CloudStorageConfig()), "cloud_storage_config"),
        (pb.Subscription(bigtable_config=pb.BigtableConfig()), "bigtable_config"),
        (pb.Subscription(enable_message_ordering=True), "enable_message_ordering"),
        (pb.Subscription(filter="attributes:x"), "filter"),
        (pb.Subscription(dead_letter_policy=pb.DeadLetterPolicy()), "dead_letter_policy"),
        (pb.Subscription(retry_policy=pb.RetryPolicy()), "retry_policy"),
        (pb.Subscription(enable_exactly_once_delivery=True), "enable_exactly_once_delivery"),
        (pb.Subscription(message_transforms=[pb.MessageTransform()]), "message_transforms"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_supported_yet_is_refused_with_its_path(
    request_of_caller: Message, path: str
) -> None:
    with pytest.raises(Unimplemented) as caught:
        stored_and_shown(request_of_caller)

    assert caught.value.field == path
    assert caught.value.message == (
        f"The field '{path}' is not supported by this version of the service."
    )


def test_features_that_are_switched_off_are_not_refused() -> None:
    request = pb.Subscription(
        push_config=pb.PushConfig(),
        enable_message_ordering=False,
        filter="",
        enable_exactly_once_delivery=False,
    )

    assert convert.subscription_config(request) == SubscriptionConfig()


# --- topics -------------------------------------------------------------------------------------


def test_a_plain_topic_shows_only_its_name() -> None:
    assert convert.topic_pb(topic()) == pb.Topic(name="projects/p/topics/orders")


def test_an_empty_topic_has_nothing_set() -> None:
    assert convert.topic_config(pb.Topic(name=str(TOPIC))) == TopicConfig()


def test_a_storage_policy_without_regions_is_still_one() -> None:
    request = pb.Topic(message_storage_policy=pb.MessageStoragePolicy())

    assert convert.topic_config(request).message_storage_policy == MessageStoragePolicy(())


schema_settings = st.builds(
    SchemaSettings,
    schema=st.none() | st.just(SchemaName("p", "order")),
    encoding=st.sampled_from(Encoding),
    first_revision_id=st.text(),
    last_revision_id=st.text(),
)
labels = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)
durations_us = st.integers(0, 400 * DAY_US)

topic_configs = st.builds(
    TopicConfig,
    labels=labels,
    message_retention_us=st.none() | durations_us,
    kms_key_name=st.text(),
    message_storage_policy=st.none()
    | st.builds(MessageStoragePolicy, st.lists(st.text(), max_size=3).map(tuple), st.booleans()),
    schema_settings=st.none() | schema_settings,
)


@given(config=topic_configs)
def test_what_is_set_on_a_topic_is_shown(config: TopicConfig) -> None:
    assert convert.topic_config(convert.topic_pb(topic(config))) == config


# --- subscriptions ------------------------------------------------------------------------------


def test_a_plain_subscription_shows_its_defaults() -> None:
    shown = convert.subscription_pb(subscription(convert.subscription_config(pb.Subscription())))

    assert shown == pb.Subscription(
        name="projects/p/subscriptions/billing",
        topic="projects/p/topics/orders",
        push_config=pb.PushConfig(),
        ack_deadline_seconds=10,
        message_retention_duration=Duration(seconds=604_800),
        expiration_policy=pb.ExpirationPolicy(ttl=Duration(seconds=2_678_400)),
        state=pb.Subscription.ACTIVE,
    )


def test_an_empty_push_config_is_shown() -> None:
    assert convert.subscription_pb(subscription()).HasField("push_config")


def test_an_ack_deadline_of_0_is_10_seconds() -> None:
    assert convert.subscription_config(pb.Subscription()).ack_deadline_s == 10


def test_an_empty_expiration_policy_means_never_and_is_shown_so() -> None:
    config = convert.subscription_config(pb.Subscription(expiration_policy=pb.ExpirationPolicy()))
    shown = convert.subscription_pb(subscription(config))

    assert config.expiration_ttl_us is None
    assert shown.HasField("expiration_policy")
    assert not shown.expiration_policy.HasField("ttl")


def test_a_ttl_of_0_is_not_the_same_as_none() -> None:
    policy = pb.ExpirationPolicy(ttl=Duration())

    assert (
        convert.subscription_config(pb.Subscription(expiration_policy=policy)).expiration_ttl_us
        == 0
    )


def test_by_default_messages_are_kept_no_longer_than_the_subscription_lives() -> None:
    policy = pb.ExpirationPolicy(ttl=Duration(seconds=86_400))

    config = convert.subscription_config(pb.Subscription(expiration_policy=policy))

    assert config.message_retention_us == DAY_US


def test_the_retention_of_the_topic_is_shown() -> None:
    shown = convert.subscription_pb(subscription(topic_retention_us=1_500_000))

    assert shown.topic_message_retention_duration == Duration(seconds=1, nanos=500_000_000)


def test_a_topic_without_retention_shows_none_on_its_subscriptions() -> None:
    shown = convert.subscription_pb(subscription(topic_retention_us=None))

    assert not shown.HasField("topic_message_retention_duration")


def test_a_deleted_topic_is_shown_as_such() -> None:
    assert convert.subscription_pb(subscription(topic_name=None)).topic == "_deleted-topic_"


def test_a_detached_subscription_keeps_its_topic() -> None:
    shown = convert.subscription_pb(subscription(detached=True))

    assert (shown.detached, shown.topic) == (True, "projects/p/topics/orders")


subscription_configs = st.builds(
    SubscriptionConfig,
    ack_deadline_s=st.integers(1, 600),
    retain_acked_messages=st.booleans(),
    message_retention_us=durations_us,
    labels=labels,
    expiration_ttl_us=st.none() | durations_us,
)


@given(config=subscription_configs)
def test_what_is_set_on_a_subscription_is_shown(config: SubscriptionConfig) -> None:
    shown = convert.subscription_pb(subscription(config))

    assert convert.subscription_config(shown) == config


# --- snapshots and seeks ------------------------------------------------------------------------


def snapshot(**known: Any) -> Snapshot:
    record: dict[str, Any] = {
        "id": 1,
        "name": SNAPSHOT,
        "topic_id": 1,
        "topic_name": TOPIC,
        "created_us": 0,
        "expire_us": 1_800_000_000_123_456,
        "labels": {"team": "a"},
    }
    return Snapshot(**record | known)


def test_a_snapshot_shows_its_expire_time_in_milliseconds() -> None:
    assert convert.snapshot_pb(snapshot()) == pb.Snapshot(
        name="projects/p/snapshots/friday",
        topic="projects/p/topics/orders",
        expire_time=Timestamp(seconds=1_800_000_000, nanos=123_000_000),
        labels={"team": "a"},
    )


def test_a_snapshot_of_a_deleted_topic_says_so() -> None:
    assert convert.snapshot_pb(snapshot(topic_name=None)).topic == "_deleted-topic_"


def test_the_expire_time_of_a_snapshot_cannot_be_cleared() -> None:
    with pytest.raises(InvalidArgument) as caught:
        convert.snapshot_expire_us(pb.Snapshot())

    assert caught.value.field == "expire_time"


def test_a_seek_goes_to_a_snapshot() -> None:
    request = pb.SeekRequest(snapshot="projects/p/snapshots/friday")

    assert convert.seek_target(request) == SNAPSHOT


def test_a_seek_goes_to_a_moment() -> None:
    request = pb.SeekRequest(time=Timestamp(seconds=5, nanos=1_999))

    assert convert.seek_target(request) == 5_000_001


def test_a_seek_without_target_is_refused() -> None:
    with pytest.raises(InvalidArgument) as caught:
        convert.seek_target(pb.SeekRequest(subscription=str(SUBSCRIPTION)))

    assert caught.value.message == (
        "No target was specified in the SeekRequest. Must specify either a time or a snapshot"
    )


def test_a_seek_to_no_moment_of_the_calendar_is_refused() -> None:
    with pytest.raises(InvalidArgument) as caught:
        convert.seek_target(pb.SeekRequest(time=Timestamp(seconds=253_402_300_800)))

    assert caught.value.message == (
        "An invalid time was specified in the SeekRequest. See definition of Timestamp."
    )


# --- time ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "duration, microseconds",
    [
        (Duration(), 0),
        (Duration(seconds=600, nanos=500_000_000), 600_500_000),
        (Duration(nanos=1_999), 1),
        (Duration(nanos=-1_999), -1),
        (Duration(seconds=-1, nanos=-500_000_000), -1_500_000),
        (Duration(seconds=315_576_000_000), 315_576_000_000 * SECOND_US),
    ],
)
def test_durations_are_microseconds_cut_off(duration: Duration, microseconds: int) -> None:
    assert time.duration_us(duration, "ttl") == microseconds


@pytest.mark.parametrize(
    "duration",
    [
        Duration(seconds=315_576_000_001),
        Duration(seconds=-315_576_000_001),
        Duration(nanos=1_000_000_000),
        Duration(nanos=-1_000_000_000),
        Duration(seconds=1, nanos=-1),
        Duration(seconds=-1, nanos=1),
        Duration(seconds=-(2**63)),
    ],
)
def test_what_is_no_duration_is_refused(duration: Duration) -> None:
    requests: list[Callable[[], object]] = [
        lambda: convert.topic_config(pb.Topic(message_retention_duration=duration)),
        lambda: convert.subscription_config(pb.Subscription(message_retention_duration=duration)),
    ]
    for request in requests:
        with pytest.raises(InvalidArgument) as caught:
            request()

        assert caught.value.message == (
            "You have passed an invalid argument to the service "
            "(argument=message_retention_duration)."
        )


@pytest.mark.parametrize(
    "timestamp",
    [
        Timestamp(seconds=-62_135_596_801),
        Timestamp(seconds=253_402_300_800),
        Timestamp(nanos=-1),
        Timestamp(nanos=1_000_000_000),
        Timestamp(seconds=2**63 - 1),
    ],
)
def test_what_is_no_moment_is_refused(timestamp: Timestamp) -> None:
    with pytest.raises(InvalidArgument, match=r"\(argument=expire_time\)"):
        time.timestamp_us(timestamp, "expire_time")


@given(time_us=st.integers(-62_135_596_800 * SECOND_US, 253_402_300_799 * SECOND_US))
def test_moments_come_back_as_they_were(time_us: int) -> None:
    assert time.timestamp_us(time.timestamp_pb(time_us), "time") == time_us
