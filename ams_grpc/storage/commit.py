"""Group commit: gather, one transaction, answer.

All writes go through here. While the writing thread is busy, what comes in gathers; as soon as it
is idle, everything that has gathered becomes one transaction. So the busier the service, the
larger the transactions, and an idle service answers after one.

Items keep the order in which they were handed in: what is appended before a ``run`` is visible to
it. Cursors are written after the items of their group; but a floor that goes back, before them.

The states, all of them on the event loop:

    idle --item--> awake (the rest of this turn of the loop still gathers; after a group of
                   several, a few milliseconds do: callers come in swarms, and a commit is dear)
    idle --cursor--> dozing (a short delay: acknowledgements come in swarms) --delay--> awake
    awake --> writing --committed--> idle, or awake if something has gathered
    writing --unavailable--> backing off (50 ms, doubling to 1 s) --> awake

While the database is away it is tried again and again, also without traffic, until it is back.
Who waits for an attempt that fails gets StorageUnavailable; cursors stay here, and are written
when the database is back. See ``storage.writer`` for what else may fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from sqlalchemy import Connection

from ams_grpc.broker.catalog import Topic
from ams_grpc.broker.errors import BrokerError
from ams_grpc.broker.ports import Appended, DirtyCursor, Once, Settled, StoredBatch
from ams_grpc.storage.clock import WallClock
from ams_grpc.storage.engine import Database
from ams_grpc.storage.failures import Outage, unavailable
from ams_grpc.storage.histogram import Histogram
from ams_grpc.storage.threads import Threads, later
from ams_grpc.storage.writer import Append, CursorWrite, Group, Outcome, Run, Writer

T = TypeVar("T")

APPEND_OVERHEAD_BYTES: Final = 512
"""What a waiting append costs beside its payload."""

_FIRST_BACKOFF_S: Final = 0.05
_LAST_BACKOFF_S: Final = 1.0
_LOGGER: Final = logging.getLogger(__name__)


class GroupCommit:
    """The writer, as the broker sees it: implements ``broker.ports.Commits``.

    ``on_appended`` is called with each stored batch, after its commit and before its publishers
    get their answers. ``on_uncertain`` is called, once the database is back, with the ids of
    topics to which a commit of unknown outcome appended: read their next seq again.

    At most ``max_queued_bytes`` are queued; further appends wait in line, up to as much again, and
    for at most ``queue_timeout_s``. A transaction that takes longer than ``commit_timeout_s`` is
    given up. Cursors alone wait ``cursor_delay_s`` for company, and items ``gather_s`` when the last
    group had several.

    Use it as ``async with``. Leaving writes what is queued, for up to ``close_timeout_s``.
    """

    def __init__(
        self,
        database: Database,
        clock: WallClock,
        *,
        on_appended: Callable[[StoredBatch], None] | None = None,
        on_uncertain: Callable[[Sequence[int]], None] | None = None,
        max_queued_bytes: int = 64 << 20,
        queue_timeout_s: float = 10.0,
        commit_timeout_s: float = 30.0,
        cursor_delay_s: float = 0.01,
        gather_s: float = 0.003,
        close_timeout_s: float = 10.0,
    ) -> None:
        self.on_appended = on_appended
        self.on_uncertain = on_uncertain
        self._max_queued_bytes = max_queued_bytes
        self._queue_timeout_s = queue_timeout_s
        self._commit_timeout_s = commit_timeout_s
        self._cursor_delay_s = cursor_delay_s
        self._gather_s = gather_s
        self._close_timeout_s = close_timeout_s

        self._writer = Writer(database, clock)
        self._outage = Outage("cannot write to the database", database.password)
        self._loop: asyncio.AbstractEventLoop
        self._thread: Threads | None = None

        self._items: list[Append | Run] = []
        self._cursors: dict[int, DirtyCursor] = {}
        self._flushes: list[asyncio.Future[None]] = []
        self._waiting: deque[tuple[Append, asyncio.TimerHandle]] = deque()
        self._waiting_bytes = 0
        self._uncertain: set[int] = set()
        self.queued_bytes = 0
        """Bytes of appends that are not answered, without those that wait in line."""

        self._open = False
        self._awake = False  # the next handing over is near: soon, after a backoff, or after this
        self._doze: asyncio.TimerHandle | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._backoff_s = 0.0
        self._swarming = False  # the last group had several items
        self._in_flight: Group | None = None
        self._in_flight_flushes: list[asyncio.Future[None]] = []
        self._watchdog: asyncio.TimerHandle | None = None

        self.commits = 0
        """Transactions committed."""
        self.failed_commits = 0
        """Transactions that failed because the database was unavailable."""
        self.messages_per_commit = Histogram((0, 1, 10, 100, 1_000, 10_000, 100_000))
        """Its total is the number of messages committed."""
        self.commit_seconds = Histogram(
            (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
        )

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._thread = Threads("storage-writer", 1)
        self._open = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def is_available(self) -> bool:
        """Whether the last attempt to write found the database in order."""
        return not self._outage.is_on

    # --- what callers hand in --------------------------------------------------------------------

    def append(
        self,
        topic: Topic,
        payload: bytes,
        count: int,
        settled: Settled | None = None,
        *,
        once: Once | None = None,
        places: Sequence[int] | None = None,
    ) -> asyncio.Future[Appended]:
        """See ``broker.ports.Commits.append``."""
        future: asyncio.Future[Appended] = self._loop.create_future()
        item = Append(future, topic.id, topic.version, payload, count, settled, once, places)
        size = self.queued_bytes + len(payload) + APPEND_OVERHEAD_BYTES
        if size > self._max_queued_bytes or self._waiting or not self._open:
            self._wait_in_line(item)
            return future
        self.queued_bytes = size
        self._items.append(item)
        if not self._awake:
            self._wake()
        return future

    def save(self, cursor: DirtyCursor) -> None:
        """See ``broker.ports.Commits.save``."""
        self._cursors[cursor.subscription_id] = cursor
        if not self._awake and self._doze is None and self._open:
            self._doze = self._loop.call_later(self._cursor_delay_s, self._wake)

    def flushed(self) -> Awaitable[None]:
        """See ``broker.ports.Commits.flushed``. Appends that wait in line are not handed in yet."""
        future: asyncio.Future[None] = self._loop.create_future()
        if not self._open:
            _refuse(future, unavailable())
        elif self._items or self._cursors or self._flushes:
            self._flushes.append(future)
            if not self._awake:
                self._wake()
        elif self._in_flight is not None:
            self._in_flight_flushes.append(future)
        else:
            future.set_result(None)
        return future

    async def run(
        self,
        call: Callable[[Connection], T],
        *,
        first: Callable[[Connection], object] | None = None,
    ) -> T:
        """Make a call in the next transaction; when this returns, what it did is committed.

        The call runs on the writing thread, with the others of its group, in a savepoint: a
        BrokerError that it raises undoes what it did, and only that. It may be made again when
        the connection breaks before the commit. Raises StorageUnavailable.

        ``first`` locks what all must lock first who lock it at all, or two nodes could wait for each
        other. It is called before anything else of the group, and raises nothing of its own.
        """
        if not self._open:
            raise unavailable()
        future: asyncio.Future[T] = self._loop.create_future()
        self._items.append(Run(future, call, first))
        if not self._awake:
            self._wake()
        return await future

    async def close(self) -> None:
        """Write what is queued, then stop. More than once is harmless.

        A database that does not answer is given ``close_timeout_s``; then what is left fails.
        """
        if not self._open:
            return
        flushed = self.flushed()
        self._open = False
        try:
            async with asyncio.timeout(self._close_timeout_s):
                with contextlib.suppress(BrokerError):
                    await flushed
        except TimeoutError:
            _LOGGER.warning("the database does not answer; stopping without it")
            self._writer.interrupt()
        for timer in (self._doze, self._retry, self._watchdog):
            if timer is not None:
                timer.cancel()
        self._fail_all()
        thread, self._thread = self._thread, None
        if thread is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._close_timeout_s):
                    await thread.run(self._writer.close)
            thread.stop()

    # --- handing over ----------------------------------------------------------------------------

    def _wake(self) -> None:
        """Hand over soon: see the states above."""
        self._awake = True
        if self._doze is not None:
            self._doze.cancel()
            self._doze = None
        delay_s = self._backoff_s or (self._gather_s if self._swarming else 0.0)
        if delay_s:
            self._retry = self._loop.call_later(delay_s, self._hand_over)
        else:
            self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        """Everything that has gathered becomes one transaction."""
        if self._thread is None or self._in_flight is not None:
            return
        items = [item for item in self._items if not item.future.cancelled()]
        byte_size = self.queued_bytes
        self._items = []
        flushes, self._flushes = self._flushes, []
        group = Group(items, self._take_cursors(), flushes, byte_size)
        if not (items or group.cursors or flushes or self._outage.is_on):
            self.queued_bytes = 0  # all gave up
            self._admit()
            self._go_on()
            return
        self._in_flight = group
        self._swarming = len(items) > 1
        self._watchdog = self._loop.call_later(self._commit_timeout_s, self._give_up)
        self._thread.submit(
            lambda: later(self._loop, self._finish, group, self._writer.write(group))
        )

    def _give_up(self) -> None:
        """A transaction takes too long. Whatever hangs fails now, and is reported as usual."""
        self._writer.interrupt()
        self._watchdog = self._loop.call_later(self._commit_timeout_s, self._give_up)

    def _take_cursors(self) -> list[CursorWrite]:
        writes = []
        for cursor in self._cursors.values():
            try:
                writes.append(CursorWrite(cursor, cursor.take_changes()))
            except Exception:
                _LOGGER.exception("a cursor does not tell its changes")
        self._cursors = {}
        return writes

    # --- answering -------------------------------------------------------------------------------

    def _finish(self, group: Group, outcome: Outcome) -> None:
        """A group is committed, or is not: tell everyone, and go on."""
        if self._in_flight is not group:
            return  # given up at closing
        self._in_flight = None
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._count(outcome)
        self.queued_bytes -= group.byte_size
        if outcome.uncertain:
            self._uncertain |= outcome.uncertain
        if outcome.failure is None and self._uncertain:
            self._report_uncertain()
        if self.on_appended is not None:
            for batch in outcome.stored:
                self._call(self.on_appended, batch)
        for item in group.items:
            _answer(item)
        failure = self._settle_cursors(group, outcome)
        flushes = [*group.flushes, *self._in_flight_flushes]
        self._in_flight_flushes = []
        for flush in flushes:
            if failure is not None:
                _refuse(flush, failure)
            elif not flush.done():
                flush.set_result(None)
        self._admit()
        self._go_on()

    def _count(self, outcome: Outcome) -> None:
        self.commits += len(outcome.commits)
        for commit in outcome.commits:
            self.messages_per_commit.observe(commit.messages)
            self.commit_seconds.observe(commit.seconds)
        if outcome.failure is None:
            self._outage.ended()
            self._backoff_s = 0.0
        else:
            self.failed_commits += 1
            self._outage.began(outcome.failure)
            self._backoff_s = min(self._backoff_s * 2, _LAST_BACKOFF_S) or _FIRST_BACKOFF_S

    def _settle_cursors(self, group: Group, outcome: Outcome) -> Exception | None:
        """Take back what was not written. Returns what those who flush are to be told."""
        failure: Exception | None = None if outcome.failure is None else unavailable()
        for write in group.cursors:
            if write.written:
                continue
            self._call(write.cursor.put_back, write.changes)
            if write.error is None:
                self._cursors.setdefault(write.changes.subscription_id, write.cursor)
            else:  # it would fail again and again; the next ``save`` tries it once more
                failure = failure or write.error
                _LOGGER.error(
                    "the cursor of subscription %d cannot be written",
                    write.changes.subscription_id,
                    exc_info=write.error,
                )
        return failure

    def _report_uncertain(self) -> None:
        topic_ids = sorted(self._uncertain)
        self._uncertain = set()
        if self.on_uncertain is not None:
            self._call(self.on_uncertain, topic_ids)

    def _go_on(self) -> None:
        self._awake = False
        if self._items or self._flushes or self._outage.is_on:
            self._wake()
        elif self._cursors:
            self._doze = self._loop.call_later(self._cursor_delay_s, self._wake)

    @staticmethod
    def _call(call: Callable[..., object], *arguments: object) -> None:
        try:
            call(*arguments)
        except Exception:
            _LOGGER.exception("unforeseen error after a commit")

    # --- the line of those that wait -------------------------------------------------------------

    def _wait_in_line(self, item: Append) -> None:
        size = len(item.payload) + APPEND_OVERHEAD_BYTES
        if not self.queued_bytes and not self._waiting and self._open:
            self.queued_bytes += size  # larger than the whole queue: alone in it
            self._items.append(item)
            self._wake_if_asleep()
        elif not self._open or self._waiting_bytes + size > self._max_queued_bytes:
            _refuse(item.future, unavailable())
        else:
            self._waiting_bytes += size
            timer = self._loop.call_later(
                self._queue_timeout_s, _refuse, item.future, unavailable()
            )
            self._waiting.append((item, timer))

    def _wake_if_asleep(self) -> None:
        if not self._awake:
            self._wake()

    def _admit(self) -> None:
        """Move those first in line into the queue, as far as there is room."""
        waiting = self._waiting
        while waiting:
            item, timer = waiting[0]
            size = len(item.payload) + APPEND_OVERHEAD_BYTES
            if not item.future.done():
                if self.queued_bytes and self.queued_bytes + size > self._max_queued_bytes:
                    return
                self.queued_bytes += size
                self._items.append(item)
            timer.cancel()
            self._waiting_bytes -= size
            waiting.popleft()

    def _fail_all(self) -> None:
        """At closing: nobody waits for ever."""
        group, self._in_flight = self._in_flight, None
        appends = [item for item, timer in self._waiting]
        for _, timer in self._waiting:
            timer.cancel()
        self._waiting.clear()
        items = [*(group.items if group else ()), *self._items, *appends]
        flushes = [*(group.flushes if group else ()), *self._in_flight_flushes, *self._flushes]
        self._items, self._flushes, self._in_flight_flushes = [], [], []
        futures: list[asyncio.Future[Any]] = [item.future for item in items]
        for future in (*futures, *flushes):
            _refuse(future, unavailable())


def _answer(item: Append | Run) -> None:
    future: asyncio.Future[Any] = item.future
    if item.error is None:
        if isinstance(item, Append) and item.settled is not None:
            item.settled.then()  # at once: the next group is to know of it
        if not future.done():
            future.set_result(item.result)
        return
    if not isinstance(item.error, BrokerError):
        _LOGGER.error("a write failed", exc_info=item.error)
    _refuse(future, item.error)


def _refuse(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # whoever asked may be gone: that is no reason for a log entry
