"""Forwarding what nobody manages to acknowledge to a dead-letter topic.

The message is published there and acknowledged here in one transaction: once, and never lost. After
a commit whose outcome nobody knows it is done again, and has a key by which the database knows it.
What is forwarded is the stored message, without the subscription's transforms.

Pub/Sub: DeadLetterPolicy, and the attributes of forwarded messages.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Final, Protocol

from ams_grpc.broker.catalog import Subscription
from ams_grpc.broker.errors import FailedPrecondition
from ams_grpc.broker.log import Log
from ams_grpc.broker.names import TopicName
from ams_grpc.broker.policies import DAY_US, SECOND_US, DeadLetterPolicy
from ams_grpc.broker.ports import Appended, Once, Settled

_PREFIX: Final = "CloudPubSubDeadLetterSource"


class Forwarding(Protocol):
    """What a runtime needs to get rid of a message."""

    async def forward(
        self,
        subscription: Subscription,
        seq: int,
        *,
        epoch: int,
        attempts: int,
        reason: str,
        then: Callable[[], None],
    ) -> bool:
        """Publish a message to the dead-letter topic, and settle it here, in this ``epoch``.

        ``then`` is called when both are on disk. False when the message is not stored any more.
        Raises what publishing raises.
        """
        ...


class Publish(Protocol):
    """``Topics.publish``."""

    async def __call__(
        self,
        name: TopicName,
        payload: bytes,
        count: int,
        settled: Settled | None = None,
        once: Once | None = None,
    ) -> Appended: ...


class DeadLetters:
    """Implements ``Forwarding``.

    ``annotate`` gives a serialized message more attributes, and makes a payload of it.
    """

    def __init__(
        self,
        log: Log,
        publish: Publish,
        annotate: Callable[[bytes, Mapping[str, str]], bytes],
    ) -> None:
        self._log = log
        self._publish = publish
        self._annotate = annotate

    async def forward(
        self,
        subscription: Subscription,
        seq: int,
        *,
        epoch: int,
        attempts: int,
        reason: str,
        then: Callable[[], None],
    ) -> bool:
        policy = subscription.config.dead_letter
        topic_id = subscription.topic_id
        batch = self._log.find(topic_id, seq)
        if batch is None:
            await self._log.load(topic_id, seq)
            batch = self._log.find(topic_id, seq)
        if policy is None:
            raise FailedPrecondition(f"{subscription.name} has no dead-letter policy.")
        if batch is None:
            return False
        attributes = _attributes(subscription, attempts, batch.publish_time_us, reason)
        payload = self._annotate(batch.messages[seq - batch.first_seq], attributes)
        settled = Settled(subscription.id, epoch, (seq,), then)
        await self._publish(policy.topic, payload, 1, settled, _once(subscription.id, epoch, seq))
        return True


def is_due(policy: DeadLetterPolicy | None, failures: int) -> bool:
    """Whether a message with so many failed deliveries gets no further one."""
    return policy is not None and failures >= policy.max_delivery_attempts


def _once(subscription_id: int, epoch: int, seq: int) -> Once:
    """A message is forwarded once between two seeks, whatever is said of its attempts meanwhile."""
    name = struct.pack("<qqq", subscription_id, epoch, seq)
    return Once(blake2b(name, digest_size=16, person=b"dead letter").digest(), b"", DAY_US)


def _attributes(
    source: Subscription, attempts: int, publish_time_us: int, reason: str
) -> dict[str, str]:
    published = datetime.fromtimestamp(publish_time_us / SECOND_US, UTC)
    attributes = {
        f"{_PREFIX}DeliveryCount": str(attempts),
        f"{_PREFIX}Subscription": source.name.id,
        f"{_PREFIX}SubscriptionProject": source.name.project,
        f"{_PREFIX}TopicPublishTime": published.isoformat(timespec="milliseconds"),
    }
    if reason:
        attributes[f"{_PREFIX}DeliveryErrorMessage"] = reason[:1024]
    return attributes
