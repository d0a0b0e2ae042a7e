"""What the rows of ``batches`` say about segments: see ``storage.segments``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection, func, insert, select, update

from ams_grpc.broker.errors import UnreadableMessages
from ams_grpc.storage.segments import SEGMENT_BYTES, Place, Segments
from ams_grpc.storage.tables import batches, meta

_WORTH_KEEPING: Final = SEGMENT_BYTES // 4
"""A segment of which less is in use gives the rest back to the database, and goes."""


_LAST: Final = "last_segment"


def last_segment(connection: Connection) -> int:
    """The highest number that was ever used; 0 if none was."""
    query = select(func.max(batches.c.segment)).where(batches.c.segment.is_not(None))
    noted = connection.scalar(select(meta.c.value).where(meta.c.key == _LAST))
    return max(connection.scalar(query) or 0, int(noted or 0))


def note_segment(connection: Connection, number: int) -> None:
    """This number is used from now on, and never again."""
    value = str(number).encode()
    change = update(meta).where(meta.c.key == _LAST).values(value=value)
    if connection.execute(change).rowcount == 0:
        connection.execute(insert(meta), {"key": _LAST, "value": value})


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
    into their rows. What cannot be read stays where it is.
    """
    freed = []
    segments.suspect(numbers)
    for number in sorted(numbers):
        in_use = select(func.sum(batches.c.byte_size)).where(batches.c.segment == number)
        used = connection.scalar(in_use) or 0
        if used == 0:
            segments.seal(number)
        elif used >= _WORTH_KEEPING:
            segments.keep(number)
            continue
        elif segments.is_current(number) or not _move_into_rows(segments, number, connection):
            continue
        freed.append(number)
    return freed


def _move_into_rows(segments: Segments, number: int, connection: Connection) -> bool:
    """False if some of them cannot be read."""
    query = select(
        batches.c.topic_id, batches.c.first_seq, batches.c.segment_offset, batches.c.byte_size
    ).where(batches.c.segment == number)
    for topic_id, first_seq, offset, size in connection.execute(query).all():
        try:
            payload = segments.read(Place(number, offset), size)
        except FileNotFoundError:
            segments.unreadable(number, "it is missing")
            return False
        except UnreadableMessages:
            return False
        connection.execute(
            update(batches)
            .where(batches.c.topic_id == topic_id, batches.c.first_seq == first_seq)
            .values(payload=payload, segment=None, segment_offset=None)
        )
    return True
