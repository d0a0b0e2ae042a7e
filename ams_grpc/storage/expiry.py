"""Unacknowledged messages that are older than their retention."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, exists, func, select

from ams_grpc.broker.names import SubscriptionName
from ams_grpc.storage import records
from ams_grpc.storage.backlogs import first_unacknowledged, time_of
from ams_grpc.storage.log import first_batch_at, lowest_floor
from ams_grpc.storage.purging import is_within
from ams_grpc.storage.tables import cursors, snapshots, subscriptions, topics


@dataclass(frozen=True, slots=True)
class ExpiredFloor:
    """A subscription with unacknowledged messages beyond their retention: those below ``cutoff``.

    ``retention_us`` is the retention that they are beyond of.
    """

    subscription_id: int
    subscription: SubscriptionName
    topic_id: int
    retention_us: int
    cutoff: int


def expired_floors(
    now_us: int, on_page: ColumnElement[bool], connection: Connection
) -> Iterable[ExpiredFloor]:
    """Subscriptions on a page of the table, whose oldest messages have expired."""
    held = exists().where(
        snapshots.c.topic_id == topics.c.id,
        snapshots.c.floor <= cursors.c.floor,
        snapshots.c.expire_us > now_us,
    )
    query = (
        select(
            subscriptions.c.id,
            subscriptions.c.name,
            subscriptions.c.config,
            subscriptions.c.topic_id,
            topics.c.name.is_not(None),
            topics.c.config,
            topics.c.next_seq,
            cursors.c.floor,
            time_of(first_unacknowledged()),
        )
        .select_from(subscriptions.join(topics).join(cursors))
        .where(
            on_page,
            subscriptions.c.detached.is_(False),
            cursors.c.floor < topics.c.next_seq,
            ~held,
        )
    )
    expired: dict[int, list[tuple[int, str, int, int, int]]] = {}  # by retention
    for (
        number,
        name,
        config,
        topic_id,
        has_topic,
        topic_config,
        next_seq,
        floor,
        published_us,
    ) in connection.execute(query):
        retention_us = records.subscription_config(config).message_retention_us
        if has_topic:
            of_topic_us = records.topic_config(topic_config).message_retention_us
            retention_us = max(retention_us, of_topic_us or 0)
        # If this one has not expired, nor has what follows: the times of a log never go back.
        if not is_within(retention_us, published_us, now_us):
            expired.setdefault(retention_us, []).append((number, name, topic_id, next_seq, floor))
    found = []
    for retention_us, rows in expired.items():
        cutoffs = _cutoffs({row[2] for row in rows}, now_us, retention_us, connection)
        for number, name, topic_id, next_seq, floor in rows:
            # ``next_seq`` was read before: what came in since is not expired.
            cutoff = min(cutoffs.get(topic_id, 0), next_seq)
            if cutoff > floor:
                of_name = records.stored_name(SubscriptionName, name)
                found.append(ExpiredFloor(number, of_name, topic_id, retention_us, cutoff))
    return found


def _cutoffs(
    topic_ids: Iterable[int], now_us: int, retention_us: int, connection: Connection
) -> dict[int, int]:
    """For each topic the seq below which nothing is so young, and no snapshot holds anything."""
    first = first_batch_at(topics.c.id, now_us - retention_us).scalar_subquery()
    held = lowest_floor(topics.c.id, now_us).scalar_subquery()
    # The next seq is read with the rest: what a commit adds meanwhile is in both, or in neither.
    query = select(topics.c.id, func.coalesce(first, topics.c.next_seq), held)
    return {
        topic_id: cutoff if held_from is None else min(cutoff, held_from)
        for topic_id, cutoff, held_from in connection.execute(
            query.where(topics.c.id.in_(sorted(topic_ids)))
        )
    }
