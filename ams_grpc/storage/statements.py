"""The statements of every commit, compiled once and executed on the driver's own cursor.

SQLAlchemy writes them, for both databases; executing them through it would cost more than the
database does (10 to 20 µs a statement).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Dialect,
    LargeBinary,
    bindparam,
    case,
    delete,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.sql import ClauseElement

from ams_grpc.broker.ports import CursorChanges
from ams_grpc.storage.tables import ack_chunks, batches, cursors, meta, topics

_ALL_CHUNKS: Final = 1 << 62
"""More than any chunk's number."""

Parameters = tuple[Any, ...]


class HotStatements:
    """The hot statements of one kind of database, as text with positional parameters."""

    def __init__(self, dialect: Dialect) -> None:
        self._is_sqlite = dialect.name == "sqlite"
        kind: Any = type(dialect)
        self._dialect: Dialect = kind(paramstyle="qmark" if self._is_sqlite else "format")
        number, data = BigInteger(), LargeBinary()

        # Safe on several nodes: the row stays locked until the commit, so the order of commits is
        # the order of seqs. No row: the publisher's idea of the topic is out of date.
        now = bindparam("now", type_=number)
        self.allocate = self._compile(
            update(topics)
            .where(
                topics.c.id == bindparam("topic_id", type_=number),
                topics.c.version == bindparam("of_version", type_=number),
                topics.c.name.is_not(None),
            )
            .values(
                next_seq=topics.c.next_seq + bindparam("n", type_=number),
                last_publish_us=case(
                    (topics.c.last_publish_us < now, now), else_=topics.c.last_publish_us
                ),
                byte_count=topics.c.byte_count + bindparam("bytes", type_=number),
            )
            .returning(topics.c.next_seq, topics.c.last_publish_us),
            "n", "now", "now", "bytes", "topic_id", "of_version",
        )  # fmt: skip
        self.insert_batch = self._compile(
            insert(batches),
            "topic_id", "first_seq", "count", "publish_time_us", "byte_size", "payload",
            "segment", "segment_offset",
        )  # fmt: skip

        # A subscription that is gone has no cursor: these match no row, and nothing is left over.
        subscription_id = bindparam("of_subscription", type_=number)
        self.move_cursor = self._compile(
            update(cursors)
            .where(cursors.c.subscription_id == subscription_id)
            .values(
                floor=bindparam("new_floor", type_=number),
                epoch=bindparam("new_epoch", type_=number),
                acked_above_floor=bindparam("new_acked", type_=number),
            ),
            "new_floor", "new_epoch", "new_acked", "of_subscription",
        )  # fmt: skip
        self.lower_floor = self._compile(
            update(cursors)
            .where(
                cursors.c.subscription_id == subscription_id,
                cursors.c.floor > bindparam("at_most", type_=number),
            )
            .values(floor=bindparam("new_floor", type_=number)),
            "new_floor", "of_subscription", "at_most",
        )  # fmt: skip
        self.delete_chunks = self._compile(
            delete(ack_chunks).where(
                ack_chunks.c.subscription_id == subscription_id,
                ack_chunks.c.chunk_no < bindparam("below", type_=number),
            ),
            "of_subscription", "below",
        )  # fmt: skip
        self.put_chunk = self._compile(
            self._put_chunk(number, data), "no", "bits", "of_subscription"
        )
        # Writes a page although nothing changes, and so finds out whether writing works.
        self.probe = self._compile(
            update(meta)
            .where(meta.c.key == literal_column("'server_secret'"))
            .values(value=meta.c.value)
        )

    def _put_chunk(self, number: BigInteger, data: LargeBinary) -> ClauseElement:
        values = select(
            cursors.c.subscription_id,
            bindparam("no", type_=number),
            bindparam("bits", type_=data),
        ).where(cursors.c.subscription_id == bindparam("of_subscription", type_=number))
        # Each database has its own INSERT; the other's takes 30 ms to import.
        dialect: Any = import_module(f"sqlalchemy.dialects.{self._dialect.name}")
        put = dialect.insert(ack_chunks).from_select(
            ["subscription_id", "chunk_no", "bits"], values
        )
        upsert: ClauseElement = put.on_conflict_do_update(
            index_elements=[ack_chunks.c.subscription_id, ack_chunks.c.chunk_no],
            set_={"bits": put.excluded.bits},
        )
        return upsert

    def _compile(self, statement: ClauseElement, *order: str) -> str:
        """The statement's text. ``order`` is that of its parameters, repeats included."""
        compiled = statement.compile(dialect=self._dialect)
        found = tuple(getattr(compiled, "positiontup", None) or ())
        if found != order:
            raise AssertionError(f"the parameters of {compiled} are {found}")
        return str(compiled)

    def allocate_all(self, cursor: Any, parameters: Sequence[Parameters]) -> list[Any]:
        """``allocate`` many times: for each its row, or None."""
        if self._is_sqlite:
            return [cursor.execute(self.allocate, row).fetchone() for row in parameters]
        # One round trip for all. SQLite's driver has no such thing, and needs none.
        cursor.executemany(self.allocate, parameters, returning=True)
        rows = [cursor.fetchone()]
        while cursor.nextset():
            rows.append(cursor.fetchone())
        return rows

    def lower_floors(self, cursor: Any, changes: Sequence[CursorChanges]) -> None:
        """Take the floors back that go back; the rest of these changes is still to be written."""
        if changes:
            cursor.executemany(
                self.lower_floor, [(c.floor, c.subscription_id, c.floor) for c in changes]
            )

    def write_cursors(
        self, cursor: Any, changes: Sequence[CursorChanges], cleared: dict[int, int]
    ) -> None:
        """Write what changed of some cursors.

        ``cleared`` tells below which chunk a subscription has none stored, so that chunks are
        deleted only when there can be some.
        """
        cursor.executemany(
            self.move_cursor,
            [(c.floor, c.epoch, c.acked_above_floor, c.subscription_id) for c in changes],
        )
        doomed = [
            (c.subscription_id, _ALL_CHUNKS if c.replace else c.floor >> 13)
            for c in changes
            if c.replace or cleared.get(c.subscription_id, -1) < c.floor >> 13
        ]
        if doomed:
            cursor.executemany(self.delete_chunks, doomed)
        chunks = [(no, bits, c.subscription_id) for c in changes for no, bits in c.chunks.items()]
        if chunks:
            cursor.executemany(self.put_chunk, chunks)
