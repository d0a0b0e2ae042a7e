"""Deleting what nothing keeps: how far a topic's log may be cut, and cutting it.

What keeps a message (Pub/Sub: message retention): a subscription that has not acknowledged it; one
that retains acknowledged messages; its topic's retention; a snapshot. Nobody looks at messages one
by one: the log is cut at the lowest seq that something keeps.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, exists, select, update

from ams_grpc.storage import days, records
from ams_grpc.storage.log import first_batch_at, replay_limit
from ams_grpc.storage.segment_rows import free
from ams_grpc.storage.segments import Segments
from ams_grpc.storage.tables import batches, cursors, snapshots, subscriptions, topic_marks, topics

PURGE_BYTES: Final = 16 << 20
"""The most that one bite deletes: SQLite reads what it deletes."""


def topics_to_purge(
    now_us: int, on_page: ColumnElement[bool], connection: Connection
) -> Iterable[int]:
    """Ids of topics that store messages which nothing keeps, on a page of the table."""
    oldest = (
        select(batches.c.publish_time_us)
        .where(batches.c.topic_id == topics.c.id)
        .order_by(batches.c.publish_time_us)
        .limit(1)
        .scalar_subquery()
    )
    # A row for each subscription that keeps the oldest batch if it retains what is acknowledged.
    query = (
        select(topics.c.id, topics.c.name, topics.c.config, oldest, subscriptions.c.config)
        .select_from(
            topics.outerjoin(
                subscriptions,
                and_(
                    subscriptions.c.topic_id == topics.c.id,
                    subscriptions.c.detached.is_(False),
                    subscriptions.c.start_seq <= topics.c.first_seq,
                ),
            )
        )
        .where(
            on_page,
            topics.c.first_seq < topics.c.next_seq,
            ~_is_oldest_unacknowledged(),
            ~_is_oldest_held(),
        )
    )
    found: dict[int, bool] = {}  # topic id -> nothing keeps its oldest batch
    for topic_id, name, config, oldest_us, subscription_config in connection.execute(query):
        if topic_id not in found:
            retention_us = (
                None if name is None else records.topic_config(config).message_retention_us
            )
            found[topic_id] = not is_within(retention_us, oldest_us, now_us)
        if found[topic_id] and subscription_config is not None:
            of_subscription = records.subscription_config(subscription_config)
            found[topic_id] = not (
                of_subscription.retain_acked_messages
                and is_within(of_subscription.message_retention_us, oldest_us, now_us)
            )
    return [topic_id for topic_id, is_free in found.items() if is_free]


def purge(
    segments: Segments | None, topic_id: int, now_us: int, max_rows: int, connection: Connection
) -> tuple[int, list[int]]:
    """Delete a topic's oldest batches; how many rows it were, and which segments are free now.

    At most ``max_rows``, and PURGE_BYTES or one batch.
    """
    # The lock keeps other nodes from creating a subscription or snapshot that this would miss.
    topic = connection.execute(
        select(topics).where(topics.c.id == topic_id).with_for_update()
    ).one_or_none()
    if topic is None:
        return 0, []
    needed = _needed(topic, now_us, connection)
    candidates = connection.execute(
        select(batches.c.first_seq, batches.c.count, batches.c.byte_size, batches.c.segment)
        .where(batches.c.topic_id == topic_id, batches.c.first_seq >= topic.first_seq)
        .order_by(batches.c.first_seq)
        .limit(max_rows)
    ).all()
    rows = size = 0
    end = topic.first_seq
    touched = set()
    for first_seq, count, byte_size, segment in candidates:
        size += byte_size
        if first_seq + count > needed or (rows and size > PURGE_BYTES):
            break
        rows += 1
        end = first_seq + count
        if segment is not None:
            touched.add(segment)
    if rows:
        _count(topic, end, connection)
        connection.execute(
            delete(batches).where(
                batches.c.topic_id == topic_id,
                batches.c.first_seq.between(topic.first_seq, end - 1),
            )
        )
        connection.execute(update(topics).where(topics.c.id == topic_id).values(first_seq=end))
    return rows, [] if segments is None else free(segments, touched, connection)


def _count(topic: Row[Any], end: int, connection: Connection) -> None:
    """Note what goes with the messages below ``end``. Nobody asks about deleted topics."""
    query = select(topic_marks.c.counted_seq).where(topic_marks.c.topic_id == topic.id)
    if topic.name is not None and (connection.scalar(query) or 0) < end:
        days.count(topic.id, topic.name.rpartition("/")[2], topic.project, connection)


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
    return (
        exists()
        .where(
            subscriptions.c.topic_id == topics.c.id,
            subscriptions.c.detached.is_(False),
            cursors.c.subscription_id == subscriptions.c.id,
            cursors.c.floor <= topics.c.first_seq,
        )
        .correlate(topics)  # and not subscriptions, which the query may have, too
    )


def _is_oldest_held() -> ColumnElement[bool]:
    return exists().where(
        snapshots.c.topic_id == topics.c.id, snapshots.c.floor <= topics.c.first_seq
    )


def is_forgettable() -> ColumnElement[bool]:
    """A topic is deleted, and nothing refers to it any more."""
    return (
        topics.c.name.is_(None)
        & ~exists().where(subscriptions.c.topic_id == topics.c.id)
        & ~exists().where(snapshots.c.topic_id == topics.c.id)
        & ~exists().where(batches.c.topic_id == topics.c.id)
    )


def is_within(period_us: int | None, publish_time_us: int | None, now_us: int) -> bool:
    """Whether something was published no longer than a period ago; no period: it was not."""
    return (
        period_us is not None
        and publish_time_us is not None
        and publish_time_us >= now_us - period_us
    )
