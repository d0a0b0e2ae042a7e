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
    AvroFormat,
    CompressionMode,
    CompressionTransform,
    DeadLetterPolicy,
    Encoding,
    JavaScriptTransform,
    MessageStoragePolicy,
    OidcToken,
    PushConfig,
    RetryPolicy,
    SchemaSettings,
    StorageExport,
)
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.services import convert, policies, time

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
    if isinstance(answer, pb.Subscription):  # Pub/Sub: it is shown when it was not given, too
        answer.push_config.attributes.pop("x-goog-version", None)
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
            if part.name == "state":  # output-only, so as it will be shown
                inner.state = pb.CloudStorageConfig.ACTIVE
            else:
                fill(inner, part)
    elif field.is_repeated:
        value.append(scalar(field))
    else:
        setattr(message, field.name, scalar(field))


TEXTS = {
    "schema": "projects/p/schemas/order",
    "dead_letter_topic": "projects/p/topics/dead",
}


def scalar(field: FieldDescriptor) -> object:
    if field.enum_type:
        return field.enum_type.values[-1].number
    text: object = b"x" if field.type == FieldDescriptor.TYPE_BYTES else "x"
    if field.containing_type is pb.SchemaSettings.DESCRIPTOR and field.name == "schema":
        return "projects/p/schemas/order"
    kinds: dict[int, object] = {
        FieldDescriptor.CPPTYPE_BOOL: True,
        FieldDescriptor.CPPTYPE_STRING: TEXTS.get(field.name, text),
    }
    return kinds.get(field.cpp_type, 7_000)


def ai_transform() -> pb.MessageTransform:
    return pb.MessageTransform(ai_inference=pb.AIInference(endpoint="x"))


def zstd_transform() -> pb.MessageTransform:
    compression = pb.Compression(
        compression_algorithm=pb.Compression.ZSTD, compression_mode=pb.Compression.COMPRESS
    )
    return pb.MessageTransform(compression=compression)


GOOGLES_OWN = "it needs services of Google that are not here"
AI_PATH = "message_transforms.ai_inference"
ZSTD_PATH = "message_transforms.compression.compression_algorithm"


