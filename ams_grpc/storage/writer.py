"""The writing thread's side of the group commit: a group in, one transaction, results out.

What can go wrong, and what then holds:

- an append finds its topic changed: it gets Aborted; the others do not notice;
- an append is to be done once, and was done before: it gets the answer of that time;
- a ``Run`` raises: its savepoint is rolled back, and its caller gets the error;
- the transaction fails for a reason of its own (a value that does not fit, a deadlock): nothing of
  it is stored; each item gets a transaction for itself, so that only the bad one fails;
- the connection broke before the commit was asked for: nothing is stored; once more on a new one;
- the database is unavailable: nothing is stored; unless COMMIT had been sent, when nobody knows.
  The topics of such a group are ``uncertain``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from operator import attrgetter
from time import perf_counter
from typing import Any, Final

from sqlalchemy import Connection

from ams_grpc.broker.errors import Aborted
from ams_grpc.broker.ports import (
    Appended,
    CursorChanges,
    DirtyCursor,
    Once,
    Settled,
    StoredBatch,
)
from ams_grpc.storage import onces
from ams_grpc.storage.clock import WallClock
from ams_grpc.storage.engine import Database, discard, interrupt
from ams_grpc.storage.failures import (
    is_conflict,
    is_lost_connection,
    is_unavailable,
    unavailable,
)
from ams_grpc.storage.segment_rows import last_segment, note_segment, segment_end
from ams_grpc.storage.segments import LARGE_BYTES
from ams_grpc.storage.statements import HotStatements, Parameters, with_bit

ROW_BYTES: Final = 1 << 20
"""About how large a row of several publishes gets. One that is larger has a row to itself."""

CLEARED: Final = 1 << 15
"""Subscriptions of which is remembered that they have no old chunks; deleted ones among them."""

_CONFLICT_ATTEMPTS: Final = 3
_LOGGER: Final = logging.getLogger(__name__)


class Append:
    """One publish: waiting, then with a ``result`` or an ``error``."""

    __slots__ = (
        "count",
        "error",
        "future",
        "once",
        "payload",
        "places",
        "result",
        "settled",
        "topic_id",
        "version",
    )

    def __init__(
        self,
        future: asyncio.Future[Appended],
        topic_id: int,
        version: int,
        payload: bytes,
        count: int,
        settled: Settled | None = None,
        once: Once | None = None,
        places: Sequence[int] | None = None,
    ) -> None:
        self.future = future
        self.topic_id = topic_id
        self.version = version
        self.payload = payload
        self.count = count
        self.settled = settled
        self.once = once
        self.places = places
        self.result: Appended | None = None
        self.error: Exception | None = None


class Run:
    """One call with a connection, in a savepoint of its own; and what is to be locked first."""

    __slots__ = ("call", "error", "first", "future", "result")

    def __init__(
        self,
        future: asyncio.Future[Any],
        call: Callable[[Connection], Any],
        first: Callable[[Connection], object] | None = None,
    ) -> None:
        self.future = future
        self.call = call
        self.first = first
        self.result: Any = None
        self.error: Exception | None = None


@dataclass(slots=True)
class CursorWrite:
    """One cursor's changes. ``written`` or not, or with an ``error`` that is its own fault."""

    cursor: DirtyCursor
    changes: CursorChanges
    written: bool = False
    error: Exception | None = None


@dataclass(slots=True)
class Group:
    """What goes into one transaction, in the order in which it was handed in; cursors last.

    A purge may be among the items, and must not see a floor that is too high:

    - Cursors come after the items, since floors may be no newer than the state of a snapshot that
      is handed in after the purge: what that state has not acknowledged must still be there.
    - Floors that a Seek takes back (only a ``replace`` does that) go down before the items, since
      what kept the messages until now, a snapshot or a topic's retention, may go in the same
      group. A Seek may also raise the floor: that waits, like the rest of its changes, for the
      reason above. A floor that is too low for a moment costs a purge its prey, and no more.
    """

    items: Sequence[Append | Run] = ()
    cursors: Sequence[CursorWrite] = ()
    flushes: Sequence[asyncio.Future[None]] = ()
    byte_size: int = 0
    only_lower: bool = False  # write of the cursors only what comes before the items


@dataclass(frozen=True, slots=True)
class Commit:
    """A transaction that succeeded."""

    messages: int
    seconds: float


@dataclass(slots=True)
class Outcome:
    """What became of a group."""

    stored: list[StoredBatch] = field(default_factory=list)
    commits: list[Commit] = field(default_factory=list)  # also when a part of the group failed
    failure: Exception | None = None  # the database is unavailable
    uncertain: set[int] = field(default_factory=set)  # topics that may have grown all the same


