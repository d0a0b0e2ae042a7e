"""Messages by day, and when topics were last published to: made of the log, when somebody asks.

A topic's seqs have no gaps and its publish times never go back. So what was published on a day is
the distance between the first seq of that day and the first of the next one, which an index knows:
publishing counts nothing, and counting reads a few index entries a day, however many messages
there were.

``daily_messages`` holds what the log cannot tell any more. Before batches are deleted, or the name
of their topic is, all that the topic has is added there, and its row in ``topic_marks`` says up to
where (``counted_seq``). Reading adds what is above that. Both happen in one statement or under the
lock of the topic's row, so that nothing is counted twice, or not at all.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    CTE,
    ColumnElement,
    Connection,
    ScalarSelect,
    Select,
    Subquery,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    select,
    union_all,
    update,
)

from ams_grpc.broker.figures import DAY_US, Event
from ams_grpc.storage.tables import batches, daily_messages, topic_marks, topics

_COUNTED: Final = func.coalesce(topic_marks.c.counted_seq, 0)


def daily(of_topics: ColumnElement[bool], of_days: ColumnElement[bool]) -> Subquery:
    """Columns project, topic (its id), day, messages: for one day there may be several rows.

    ``of_topics`` tells of which topics the log is asked; ``of_days`` which rows of
    ``daily_messages`` belong to them.
    """
    counted = daily_messages.c
    stored = select(counted.project, counted.topic, counted.day, counted.messages)
    return union_all(stored.where(of_days), _uncounted(of_topics)).subquery("daily")


def count(topic_id: int, topic_id_of_name: str, project: str, connection: Connection) -> None:
    """Add all that a topic has to ``daily_messages``, under this name.

    The caller holds the lock of the topic's row. Its name may be gone already.
    """
    query = _uncounted(topics.c.id == topic_id)
    for row in connection.execute(query).all():
        _add(project, topic_id_of_name, row.day, row.messages, connection)
    _mark(topic_id, connection)


def rename(old: str, new: str, connection: Connection) -> None:
    """A project has another name: its days go along. What there was under that name is added to."""
    mine, theirs = daily_messages.alias("mine"), daily_messages
    same = and_(mine.c.project == old, mine.c.topic == theirs.c.topic, mine.c.day == theirs.c.day)
    added = select(mine.c.messages).where(same).correlate(theirs).scalar_subquery()
    connection.execute(
        update(theirs)
        .where(theirs.c.project == new, exists().where(same).correlate(theirs))
        .values(messages=theirs.c.messages + added)
    )
    others = daily_messages.alias("others")
    connection.execute(
        delete(daily_messages).where(
            daily_messages.c.project == old,
            exists()
            .where(
                others.c.project == new,
                others.c.topic == daily_messages.c.topic,
                others.c.day == daily_messages.c.day,
            )
            .correlate(daily_messages),
        )
    )
    connection.execute(
        update(daily_messages).where(daily_messages.c.project == old).values(project=new)
    )


def forget(project: str, connection: Connection) -> None:
    """A project goes, and its days with it."""
    connection.execute(delete(daily_messages).where(daily_messages.c.project == project))


# --- what is in the log only ---------------------------------------------------------------------


def _uncounted(of_topics: ColumnElement[bool]) -> Select[Any]:
    """Columns project, topic, day, messages: what topics have above their ``counted_seq``."""
    days = _days(of_topics)
    first_seq = _first_seq_from(days.c.topic_id, days.c.time_us, days)
    # It is below if something is counted of the same millisecond.
    start = case((first_seq < days.c.counted, days.c.counted), else_=first_seq)
    starts = (
        select(days, start.label("start")).where(days.c.time_us.is_not(None)).subquery("starts")
    )
    following = func.lead(starts.c.start).over(
        partition_by=starts.c.topic_id, order_by=starts.c.time_us
    )
    return select(
        starts.c.project,
        starts.c.topic,
        (starts.c.time_us // DAY_US).label("day"),
        (func.coalesce(following, starts.c.next_seq) - starts.c.start).label("messages"),
    )


def _days(of_topics: ColumnElement[bool]) -> CTE:
    """For each topic and each day that is not counted, the time of the day's first publish.

    The last row of each topic has no time. Scalar subqueries all the way: each is one look into
    an index, whatever a database's planner thinks of recursion.
    """
    first_us = (
        select(batches.c.publish_time_us)
        .where(batches.c.topic_id == topics.c.id, batches.c.first_seq >= _COUNTED)
        .order_by(batches.c.first_seq)
        .limit(1)
        .correlate(topics, topic_marks)
        .scalar_subquery()
    )
    prefix = func.length(topics.c.project) + len("projects//topics/")
    days = (
        select(
            topics.c.id.label("topic_id"),
            topics.c.project,
            func.substr(topics.c.name, prefix + 1).label("topic"),
            topics.c.next_seq,
            _COUNTED.label("counted"),
            first_us.label("time_us"),
        )
        .select_from(topics.outerjoin(topic_marks))
        .where(of_topics, topics.c.next_seq > _COUNTED)
        .cte("days", recursive=True)
    )
    next_day_us = (days.c.time_us // DAY_US + 1) * DAY_US
    following_us = (
        select(batches.c.publish_time_us)
        .where(
            batches.c.topic_id == days.c.topic_id,
            batches.c.publish_time_us >= next_day_us,
        )
        .order_by(batches.c.publish_time_us)
        .limit(1)
        .correlate(days)
        .scalar_subquery()
    )
    return days.union_all(
        select(
            days.c.topic_id,
            days.c.project,
            days.c.topic,
            days.c.next_seq,
            days.c.counted,
            following_us,
        ).where(days.c.time_us.is_not(None))
    )


def _first_seq_from(topic_id: Any, time_us: Any, *outer: Any) -> ScalarSelect[Any]:
    """The first seq of the first batch published at ``time_us`` or later."""
    return (
        select(batches.c.first_seq)
        .where(batches.c.topic_id == topic_id, batches.c.publish_time_us >= time_us)
        .order_by(batches.c.publish_time_us, batches.c.first_seq)
        .limit(1)
        .correlate(*outer)
        .scalar_subquery()
    )


# --- the last publish ----------------------------------------------------------------------------


def last_publish() -> tuple[ColumnElement[Any], ...]:
    """Columns of ``topics`` joined with ``topic_marks``, for ``event``."""
    before_us = (
        select(batches.c.publish_time_us)
        .where(
            batches.c.topic_id == topics.c.id,
            batches.c.publish_time_us < topics.c.last_publish_us,
        )
        .order_by(batches.c.publish_time_us.desc())
        .limit(1)
        .correlate(topics)
        .scalar_subquery()
    )
    return (
        topics.c.next_seq,
        topics.c.last_publish_us,
        topic_marks.c.event_us,
        topic_marks.c.event_seq,
        topic_marks.c.before_us,
        _first_seq_from(topics.c.id, topics.c.last_publish_us, topics).label("stored_seq"),
        before_us.label("stored_before_us"),
    )


def event(row: Any) -> Event | None:
    """The last publish; None if there was none."""
    if not row.last_publish_us:
        return None
    seq, before_us = _event(row)
    return Event(row.last_publish_us, row.next_seq - seq, before_us)


def _event(row: Any) -> tuple[int, int]:
    """The first seq of the last publish, and when the one before it was."""
    if row.last_publish_us == row.event_us:
        return row.event_seq, row.before_us
    seq = row.next_seq if row.stored_seq is None else row.stored_seq
    return seq, row.stored_before_us or row.event_us or 0


# --- writing -------------------------------------------------------------------------------------


def _add(project: str, topic: str, day: int, messages: int, connection: Connection) -> None:
    key = {"project": project, "topic": topic, "day": day}
    changed = connection.execute(
        update(daily_messages)
        .where(*(daily_messages.c[name] == value for name, value in key.items()))
        .values(messages=daily_messages.c.messages + messages)
    )
    if not changed.rowcount:
        connection.execute(insert(daily_messages), key | {"messages": messages})


def _mark(topic_id: int, connection: Connection) -> None:
    marked = topics.outerjoin(topic_marks)
    query = select(*last_publish()).select_from(marked).where(topics.c.id == topic_id)
    row = connection.execute(query).one()
    seq, before_us = _event(row)
    values = {
        "counted_seq": row.next_seq,
        "event_us": row.last_publish_us,
        "event_seq": seq,
        "before_us": before_us,
    }
    changed = connection.execute(
        update(topic_marks).where(topic_marks.c.topic_id == topic_id).values(values)
    )
    if not changed.rowcount:
        connection.execute(insert(topic_marks), values | {"topic_id": topic_id})
