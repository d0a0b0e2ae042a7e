"""What there is to count: implements ``broker.figures.Figures``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    ScalarSelect,
    Table,
    delete,
    func,
    insert,
    or_,
    select,
    true,
)

from ams_grpc.broker.catalog import Topic
from ams_grpc.broker.errors import not_found
from ams_grpc.broker.figures import (
    DAY_US,
    NodeUsage,
    ProjectFigures,
    ProjectPeriod,
    TopicFigures,
    TopicTotals,
)
from ams_grpc.broker.names import TopicName
from ams_grpc.storage import days
from ams_grpc.storage.among import is_among
from ams_grpc.storage.commit import GroupCommit
from ams_grpc.storage.reading import Readers
from ams_grpc.storage.records import stored_name
from ams_grpc.storage.tables import (
    daily_messages,
    memberships,
    node_usage,
    projects,
    subscriptions,
    topic_marks,
    topics,
    users,
)

NODE_US: Final = 7 * DAY_US
"""A node that was not measured for so long is taken to be gone."""


class SqlFigures:
    def __init__(self, readers: Readers, commits: GroupCommit) -> None:
        self._readers = readers
        self._commits = commits

    async def topic(self, topic: Topic) -> TopicFigures:
        return await self._readers.run(partial(_topic, topic))

    async def totals(self) -> Sequence[TopicTotals]:
        """Of every topic that is not deleted."""
        columns = topics.c.name, topics.c.next_seq, topics.c.byte_count, topics.c.first_seq
        query = select(*columns).where(topics.c.name.is_not(None))
        rows = await self._readers.run(lambda connection: connection.execute(query).all())
        return [
            TopicTotals(stored_name(TopicName, name), messages, size, messages - first)
            for name, messages, size, first in rows
        ]

    async def project(self, project: str) -> ProjectFigures:
        query = select(
            _count(topics, topics.c.project == project, topics.c.name.is_not(None)),
            _count(subscriptions, subscriptions.c.project == project),
        )
        row = await self._readers.run(lambda connection: connection.execute(query).one())
        return ProjectFigures(*row)

    async def days_of_topic(self, topic: Topic, limit: int) -> Sequence[tuple[int, int]]:
        name = topic.name
        stored = (daily_messages.c.project == name.project) & (daily_messages.c.topic == name.id)
        return await self._days(topics.c.name == str(name), stored, limit)

    async def days_of_project(self, project: str, limit: int) -> Sequence[tuple[int, int]]:
        live = (topics.c.project == project) & topics.c.name.is_not(None)
        return await self._days(live, daily_messages.c.project == project, limit)

    async def period(
        self, projects: Collection[str] | None, first_day: int, last_day: int
    ) -> Sequence[ProjectPeriod]:
        return await self._readers.run(partial(_period, projects, first_day, last_day))

    async def note_node(self, usage: NodeUsage, now_us: int) -> None:
        row = {
            "host": usage.host,
            "cpu_permille": round(usage.cpu * 10),
            "memory_permille": round(usage.memory * 10),
            "measured_us": now_us,
        }

        def apply(connection: Connection) -> None:
            gone = node_usage.c.measured_us < now_us - NODE_US
            connection.execute(delete(node_usage).where(or_(node_usage.c.host == usage.host, gone)))
            connection.execute(insert(node_usage), row)

        await self._commits.run(apply)

    async def nodes(self) -> Sequence[NodeUsage]:
        query = select(node_usage).order_by(node_usage.c.host)
        rows = await self._readers.run(lambda connection: connection.execute(query).all())
        return [
            NodeUsage(row.host, row.cpu_permille / 10, row.memory_permille / 10) for row in rows
        ]

    async def _days(
        self, of_topics: ColumnElement[bool], of_days: ColumnElement[bool], limit: int
    ) -> Sequence[tuple[int, int]]:
        found = days.daily(of_topics, of_days)
        query = (
            select(found.c.day, func.sum(found.c.messages))
            .group_by(found.c.day)
            .order_by(found.c.day.desc())
            .limit(limit)
        )
        rows = await self._readers.run(lambda connection: connection.execute(query).all())
        return [(int(day), int(messages)) for day, messages in rows]


def _topic(topic: Topic, connection: Connection) -> TopicFigures:
    attached = _count(
        subscriptions,
        subscriptions.c.topic_id == topics.c.id,
        subscriptions.c.detached.is_(False),
    )
    query = (
        select(topics.c.byte_count, attached.label("attached"), *days.last_publish())
        .select_from(topics.outerjoin(topic_marks))
        .where(topics.c.id == topic.id, topics.c.name.is_not(None))
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        raise not_found(topic.name)
    return TopicFigures(row.next_seq, row.byte_count, row.attached, days.event(row))


def _period(
    names: Collection[str] | None, first_day: int, last_day: int, connection: Connection
) -> Sequence[ProjectPeriod]:
    def in_project(table: Table) -> ColumnElement[bool]:
        return true() if names is None else is_among(table.c.project, names)

    live = in_project(topics) & topics.c.name.is_not(None)
    found = days.daily(live, in_project(daily_messages))

    def made_in_period(table: Table) -> ColumnElement[bool]:
        return table.c.created_us.between(first_day * DAY_US, (last_day + 1) * DAY_US - 1)

    query = (
        select(
            projects.c.name,
            func.sum(found.c.messages),
            _count(
                topics,
                topics.c.project == projects.c.name,
                topics.c.name.is_not(None),
                made_in_period(topics),
            ),
            _count(
                subscriptions,
                subscriptions.c.project == projects.c.name,
                made_in_period(subscriptions),
            ),
            _count(
                memberships,
                memberships.c.project_id == projects.c.id,
                memberships.c.user_id == users.c.id,
                made_in_period(users),
            ),
        )
        .select_from(projects.join(found, found.c.project == projects.c.name))
        .where(found.c.day.between(first_day, last_day))
        .group_by(projects.c.id, projects.c.name)
        .order_by(projects.c.name)
    )
    return [
        ProjectPeriod(name, int(messages), *counts)
        for name, messages, *counts in connection.execute(query)
    ]


def _count(table: Table, *conditions: Any) -> ScalarSelect[int]:
    """How many rows there are, for the row that the query around it is about."""
    return (
        select(func.count())
        .select_from(table)
        .where(*conditions)
        .correlate_except(table, users)
        .scalar_subquery()
    )
