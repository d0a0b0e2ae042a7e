"""Rows to records, and records to rows.

Configurations are JSON text, written by explicit functions from the dataclasses. Reading tolerates
what a later version wrote: unknown keys are skipped. Keys that are absent, since an earlier version
wrote the text, take their defaults; None is written as null, and so differs from absent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, TypeVar

from sqlalchemy import Row

from ams_grpc.broker.catalog import (
    MessageStoragePolicy,
    Snapshot,
    Subscription,
    SubscriptionConfig,
    Topic,
    TopicConfig,
)
from ams_grpc.broker.names import ResourceName, SnapshotName, SubscriptionName, TopicName

Name = TypeVar("Name", bound=ResourceName)

_SAME_TEXTS: Final = 1024
"""Configurations kept in memory; most are alike."""


def dump(value: Mapping[str, Any]) -> str:
    """JSON: equal values give equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def topic_config_text(config: TopicConfig) -> str:
    policy = config.message_storage_policy
    return dump(
        {
            "labels": dict(config.labels),
            "message_retention_us": config.message_retention_us,
            "kms_key_name": config.kms_key_name,
            "message_storage_policy": None
            if policy is None
            else {
                "allowed_persistence_regions": list(policy.allowed_persistence_regions),
                "enforce_in_transit": policy.enforce_in_transit,
            },
        }
    )


@lru_cache(_SAME_TEXTS)
def topic_config(text: str) -> TopicConfig:
    values = _known(
        text, "labels", "message_retention_us", "kms_key_name", "message_storage_policy"
    )
    policy = values.get("message_storage_policy")
    if policy is not None:
        values["message_storage_policy"] = MessageStoragePolicy(
            tuple(policy["allowed_persistence_regions"]), policy.get("enforce_in_transit", False)
        )
    return TopicConfig(**values)


def subscription_config_text(config: SubscriptionConfig) -> str:
    return dump(
        {
            "ack_deadline_s": config.ack_deadline_s,
            "retain_acked_messages": config.retain_acked_messages,
            "message_retention_us": config.message_retention_us,
            "labels": dict(config.labels),
            "expiration_ttl_us": config.expiration_ttl_us,
        }
    )


@lru_cache(_SAME_TEXTS)
def subscription_config(text: str) -> SubscriptionConfig:
    return SubscriptionConfig(
        **_known(
            text,
            "ack_deadline_s",
            "retain_acked_messages",
            "message_retention_us",
            "labels",
            "expiration_ttl_us",
        )
    )


def _known(text: str, *keys: str) -> dict[str, Any]:
    values = json.loads(text)
    return {key: values[key] for key in keys if key in values}


def topic(row: Row[Any]) -> Topic:
    """From the columns id, name, version, config of a topic that is not deleted."""
    return Topic(row.id, stored_name(TopicName, row.name), row.version, topic_config(row.config))


def subscription(row: Row[Any]) -> Subscription:
    """From a subscription's columns, and its topic's as topic_name and topic_config."""
    return Subscription(
        id=row.id,
        name=stored_name(SubscriptionName, row.name),
        version=row.version,
        topic_id=row.topic_id,
        topic_name=topic_name(row.topic_name),
        topic_retention_us=None
        if row.topic_name is None
        else topic_config(row.topic_config).message_retention_us,
        start_seq=row.start_seq,
        detached=row.detached,
        config=subscription_config(row.config),
    )


def snapshot(row: Row[Any]) -> Snapshot:
    """From a snapshot's columns, and its topic's name as topic_name."""
    return Snapshot(
        id=row.id,
        name=stored_name(SnapshotName, row.name),
        topic_id=row.topic_id,
        topic_name=topic_name(row.topic_name),
        created_us=row.created_us,
        expire_us=row.expire_us,
        labels=json.loads(row.labels),
    )


def topic_name(text: str | None) -> TopicName | None:
    return None if text is None else stored_name(TopicName, text)


def stored_name(kind: type[Name], text: str) -> Name:
    """A name that was checked when it was stored: rules may be stricter by now."""
    _, project, _, identifier = text.split("/", 3)
    return kind(project, identifier)
