"""What time does to stored things: implements ``broker.ports.Upkeep``, and counts backlogs.

The broker decides when; here is how. Writes go through the group commit in small bites, so that
publishers wait for none of it for long.

What keeps a message (Pub/Sub: message retention): a subscription that has not acknowledged it; one
that retains acknowledged messages; its topic's retention; a snapshot. Nobody looks at messages one
by one: the log is cut at the lowest seq that something keeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    bindparam,
    case,
    delete,
    exists,
    insert,
    select,
    update,
)

from ams_grpc.broker.catalog import Subscription
from ams_grpc.broker.names import SubscriptionName, TopicName
from ams_grpc.storage import records
from ams_grpc.storage.catalog import subscription_rows
from ams_grpc.storage.commit import GroupCommit
from ams_grpc.storage.log import first_batch_at, replay_limit
from ams_grpc.storage.reading import Readers
from ams_grpc.storage.tables import batches, cursors, meta, snapshots, subscriptions, topics

PURGE_BYTES: Final = 16 << 20
"""The most that one bite deletes: SQLite reads what it deletes."""


@dataclass(frozen=True, slots=True)
class ExpiredFloor:
    """A subscription with unacknowledged messages beyond their retention: those below ``cutoff``."""

    subscription_id: int
    subscription: SubscriptionName
    topic_id: int
    cutoff: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """What an attached subscription has not acknowledged; oldest None: nothing."""

    subscription: SubscriptionName
    topic: TopicName | None
    messages: int
    oldest_publish_time_us: int | None


class Upkeep:
    def __init__(self, readers: Readers, commits: GroupCommit) -> None:
        self._readers = readers
        self._commits = commits

    # --- retention -------------------------------------------------------------------------------

    async def topics_with_messages(self) -> Sequence[int]:
        """Ids of the topics that store messages.

        Those are left out whose oldest batch an attached subscription or a snapshot still needs:
        ``purge_topic`` has nothing to do for them.
        """
        query = select(topics.c.id).where(
            topics.c.first_seq < topics.c.next_seq, ~_is_oldest_unacknowledged(), ~_is_oldest_held()
        )
        return await self._readers.run(lambda connection: connection.scalars(query).all())

    async def purge_topic(self, topic_id: int, now_us: int, max_rows: int = 500) -> int:
        """Delete the oldest batches of a topic that nothing keeps; how many it were.

        At most ``max_rows``, and 16 MiB or one batch: call it again until it returns 0.
        """
        return await self._commits.run(partial(_purge, topic_id, now_us, max_rows))

    async def forget_deleted_topics(self) -> int:
        """Remove deleted topics that nothing refers to any more; how many it were."""
        query = select(topics.c.id).where(_is_forgettable()).limit(1)
        if await self._readers.run(lambda connection: connection.scalar(query)) is None:
            return 0
        forgotten = delete(topics).where(_is_forgettable())
        return await self._commits.run(lambda connection: connection.execute(forgotten).rowcount)

    async def delete_expired_snapshots(self, now_us: int) -> int:
        """Remove snapshots whose time has come; how many it were."""
        is_expired = snapshots.c.expire_us <= now_us
        query = select(snapshots.c.id).where(is_expired).limit(1)
        if await self._readers.run(lambda connection: connection.scalar(query)) is None:
            return 0
        expired = delete(snapshots).where(is_expired)
        return await self._commits.run(lambda connection: connection.execute(expired).rowcount)

    async def expired_floors(self, now_us: int) -> Sequence[ExpiredFloor]:
        """Attached subscriptions with unacknowledged messages older than their retention.

        What a snapshot of the topic holds has not expired.
        """
        return await self._readers.run(partial(_expired_floors, now_us))

    # --- expiration of subscriptions ---------------------------------------------------------------

    async def touch(self, subscription_ids: Iterable[int], now_us: int) -> None:
        """These subscriptions are in use: their time starts again."""
        parameters = [{"of_id": number} for number in subscription_ids]
        if parameters:
            await self._commits.run(partial(_touch, parameters, now_us))

    async def inactive(self, now_us: int) -> Sequence[Subscription]:
        """Subscriptions that nobody used for as long as their expiration allows."""
        return await self._readers.run(partial(_inactive, now_us))

    async def alive(self, now_us: int) -> None:
        """Remember that the service ran at this moment. See ``resume``."""
        await self._commits.run(partial(_write_alive, now_us))

    async def resume(self, now_us: int) -> None:
        """The service starts: the time that it did not run does not count as inactivity."""
        await self._commits.run(partial(_resume, now_us))

    # --- metrics ---------------------------------------------------------------------------------

    async def backlogs(self) -> Sequence[Backlog]:
        """For each attached subscription, what it has not acknowledged, as far as written."""
        return await self._readers.run(_backlogs)


def _purge(topic_id: int, now_us: int, max_rows: int, connection: Connection) -> int:
    # The lock keeps other nodes from creating a subscription or snapshot that this would miss.
    topic = connection.execute(
        select(topics).where(topics.c.id == topic_id).with_for_update()
    ).one_or_none()
    if topic is None:
        return 0
    needed = _needed(topic, now_us, connection)
    candidates = connection.execute(
        select(batches.c.first_seq, batches.c.count, batches.c.byte_size)
        .where(batches.c.topic_id == topic_id, batches.c.first_seq >= topic.first_seq)
        .order_by(batches.c.first_seq)
        .limit(max_rows)
    ).all()
    rows = size = 0
    end = topic.first_seq
    for first_seq, count, byte_size in candidates:
        size += byte_size
        if first_seq + count > needed or (rows and size > PURGE_BYTES):
            break
        rows += 1
        end = first_seq + count
    if rows:
        connection.execute(
            delete(batches).where(
                batches.c.topic_id == topic_id,
                batches.c.first_seq.between(topic.first_seq, end - 1),
            )
        )
        connection.execute(update(topics).where(topics.c.id == topic_id).values(first_seq=end))
    return rows


def _needed(topic: Row[Any], now_us: int, connection: Connection) -> int:
    """The lowest seq of a topic that something keeps; its next seq if nothing does."""
    needed = int(topic.next_seq)

    def published_within(period_us: int) -> int:
        first = connection.scalar(first_batch_at(topic.id, now_us - period_us))
        return int(topic.next_seq if first is None else first)

    retention_us = records.topic_config(topic.config).message_retention_us
    if topic.name is not None and retention_us is not None:
        needed = min(needed, published_within(retention_us))
    held = replay_limit(topic.id, now_us, connection)
    if held is not None:
        needed = min(needed, held)
    attached = select(cursors.c.floor, subscriptions.c.start_seq, subscriptions.c.config).join_from(
        subscriptions, cursors
    )
    for row in connection.execute(
        attached.where(subscriptions.c.topic_id == topic.id, subscriptions.c.detached.is_(False))
    ):
        needed = min(needed, row.floor)
        config = records.subscription_config(row.config)
        if config.retain_acked_messages:
            acked = published_within(config.message_retention_us)
            needed = min(needed, max(row.start_seq, acked))
    return needed


def _is_oldest_unacknowledged() -> ColumnElement[bool]:
    return exists().where(
        subscriptions.c.topic_id == topics.c.id,
        subscriptions.c.detached.is_(False),
        cursors.c.subscription_id == subscriptions.c.id,
        cursors.c.floor <= topics.c.first_seq,
    )


def _is_oldest_held() -> ColumnElement[bool]:
    return exists().where(
        snapshots.c.topic_id == topics.c.id, snapshots.c.floor <= topics.c.first_seq
    )


def _is_forgettable() -> ColumnElement[bool]:
    return (
        topics.c.name.is_(None)
        & ~exists().where(subscriptions.c.topic_id == topics.c.id)
        & ~exists().where(snapshots.c.topic_id == topics.c.id)
        & ~exists().where(batches.c.topic_id == topics.c.id)
    )


def _expired_floors(now_us: int, connection: Connection) -> Sequence[ExpiredFloor]:
    query = (
        subscription_rows()
        .add_columns(cursors.c.floor, topics.c.next_seq)
        .join(cursors)
        .where(subscriptions.c.detached.is_(False), cursors.c.floor < topics.c.next_seq)
    )
    cutoffs: dict[tuple[int, int], int] = {}
    found = []
    for row in connection.execute(query).all():
        subscription = records.subscription(row)
        key = (subscription.topic_id, subscription.retention_us)
        if key not in cutoffs:
            cutoffs[key] = _cutoff(row, now_us, subscription.retention_us, connection)
        if cutoffs[key] > row.floor:
            found.append(ExpiredFloor(row.id, subscription.name, row.topic_id, cutoffs[key]))
    return found


def _cutoff(row: Row[Any], now_us: int, retention_us: int, connection: Connection) -> int:
    # ``next_seq`` was read before: what came in since is not expired.
    first = connection.scalar(first_batch_at(row.topic_id, now_us - retention_us))
    cutoff = int(row.next_seq if first is None else min(first, row.next_seq))
    held = replay_limit(row.topic_id, now_us, connection)
    return cutoff if held is None else min(cutoff, held)


def _touch(parameters: Sequence[dict[str, int]], now_us: int, connection: Connection) -> None:
    connection.execute(
        update(subscriptions)
        .where(subscriptions.c.id == bindparam("of_id"), subscriptions.c.active_at_us < now_us)
        .values(active_at_us=now_us),
        parameters,
    )


def _inactive(now_us: int, connection: Connection) -> Sequence[Subscription]:
    return [
        subscription
        for row in connection.execute(subscription_rows())
        if (ttl_us := records.subscription_config(row.config).expiration_ttl_us) is not None
        and row.active_at_us + ttl_us <= now_us
        for subscription in [records.subscription(row)]
    ]


def _write_alive(now_us: int, connection: Connection) -> None:
    value = str(now_us).encode()
    change = update(meta).where(meta.c.key == "alive_us").values(value=value)
    if connection.execute(change).rowcount == 0:
        connection.execute(insert(meta), {"key": "alive_us", "value": value})


def _resume(now_us: int, connection: Connection) -> None:
    alive = connection.execute(select(meta.c.value).where(meta.c.key == "alive_us")).scalar()
    if alive is not None and (downtime_us := now_us - int(alive)) > 0:
        later = subscriptions.c.active_at_us + downtime_us
        connection.execute(
            update(subscriptions).values(active_at_us=case((later > now_us, now_us), else_=later))
        )
    _write_alive(now_us, connection)


def _backlogs(connection: Connection) -> Sequence[Backlog]:
    start = case((cursors.c.floor < topics.c.first_seq, topics.c.first_seq), else_=cursors.c.floor)
    oldest = (
        select(batches.c.publish_time_us)
        .where(batches.c.topic_id == topics.c.id, batches.c.first_seq <= start)
        .order_by(batches.c.first_seq.desc())
        .limit(1)
        .scalar_subquery()
    )
    query = (
        select(
            subscriptions.c.name,
            topics.c.name.label("topic_name"),
            (topics.c.next_seq - start - cursors.c.acked_above_floor).label("messages"),
            case((start < topics.c.next_seq, oldest)).label("oldest"),
        )
        .select_from(subscriptions.join(topics).join(cursors))
        .where(subscriptions.c.detached.is_(False))
    )
    return [
        Backlog(
            records.stored_name(SubscriptionName, row.name),
            records.topic_name(row.topic_name),
            max(0, row.messages),
            row.oldest if row.messages > 0 else None,
        )
        for row in connection.execute(query)
    ]
