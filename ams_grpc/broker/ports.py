"""What the broker needs from outside, as narrow as its use. ``storage`` implements it.

Every method that touches the database raises StorageUnavailable when it does not answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ams_grpc.broker.catalog import (
    Snapshot,
    Subscription,
    SubscriptionConfig,
    Topic,
    TopicConfig,
)
from ams_grpc.broker.iam import Policy
from ams_grpc.broker.names import SnapshotName, SubscriptionName, TopicName
from ams_grpc.broker.policies import Transform


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """One row of a topic's log: ``count`` messages, seqs from ``first_seq`` without gaps.

    ``payload`` is what publishers sent, serialized and joined.
    """

    topic_id: int
    first_seq: int
    count: int
    publish_time_us: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Appended:
    """Where a publish went: its first seq, and the publish time that its messages share.

    ``places`` None: all its messages were stored. Otherwise those at these positions were, and
    the rest was dropped by the topic's transforms.
    """

    first_seq: int
    publish_time_us: int
    places: Sequence[int] | None = None


@dataclass(frozen=True, slots=True)
class StoredWindow:
    """The window that AMS's last pull has opened, and what such pulls have given so far.

    It spans the seqs from ``start`` up to ``end``; with an ``end`` of 0 there is none.
    ``pulled_us``: when the last pull was; ``data_bytes``: of data as AMS writes it, in base64. The last
    pull gave ``last_messages``, and came ``last_interval_us`` after the one before.
    """

    start: int = 0
    end: int = 0
    pulled_us: int = 0
    messages: int = 0
    data_bytes: int = 0
    last_messages: int = 0
    last_interval_us: int = 0


@dataclass(frozen=True, slots=True)
class CursorState:
    """A whole cursor: all below ``floor`` is done, and so is each bit set in ``chunks``.

    ``chunks[n]`` has one bit a seq, from seq ``n * 8192``, lowest bit of each byte first.
    ``epoch`` counts the seeks: an ack id of an earlier epoch is stale. ``window`` comes along where
    there ever was one.
    """

    floor: int
    epoch: int
    chunks: Mapping[int, bytes]
    window: StoredWindow | None = None


@dataclass(frozen=True, slots=True)
class StoredLease:
    """A delivery as it is stored: the messages ``seqs``, none of which is sent before the deadline.

    Some of them may be done since.
    """

    deadline_us: int
    seqs: Sequence[int]


@dataclass(frozen=True, slots=True)
class Deliveries:
    """What of a subscription's deliveries outlives the process.

    ``failures``: by seq, how many deliveries failed (dead-letter policy); ``leases``: by grant
    (exactly-once delivery).
    """

    failures: Mapping[int, int] = field(default_factory=dict)
    leases: Mapping[int, StoredLease] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeliveryChanges:
    """What to write of ``Deliveries``: 0 failures, and None in place of a lease, are deleted."""

    failures: Mapping[int, int]
    leases: Mapping[int, StoredLease | None]


@dataclass(frozen=True, slots=True)
class CursorChanges:
    """What to write of one cursor.

    ``chunks`` are those that changed (all of them if ``replace``, which drops the stored ones
    first). Stored chunks that lie wholly below ``floor`` are to be deleted.
    """

    subscription_id: int
    floor: int
    epoch: int
    acked_above_floor: int
    replace: bool
    chunks: Mapping[int, bytes]
    deliveries: DeliveryChanges | None = None
    window: StoredWindow | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """Messages of a subscription that are done with the publish that they go along with.

    Unless a seek came between: its cursor has another ``epoch`` then. ``then`` is called once they
    are stored as done, before anything else is written.
    """

    subscription_id: int
    epoch: int
    seqs: Sequence[int]
    then: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Once:
    """A publish that is done once: whoever asks for it again gets the answer of the first time.

    ``key`` names it within its topic, 16 bytes; ``digest`` is of what is asked for: with another
    one, the key is refused. The answer is remembered for ``keep_us`` microseconds.
    """

    key: bytes
    digest: bytes
    keep_us: int


class DirtyCursor(Protocol):
    """A cursor that has something to write."""

    @property
    def subscription_id(self) -> int: ...

    def take_changes(self) -> CursorChanges:
        """What changed since the last call; from now on it counts as written."""
        ...

    def put_back(self, changes: CursorChanges) -> None:
        """The write failed: these changes are unwritten again."""
        ...


class Decoder(Protocol):
    """Takes a stored payload apart. Handed in, since the broker does not know protobuf."""

    def __call__(
        self, payload: bytes, first_seq: int, count: int, publish_time_us: int
    ) -> list[bytes]:
        """``count`` serialized messages, with their ids and publish times, ready to deliver."""
        ...


@dataclass(frozen=True, slots=True)
class Admitted:
    """What a topic takes of a publish: ``count`` messages, of which ``places`` were which.

    ``places`` are the positions in the request, ascending; None means all of them, unchanged in
    number.
    """

    payload: bytes
    count: int
    places: Sequence[int] | None = None


class Gate(Protocol):
    """What a topic does to messages before they are stored: transforms, then its schema."""

    async def admit(self, topic: Topic, payload: bytes, count: int) -> Admitted:
        """Raises InvalidArgument for a message that the topic does not take: then none is stored.

        Called only for topics that have a schema or transforms.
        """
        ...


class TransformCheck(Protocol):
    """Tells whether transforms can be carried out, as far as that shows before the first message."""

    async def __call__(self, transforms: Sequence[Transform]) -> None:
        """Raises InvalidArgument: a function's code does not work, or defines no such function."""
        ...


