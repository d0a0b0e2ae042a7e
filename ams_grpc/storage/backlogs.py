"""What subscriptions have not acknowledged, as far as it is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, ScalarSelect, case, select

from ams_grpc.broker.names import SubscriptionName, TopicName
from ams_grpc.storage import records
from ams_grpc.storage.tables import batches, cursors, subscriptions, topics


@dataclass(frozen=True, slots=True)
class Backlog:
    """What an attached subscription has not acknowledged; oldest None: nothing."""

    subscription: SubscriptionName
    topic: TopicName | None
    messages: int
    oldest_publish_time_us: int | None


def backlogs(connection: Connection) -> Sequence[Backlog]:
    """Of all attached subscriptions."""
    start = first_unacknowledged()
    query = (
        select(
            subscriptions.c.name,
            topics.c.name.label("topic_name"),
            (topics.c.next_seq - start - cursors.c.acked_above_floor).label("messages"),
            case((start < topics.c.next_seq, time_of(start))).label("oldest"),
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


def filtered_backlogs(
    on_page: ColumnElement[bool], connection: Connection
) -> Iterable[SubscriptionName]:
    """Those on a page of the table that have a filter, and something left to acknowledge."""
    query = (
        select(subscriptions.c.name, subscriptions.c.config)
        .select_from(subscriptions.join(topics).join(cursors))
        .where(
            on_page,
            subscriptions.c.detached.is_(False),
            cursors.c.floor < topics.c.next_seq,
        )
    )
    return [
        records.stored_name(SubscriptionName, name)
        for name, config in connection.execute(query)
        if records.subscription_config(config).filter
    ]


def first_unacknowledged() -> ColumnElement[int]:
    """The seq of the first stored message at or above a cursor's floor."""
    return case((cursors.c.floor < topics.c.first_seq, topics.c.first_seq), else_=cursors.c.floor)


def time_of(seq: ColumnElement[int]) -> ScalarSelect[Any]:
    """When the stored message ``seq`` of ``topics`` was published."""
    return (
        select(batches.c.publish_time_us)
        .where(batches.c.topic_id == topics.c.id, batches.c.first_seq <= seq)
        .order_by(batches.c.first_seq.desc())
        .limit(1)
        .scalar_subquery()
    )
