"""One subscription at work: an event in, one dispatch step, effects out.

Each seq of the topic is, for this subscription, in exactly one place:

    fresh     at or above ``_position``: not delivered since the runtime started or was sought
    leased    at a consumer, until a deadline (``Leases``)
    waiting   was delivered, and is to be delivered again (``_waiting``)
    done      acknowledged, expired, or gone (``Cursor``)

    fresh --deliver--> leased --ack--> done
                        |   ^
           nack, expiry v   | deliver
                       waiting --late ack (after an expiry)--> done

Everything happens on the event loop, without locks. Whatever changes the picture (new messages,
credit, acks, expiries, seeks) ends in ``dispatch``. The only timer is the one for the next ack
deadline. Leases live in memory: losing them in a crash means redelivery. The cursor is written
by the group commit.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Final

from ams_grpc.broker.ack_ids import AckIds, Delivered
from ams_grpc.broker.catalog import Subscription
from ams_grpc.broker.clock import Alarm, Clock
from ams_grpc.broker.consumers import Consumer, Delivery, Line
from ams_grpc.broker.cursor import Cursor
from ams_grpc.broker.errors import BrokerError, StorageUnavailable
from ams_grpc.broker.leases import Leases
from ams_grpc.broker.picked import Picked
from ams_grpc.broker.ports import Commits, CursorState
from ams_grpc.broker.views import View, Window

MAX_DELIVERY_MESSAGES: Final = 1000
MAX_DELIVERY_BYTES: Final = 512 * 1024
_NEAR_TAIL: Final = 20_000  # so few messages behind, new ones are worth keeping in the cache
_LOAD_RETRY_S: Final = 0.25
_STALE_ENTRIES: Final = 1000  # so many seqs in the heap that no longer wait do no harm
_NACKED: Final = 0  # no grant has this number
_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Counters:
    """What happened on one subscription since the process started."""

    sent: int = 0
    acked: int = 0
    nacked: int = 0
    expired: int = 0


class SubscriptionRuntime:
    """An active subscription. It learns by ``appended`` how far its topic goes."""

    def __init__(
        self,
        subscription: Subscription,
        state: CursorState,
        *,
        view: View,
        commits: Commits,
        clock: Clock,
        secret: bytes,
        max_outstanding: int,
    ) -> None:
        self.subscription = subscription
        self.counters = Counters()
        self.kept_from: int | None = None
        """The lowest floor of the topic's snapshots: from there on nothing expires."""
        self._ack_ids = AckIds(secret, subscription.id)
        self._cursor = Cursor(subscription.id, state)
        self._position = state.floor
        self._end = state.floor
        self._leases = Leases()
        self._waiting: dict[int, int] = {}  # seq -> the grant that expired, or _NACKED
        self._waiting_order: list[int] = []  # heap of seqs, some no longer waiting
        self._line: Line = OrderedDict()
        self._consumers: set[Consumer] = set()
        self._view = view
        self._commits = commits
        self._clock = clock
        self._max_outstanding = max_outstanding
        # Grants of an earlier run of this process are all lower, if clocks do not go back.
        self._first_grant = self._next_grant = clock.now_us()
        self._alarm: Alarm | None = None
        self._alarm_at = 0.0
        self._loading: asyncio.Task[None] | None = None
        self._closed: BrokerError | None = None

    # --- what there is -----------------------------------------------------------------------

    @property
    def floor(self) -> int:
        return self._cursor.floor

    @property
    def outstanding(self) -> int:
        """Messages at consumers."""
        return len(self._leases)

    @property
    def undelivered(self) -> int:
        """Messages that could be delivered now, or soon."""
        # What retention or a seek passed over may not even have been heard of.
        return len(self._waiting) + max(0, self._end - self._position)

    @property
    def unread(self) -> range:
        """What it has not looked at since it started or was sought."""
        return range(self._position, self._end)

    @property
    def epoch(self) -> int:
        """Counts the seeks."""
        return self._cursor.epoch

    @property
    def open_streams(self) -> int:
        return sum(not consumer.once for consumer in self._consumers)

    @property
    def loading(self) -> bool:
        """True while messages are being read from storage."""
        return self._loading is not None

    @property
    def near_tail(self) -> bool:
        """True if a message appended now will be read soon."""
        return bool(self._consumers) and self._end - self._position < _NEAR_TAIL

    def cursor_state(self) -> CursorState:
        """What is done at this moment; what consumers hold is not."""
        return self._cursor.state()

    # --- events ------------------------------------------------------------------------------

    def add(self, consumer: Consumer) -> None:
        """A consumer arrives. Raises what the runtime was closed with."""
        self._check_open()
        self._consumers.add(consumer)
        consumer.line = self._line
        self.wake(consumer)

    def remove(self, consumer: Consumer) -> None:
        """A consumer leaves. What it holds stays leased until its deadlines.

        Pub/Sub: the end of a stream does not return its messages.
        """
        self._consumers.discard(consumer)
        self._line.pop(consumer, None)
        consumer.line = None

    def wake(self, consumer: Consumer) -> None:
        """A consumer can take more."""
        consumer.ready = True
        consumer.stand_in_line()
        self.dispatch()

    def appended(self, end: int) -> None:
        """The topic has messages below ``end``."""
        if end > self._end:
            self._end = end
            self.dispatch()

    def use_view(self, view: View) -> None:
        """Read the topic's log in another way from the next delivery on."""
        self._view = view

    def pass_over(self, seqs: Sequence[int]) -> None:
        """These are not for this subscription, and never will be."""
        self._done(seqs)
        self._position = max(self._position, self._cursor.floor)

    def acknowledge(self, ack_ids: Iterable[str], *, lenient: bool = False) -> None:
        """These deliveries are done; the group commit is to write it.

        Stale ids are skipped; that of a lease which has expired counts as long as its message
        was not delivered again. Raises InvalidArgument for a malformed id, having done nothing,
        unless ``lenient``.
        """
        done: set[int] = set()  # two ids may name one message
        for delivered in self._parse(ack_ids, lenient=lenient):
            if delivered.epoch == self._cursor.epoch:
                done.update(self._settle(delivered))
        self._done(list(done))
        self.counters.acked += len(done)
        self.dispatch()

    def modify_ack_deadline(
        self, ack_ids: Iterable[str], seconds: int, *, lenient: bool = False
    ) -> None:
        """Give subscribers ``seconds`` from now for what they hold; with 0, take it back.

        Stale ids are skipped; those of leases which have expired lease the message again, if it
        was not delivered since. Raises InvalidArgument like ``acknowledge``.
        """
        deadline = self._clock.monotonic() + seconds
        for delivered in self._parse(ack_ids, lenient=lenient):
            if delivered.epoch != self._cursor.epoch:
                continue
            if seconds > 0:
                self._leases.extend(delivered.grant, delivered.seqs, deadline)
                self._lease_again(delivered, deadline)
            else:
                released = self._leases.release(delivered.grant, delivered.seqs)
                self._wait(released, _NACKED)
                self.counters.nacked += len(released)
        self.dispatch()

    def give_back(self, delivery: Delivery) -> None:
        """A delivery did not reach its consumer: as if it had not been made."""
        self._wait(self._leases.release(delivery.grant, delivery.seqs), _NACKED)
        self.counters.sent -= len(delivery.seqs)
        self.dispatch()

    def expire_before(self, seq: int, retention_us: int) -> None:
        """Messages below ``seq`` are past a retention of ``retention_us``.

        Ignored when they are kept for longer by now; so is what a snapshot holds.
        """
        if self.kept_from is not None:
            seq = min(seq, self.kept_from)
        if seq <= self._cursor.floor or retention_us < self.subscription.retention_us:
            return
        self._cursor.raise_floor(seq)
        self._position = max(self._position, seq)
        for waiting in [waiting for waiting in self._waiting if waiting < seq]:
            del self._waiting[waiting]
        self._commits.save(self._cursor)
        self.dispatch()

    def seek(self, start: int, replay_from: int) -> None:
        """Seek to a time: all below ``start`` is done, all from ``replay_from`` on is not.

        What lies between stays as it is. All leases end, and their ack ids are stale. Raises what
        the runtime was closed with.
        """
        self._check_open()
        self._cursor.rewind(start, replay_from)
        self._restart()

    def seek_to_snapshot(self, state: CursorState) -> None:
        """Take over a snapshot's state. All leases end, and their ack ids are stale.

        Raises what the runtime was closed with.
        """
        self._check_open()
        self._cursor.replace(state.floor, state.chunks)
        self._restart()

    def close(self, error: BrokerError) -> None:
        """End all consumers with ``error``; nothing happens here any more. Idempotent."""
        if self._closed is not None:
            return
        self._closed = error
        for consumer in list(self._consumers):
            self.remove(consumer)
            consumer.close(error)
        if self._alarm is not None:
            self._alarm.cancel()
        if self._loading is not None:
            self._loading.cancel()
            self._loading = None

    async def settled(self) -> None:
        """Wait until the messages that are now being read from storage have arrived."""
        if self._loading is not None:
            await asyncio.wait([self._loading])

    # --- the dispatch step -------------------------------------------------------------------

    def dispatch(self) -> None:
        """Give what can be delivered to whoever has credit, in turn and in equal shares."""
        line = self._line
        turns = share = 0
        while line and self._loading is None and self.undelivered and self._free_leases > 0:
            if turns == 0:
                turns = len(line)
                share = -(-self.undelivered // turns)
            consumer = next(iter(line))
            credit = consumer.free_messages
            if credit > 0:
                delivered = self._deliver(
                    consumer, min(credit, share, self._free_leases, MAX_DELIVERY_MESSAGES)
                )
                if not delivered:
                    continue  # nothing was left, or it is being loaded now
            turns -= 1
            line.pop(consumer, None)
            if consumer.once and credit > 0:
                self.remove(consumer)
            consumer.stand_in_line()
        self._set_alarm()

    @property
    def _free_leases(self) -> int:
        """Leases take memory, so there is a limit to them however much consumers ask for."""
        return self._max_outstanding - len(self._leases)

    def _deliver(self, consumer: Consumer, max_messages: int) -> bool:
        """Lease up to ``max_messages`` to a consumer and send them. False if there are none."""
        picked = Picked(max_messages, min(consumer.free_bytes, MAX_DELIVERY_BYTES))
        self._pick_waiting(picked)
        self._pick_fresh(picked)
        if not picked.messages:
            return False
        grant = self._next_grant
        self._next_grant += 1
        consumer.take(len(picked.messages), picked.size)
        deadline = self._clock.monotonic() + consumer.ack_deadline_s
        self._leases.grant(grant, consumer, deadline, picked.seqs, picked.sizes)
        self.counters.sent += len(picked.messages)
        head = self._ack_ids.head(self._cursor.epoch, grant)
        consumer.send(Delivery(grant, head, picked.seqs, picked.messages))
        return True

    def _pick_waiting(self, picked: Picked) -> None:
        """Take messages that are to be delivered again, oldest first."""
        order = self._waiting_order
        while order and not picked.full:
            seq = order[0]
            if seq in self._waiting:
                batch = self._view.find(seq)
                if batch is None:
                    self._load(seq)
                    break
                del self._waiting[seq]
                message = batch.messages[seq - batch.first_seq]
                if message is None or self._has_expired(batch):
                    self._done([seq])
                else:
                    picked.add([seq], [message])
            heappop(order)

    def _pick_fresh(self, picked: Picked) -> None:
        """Take messages that were not delivered before, in order."""
        while self._position < self._end and not picked.full and self._loading is None:
            position = self._position
            batch = self._view.find(position)
            if batch is None:
                self._load(position)
            elif self._has_expired(batch):
                self._position = batch.end_seq
                self._done(range(position, batch.end_seq))
            else:
                offset = position - batch.first_seq
                messages = batch.messages[offset : offset + picked.room]
                self._position = position + len(messages)
                seqs: Sequence[int] = range(position, self._position)
                if position < self._cursor.top:
                    seqs, messages = self._without_done(seqs, messages)
                if not batch.is_whole:
                    seqs, messages = self._without_missing(seqs, messages)
                unfit = picked.add(seqs, messages)  # type: ignore[arg-type]
                if unfit is not None:
                    self._position = unfit

    def _without_done(
        self, seqs: Sequence[int], messages: Sequence[bytes | None]
    ) -> tuple[Sequence[int], Sequence[bytes | None]]:
        """After a restart or a seek, some of what lies ahead is done already."""
        keep = [i for i, seq in enumerate(seqs) if not self._cursor.is_done(seq)]
        return [seqs[i] for i in keep], [messages[i] for i in keep]

    def _without_missing(
        self, seqs: Sequence[int], messages: Sequence[bytes | None]
    ) -> tuple[Sequence[int], Sequence[bytes | None]]:
        """What a view leaves out is done."""
        keep = [i for i, message in enumerate(messages) if message is not None]
        self._done([seqs[i] for i, message in enumerate(messages) if message is None])
        return [seqs[i] for i in keep], [messages[i] for i in keep]

    # --- the parts of the above --------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed is not None:
            raise self._closed

    def _parse(self, ack_ids: Iterable[str], *, lenient: bool) -> list[Delivered]:
        return self._ack_ids.parse_valid(ack_ids) if lenient else self._ack_ids.parse(ack_ids)

    def _settle(self, delivered: Delivered) -> list[int]:
        """Take what an ack id still stands for out of its place."""
        grant, seqs = delivered.grant, delivered.seqs
        settled = self._leases.release(grant, seqs)
        if len(settled) == len(seqs):
            return settled
        for seq in set(seqs).difference(settled):
            if self._waiting.get(seq) == grant:  # expired, and not delivered again
                del self._waiting[seq]
                settled.append(seq)
            elif self._is_of_earlier_run(grant, seq):
                settled.append(seq)
        return settled

    def _is_of_earlier_run(self, grant: int, seq: int) -> bool:
        """True if it was delivered before a restart, and not since, and is not done."""
        return (
            grant < self._first_grant
            and self._position <= seq < self._end
            and not self._cursor.is_done(seq)
        )

    def _lease_again(self, delivered: Delivered, deadline: float) -> None:
        grant = delivered.grant
        seqs = [seq for seq in set(delivered.seqs) if self._waiting.get(seq) == grant]
        if seqs:
            for seq in seqs:
                del self._waiting[seq]
            # Whoever holds them paid for them once, until they expired.
            self._leases.grant(grant, _NOBODY, deadline, seqs, [0] * len(seqs))

    def _wait(self, seqs: Iterable[int], grant: int) -> None:
        for seq in seqs:
            if seq >= self._cursor.floor:
                self._waiting[seq] = grant
                heappush(self._waiting_order, seq)
        if len(self._waiting_order) > 2 * len(self._waiting) + _STALE_ENTRIES:
            self._waiting_order = sorted(self._waiting)

    def _done(self, seqs: Sequence[int]) -> None:
        if seqs:
            self._cursor.mark_done(seqs)
            self._commits.save(self._cursor)

    def _has_expired(self, batch: Window) -> bool:
        """Pub/Sub: retention counts from the publish time; a snapshot outlasts it."""
        if batch.publish_time_us + self.subscription.retention_us > self._clock.now_us():
            return False
        return self.kept_from is None or batch.end_seq <= self.kept_from

    def _restart(self) -> None:
        """After a seek: nothing is leased or waiting, and reading starts at the floor."""
        self._leases.clear()
        self._waiting.clear()
        self._waiting_order.clear()
        self._position = self._cursor.floor
        self._end = max(self._end, self._position)
        self._commits.save(self._cursor)
        self.dispatch()

    def _set_alarm(self) -> None:
        """Be called at the next ack deadline; an alarm that is early anyway stays."""
        deadline = self._leases.next_deadline()
        if deadline is None or self._closed is not None:
            return
        if self._alarm is not None:
            if self._alarm_at <= deadline:
                return
            self._alarm.cancel()
        self._alarm_at = deadline
        self._alarm = self._clock.call_at(deadline, self._on_alarm)

    def _on_alarm(self) -> None:
        self._alarm = None
        for grant, seqs in self._leases.expire(self._clock.monotonic()):
            self._wait(seqs, grant)
            self.counters.expired += len(seqs)
        self.dispatch()

    def _load(self, seq: int) -> None:
        """Read on from ``seq`` in the background; ``dispatch`` waits for it."""
        if self._loading is None and self._closed is None:
            self._loading = asyncio.get_running_loop().create_task(self._read(seq, self._end))

    async def _read(self, seq: int, end: int) -> None:
        try:
            first = await self._first_stored(seq)
        finally:
            self._loading = None
        self._skip(seq, end if first is None else first)
        self.dispatch()

    async def _first_stored(self, seq: int) -> int | None:
        while True:
            try:
                return await self._view.load(seq)
            except StorageUnavailable:
                pass  # the storage has said so in the log
            except Exception:
                _logger.exception("cannot read the log of topic %d", self.subscription.topic_id)
            await asyncio.sleep(_LOAD_RETRY_S)

    def _skip(self, seq: int, first: int) -> None:
        """Nothing from ``seq`` up to ``first`` is stored any more: retention took it."""
        if first <= seq:
            return
        gone = [waiting for waiting in self._waiting if seq <= waiting < first]
        for waiting in gone:
            del self._waiting[waiting]
        self._done(gone)
        if seq <= self._position < first:
            position, self._position = self._position, first
            self._done(range(position, first))


_NOBODY: Final = Consumer(lambda _delivery: None, lambda _error: None, ack_deadline_s=0)