class Workers(Protocol):
    """Those who deliver the messages of subscriptions that nobody pulls."""

    def changed(self, subscription: Subscription) -> None:
        """A subscription was created or changed. Its worker may have to start, stop, or adapt."""
        ...

    def gone(self, subscription_id: int) -> None:
        """A subscription was deleted or detached. Its worker, if it has one, stops."""
        ...


class Commits(Protocol):
    """The writer: gathers what waits, commits it in one transaction, then answers."""

    def append(
        self,
        topic: Topic,
        payload: bytes,
        count: int,
        settled: Settled | None = None,
        *,
        once: Once | None = None,
        places: Sequence[int] | None = None,
    ) -> Awaitable[Appended]:
        """Append ``count`` serialized messages to a topic's log; the answer has these ``places``.

        In the same transaction, ``settled`` is done: both happen, or neither. With ``once``, and
        if it was done before, nothing is appended, and the answer is that of the first time;
        ``count`` may be 0 then, so that this, too, is remembered.

        When the awaitable resolves they are committed, and survive the loss of power. Raises
        Aborted when ``topic`` is out of date (changed or deleted since it was read),
        InvalidArgument when ``once`` has the key of another request, and StorageUnavailable.
        """
        ...

    def save(self, cursor: DirtyCursor) -> None:
        """Write a cursor with the next transaction, and again until that succeeds."""
        ...

    def flushed(self) -> Awaitable[None]:
        """Resolves when all that was handed in before is committed."""
        ...


class LogReader(Protocol):
    """Reads topics' logs."""

    async def read(self, topic_id: int, seq: int, max_bytes: int) -> Sequence[StoredBatch]:
        """The batch that holds ``seq``, or else the first after it, and those that follow.

        At least one, unless nothing at or after ``seq`` is stored; then up to ``max_bytes``, as far
        as they can be read. Raises UnreadableMessages when the first cannot.
        """
        ...

    async def next_seq(self, topic_id: int) -> int:
        """The seq that the next message of a topic will get."""
        ...

    async def first_seq_at(self, topic_id: int, time_us: int) -> int:
        """The lowest stored seq published at ``time_us`` or later; else the topic's next seq."""
        ...

    async def publish_time_us(self, topic_id: int, seq: int) -> int | None:
        """When the first stored message at or after ``seq`` was published; None if there is none."""
        ...

    async def replay_limit(self, topic_id: int) -> int | None:
        """The lowest floor of the topic's snapshots: what they hold has not expired."""
        ...