class Writer:
    """Owns the connection that writes. All but ``interrupt`` happens on one thread."""

    def __init__(self, database: Database, clock: WallClock) -> None:
        self._database = database
        self._clock = clock
        self._hot = HotStatements(database.writer.dialect)
        self._segments = database.segments
        self._connection: Connection | None = None
        self._committing = False
        self._cleared: dict[int, int] = {}  # subscription id -> no chunk below is stored

    def write(self, group: Group) -> Outcome:
        """Store a group. Never raises: errors are left at the items, and in the outcome."""
        outcome = Outcome()
        try:
            self._write(group, outcome)
        except Exception as error:
            _LOGGER.exception("unforeseen error in the writer")
            self._fail(group, error, outcome)
        return outcome

    def interrupt(self) -> None:
        """From another thread: what hangs shall fail."""
        connection = self._connection
        if connection is not None:
            interrupt(connection)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                discard(connection)
            except Exception:
                _LOGGER.debug("closing a connection", exc_info=True)
        if self._segments is not None:
            self._segments.abandon()

    def _write(self, group: Group, outcome: Outcome, attempt: int = 1) -> None:
        reused = self._connection is not None
        self._committing = False
        started = perf_counter()
        try:
            stored = self._transact(group)
        except Exception as error:  # noqa: BLE001  # sorted out below
            committing = self._committing
            self.close()
            lost = is_lost_connection(error)
            if lost and reused and not committing:
                self._write(group, outcome)  # it went stale while nothing was written
            elif is_unavailable(error):
                self._fail(group, error, outcome)
                if committing:
                    outcome.uncertain |= {a.topic_id for a in group.items if isinstance(a, Append)}
            elif is_conflict(error) and attempt < _CONFLICT_ATTEMPTS:
                self._write(group, outcome, attempt + 1)
            else:
                self._write_singly(group, error, outcome)
        else:
            self._settle(group, stored, outcome)
            messages = sum([batch.count for batch in stored])
            outcome.commits.append(Commit(messages, perf_counter() - started))

    def _write_singly(self, group: Group, error: Exception, outcome: Outcome) -> None:
        """After a failure that one item caused, or several: find out which."""
        if len(group.items) + len(group.cursors) == 1:
            for only in (*group.items, *group.cursors):
                only.error = unavailable() if is_conflict(error) else error
            return
        parts = [Group(cursors=[w], only_lower=True) for w in group.cursors if w.changes.replace]
        parts += [Group(items=[item]) for item in group.items]
        for part in parts:
            self._write_part(part, outcome)
        for write in group.cursors:
            for item in group.items:
                if isinstance(item, Append) and item.settled is not None and item.error is None:
                    write.changes = _with_settled(write.changes, item.settled)
            self._write_part(Group(cursors=[write]), outcome)

    def _write_part(self, part: Group, outcome: Outcome) -> None:
        if outcome.failure is None:
            self._write(part, outcome)
        else:
            self._fail(part, outcome.failure, outcome)

    @staticmethod
    def _fail(group: Group, error: Exception, outcome: Outcome) -> None:
        outcome.failure = error
        for item in group.items:
            item.error = unavailable()

    def _settle(self, group: Group, stored: list[StoredBatch], outcome: Outcome) -> None:
        outcome.stored += stored
        if group.only_lower:
            return
        for write in group.cursors:
            write.written = True
            changes = write.changes
            self._cleared[changes.subscription_id] = changes.floor >> 13
        if len(self._cleared) > CLEARED:
            self._cleared.clear()  # costs each subscription that is left one needless DELETE

    def _transact(self, group: Group) -> list[StoredBatch]:
        """One transaction. When it returns, it is committed."""
        connection = self._connection
        is_new = connection is None
        if connection is None:
            connection = self._connection = self._database.writer.connect()
        stored: list[StoredBatch] = []
        # No ``with``: after an error the connection is closed, which rolls back and cannot fail.
        transaction = connection.begin()
        if is_new and self._segments is not None:
            self._segments.begin(
                partial(last_segment, connection),
                partial(segment_end, connection),
                partial(note_segment, connection),
            )
        for item in group.items:
            if type(item) is Run and item.first is not None:
                item.first(connection)
        dbapi: Any = connection.connection.dbapi_connection
        cursor = dbapi.cursor()
        # In order of subscriptions on every node, as topics are.
        writes = sorted(group.cursors, key=attrgetter("changes.subscription_id"))
        changes = {write.changes.subscription_id: write.changes for write in writes}
        self._hot.lower_floors(cursor, [c for c in changes.values() if c.replace])
        for kind, items in groupby(group.items, type):
            if kind is Append:
                self._append(cursor, list(items), stored, changes)  # type: ignore[arg-type]
            else:
                for item in items:
                    self._run(connection, item)  # type: ignore[arg-type]
        if changes and not group.only_lower:
            self._hot.write_cursors(cursor, list(changes.values()), self._cleared)
        if not group.items and not group.cursors:
            cursor.execute(self._hot.probe)
        cursor.close()
        if self._segments is not None:
            self._segments.sync()
        self._committing = True
        transaction.commit()
        if self._segments is not None:
            self._segments.committed()
        return stored

    def _append(
        self,
        cursor: Any,
        appends: list[Append],
        stored: list[StoredBatch],
        changes: dict[int, CursorChanges],
    ) -> None:
        """Store what goes to the same topic in as few rows as possible."""
        now = self._clock.now_us() // 1000 * 1000  # Pub/Sub: publish times have milliseconds
        asked = onces.sort_out(self._hot, cursor, appends, now)
        by_topic: dict[tuple[int, int], list[Append]] = {}
        for append in asked.fresh:
            by_topic.setdefault((append.topic_id, append.version), []).append(append)
        # In order of topics on every node, so that no two wait for each other.
        keys = sorted(by_topic)
        parameters = []
        for topic_id, version in keys:
            same = by_topic[topic_id, version]
            count = sum([append.count for append in same])
            size = sum([len(append.payload) for append in same])
            parameters.append((count, now, now, size, topic_id, version))
        rows = self._hot.allocate_all(cursor, parameters) if parameters else ()
        first = len(stored)
        for key, (count, *_), row in zip(keys, parameters, rows, strict=True):
            if row is None:
                for append in by_topic[key]:
                    append.error = Aborted("The topic has changed; try again.")
            else:
                next_seq, publish_time_us = row
                _place(by_topic[key], key[0], next_seq - count, publish_time_us, stored)
        batches = stored[first:]
        if batches:
            cursor.executemany(self._hot.insert_batch, [self._row(batch) for batch in batches])
        if answers := onces.rows_of(asked.firsts, now):
            cursor.executemany(self._hot.put_once, answers)
        onces.answer_repeats(asked.repeats)
        for append in appends:
            if append.settled is not None and append.error is None:
                self._settle_with(cursor, append.settled, changes)

    def _row(self, batch: StoredBatch) -> Parameters:
        """The parameters of ``insert_batch``; a large payload goes to a segment."""
        payload, segment, offset = batch.payload, None, None
        if self._segments is not None and len(payload) >= LARGE_BYTES:
            place = self._segments.append(payload)
            payload, segment, offset = b"", place.segment, place.offset
        return (
            batch.topic_id,
            batch.first_seq,
            batch.count,
            batch.publish_time_us,
            len(batch.payload),
            payload,
            segment,
            offset,
        )

    def _settle_with(
        self, cursor: Any, settled: Settled, changes: dict[int, CursorChanges]
    ) -> None:
        """Store messages as done, also in what this group writes of their cursor later on."""
        subscription_id = settled.subscription_id
        if subscription_id in changes:
            changes[subscription_id] = _with_settled(changes[subscription_id], settled)
        for seq in settled.seqs:
            self._hot.mark_done(cursor, subscription_id, settled.epoch, seq)

    @staticmethod
    def _run(connection: Connection, item: Run) -> None:
        item.error = None
        savepoint = connection.begin_nested()
        try:
            item.result = item.call(connection)
        except Exception as error:
            if is_unavailable(error) or is_conflict(error):
                raise  # of the whole transaction: a payload may not be on disk, for example
            savepoint.rollback()
            item.error = error
        else:
            savepoint.commit()


