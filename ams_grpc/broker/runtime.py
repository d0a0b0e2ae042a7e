"""One subscription at work: an event in, one dispatch step, effects out.

Each seq of the topic is, for this subscription, in exactly one place: fresh, which is what the
``Picker`` has not read since the runtime started or was sought, or in one of ``Places``:

    fresh --deliver--> leased --ack--> done
                        |   ^
           nack, expiry v   | deliver
                       waiting --late ack (after an expiry)--> done
                          |
           last attempt   +--> dying --forwarded--> done

Everything happens on the event loop, without locks. Whatever changes the picture (new messages,
credit, acks, expiries, seeks) ends in ``dispatch``. The only timer is the one for the next ack
deadline or the end of the next backoff. Leases live in memory: losing them in a crash means
redelivery; but those of exactly-once delivery are written before their messages are sent. The
cursor is written by the group commit.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Final

from ams_grpc.broker.ack_ids import AckIds, Delivered
from ams_grpc.broker.catalog import Subscription
from ams_grpc.broker.clock import Alarm, Clock
from ams_grpc.broker.consumers import Consumer, Delivery, Line
from ams_grpc.broker.consumption import Counters
from ams_grpc.broker.cursor import Cursor
from ams_grpc.broker.dead_letters import Forwarding
from ams_grpc.broker.errors import BrokerError
from ams_grpc.broker.exact_acks import ExactAcks
from ams_grpc.broker.exactly_once import Confirmation
from ams_grpc.broker.forwarder import Forwarder
from ams_grpc.broker.gleaning import Gleaner
from ams_grpc.broker.picked import Picked
from ams_grpc.broker.picking import MAX_DELIVERY_MESSAGES, Picker
from ams_grpc.broker.places import Places
from ams_grpc.broker.policies import SECOND_US
from ams_grpc.broker.ports import Commits, CursorState, Deliveries, StoredWindow
from ams_grpc.broker.reading import Reading
from ams_grpc.broker.views import View, Window

MAX_DELIVERY_BYTES: Final = 512 * 1024
_NEAR_TAIL: Final = 20_000  # so few messages behind, new ones are worth keeping in the cache
_LEFT_BEHIND_AT_ONCE: Final = 10_000
"""So many messages are left behind in the log before the event loop gets its turn."""


class SubscriptionRuntime:
    """An active subscription. It learns by ``appended`` how far its topic goes.

    ``read_key`` finds the ordering key in a serialized message.
    """

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
        read_key: Callable[[bytes], str],
        forwarding: Forwarding,
        deliveries: Deliveries | None = None,
    ) -> None:
        self.counters = Counters()
        self._places = Places(
            subscription, state, deliveries or Deliveries(), clock, self._save, max_outstanding
        )
        self._ack_ids = AckIds(secret, subscription.id)
        self._exact_acks = ExactAcks(self._places, self._ack_ids, clock)
        self._forwarder = Forwarder(self._places, forwarding, clock, self.dispatch)
        self._reading = Reading(view, self._places, clock)
        self._gleaner = Gleaner(
            self._places,
            self._reading,
            read_key,
            room=lambda: self._max_outstanding - self._places.in_memory,
            read_to=lambda: self._picker.position,
            changed=self.dispatch,
        )
        self._picker = Picker(
            self._places,
            self._reading,
            read_key,
            max_outstanding=max_outstanding,
            changed=self.dispatch,
        )
        self._unsent: dict[int, tuple[Consumer, Delivery]] = {}  # grant -> what is being written
        self._line: Line = OrderedDict()
        self._consumers: set[Consumer] = set()
        self._watching: set[asyncio.Future[None]] = set()
        self._commits = commits
        self._clock = clock
        self._max_outstanding = max_outstanding
        # Grants of an earlier run of this process are all lower, if clocks do not go back.
        now_us = clock.now_us()
        stored = () if deliveries is None else deliveries.leases
        self._first_grant = self._next_grant = max([now_us, *(grant + 1 for grant in stored)])
        self._alarm: Alarm | None = None
        self._alarm_at = 0.0
        self._closed: BrokerError | None = None

    # --- what there is -----------------------------------------------------------------------

    @property
    def subscription(self) -> Subscription:
        return self._places.subscription

    @property
    def floor(self) -> int:
        return self._places.cursor.floor

    @property
    def kept_from(self) -> int | None:
        """The lowest floor of the topic's snapshots: from there on nothing expires."""
        return self._reading.kept_from

    @kept_from.setter
    def kept_from(self, seq: int | None) -> None:
        self._reading.kept_from = seq

    @property
    def exactly_once(self) -> bool:
        """Whether acks are confirmed, and refused when they come too late."""
        return self.subscription.config.exactly_once

    @property
    def outstanding(self) -> int:
        """Messages at consumers."""
        return len(self._places.leases)

    @property
    def undelivered(self) -> int:
        """Messages that could be delivered now, or soon, apart from those of cut lines."""
        return len(self._places.waiting) + self._places.held_back + self._picker.fresh

    @property
    def unread(self) -> range:
        """What it has not looked at since it started or was sought."""
        return range(self._picker.position, self._picker.end)

    @property
    def end(self) -> int:
        """As far as it knows, the topic has messages below this."""
        return self._picker.end

    @property
    def cursor(self) -> Cursor:
        """What is done. To be looked at."""
        return self._places.cursor

    @property
    def window(self) -> StoredWindow | None:
        """That of AMS's pulls; None as long as there were none."""
        return None if self._places.window is None else self._places.window.state

    @property
    def epoch(self) -> int:
        """Counts the seeks."""
        return self._places.cursor.epoch

    @property
    def open_streams(self) -> int:
        """Streams of subscribers; the service's own worker is none."""
        if self.subscription.config.worker is not None:
            return 0
        # A copy, made in one step: metrics are rendered in a thread.
        return sum(not consumer.once for consumer in tuple(self._consumers))

    @property
    def busy(self) -> bool:
        """True while messages are being read from storage, or written as leased."""
        return self._picker.loading is not None or bool(self._unsent)

    @property
    def gleaning(self) -> bool:
        """True while messages are read again that were left behind."""
        return self._gleaner.work is not None

    @property
    def near_tail(self) -> bool:
        """True if a message appended now will be read soon."""
        return bool(self._consumers) and self._picker.fresh < _NEAR_TAIL

    def cursor_state(self) -> CursorState:
        """What is done at this moment; what consumers hold is not."""
        return self._places.cursor.state()

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
        consumer.left = True
        self._dismiss(consumer)

    def wake(self, consumer: Consumer) -> None:
        """A consumer can take more."""
        consumer.ready = True
        consumer.stand_in_line()
        self.dispatch()

    def appended(self, end: int) -> None:
        """The topic has messages below ``end``."""
        if end > self._picker.end:
            self._picker.end = end
            self.dispatch()
            if self._watching:
                self._tell_watching()

    def use_view(self, view: View) -> None:
        """Read the topic's log in another way from the next delivery on."""
        self._reading.view = view

    def pass_over(self, seqs: Sequence[int]) -> None:
        """These are not for this subscription, and never will be."""
        self._places.done(seqs)
        self._picker.go_on_from(self.floor)

    def acknowledge(self, ack_ids: Iterable[str], *, lenient: bool = False) -> None:
        """These deliveries are done; the group commit is to write it.

        Stale ids are skipped; that of a lease which has expired counts as long as its message
        was not delivered again. Raises InvalidArgument for a malformed id, having done nothing,
        unless ``lenient``.
        """
        settled: set[int] = set()  # two ids may name one message
        for delivered in self._parse(ack_ids, lenient=lenient):
            if delivered.epoch == self._places.cursor.epoch:
                settled.update(self._places.settle(delivered))
                settled.update(self._of_earlier_run(delivered))
        self._acknowledged(settled)

    def modify_ack_deadline(
        self, ack_ids: Iterable[str], seconds: int, *, lenient: bool = False
    ) -> None:
        """Give subscribers ``seconds`` from now for what they hold; with 0, take it back.

        Stale ids are skipped; those of leases which have expired lease the message again, if it
        was not delivered since. Raises InvalidArgument like ``acknowledge``.
        """
        for delivered in self._parse(ack_ids, lenient=lenient):
            if delivered.epoch != self._places.cursor.epoch:
                continue
            if seconds > 0:
                self._places.extend(delivered.grant, delivered.seqs, seconds)
                self._places.lease_again(delivered, seconds)
            else:
                self.counters.nacked += self._places.nack(delivered.grant, delivered.seqs)
        self.dispatch()

    def acknowledge_exactly(self, ack_ids: Iterable[str]) -> Confirmation:
        """``acknowledge`` for exactly-once delivery: only the latest id of a valid lease counts.

        What is accepted holds once the group commit has written it. With ordering, an ack is
        refused while an earlier message of the key is not acknowledged.
        """
        self._expire()
        answer, settled = self._exact_acks.acknowledge(ack_ids)
        self.counters.acked += settled
        self.dispatch()
        return answer

    def modify_ack_deadline_exactly(self, ack_ids: Iterable[str], seconds: int) -> Confirmation:
        """``modify_ack_deadline`` for exactly-once delivery; see ``acknowledge_exactly``."""
        self._expire()
        answer, nacked = self._exact_acks.modify_ack_deadline(ack_ids, seconds)
        self.counters.nacked += nacked
        self.dispatch()
        return answer

    def settle(self, grant: int, seqs: Sequence[int]) -> None:
        """A worker of the service has delivered these of what it holds under ``grant``."""
        self._acknowledged(set(self._places.release(grant, seqs)))

    def fail(self, grant: int, seqs: Sequence[int], reason: str, *, rest: bool = True) -> None:
        """A worker of the service could not deliver these; dead letters carry the reason.

        Each rests before its next delivery, the longer the more often it failed; unless ``rest`` is
        False: then it is the worker who waits, and they are what it gets first.
        """
        self.counters.nacked += self._places.nack(grant, seqs, reason, by_worker=rest)
        self.dispatch()

    def extend(self, grant: int, seqs: Iterable[int], seconds: float) -> None:
        """Whoever holds these under ``grant`` has them for ``seconds`` from now."""
        self._places.extend(grant, seqs, seconds)

    def give_back(self, delivery: Delivery) -> None:
        """A delivery did not reach its consumer: as if it had not been made."""
        self._take_back(delivery)
        self.dispatch()

    def expire_before(self, seq: int, retention_us: int) -> None:
        """Messages below ``seq`` are past a retention of ``retention_us``.

        Ignored when they are kept for longer by now; so is what a snapshot holds.
        """
        if self.kept_from is not None:
            seq = min(seq, self.kept_from)
        if retention_us >= self.subscription.retention_us:
            self.drop_before(seq)

    def drop_before(self, seq: int) -> None:
        """What is below ``seq`` is gone. AMS: with it goes the window."""
        if seq > self.floor:
            self._places.raise_floor(seq)
            self._places.close_window()
            self._go_on_from_floor()

    def seek(self, start: int, replay_from: int) -> None:
        """Seek to a time: all below ``start`` is done, all from ``replay_from`` on is not.

        What lies between stays as it is. All leases end, and their ack ids are stale. Raises what
        the runtime was closed with.
        """
        self._check_open()
        self._places.cursor.rewind(start, replay_from)
        self._restart()

    def seek_to_snapshot(self, state: CursorState) -> None:
        """Take over a snapshot's state. All leases end, and their ack ids are stale.

        Raises what the runtime was closed with.
        """
        self._check_open()
        self._places.cursor.replace(state.floor, state.chunks)
        self._restart()

    # --- windowed pulls of AMS: see ``windows`` and ``windowed`` -----------------------------

    def find(self, seq: int) -> Window | None:
        """The stretch of the log that holds ``seq``, as this subscription sees it, if in memory."""
        return self._reading.find(seq)

    def has_expired(self, window: Window) -> bool:
        """Whether its retention is over."""
        return self._reading.has_expired(window)

    async def fetch(self, seq: int) -> int:
        """Bring it into memory. Returns the first seq from there on that is stored, or will be.

        What is stored no more is done. Raises StorageUnavailable, UnreadableMessages.
        """
        end = self._picker.end
        await asyncio.sleep(0)  # there may be nothing else to wait for
        first = await self._reading.view.load(seq)
        gone = range(seq, end if first is None else first)
        if gone:
            self._places.lose(gone.start, gone.stop)
        return max(gone.start, gone.stop)

    def open_window(self, end: int, messages: int) -> None:
        """A pull gave ``messages``, all that is not done below ``end``.

        Raises what the runtime was closed with.
        """
        self._check_open()
        self._places.open_window(end, messages)
        # What a window gave is counted with it, so it is none of the ledger's.
        self.counters.sent += messages
        self.counters.taken += messages

    def count_data(self, size: int) -> None:
        """The last pull gave so many bytes of data, in base64."""
        if self._places.window is not None:
            self._places.window.count_data(size)

    def acknowledge_window(self, end: int) -> None:
        """All below ``end`` is done; the group commit is to write it.

        Leases of it go on, for nothing. Raises what the runtime was closed with, and AMS's refusals.
        """
        self._check_open()
        cursor = self._places.cursor
        done = cursor.floor + cursor.acked_above_floor
        self._places.acknowledge_window(end)
        self.counters.acked += cursor.floor + cursor.acked_above_floor - done
        self._go_on_from_floor()

    def news(self) -> asyncio.Future[None]:
        """Resolves when there are messages that were not there; to be cancelled by who waits.

        Raises what the runtime was closed with, and so does the future.
        """
        self._check_open()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watching.add(future)
        future.add_done_callback(self._watching.discard)
        return future

    # --- its end -----------------------------------------------------------------------------

    def end_consumers(self, error: BrokerError) -> None:
        """End all consumers with ``error``; others may come."""
        for consumer in list(self._consumers):
            self.remove(consumer)
            consumer.close(error)

    def use(self, subscription: Subscription) -> None:
        """Its configuration has changed."""
        self._places.use(subscription)
        if not self.exactly_once:  # nothing has to be written first, and so nothing may lag behind
            unsent, self._unsent = list(self._unsent.values()), {}
            self._withdraw(unsent)
        self.dispatch()

    def close(self, error: BrokerError) -> None:
        """End all consumers with ``error``; nothing happens here any more. Idempotent."""
        if self._closed is not None:
            return
        self._closed = error
        self.end_consumers(error)
        self._tell_watching(error)
        if self._places.window is not None and self._places.window.changed:
            self._save()
        if self._alarm is not None:
            self._alarm.cancel()
        self._picker.stop()
        self._unsent.clear()
        self._forwarder.close()
        self._gleaner.stop()

    async def restore(self) -> None:
        """At the start: leases of exactly-once delivery that are still valid go on.

        Raises StorageUnavailable.
        """
        end = self._places.restore()
        if end:
            await self._picker.resume(end)
            self._picker.go_on_from(end)

    async def settled(self) -> None:
        """Wait until what is being read has arrived, and what is being written is written."""
        if self._picker.loading is not None:
            await asyncio.wait([self._picker.loading])
        elif self._unsent:
            await self._commits.flushed()
            await asyncio.sleep(0)  # what was written is sent in the meantime
        elif self._gleaner.work is not None:
            await asyncio.wait([self._gleaner.work])

    def written(self) -> Awaitable[None]:
        """Resolves when all that happened until now is on disk. Raises StorageUnavailable."""
        return self._commits.flushed()

    # --- the dispatch step -------------------------------------------------------------------

    def dispatch(self) -> None:
        """Give what can be delivered to whoever has credit, in turn and in equal shares."""
        line = self._line
        turns = share = 0
        in_vain = 0  # so many consumers, one after the other, found nothing that is for them
        while (
            line and in_vain < len(line) and self._picker.loading is None and self._free_leases > 0
        ):
            available = self._available
            if not available:
                break
            if turns == 0:
                turns = len(line)
                share = -(-available // turns)
            consumer = next(iter(line))
            credit = consumer.free_messages
            turns -= 1
            if credit > 0:
                limit = min(credit, share, self._free_leases, MAX_DELIVERY_MESSAGES)
                if not self._deliver(consumer, limit):
                    if self._picker.loading is not None:
                        break  # what it lacks is on its way, and then it comes first
                    in_vain += 1
                    if consumer in line:
                        line.move_to_end(consumer)
                    continue
            in_vain = 0
            line.pop(consumer, None)
            if consumer.once and credit > 0:
                self._dismiss(consumer)
            consumer.stand_in_line()
        self._forwarder.wake()
        if self._closed is None:
            self._gleaner.wake()
        self._set_alarm()

    @property
    def _available(self) -> int:
        """About how many messages somebody might get now."""
        return self._places.ready + self._picker.fresh

    @property
    def _free_leases(self) -> int:
        """Leases take memory, so there is a limit to them however much consumers ask for."""
        return self._max_outstanding - len(self._places.leases) - self._places.provisional

    def _deliver(self, consumer: Consumer, max_messages: int) -> bool:
        """Lease up to ``max_messages`` to a consumer and send them. False if there are none."""
        places = self._places
        picked = Picked(max_messages, min(consumer.free_bytes, MAX_DELIVERY_BYTES))
        self._picker.pick(picked, consumer)
        if picked.failures:
            places.fail_unsent(picked.failures)
        if not picked.messages:
            return False
        grant = self._next_grant
        self._next_grant += 1
        consumer.take(len(picked.messages), picked.size)
        config = self.subscription.config
        seconds = consumer.ack_deadline_s
        now = self._clock.monotonic()
        deadline = now + seconds
        places.leases.grant(grant, consumer, deadline, picked.seqs, picked.sizes)
        self.counters.sent += len(picked.messages)
        self.counters.sent_bytes += picked.size
        self.counters.sent_at = now
        delivery = Delivery(
            grant,
            self._ack_ids.head(places.cursor.epoch, grant),
            picked.seqs,
            picked.messages,
            () if config.dead_letter is None else places.attempts.of_deliveries(picked.seqs),
        )
        if config.exactly_once:
            places.book.grant(grant, self._clock.now_us() + seconds * SECOND_US, picked.seqs)
            self._send_once_written(consumer, delivery)
        else:
            consumer.send(delivery)
        return True

    def _send_once_written(self, consumer: Consumer, delivery: Delivery) -> None:
        """Send a delivery when its lease is on disk."""
        self._save()
        self._unsent[delivery.grant] = consumer, delivery
        written = asyncio.ensure_future(self._commits.flushed())
        written.add_done_callback(partial(self._send_written, delivery.grant))

    def _send_written(self, grant: int, written: asyncio.Future[None]) -> None:
        is_written = not written.cancelled() and written.exception() is None
        if grant not in self._unsent:
            return
        consumer, delivery = self._unsent.pop(grant)
        leases = self._places.leases
        leased = [leases.grant_of(seq) == grant for seq in delivery.seqs]
        if not is_written or consumer.left or not any(leased):
            self._withdraw([(consumer, delivery)])
            self.dispatch()
        elif all(leased):
            consumer.send(delivery)
        else:
            # Without what came back meanwhile. To withdraw the rest, too, would take back what
            # follows it in other deliveries; two of them could keep each other from being sent.
            self._uncount(delivery.only([not one for one in leased]))
            consumer.send(delivery.only(leased))

    def _withdraw(self, unsent: Sequence[tuple[Consumer, Delivery]]) -> None:
        """These are not sent after all: their messages are to be delivered anew, in order."""
        for _, delivery in unsent:
            self._take_back(delivery)
        for consumer, _ in unsent:
            if consumer.once and not consumer.left:
                self.add(consumer)  # it still waits

    def _take_back(self, delivery: Delivery) -> None:
        self._places.take_back(self._places.reclaim(delivery.grant, delivery.seqs))
        self._uncount(delivery)

    def _uncount(self, delivery: Delivery) -> None:
        self.counters.sent -= len(delivery.seqs)
        self.counters.sent_bytes -= sum(map(len, delivery.messages))

    # --- the parts of the above --------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed is not None:
            raise self._closed

    def _save(self) -> None:
        self._commits.save(self._places)

    def _dismiss(self, consumer: Consumer) -> None:
        self._consumers.discard(consumer)
        self._line.pop(consumer, None)
        consumer.line = None

    def _parse(self, ack_ids: Iterable[str], *, lenient: bool) -> list[Delivered]:
        return self._ack_ids.parse_valid(ack_ids) if lenient else self._ack_ids.parse(ack_ids)

    def _acknowledged(self, settled: set[int]) -> None:
        self._places.done(list(self._places.final(settled)))
        self.counters.acked += len(settled)
        self.dispatch()

    def _of_earlier_run(self, delivered: Delivered) -> list[int]:
        """What was delivered before a restart, and not since, and is not done.

        With ordering that does not count: it might be out of order. Nor does it for what is to be
        forwarded to the dead-letter topic.
        """
        places, picker = self._places, self._picker
        if delivered.grant >= self._first_grant or places.keys is not None:
            return []
        return [
            seq
            for seq in delivered.seqs
            if picker.position <= seq < picker.end
            and not places.cursor.is_done(seq)
            and not places.is_due(seq)
        ]

    def _restart(self) -> None:
        """After a seek: nothing is leased or waiting, and reading starts at the floor."""
        self._places.clear()
        self._exact_acks.clear()
        self._gleaner.stop()
        self._picker.restart(self.floor)
        self.dispatch()
        self._tell_watching()

    def _go_on_from_floor(self) -> None:
        """The floor was raised, over whatever is there."""
        self._picker.go_on_from(self.floor)
        self.dispatch()

    def _tell_watching(self, error: BrokerError | None = None) -> None:
        for future in tuple(self._watching):
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
                future.exception()  # who waited may be gone

    def _set_alarm(self) -> None:
        """Be called when the next thing is due; an alarm that is early anyway stays."""
        if self._closed is not None:
            return
        moments = (self._places.next_time(), self._exact_acks.next_time())
        due = min((moment for moment in moments if moment is not None), default=None)
        if due is None:
            return
        if self._alarm is not None:
            if self._alarm_at <= due:
                return
            self._alarm.cancel()
        self._alarm_at = due
        self._alarm = self._clock.call_at(due, self._on_alarm)

    def _on_alarm(self) -> None:
        self._alarm = None
        self._expire()
        now = self._clock.monotonic()
        self._places.wake(now)
        self._exact_acks.forget(now)
        self.dispatch()

    def _expire(self) -> None:
        self.counters.expired += self._places.expire(self._clock.monotonic(), self._unsent.keys())