class Catalog(Protocol):
    """Topics, subscriptions and snapshots as stored. Names are unique per kind.

    Writes are atomic, and committed when they return. ``update_*`` and ``delete_*`` raise
    Aborted when the record given is not the stored version any more. ``create_*`` raise
    ProjectGone when the project has to be ``registered``, and is not at that very moment: what is
    made in a project goes with it, also when that is deleted or renamed meanwhile.
    """

    async def topic(self, name: TopicName) -> Topic:
        """Raises NotFound."""
        ...

    async def create_topic(
        self, name: TopicName, config: TopicConfig, *, registered: bool = False
    ) -> Topic:
        """Raises AlreadyExists, ProjectGone."""
        ...

    async def published(self, topic: Topic, once: Once) -> Appended | None:
        """What an earlier publish was answered; None if this would be the first.

        Raises InvalidArgument when its key is that of another request.
        """
        ...

    async def update_topic(self, topic: Topic, config: TopicConfig) -> Topic: ...

    async def delete_topic(self, topic: Topic) -> None: ...

    async def topics(
        self, project: str, after: str, limit: int, among: Collection[str] | None = None
    ) -> Sequence[Topic]:
        """By full name, those whose full name is greater than ``after``.

        ``among``: only those with these ids; None: all.
        """
        ...

    async def topic_subscriptions(
        self, topic: Topic, after: str, limit: int
    ) -> Sequence[SubscriptionName]:
        """The attached subscriptions of a topic, from any project."""
        ...

    async def topic_snapshots(
        self, topic: Topic, after: str, limit: int
    ) -> Sequence[SnapshotName]: ...

    async def subscription(self, name: SubscriptionName) -> Subscription:
        """Raises NotFound."""
        ...

    async def create_subscription(
        self,
        name: SubscriptionName,
        topic: TopicName,
        config: SubscriptionConfig,
        *,
        registered: bool = False,
    ) -> Subscription:
        """It gets every message committed after it, and none before.

        Raises AlreadyExists, ProjectGone; NotFound for the topic.
        """
        ...

    async def update_subscription(
        self, subscription: Subscription, config: SubscriptionConfig
    ) -> Subscription: ...

    async def detach_subscription(self, subscription: Subscription) -> Subscription: ...

    async def delete_subscription(self, subscription: Subscription) -> None: ...

    async def subscriptions(
        self, project: str, after: str, limit: int, among: Collection[str] | None = None
    ) -> Sequence[Subscription]:
        """As ``topics``."""
        ...

    async def worked(self) -> Sequence[Subscription]:
        """The attached subscriptions whose messages the service itself delivers."""
        ...

    async def set_resource_error(self, subscription: Subscription, error: str) -> None:
        """Show what keeps its worker from working; empty when nothing does.

        Does nothing when ``subscription`` is out of date.
        """
        ...

    async def cursor(self, subscription: Subscription) -> CursorState: ...

    async def deliveries(self, subscription: Subscription) -> Deliveries: ...

    async def snapshot(self, name: SnapshotName) -> Snapshot:
        """Raises NotFound, also for one that has expired."""
        ...

    async def create_snapshot(
        self,
        name: SnapshotName,
        subscription: Subscription,
        state: CursorState,
        expire_us: int,
        labels: Mapping[str, str],
        *,
        registered: bool = False,
    ) -> Snapshot:
        """Raises AlreadyExists, ProjectGone; NotFound for the subscription."""
        ...

    async def update_snapshot(
        self, snapshot: Snapshot, expire_us: int, labels: Mapping[str, str]
    ) -> Snapshot: ...

    async def delete_snapshot(self, snapshot: Snapshot) -> None: ...

    async def snapshots(self, project: str, after: str, limit: int) -> Sequence[Snapshot]: ...

    async def snapshot_cursor(self, snapshot: Snapshot) -> CursorState: ...


class PolicyStore(Protocol):
    """IAM policies as stored, by kind (``topics``) and id of their resources."""

    async def policy(self, kind: str, resource_id: int) -> Policy:
        """An empty one if there is none."""
        ...

    async def set_policy(
        self, kind: str, resource_id: int, policy: Policy, *, instead_of: bytes
    ) -> None:
        """Put it in the place of the one with that etag.

        Raises Aborted when that is not the stored one any more, or the resource is gone.
        """
        ...


class ExpiredFloor(Protocol):
    """A subscription whose floor lags behind its retention.

    With a retention of ``retention_us``, all below ``cutoff`` has expired.
    """

    @property
    def subscription(self) -> SubscriptionName: ...

    @property
    def cutoff(self) -> int: ...

    @property
    def retention_us(self) -> int: ...


class Upkeep(Protocol):
    """What time does to stored things. Small bites, so that no publish waits for long."""

    async def topics_with_messages(self, now_us: int) -> Sequence[int]:
        """Ids of the topics of which some messages may be needed no more."""
        ...

    async def purge_topic(self, topic_id: int, now_us: int) -> int:
        """Delete some batches that nobody can need any more; how many it were, 0 for none left."""
        ...

    async def free_space(self) -> None:
        """Give back what purges have left: space that could not be freed when they ran."""
        ...

    async def forget_deleted_topics(self) -> int:
        """Remove deleted topics that nothing refers to any more; how many it were."""
        ...

    async def expired_floors(self, now_us: int) -> Sequence[ExpiredFloor]: ...

    async def filtered_backlogs(self) -> Sequence[SubscriptionName]:
        """The attached subscriptions with a filter whose floor is not at their topic's end."""
        ...

    async def delete_expired_snapshots(self, now_us: int) -> int:
        """How many it were."""
        ...

    async def forget_answers(self, now_us: int) -> int:
        """Forget some publishes that were to be done once; how many it were, 0 for none left."""
        ...

    async def touch(self, subscription_ids: Iterable[int], now_us: int) -> None:
        """These subscriptions are in use."""
        ...

    async def inactive(self, now_us: int) -> Sequence[Subscription]:
        """Those that nobody has used for as long as their expiration policy allows."""
        ...

    async def alive(self, now_us: int) -> None:
        """The service runs at this moment."""
        ...

    async def resume(self, now_us: int) -> None:
        """The service starts: the clocks of expiration stood still while it was down."""
        ...
