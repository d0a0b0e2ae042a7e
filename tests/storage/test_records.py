"""Configurations as JSON: nothing is lost, and versions get along."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_args

from hypothesis import given
from hypothesis import strategies as st

from ams_grpc.broker.ams_push import AmsEndpoint, AmsMattermost, AmsPush
from ams_grpc.broker.catalog import SubscriptionConfig, TopicConfig
from ams_grpc.broker.names import SchemaName, TopicName
from ams_grpc.broker.policies import (
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
from ams_grpc.storage.records import (
    subscription_config,
    subscription_config_text,
    topic_config,
    topic_config_text,
)


def mappings(kind: Any) -> st.SearchStrategy[Any]:
    """Protobuf's maps come as dicts; anything else that is a Mapping never gets here."""
    keys, values = map(st.from_type, get_args(kind))
    return st.dictionaries(keys, values, max_size=3)


st.register_type_strategy(Mapping, mappings)


@given(st.from_type(TopicConfig))
def test_a_topic_is_read_as_it_was_written(config: TopicConfig) -> None:
    assert topic_config(topic_config_text(config)) == config


@given(st.from_type(SubscriptionConfig))
def test_a_subscription_is_read_as_it_was_written(config: SubscriptionConfig) -> None:
    assert subscription_config(subscription_config_text(config)) == config


FULL_TOPIC = TopicConfig(
    labels={"team": "a"},
    message_retention_us=600_000_000,
    kms_key_name="projects/p/locations/eu/keyRings/r/cryptoKeys/k",
    message_storage_policy=MessageStoragePolicy(("europe-west1", "us-east1"), True),
    schema_settings=SchemaSettings(SchemaName("p", "order"), Encoding.BINARY, "0a", "0b", 7),
    transforms=(
        JavaScriptTransform("f", "function f(m) { return m; }", disabled=True),
        CompressionTransform(CompressionMode.DECOMPRESS),
    ),
)
FULL_SUBSCRIPTION = SubscriptionConfig(
    expiration_ttl_us=None,
    filter="attributes:a",
    ordered=True,
    exactly_once=True,
    retry=RetryPolicy(0, 1),
    dead_letter=DeadLetterPolicy(TopicName("p", "dead"), 7),
    push=PushConfig("https://a.b", {"x-goog-version": "v1"}, OidcToken("a@b", "c"), True, True),
    export=StorageExport("bucket", "a", "b", "YYYY", AvroFormat(True, True), 1, 2, 3, "a@b"),
    transforms=(CompressionTransform(CompressionMode.COMPRESS, disabled=True),),
    ams_push=AmsPush(AmsEndpoint("https://a.b", "hash", True, "sealed"), 3, None, True),
)
MATTERMOST = SubscriptionConfig(ams_push=AmsPush(AmsMattermost("https://a.b", "c", "d")))


def test_records_within_records_keep_their_types() -> None:
    assert topic_config(topic_config_text(FULL_TOPIC)) == FULL_TOPIC
    assert subscription_config(subscription_config_text(FULL_SUBSCRIPTION)) == FULL_SUBSCRIPTION
    assert subscription_config(subscription_config_text(MATTERMOST)) == MATTERMOST


def test_every_field_is_written() -> None:
    assert set(json.loads(topic_config_text(TopicConfig()))) == {
        field.name for field in fields(TopicConfig)
    }
    assert set(json.loads(subscription_config_text(SubscriptionConfig()))) == {
        field.name for field in fields(SubscriptionConfig)
    }


def test_what_an_earlier_version_did_not_write_has_its_default() -> None:
    assert topic_config("{}") == TopicConfig()
    assert subscription_config("{}") == SubscriptionConfig()


def test_never_is_not_the_same_as_not_written() -> None:
    assert subscription_config('{"expiration_ttl_us":null}').expiration_ttl_us is None


def test_what_a_later_version_wrote_besides_is_skipped() -> None:
    assert topic_config('{"later":1}') == TopicConfig()
    assert subscription_config('{"later":{"a":[1]}}') == SubscriptionConfig()