@pytest.mark.parametrize(
    "request_of_caller, path, reason",
    [
        (
            pb.Topic(ingestion_data_source_settings=pb.IngestionDataSourceSettings()),
            "ingestion_data_source_settings",
            GOOGLES_OWN,
        ),
        (pb.Subscription(bigquery_config=pb.BigQueryConfig()), "bigquery_config", GOOGLES_OWN),
        (pb.Subscription(bigtable_config=pb.BigtableConfig()), "bigtable_config", GOOGLES_OWN),
        (
            pb.Topic(message_transforms=[ai_transform()]),
            AI_PATH,
            "it would need Google's Vertex AI",
        ),
        (
            pb.Subscription(message_transforms=[ai_transform()]),
            AI_PATH,
            "it would need Google's Vertex AI",
        ),
        (pb.Topic(message_transforms=[zstd_transform()]), ZSTD_PATH, "only ZLIB is there"),
        (pb.Subscription(message_transforms=[zstd_transform()]), ZSTD_PATH, "only ZLIB is there"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_supported_is_refused_with_its_path_and_the_reason(
    request_of_caller: Message, path: str, reason: str
) -> None:
    with pytest.raises(Unimplemented) as caught:
        stored_and_shown(request_of_caller)

    assert caught.value.field == path
    assert caught.value.message == (
        f"The field '{path}' is not supported by this version of the service: {reason}."
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


texts = st.text(max_size=5)
labels = st.dictionaries(texts, texts, max_size=3)
schema_settings = st.builds(
    SchemaSettings,
    schema=st.none() | st.just(SchemaName("p", "order")),
    encoding=st.sampled_from(Encoding),
    first_revision_id=st.text(),
    last_revision_id=st.text(),
)
durations_us = st.integers(0, 400 * DAY_US)
transforms = st.lists(
    st.builds(JavaScriptTransform, texts, texts, st.booleans())
    | st.builds(CompressionTransform, st.sampled_from(CompressionMode), st.booleans()),
    max_size=3,
).map(tuple)

topic_configs = st.builds(
    TopicConfig,
    labels=labels,
    message_retention_us=st.none() | durations_us,
    kms_key_name=st.text(),
    message_storage_policy=st.none()
    | st.builds(MessageStoragePolicy, st.lists(st.text(), max_size=3).map(tuple), st.booleans()),
    schema_settings=st.none() | schema_settings,
    transforms=transforms,
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


def test_a_version_of_pushing_that_is_not_given_stays_as_it_was_and_is_v1_at_first() -> None:
    given = pb.PushConfig(push_endpoint="https://example.com", attributes={"other": "x"})

    at_first = policies.push_config(given)
    assert at_first is not None
    assert at_first.attributes == {"x-goog-version": "v1", "other": "x"}
    before = PushConfig("https://example.com", {"x-goog-version": "v1beta1"})
    later = policies.push_config(given, before)
    assert later is not None
    assert later.attributes == {"x-goog-version": "v1beta1", "other": "x"}


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
    filter=texts,
    ordered=st.booleans(),
    exactly_once=st.booleans(),
    retry=st.none() | st.builds(RetryPolicy, durations_us, durations_us),
    dead_letter=st.none()
    | st.builds(
        DeadLetterPolicy,
        st.builds(TopicName, st.just("p"), st.sampled_from(["dead", "gone"])),
        st.integers(-(2**31), 2**31 - 1).filter(bool),
    ),
    push=st.none()
    | st.builds(
        PushConfig,
        st.text(min_size=1, max_size=5),
        st.dictionaries(texts, texts, max_size=3).map(
            lambda found: {"x-goog-version": "v1"} | found
        ),
        st.none() | st.builds(OidcToken, texts, texts),
        unwrapped=st.just(True),
        write_metadata=st.booleans(),
    )
    | st.builds(PushConfig, st.just("https://example.com"), st.just({"x-goog-version": "v1"})),
    export=st.none()
    | st.builds(
        StorageExport,
        *[texts] * 4,
        st.none() | st.builds(AvroFormat, st.booleans(), st.booleans()),
        durations_us,
        st.integers(0, 2**63 - 1),
        st.integers(0, 2**63 - 1),
        texts,
    ),
    transforms=transforms,
)


@given(config=subscription_configs)
def test_what_is_set_on_a_subscription_is_shown(config: SubscriptionConfig) -> None:
    shown = convert.subscription_pb(subscription(config))

    assert convert.subscription_config(shown) == config


# --- policies -----------------------------------------------------------------------------------


def shown(request: pb.Subscription) -> pb.Subscription:
    """What a subscription looks like that was created so."""
    answer = stored_and_shown(request)
    assert isinstance(answer, pb.Subscription)
    return answer


def test_with_exactly_once_delivery_the_default_ack_deadline_is_60_seconds() -> None:
    assert shown(pb.Subscription(enable_exactly_once_delivery=True)).ack_deadline_seconds == 60


def test_an_ack_deadline_that_is_set_stays_with_exactly_once_delivery() -> None:
    request = pb.Subscription(enable_exactly_once_delivery=True, ack_deadline_seconds=10)

    assert shown(request).ack_deadline_seconds == 10


def test_an_empty_retry_policy_is_shown_with_its_defaults() -> None:
    assert shown(pb.Subscription(retry_policy=pb.RetryPolicy())).retry_policy == pb.RetryPolicy(
        minimum_backoff=Duration(seconds=10), maximum_backoff=Duration(seconds=600)
    )


def test_a_backoff_of_0_is_not_the_same_as_none() -> None:
    policy = pb.RetryPolicy(minimum_backoff=Duration(), maximum_backoff=Duration())

    assert shown(pb.Subscription(retry_policy=policy)).retry_policy == policy


def test_a_subscription_without_policies_shows_none() -> None:
    answer = shown(pb.Subscription())

    assert not answer.HasField("retry_policy")
    assert not answer.HasField("dead_letter_policy")
    assert not answer.HasField("cloud_storage_config")


def test_delivery_attempts_that_are_not_set_are_shown_as_5() -> None:
    policy = pb.DeadLetterPolicy(dead_letter_topic="projects/p/topics/dead")

    answer = shown(pb.Subscription(dead_letter_policy=policy))

    assert answer.dead_letter_policy == pb.DeadLetterPolicy(
        dead_letter_topic="projects/p/topics/dead", max_delivery_attempts=5
    )


def test_a_dead_letter_policy_names_a_topic() -> None:
    with pytest.raises(InvalidArgument, match=r"Invalid resource name given \(name=\)"):
        shown(pb.Subscription(dead_letter_policy=pb.DeadLetterPolicy()))


def test_schema_settings_name_a_schema() -> None:
    with pytest.raises(InvalidArgument, match=r"Invalid resource name given \(name=\)"):
        convert.topic_config(pb.Topic(schema_settings=pb.SchemaSettings()))


def test_an_encoding_that_does_not_exist_counts_as_none_which_topics_refuse() -> None:
    settings = pb.SchemaSettings(schema="projects/p/schemas/order")
    settings.MergeFromString(b"\x10\x63")  # encoding: 99

    read = convert.topic_config(pb.Topic(schema_settings=settings)).schema_settings

    assert read is not None
    assert read.encoding is Encoding.UNSPECIFIED


def test_a_push_config_is_shown_with_the_version_of_its_format() -> None:
    answer = shown(pb.Subscription(push_config=pb.PushConfig(push_endpoint="https://a.example")))

    assert answer.push_config == pb.PushConfig(
        push_endpoint="https://a.example", attributes={"x-goog-version": "v1"}
    )


def test_a_push_config_keeps_the_version_that_was_asked_for() -> None:
    config = pb.PushConfig(
        push_endpoint="https://a.example", attributes={"x-goog-version": "v1beta1"}
    )

    assert shown(pb.Subscription(push_config=config)).push_config == config


@pytest.mark.parametrize(
    "config",
    [
        pb.PushConfig(attributes={"x-goog-version": "v1"}),
        pb.PushConfig(oidc_token=pb.PushConfig.OidcToken(service_account_email="a@b")),
        pb.PushConfig(no_wrapper=pb.PushConfig.NoWrapper()),
        pb.PushConfig(pubsub_wrapper=pb.PushConfig.PubsubWrapper()),
    ],
    ids=["attributes", "oidc_token", "no_wrapper", "pubsub_wrapper"],
)
def test_a_push_config_without_endpoint_means_that_subscribers_pull(config: pb.PushConfig) -> None:
    assert convert.subscription_config(pb.Subscription(push_config=config)).push is None


def test_an_export_is_shown_with_its_defaults_and_its_state() -> None:
    answer = shown(pb.Subscription(cloud_storage_config=pb.CloudStorageConfig(bucket="b")))

    expected = pb.CloudStorageConfig(
        bucket="b", max_duration=Duration(seconds=300), state=pb.CloudStorageConfig.ACTIVE
    )
    expected.text_config.SetInParent()
    assert answer.cloud_storage_config == expected


def test_what_keeps_an_export_from_working_is_shown() -> None:
    request = pb.Subscription(cloud_storage_config=pb.CloudStorageConfig(bucket="b"))
    record = subscription(convert.subscription_config(request), resource_error="NOT_FOUND")

    answer = convert.subscription_pb(record)

    assert answer.state == pb.Subscription.RESOURCE_ERROR
    assert answer.cloud_storage_config.state == pb.CloudStorageConfig.NOT_FOUND


def test_a_transform_that_does_nothing_is_refused() -> None:
    with pytest.raises(InvalidArgument) as caught:
        convert.topic_config(pb.Topic(message_transforms=[pb.MessageTransform()]))

    assert caught.value.field == "message_transforms"


@pytest.mark.parametrize(
    "compression, part",
    [
        (pb.Compression(compression_mode=pb.Compression.COMPRESS), "compression_algorithm"),
        (pb.Compression(compression_algorithm=pb.Compression.ZLIB), "compression_mode"),
    ],
    ids=["algorithm", "mode"],
)
def test_a_compression_says_how(compression: pb.Compression, part: str) -> None:
    transform = pb.MessageTransform(compression=compression)

    with pytest.raises(InvalidArgument, match=f"compression.{part}"):
        convert.subscription_config(pb.Subscription(message_transforms=[transform]))


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
