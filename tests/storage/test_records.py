"""Configurations as JSON: nothing is lost, and versions get along."""

from __future__ import annotations

import json
from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st

from ams_grpc.broker.catalog import SubscriptionConfig, TopicConfig
from ams_grpc.storage.records import (
    subscription_config,
    subscription_config_text,
    topic_config,
    topic_config_text,
)


@given(st.from_type(TopicConfig))
def test_a_topic_is_read_as_it_was_written(config: TopicConfig) -> None:
    assert topic_config(topic_config_text(config)) == config


@given(st.from_type(SubscriptionConfig))
def test_a_subscription_is_read_as_it_was_written(config: SubscriptionConfig) -> None:
    assert subscription_config(subscription_config_text(config)) == config


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
