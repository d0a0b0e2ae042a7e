"""Rows to records, and records to rows.

Configurations are JSON text, written by pydantic from the dataclasses. Reading tolerates what a later version wrote: unknown keys are skipped. Keys that are absent, since an earlier version
wrote the text, take their defaults; None is written as null, and so differs from absent.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter
from sqlalchemy import Row

from ams_grpc.broker.catalog import Snapshot, Subscription, SubscriptionConfig, Topic, TopicConfig
from ams_grpc.broker.names import ResourceName, SnapshotName, SubscriptionName, TopicName
from ams_grpc.broker.ports import StoredWindow

Name = TypeVar("Name", bound=ResourceName)

_TOPICS: Final = TypeAdapter(TopicConfig)
_SUBSCRIPTIONS: Final = TypeAdapter(SubscriptionConfig)

_SAME_TEXTS: Final = 1024
"""Configurations kept in memory; most are alike."""


def dump(value: Mapping[str, Any]) -> str:
    """JSON: equal values give equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def topic_config_text(config: TopicConfig) -> str:
    return dump(_TOPICS.dump_python(config, mode="json"))


@lru_cache(_SAME_TEXTS)
def topic_config(text: str) -> TopicConfig:
    return _TOPICS.validate_json(text)


def subscription_config_text(config: SubscriptionConfig) -> str:
    return dump(_SUBSCRIPTIONS.dump_python(config, mode="json"))


@lru_cache(_SAME_TEXTS)
def subscription_config(text: str) -> SubscriptionConfig:
    return _SUBSCRIPTIONS.validate_json(text)


def seqs_bytes(seqs: Sequence[int]) -> bytes:
    """Seqs as runs: pairs of first and count, 8 bytes each."""
    runs = array("q")
    for seq in sorted(seqs):
        if runs and runs[-2] + runs[-1] == seq:
            runs[-1] += 1
        else:
            runs.extend((seq, 1))
    return runs.tobytes()


def seqs(stored: bytes) -> list[int]:
    """Read what ``seqs_bytes`` has written."""
    runs = array("q", stored)
    return [
        seq
        for first, count in zip(runs[::2], runs[1::2], strict=True)
        for seq in range(first, first + count)
    ]


def topic(row: Row[Any]) -> Topic:
    """From the columns id, name, version, config, schema_id of a topic that is not deleted."""
    config = topic_config(row.config)
    if config.schema_settings is not None and row.schema_id is None:
        config = replace(config, schema_settings=replace(config.schema_settings, schema=None))
    return Topic(row.id, stored_name(TopicName, row.name), row.version, config)


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
        resource_error=row.resource_error or "",
    )


def window(row: Row[Any]) -> StoredWindow | None:
    """From the columns of a window, which are NULL if there is none."""
    if row.end_seq is None:
        return None
    return StoredWindow(
        row.start_seq,
        row.end_seq,
        row.pulled_us,
        row.messages,
        row.data_bytes,
        row.last_messages,
        row.last_interval_us,
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
        ordered=row.ordered,
    )


def topic_name(text: str | None) -> TopicName | None:
    return None if text is None else stored_name(TopicName, text)


def stored_name(kind: type[Name], text: str) -> Name:
    """A name that was checked when it was stored: rules may be stricter by now."""
    _, project, _, identifier = text.split("/", 3)
    return kind(project, identifier)
