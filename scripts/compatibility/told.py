"""The little that calls do not show, told by hand.

A path begins with the name of its message; an entry stands for the fields within its field too.
What is kept and shown is in ``EFFECTIVE``, if something follows from it (the tests show what), or
else in ``STORED_ONLY``, with the reason. ``NOT_SEEN`` has the fields whose value neither comes back
nor makes a call fail. The program ends when an entry is missing, or is not needed any more; for what
is refused, it may stay.
"""

from __future__ import annotations

from typing import Final

from scripts.compatibility.fates import IGNORED, OUTPUT, WORKS, Fate

EFFECTIVE: Final = frozenset(
    {
        "Topic.name",
        "Topic.labels",
        "Topic.schema_settings",
        "Topic.message_retention_duration",
        "Topic.message_transforms",
        "Subscription.name",
        "Subscription.topic",
        "Subscription.push_config",
        "Subscription.cloud_storage_config",
        "Subscription.ack_deadline_seconds",
        "Subscription.retain_acked_messages",
        "Subscription.message_retention_duration",
        "Subscription.labels",
        "Subscription.enable_message_ordering",
        "Subscription.expiration_policy",
        "Subscription.filter",
        "Subscription.dead_letter_policy",
        "Subscription.retry_policy",
        "Subscription.enable_exactly_once_delivery",
        "Subscription.message_transforms",
        "Snapshot",
        "Schema",
        "PubsubMessage",
        "Policy.bindings",  # with --auth
        "Policy.version",
    }
)

STORED_ONLY: Final = {
    "Topic.kms_key_name": "messages are not encrypted by the service",
    "Topic.message_storage_policy": "messages rest in the one database that the service has",
    "Topic.message_transforms.enabled": "deprecated; `disabled` says it",
    "Subscription.message_transforms.enabled": "deprecated; `disabled` says it",
    "Subscription.cloud_storage_config.service_account_email": "the service uses credentials of its own",
}

_TAGS: Final = Fate(IGNORED, "Pub/Sub never shows them; they mean nothing outside of Google Cloud")

NOT_SEEN: Final = {
    "Topic.satisfies_pzs": Fate(OUTPUT, "never set"),
    "Topic.tags": _TAGS,
    "Subscription.detached": Fate(OUTPUT, "set by DetachSubscription"),
    "Subscription.tags": _TAGS,
    "Subscription.push_config.pubsub_wrapper": Fate(WORKS, "the default, so it is not shown"),
    "PubsubMessage.message_id": Fate(OUTPUT, "the place in the topic's log"),
    "PubsubMessage.publish_time": Fate(OUTPUT, "when it was stored"),
    "Schema.name": Fate(OUTPUT, "made of `parent` and `schema_id`"),
    "Policy.audit_configs": Fate(
        IGNORED, "nothing is audited; refused if the update mask names them"
    ),
    "Policy.etag": Fate(WORKS, "a stale one is refused"),
    "CreateSnapshotRequest.tags": _TAGS,
    "PullRequest.return_immediately": Fate(WORKS, "it answers with what there is"),
    "StreamingPullRequest.ack_ids": Fate(WORKS, "stale ones are skipped"),
    "StreamingPullRequest.client_id": Fate(IGNORED, "no message is bound to a client"),
    "StreamingPullRequest.max_outstanding_messages": Fate(WORKS, "the service counts along"),
    "StreamingPullRequest.max_outstanding_bytes": Fate(WORKS, "the service counts along"),
    "StreamingPullRequest.protocol_version": Fate(WORKS, "heartbeats are answered either way"),
}
