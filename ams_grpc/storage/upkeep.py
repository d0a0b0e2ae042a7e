"""What time does to stored things: implements ``broker.ports.Upkeep``, and counts backlogs.

The broker decides when; here is how. Writes go through the group commit in small bites, so that
publishers wait for none of it for long.

What keeps a message (Pub/Sub: message retention): a subscription that has not acknowledged it; one
that retains acknowledged messages; its topic's retention; a snapshot. Nobody looks at messages one
by one: the log is cut at the lowest seq that something keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    ScalarSelect,
    Table,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    select,
    tuple_,
    update,
)

from ams_grpc.broker.catalog import Subscription
from ams_grpc.broker.names import SubscriptionName, TopicName
from ams_grpc.storage import days, records
from ams_grpc.storage.catalog import subscription_rows
from ams_grpc.storage.commit import GroupCommit
from ams_grpc.storage.log import first_batch_at, lowest_floor, replay_limit
from ams_grpc.storage.reading import Readers
from ams_grpc.storage.segment_rows import free
from ams_grpc.storage.segments import Segments
from ams_grpc.storage.tables import (
    batches,
    cursors,
    meta,
    onces,
    snapshots,
    subscriptions,
    topic_marks,
    topics,
)

T = TypeVar("T")

PURGE_BYTES: Final = 16 << 20
"""The most that one bite deletes: SQLite reads what it deletes."""

FORGET_ROWS: Final = 5_000
"""The most answers that one bite forgets."""

PAGE_ROWS: Final = 2_000
"""Topics or subscriptions that one reading looks at: each ends soon, however many there are."""


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


@dataclass(frozen=True, slots=True)
class Backlog:
    """What an attached subscription has not acknowledged; oldest None: nothing."""

    subscription: SubscriptionName
    topic: TopicName | None
    messages: int
    oldest_publish_time_us: int | None


class Upkeep:
    def __init__(
        self, readers: Readers, commits: GroupCommit, segments: Segments | None = None
    ) -> None:
        self._readers = readers
        self._commits = commits
        self._segments = segments

    # --- retention -------------------------------------------------------------------------------

    async def topics_with_messages(self, now_us: int) -> Sequence[int]:
        """Ids of the topics that store messages which nothing keeps.

        Those are left out of which something still keeps the oldest batch: ``purge_topic`` has
        nothing to do for them.
        """
        return await self._by_page(topics, partial(_topics_with_messages, now_us))

    async def purge_topic(self, topic_id: int, now_us: int, max_rows: int = 500) -> int:
        """Delete the oldest batches of a topic that nothing keeps; how many it were.

        At most ``max_rows``, and 16 MiB or one batch: call it again until it returns 0.
        """
        rows, freed = await self._commits.run(
            partial(_purge, self._segments, topic_id, now_us, max_rows)
        )
        await self._remove(freed)
        return rows

    async def free_space(self) -> None:
        """Look once more at what earlier purges left: it could not go, or nobody knew if it may."""
        segments = self._segments
        if segments is None:
            return
        for number in segments.suspects:
            await self._remove(await self._commits.run(partial(free, segments, [number])))

    async def _remove(self, freed: Sequence[int]) -> None:
        segments = self._segments
        if segments is not None and freed:
            await self._commits.run(lambda _connection: segments.remove(freed))

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

    async def forget_answers(self, now_us: int) -> int:
        """Forget some publishes that were to be done once, and whose time is over; how many.

        Call it again until it returns 0.
        """
        is_expired = onces.c.expire_us <= now_us
        expired = (
            select(onces.c.topic_id, onces.c.key).where(is_expired).order_by(onces.c.expire_us)
        )
        query = expired.limit(1)
        if not (await self._readers.run(lambda connection: connection.execute(query).all())):
            return 0
        some = tuple_(onces.c.topic_id, onces.c.key).in_(expired.limit(FORGET_ROWS))
        # Another node may use such a key again just now: then it is not expired when it is looked at.
        forgotten = delete(onces).where(some, is_expired)
        return await self._commits.run(lambda connection: connection.execute(forgotten).rowcount)

    async def expired_floors(self, now_us: int) -> Sequence[ExpiredFloor]:
        """Attached subscriptions with unacknowledged messages older than their retention.

        What a snapshot of the topic holds has not expired.
        """
        return await self._by_page(subscriptions, partial(_expired_floors, now_us))

    async def filtered_backlogs(self) -> Sequence[SubscriptionName]:
        """The attached subscriptions with a filter whose floor is not at their topic's end."""
        return await self._by_page(subscriptions, _filtered_backlogs)

    # --- expiration of subscriptions ---------------------------------------------------------------

    async def touch(self, subscription_ids: Iterable[int], now_us: int) -> None:
        """These subscriptions are in use: their time starts again."""
        parameters = [{"of_id": number} for number in subscription_ids]
        if parameters:
            await self._commits.run(partial(_touch, parameters, now_us))

    async def inactive(self, now_us: int) -> Sequence[Subscription]:
        """Subscriptions that nobody used for as long as their expiration allows."""
        return await self._by_page(subscriptions, partial(_inactive, now_us))

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

    # --- reading ---------------------------------------------------------------------------------

    async def _by_page(
        self, table: Table, read: Callable[[ColumnElement[bool], Connection], Iterable[T]]
    ) -> list[T]:
        """What ``read`` finds in a whole table, page after page.

        It gets the condition that a row is on the page.
        """
        found: list[T] = []
        last: int | None = 0
        while last is not None:
            last, part = await self._readers.run(partial(_page, table, last, read))
            found += part
        return found