def _with_settled(changes: CursorChanges, settled: Settled) -> CursorChanges:
    """What is to be written of a cursor, without taking back what was settled meanwhile."""
    if (changes.subscription_id, changes.epoch) != (settled.subscription_id, settled.epoch):
        return changes
    chunks = dict(changes.chunks)
    for seq in settled.seqs:
        if changes.replace or seq >> 13 in chunks:  # else the stored chunk is not touched
            chunks[seq >> 13] = with_bit(chunks.get(seq >> 13), seq)
    return replace(changes, chunks=chunks)


def _place(
    appends: list[Append], topic_id: int, seq: int, publish_time_us: int, stored: list[StoredBatch]
) -> None:
    """Give appends to one topic their seqs, from ``seq`` on, and join them to rows."""
    payloads: list[bytes] = []
    size = 0
    first_seq = seq
    for append in appends:
        payload = append.payload
        if payloads and size + len(payload) > ROW_BYTES:
            stored.append(
                StoredBatch(
                    topic_id, first_seq, seq - first_seq, publish_time_us, b"".join(payloads)
                )
            )
            payloads, size, first_seq = [], 0, seq
        payloads.append(payload)
        size += len(payload)
        append.error = None
        append.result = Appended(seq, publish_time_us, append.places)
        seq += append.count
    if seq > first_seq:  # nothing but an answer may be left to store
        stored.append(
            StoredBatch(topic_id, first_seq, seq - first_seq, publish_time_us, b"".join(payloads))
        )
