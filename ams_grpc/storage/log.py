"""Reading topics' logs: implements ``broker.ports.LogReader``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, Select, func, select
from sqlalchemy.sql import ColumnElement

from ams_grpc.broker.errors import UnreadableMessages
from ams_grpc.broker.ports import StoredBatch
from ams_grpc.storage.clock import WallClock
from ams_grpc.storage.reading import Readers
from ams_grpc.storage.segments import Place, Segments
from ams_grpc.storage.tables import batches, snapshots, topics

_ROWS: Final = 1000
"""The most rows that one read looks at."""


class SqlLogReader:
    def __init__(
        self, readers: Readers, clock: WallClock, segments: Segments | None = None
    ) -> None:
        self._readers = readers
        self._clock = clock
        self._segments = segments

    async def read(self, topic_id: int, seq: int, max_bytes: int) -> Sequence[StoredBatch]:
        return await self._readers.run(partial(_read, self._segments, topic_id, seq, max_bytes))

    async def next_seq(self, topic_id: int) -> int:
        return await self._readers.run(partial(next_seq, topic_id))

    async def first_seq_at(self, topic_id: int, time_us: int) -> int:
        return await self._readers.run(partial(first_seq_at, topic_id, time_us))

    async def publish_time_us(self, topic_id: int, seq: int) -> int | None:
        return await self._readers.run(partial(_publish_time_us, topic_id, seq))

    async def replay_limit(self, topic_id: int) -> int | None:
        return await self._readers.run(partial(replay_limit, topic_id, self._clock.now_us()))


def next_seq(topic_id: int, connection: Connection) -> int:
    """The seq of a topic's next message; 0 for a topic that is gone."""
    query = select(topics.c.next_seq).where(topics.c.id == topic_id)
    return int(connection.execute(query).scalar() or 0)


def first_seq_at(topic_id: int, time_us: int, connection: Connection) -> int:
    """The lowest stored seq published at ``time_us`` or later; else the topic's next seq.

    The next seq is read first: a message that comes in between is found, or is the next one.
    """
    following = next_seq(topic_id, connection)
    found = connection.scalar(first_batch_at(topic_id, time_us))
    return following if found is None else min(found, following)


def replay_limit(topic_id: int, now_us: int, connection: Connection) -> int | None:
    """The lowest floor of a topic's unexpired snapshots."""
    return connection.scalar(lowest_floor(topic_id, now_us))


def lowest_floor(topic_id: int | ColumnElement[int], now_us: int) -> Select[int]:
    """The lowest floor of a topic's unexpired snapshots."""
    return (
        select(snapshots.c.floor)
        .where(snapshots.c.topic_id == topic_id, snapshots.c.expire_us > now_us)
        .order_by(snapshots.c.floor)
        .limit(1)
    )


def first_batch_at(topic_id: int | ColumnElement[int], time_us: int) -> Select[int]:
    """The first seq of the first batch published at ``time_us`` or later."""
    return (
        select(batches.c.first_seq)
        .where(batches.c.topic_id == topic_id, batches.c.publish_time_us >= time_us)
        .order_by(batches.c.publish_time_us, batches.c.first_seq)
        .limit(1)
    )


def sizes_from(topic_id: int, seq: int, limit: int) -> Select[int, int, int, int]:
    """Which batches there are, without payloads: from the one that may hold ``seq``."""
    return (
        select(batches.c.first_seq, batches.c.count, batches.c.publish_time_us, batches.c.byte_size)
        .where(batches.c.topic_id == topic_id, batches.c.first_seq >= _start(topic_id, seq))
        .order_by(batches.c.first_seq)
        .limit(limit)
    )


def payloads_between(topic_id: int, first: int, last: int) -> Select[Any]:
    """The batches whose first seqs lie from ``first`` to ``last``."""
    return (
        select(
            batches.c.first_seq,
            batches.c.count,
            batches.c.publish_time_us,
            batches.c.byte_size,
            batches.c.payload,
            batches.c.segment,
            batches.c.segment_offset,
        )
        .where(batches.c.topic_id == topic_id, batches.c.first_seq.between(first, last))
        .order_by(batches.c.first_seq)
    )


def _start(topic_id: int, seq: int) -> ColumnElement[Any]:
    """The first seq of the last batch that begins at or before ``seq``; else ``seq``."""
    earlier = (
        select(batches.c.first_seq)
        .where(batches.c.topic_id == topic_id, batches.c.first_seq <= seq)
        .order_by(batches.c.first_seq.desc())
        .limit(1)
        .scalar_subquery()
    )
    return func.coalesce(earlier, seq)


def _read(
    segments: Segments | None, topic_id: int, seq: int, max_bytes: int, connection: Connection
) -> Sequence[StoredBatch]:
    missing = None
    while True:
        sizes = connection.execute(sizes_from(topic_id, seq, _ROWS)).all()
        if sizes and sizes[0].first_seq + sizes[0].count <= seq:
            sizes = sizes[1:]  # it ends before seq
        if not sizes:
            return []
        last, total = sizes[0].first_seq, sizes[0].byte_size
        for row in sizes[1:]:
            total += row.byte_size
            if total > max_bytes:
                break
            last = row.first_seq
        rows = connection.execute(payloads_between(topic_id, sizes[0].first_seq, last)).all()
        found: list[StoredBatch] = []
        try:
            for columns in rows:
                batch = _stored(segments, topic_id, *columns)
                found.append(batch)
        except FileNotFoundError as error:  # deleted since, or moved; look again
            if error.filename == missing and not found:
                raise _unreadable(segments, rows[0].segment) from error
            missing = error.filename
        except UnreadableMessages:
            if not found:
                raise
        if found:  # else: deleted since they were measured; look again
            return found  # as far as they can be read


def _unreadable(segments: Segments | None, number: int) -> UnreadableMessages:
    if segments is None:
        raise AssertionError("a payload in no segment")
    return segments.unreadable(number, "it is missing")


def _stored(
    segments: Segments | None,
    topic_id: int,
    first_seq: int,
    count: int,
    publish_time_us: int,
    byte_size: int,
    payload: bytes,
    segment: int | None,
    offset: int | None,
) -> StoredBatch:
    if segments is not None and segment is not None and offset is not None:
        payload = segments.read(Place(segment, offset), byte_size)
    return StoredBatch(topic_id, first_seq, count, publish_time_us, payload)


def _publish_time_us(topic_id: int, seq: int, connection: Connection) -> int | None:
    for row in connection.execute(sizes_from(topic_id, seq, 2)):
        if row.first_seq + row.count > seq:
            return int(row.publish_time_us)
    return None
