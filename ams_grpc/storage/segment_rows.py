"""What the rows of ``batches`` say about segments: see ``storage.segments``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection, func, select, update

from ams_grpc.storage.segments import SEGMENT_BYTES, Place, Segments
from ams_grpc.storage.tables import batches

_WORTH_KEEPING: Final = SEGMENT_BYTES // 4
"""A segment of which less is in use gives the rest back to the database, and goes."""


def last_segment(connection: Connection) -> int:
    """The highest number that a row refers to; 0 if none does."""
    return (
        connection.scalar(
            select(func.coalesce(func.max(batches.c.segment), 0)).where(
                batches.c.segment.is_not(None)
            )
        )
        or 0
    )


def segment_end(connection: Connection, number: int) -> int:
    """Where the last payload of a segment ends; 0 if no row refers to the segment."""
    end = batches.c.segment_offset + batches.c.byte_size
    return (
        connection.scalar(
            select(end)
            .where(batches.c.segment == number)
            .order_by(batches.c.segment_offset.desc())
            .limit(1)
        )
        or 0
    )


def free(segments: Segments, numbers: Iterable[int], connection: Connection) -> list[int]:
    """Rows in these segments were deleted: which of them can go, once that is committed.

    A message that is kept for long must not keep a whole segment: the last payloads in one move
    into their rows.
    """
    freed = []
    for number in sorted(numbers):
        in_use = select(func.sum(batches.c.byte_size)).where(batches.c.segment == number)
        used = connection.scalar(in_use) or 0
        if used == 0:
            segments.seal(number)
        elif used < _WORTH_KEEPING and not segments.is_current(number):
            _move_into_rows(segments, number, connection)
        else:
            continue
        freed.append(number)
    return freed


def _move_into_rows(segments: Segments, number: int, connection: Connection) -> None:
    query = select(
        batches.c.topic_id, batches.c.first_seq, batches.c.segment_offset, batches.c.byte_size
    ).where(batches.c.segment == number)
    for topic_id, first_seq, offset, size in connection.execute(query).all():
        payload = segments.read(Place(number, offset), size)
        connection.execute(
            update(batches)
            .where(batches.c.topic_id == topic_id, batches.c.first_seq == first_seq)
            .values(payload=payload, segment=None, segment_offset=None)
        )
