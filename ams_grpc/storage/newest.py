"""Topics and subscriptions, newest first: implements ``broker.newest.Newest``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Select, Table, func, select

from ams_grpc.broker.catalog import Subscription, Topic
from ams_grpc.broker.errors import not_found
from ams_grpc.broker.names import ResourceName, SubscriptionName, TopicName
from ams_grpc.broker.newest import Dated, NewestPage
from ams_grpc.storage import records
from ams_grpc.storage.among import has_id_among
from ams_grpc.storage.catalog import subscription_rows
from ams_grpc.storage.reading import Readers
from ams_grpc.storage.tables import subscriptions, topics

Resource = TypeVar("Resource", Topic, Subscription)


class SqlNewest:
    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def topic(self, name: TopicName) -> Dated[Topic]:
        query = select(topics).where(topics.c.name == str(name))
        return await self._readers.run(partial(_one, query, name, records.topic))

    async def topics(
        self, project: str, among: Collection[str] | None, start: int | None, limit: int | None
    ) -> NewestPage[Topic]:
        query = select(topics).where(
            topics.c.project == project,
            topics.c.name.is_not(None),
            has_id_among(topics.c.name, TopicName, project, among),
        )
        return await self._readers.run(partial(_page, query, topics, start, limit, records.topic))

    async def subscription(self, name: SubscriptionName) -> Dated[Subscription]:
        query = subscription_rows().where(subscriptions.c.name == str(name))
        return await self._readers.run(partial(_one, query, name, records.subscription))

    async def subscriptions(
        self, project: str, among: Collection[str] | None, start: int | None, limit: int | None
    ) -> NewestPage[Subscription]:
        query = subscription_rows().where(
            subscriptions.c.project == project,
            has_id_among(subscriptions.c.name, SubscriptionName, project, among),
        )
        return await self._readers.run(
            partial(_page, query, subscriptions, start, limit, records.subscription)
        )

    async def subscriptions_of(self, topic: Topic) -> Sequence[SubscriptionName]:
        query = (
            select(subscriptions.c.name)
            .where(subscriptions.c.topic_id == topic.id, subscriptions.c.detached.is_(False))
            .order_by(subscriptions.c.id)
        )

        def read(connection: Connection) -> Sequence[SubscriptionName]:
            return [
                records.stored_name(SubscriptionName, row.name) for row in connection.execute(query)
            ]

        return await self._readers.run(read)


def _one(
    query: Select[Any],
    name: ResourceName,
    read: Callable[[Row[Any]], Resource],
    connection: Connection,
) -> Dated[Resource]:
    row = connection.execute(query).one_or_none()
    if row is None:
        raise not_found(name)
    return Dated(read(row), row.created_us)


def _page(
    query: Select[Any],
    table: Table,
    start: int | None,
    limit: int | None,
    read: Callable[[Row[Any]], Resource],
    connection: Connection,
) -> NewestPage[Resource]:
    total = connection.execute(
        select(func.count()).select_from(query.with_only_columns(table.c.id).subquery())
    ).scalar_one()
    if start is not None:
        query = query.where(table.c.id <= start)
    if limit is not None:
        query = query.limit(limit + 1)
    rows = connection.execute(query.order_by(table.c.id.desc())).all()
    shown = rows if limit is None else rows[:limit]
    return NewestPage(
        [Dated(read(row), row.created_us) for row in shown],
        rows[len(shown)].id if len(rows) > len(shown) else None,
        total,
    )