def _page(
    table: Table,
    after: int,
    read: Callable[[ColumnElement[bool], Connection], Iterable[T]],
    connection: Connection,
) -> tuple[int | None, Iterable[T]]:
    """The last id of the page that follows ``after``, None if it is the last page; what is on it."""
    query = select(table.c.id).where(table.c.id > after).order_by(table.c.id)
    last = connection.scalar(query.offset(PAGE_ROWS - 1).limit(1))
    on_page = table.c.id > after if last is None else table.c.id.between(after + 1, last)
    return last, read(on_page, connection)


def _topics_with_messages(
    now_us: int, on_page: ColumnElement[bool], connection: Connection
) -> Iterable[int]:
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
            found[topic_id] = not _is_within(retention_us, oldest_us, now_us)
        if found[topic_id] and subscription_config is not None:
            of_subscription = records.subscription_config(subscription_config)
            found[topic_id] = not (
                of_subscription.retain_acked_messages
                and _is_within(of_subscription.message_retention_us, oldest_us, now_us)
            )
    return [topic_id for topic_id, is_free in found.items() if is_free]


def _is_within(period_us: int | None, publish_time_us: int | None, now_us: int) -> bool:
    return (
        period_us is not None
        and publish_time_us is not None
        and publish_time_us >= now_us - period_us
    )


def _purge(
    segments: Segments | None, topic_id: int, now_us: int, max_rows: int, connection: Connection
) -> tuple[int, list[int]]:
    """How many rows were deleted, and which segments are free now."""
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


def _first_unacknowledged() -> ColumnElement[int]:
    """The seq of the first stored message at or above a cursor's floor."""
    return case((cursors.c.floor < topics.c.first_seq, topics.c.first_seq), else_=cursors.c.floor)


def _published_us(seq: ColumnElement[int]) -> ScalarSelect[Any]:
    """When the stored message ``seq`` of ``topics`` was published."""
    return (
        select(batches.c.publish_time_us)
        .where(batches.c.topic_id == topics.c.id, batches.c.first_seq <= seq)
        .order_by(batches.c.first_seq.desc())
        .limit(1)
        .scalar_subquery()
    )


def _is_forgettable() -> ColumnElement[bool]:
    return (
        topics.c.name.is_(None)
        & ~exists().where(subscriptions.c.topic_id == topics.c.id)
        & ~exists().where(snapshots.c.topic_id == topics.c.id)
        & ~exists().where(batches.c.topic_id == topics.c.id)
    )


def _expired_floors(
    now_us: int, on_page: ColumnElement[bool], connection: Connection
) -> Iterable[ExpiredFloor]:
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
            _published_us(_first_unacknowledged()),
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
        if not _is_within(retention_us, published_us, now_us):
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


def _touch(parameters: Sequence[dict[str, int]], now_us: int, connection: Connection) -> None:
    connection.execute(
        update(subscriptions)
        .where(subscriptions.c.id == bindparam("of_id"), subscriptions.c.active_at_us < now_us)
        .values(active_at_us=now_us),
        parameters,
    )


def _inactive(
    now_us: int, on_page: ColumnElement[bool], connection: Connection
) -> Iterable[Subscription]:
    query = select(subscriptions.c.id, subscriptions.c.active_at_us, subscriptions.c.config)
    found = [
        number
        for number, active_at_us, config in connection.execute(query.where(on_page))
        if _is_inactive(active_at_us, config, now_us)
    ]
    if not found:
        return []
    rows = connection.execute(
        subscription_rows().where(subscriptions.c.id.in_(found)).order_by(subscriptions.c.id)
    )
    return [
        records.subscription(row)
        for row in rows
        if _is_inactive(row.active_at_us, row.config, now_us)  # it may have changed since
    ]


def _is_inactive(active_at_us: int, config: str, now_us: int) -> bool:
    ttl_us = records.subscription_config(config).expiration_ttl_us
    return ttl_us is not None and active_at_us + ttl_us <= now_us


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


def _filtered_backlogs(
    on_page: ColumnElement[bool], connection: Connection
) -> Iterable[SubscriptionName]:
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


def _backlogs(connection: Connection) -> Sequence[Backlog]:
    start = _first_unacknowledged()
    query = (
        select(
            subscriptions.c.name,
            topics.c.name.label("topic_name"),
            (topics.c.next_seq - start - cursors.c.acked_above_floor).label("messages"),
            case((start < topics.c.next_seq, _published_us(start))).label("oldest"),
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
