"""Topics, subscriptions and snapshots as records.

A *config* is what callers may set; a record adds identity. Identity is ``id``, never the name: a
topic deleted and created again is another topic, and nothing of the old one reaches it.

Durations are microseconds (``_us``) unless the unit says otherwise; moments are microseconds
since 1970 UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ams_grpc.broker.ams_push import AmsPush
from ams_grpc.broker.names import SnapshotName, SubscriptionName, TopicName
from ams_grpc.broker.policies import (
    DAY_US,
    DeadLetterPolicy,
    MessageStoragePolicy,
    PushConfig,
    RetryPolicy,
    SchemaSettings,
    StorageExport,
    Transform,
)

DEFAULT_ACK_DEADLINE_S: Final = 10
EXACTLY_ONCE_ACK_DEADLINE_S: Final = 60
"""Pub/Sub: the default with exactly-once delivery."""
DEFAULT_RETENTION_US: Final = 7 * DAY_US
DEFAULT_EXPIRATION_US: Final = 31 * DAY_US


@dataclass(frozen=True, slots=True)
class TopicConfig:
    """What callers set on a topic. ``message_retention_us`` None: keep nothing for replay."""

    labels: Mapping[str, str] = field(default_factory=dict)
    message_retention_us: int | None = None
    kms_key_name: str = ""
    message_storage_policy: MessageStoragePolicy | None = None
    schema_settings: SchemaSettings | None = None
    transforms: tuple[Transform, ...] = ()

    @property
    def is_gated(self) -> bool:
        """True if messages are looked at, or changed, before they are stored."""
        if self.schema_settings is not None:
            return True
        return bool(self.transforms) and any(not t.disabled for t in self.transforms)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic. ``version`` counts changes: a publisher with an old one must validate again."""

    id: int
    name: TopicName
    version: int
    config: TopicConfig


@dataclass(frozen=True, slots=True)
class SubscriptionConfig:
    """What callers set on a subscription. ``expiration_ttl_us`` None: never expires.

    Subscribers pull, unless ``push``, ``ams_push`` or ``export`` says otherwise.
    """

    ack_deadline_s: int = DEFAULT_ACK_DEADLINE_S
    retain_acked_messages: bool = False
    message_retention_us: int = DEFAULT_RETENTION_US
    labels: Mapping[str, str] = field(default_factory=dict)
    expiration_ttl_us: int | None = DEFAULT_EXPIRATION_US
    filter: str = ""
    ordered: bool = False
    exactly_once: bool = False
    retry: RetryPolicy | None = None
    dead_letter: DeadLetterPolicy | None = None
    push: PushConfig | None = None
    export: StorageExport | None = None
    transforms: tuple[Transform, ...] = ()
    ams_push: AmsPush | None = None

    @property
    def is_pushed(self) -> bool:
        """True if messages go to an endpoint, be it one that is not verified yet."""
        return self.push is not None or self.ams_push is not None

    @property
    def worker(self) -> str | None:
        """Who delivers: ``push``, ``ams_push``, ``export``; None when subscribers pull."""
        if self.push is not None:
            return "push"
        if self.ams_push is not None:
            return "ams_push"
        return "export" if self.export is not None else None


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription.

    ``topic_name`` None: its topic was deleted (``topic_id`` stays). ``start_seq``: the first seq
    published after its creation. ``resource_error``: what keeps its export from working, as Pub/Sub
    names it (``NOT_FOUND``); empty when nothing does.
    """

    id: int
    name: SubscriptionName
    version: int
    topic_id: int
    topic_name: TopicName | None
    topic_retention_us: int | None
    start_seq: int
    detached: bool
    config: SubscriptionConfig
    resource_error: str = ""

    @property
    def retention_us(self) -> int:
        """How long an unacknowledged message is kept for this subscription.

        Pub/Sub: the longer of its own retention and its topic's.
        """
        return max(self.config.message_retention_us, self.topic_retention_us or 0)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot: what one subscription had not acknowledged at one moment.

    ``ordered``: that subscription delivers in order.
    """

    id: int
    name: SnapshotName
    topic_id: int
    topic_name: TopicName | None
    created_us: int
    expire_us: int
    labels: Mapping[str, str] = field(default_factory=dict)
    ordered: bool = False
