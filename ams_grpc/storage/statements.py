"""The statements of every commit, compiled once and executed on the driver's own cursor.

SQLAlchemy writes them, for both databases; executing them through it would cost more than the
database does (10 to 20 µs a statement).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Dialect,
    LargeBinary,
    Table,
    and_,
    bindparam,
    case,
    delete,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.sql import ClauseElement
from sqlalchemy.types import TypeEngine

from ams_grpc.broker.cursor import CHUNK_SEQS
from ams_grpc.broker.ports import CursorChanges, DeliveryChanges
from ams_grpc.storage.records import seqs_bytes
from ams_grpc.storage.tables import (
    ack_chunks,
    batches,
    cursors,
    failures,
    leases,
    meta,
    onces,
    topics,
    windows,
)

_ALL_CHUNKS: Final = 1 << 62
"""More than any chunk's number."""

_WINDOW: Final = {
    "start_seq": "start",
    "end_seq": "end",
    "pulled_us": "pulled_us",
    "messages": "messages",
    "data_bytes": "data_bytes",
    "last_messages": "last_messages",
    "last_interval_us": "last_interval_us",
}
"""The columns of ``windows``, and the fields of ``StoredWindow``."""

ANSWER: Final = (onces.c.digest, onces.c.first_seq, onces.c.publish_time_us, onces.c.places)
"""What is known of a publish that was done once."""

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

        # Other nodes wait for the end of the transaction before they publish to the topic. No row
        # as for ``allocate``.
        topic_id, key = bindparam("topic_id", type_=number), bindparam("key", type_=data)
        self.hold_topic = self._compile(
            select(topics.c.id)
            .where(
                topics.c.id == topic_id,
                topics.c.version == bindparam("of_version", type_=number),
                topics.c.name.is_not(None),
            )
            .with_for_update(key_share=True),
            "topic_id", "of_version",
        )  # fmt: skip
        self.find_once = self._compile(
            select(*ANSWER)
            .where(onces.c.topic_id == topic_id, onces.c.key == key, onces.c.expire_us > now),
            "topic_id", "key", "now",
        )  # fmt: skip
        self.put_once = self._compile(
            self._upsert(self._insert(onces), "topic_id", "key"),
            "topic_id", "key", "digest", "first_seq", "publish_time_us", "places", "expire_us",
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
            self._put(ack_chunks, {"chunk_no": number, "bits": data}),
            "chunk_no", "bits", "of_subscription",
        )  # fmt: skip
        of_cursor = ack_chunks.c.subscription_id == cursors.c.subscription_id
        is_number = ack_chunks.c.chunk_no == bindparam("no", type_=number)
        self.read_chunk = self._compile(
            select(ack_chunks.c.bits)
            .select_from(cursors.outerjoin(ack_chunks, and_(of_cursor, is_number)))
            .where(
                cursors.c.subscription_id == subscription_id,
                cursors.c.epoch == bindparam("of_epoch", type_=number),
                cursors.c.floor <= bindparam("seq", type_=number),
            ),
            "no", "of_subscription", "of_epoch", "seq",
        )  # fmt: skip
        self.put_failures = self._compile(
            self._put(failures, {"seq": number, "count": number}), "seq", "count", "of_subscription"
        )
        self.delete_failures = self._compile(
            delete(failures).where(
                failures.c.subscription_id == subscription_id,
                failures.c.seq == bindparam("seq", type_=number),
            ),
            "of_subscription", "seq",
        )  # fmt: skip
        self.put_lease = self._compile(
            self._put(leases, {"grant_no": number, "deadline_us": number, "seqs": data}),
            "grant_no", "deadline_us", "seqs", "of_subscription",
        )  # fmt: skip
        self.delete_lease = self._compile(
            delete(leases).where(
                leases.c.subscription_id == subscription_id,
                leases.c.grant_no == bindparam("grant_no", type_=number),
            ),
            "of_subscription", "grant_no",
        )  # fmt: skip
        self.put_window = self._compile(
            self._put(windows, dict.fromkeys(_WINDOW, number), keyed=False),
            *_WINDOW, "of_subscription",
        )  # fmt: skip
        # Writes a page although nothing changes, and so finds out whether writing works.
        self.probe = self._compile(
            update(meta)
            .where(meta.c.key == literal_column("'server_secret'"))
            .values(value=meta.c.value)
        )

    def _put(
        self, table: Table, columns: Mapping[str, TypeEngine[Any]], *, keyed: bool = True
    ) -> ClauseElement:
        """Insert a row of a cursor that still exists, or replace it.

        If it is ``keyed``, the first column is in its key; else a cursor has one row.
        """
        key = list(columns)[:keyed]
        values = select(
            cursors.c.subscription_id,
            *[bindparam(name, type_=kind) for name, kind in columns.items()],
        ).where(cursors.c.subscription_id == bindparam("of_subscription", type_=BigInteger()))
        put = self._insert(table).from_select(["subscription_id", *columns], values)
        return self._upsert(put, "subscription_id", *key)

    def _insert(self, table: Table) -> Any:
        # Each database has its own INSERT; the other's takes 30 ms to import.
        dialect: Any = import_module(f"sqlalchemy.dialects.{self._dialect.name}")
        return dialect.insert(table)

    @staticmethod
    def _upsert(put: Any, *keys: str) -> ClauseElement:
        """The INSERT ``put``, which replaces the row that has the same ``keys``."""
        columns = put.table.c
        upsert: ClauseElement = put.on_conflict_do_update(
            index_elements=[columns[key] for key in keys],
            set_={c.name: put.excluded[c.name] for c in columns if c.name not in keys},
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
        return self._one_each(cursor, self.allocate, parameters)

    def _one_each(self, cursor: Any, statement: str, parameters: Sequence[Parameters]) -> list[Any]:
        """The row that a statement gives with each of the parameters, or None."""
        if self._is_sqlite:
            return [cursor.execute(statement, row).fetchone() for row in parameters]
        # One round trip for all. SQLite's driver has no such thing, and needs none.
        cursor.executemany(statement, parameters, returning=True)
        rows = [cursor.fetchone()]
        while cursor.nextset():
            rows.append(cursor.fetchone())
        return rows

    def hold_topics(self, cursor: Any, versions: Sequence[Parameters]) -> list[Any]:
        """Let nobody else publish to topics; for each id and version a row, None if out of date."""
        return self._one_each(cursor, self.hold_topic, versions)

    def find_onces(self, cursor: Any, parameters: Sequence[Parameters]) -> list[Any]:
        """``find_once`` many times: for each its row, or None."""
        return self._one_each(cursor, self.find_once, parameters)

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
        opened = [
            (*[getattr(c.window, field) for field in _WINDOW.values()], c.subscription_id)
            for c in changes
            if c.window is not None
        ]
        if opened:
            cursor.executemany(self.put_window, opened)
        for change in changes:
            if change.deliveries is not None:
                self._write_deliveries(cursor, change.subscription_id, change.deliveries)

    def _write_deliveries(self, cursor: Any, of: int, changes: DeliveryChanges) -> None:
        failed = [(seq, count, of) for seq, count in changes.failures.items() if count]
        forgotten = [(of, seq) for seq, count in changes.failures.items() if not count]
        leased = [
            (grant, lease.deadline_us, seqs_bytes(lease.seqs), of)
            for grant, lease in changes.leases.items()
            if lease is not None
        ]
        ended = [(of, grant) for grant, lease in changes.leases.items() if lease is None]
        for statement, rows in (
            (self.put_failures, failed),
            (self.delete_failures, forgotten),
            (self.put_lease, leased),
            (self.delete_lease, ended),
        ):
            if rows:
                cursor.executemany(statement, rows)

    def mark_done(self, cursor: Any, subscription_id: int, epoch: int, seq: int) -> None:
        """Set one bit of a stored chunk, unless the cursor has another epoch, or is beyond it."""
        number = seq >> 13
        row = cursor.execute(self.read_chunk, (number, subscription_id, epoch, seq)).fetchone()
        if row is not None:
            cursor.execute(self.put_chunk, (number, with_bit(row[0], seq), subscription_id))


def with_bit(bits: bytes | None, seq: int) -> bytes:
    """A chunk's bits, if there are any, with that of ``seq`` set."""
    changed = bytearray(CHUNK_SEQS // 8 if bits is None else bits)
    bit = seq & (CHUNK_SEQS - 1)
    changed[bit >> 3] |= 1 << (bit & 7)
    return bytes(changed)
