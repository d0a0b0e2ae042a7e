"""One subscription at work: an event in, one dispatch step, effects out.

Each seq of the topic is, for this subscription, in exactly one place:

    fresh      at or above ``_position``: not read since the runtime started or was sought
    leased     at a consumer, until a deadline (``Leases``)
    waiting    a delivery failed, and it is to be delivered again (``Waiting``)
    held back  of an ordering key, and not its turn (``Keys``)
    dying      its last delivery attempt failed; it is being forwarded to the dead-letter topic
    done       acknowledged, expired, filtered out, forwarded, or gone (``Cursor``)

    fresh --deliver--> leased --ack--> done
                        |   ^
           nack, expiry v   | deliver
                       waiting --late ack (after an expiry)--> done
                          |
           last attempt   +--> dying --forwarded--> done

With an ordering key, what is not delivered is held back instead of waiting, and an acknowledged
message may be leased no more and still not be done: its ack is provisional (see ``ordering``).

Everything happens on the event loop, without locks. Whatever changes the picture (new messages,
credit, acks, expiries, seeks) ends in ``dispatch``. The only timer is the one for the next ack
deadline or the end of the next backoff. Leases live in memory: losing them in a crash means
redelivery; but those of exactly-once delivery are written before their messages are sent. The
cursor is written by the group commit.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from ams_grpc.broker.ack_ids import AckIds, Delivered
from ams_grpc.broker.catalog import Subscription
from ams_grpc.broker.clock import Alarm, Clock
from ams_grpc.broker.consumers import Consumer, Delivery, Line
from ams_grpc.broker.cursor import Cursor
from ams_grpc.broker.dead_letters import Forwarding, is_due
from ams_grpc.broker.errors import BrokerError, StorageUnavailable
from ams_grpc.broker.exactly_once import Accepted, Confirmation, LeaseBook
from ams_grpc.broker.leases import Leases
from ams_grpc.broker.ordering import FOREVER, Keys
from ams_grpc.broker.picked import Picked
from ams_grpc.broker.policies import SECOND_US
from ams_grpc.broker.ports import (
    Commits,
    CursorChanges,
    CursorState,
    Deliveries,
    DeliveryChanges,
)
from ams_grpc.broker.retry import Attempts, backoff_s, own_backoff_s
from ams_grpc.broker.views import View, Window
from ams_grpc.broker.waiting import NACKED, Waiting

MAX_DELIVERY_MESSAGES: Final = 1000
MAX_DELIVERY_BYTES: Final = 512 * 1024
_NEAR_TAIL: Final = 20_000  # so few messages behind, new ones are worth keeping in the cache
_LOAD_RETRY_S: Final = 0.25
_FORWARDED_AT_ONCE: Final = 100
_SPARED_REST_S: Final = 1.0  # after a dead-letter topic did not take it
_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Counters:
    """What happened on one subscription since the process started."""

    sent: int = 0
    acked: int = 0
    nacked: int = 0
    expired: int = 0


class SubscriptionRuntime:
    """An active subscription. It learns by ``appended`` how far its topic goes.

    For the group commit it is the subscription's ``DirtyCursor``. ``read_key`` finds the ordering
    key in a serialized message.
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
        deliveries = deliveries or Deliveries()
        self.subscription = subscription
        self.subscription_id = subscription.id
        self.counters = Counters()
        self.kept_from: int | None = None
        """The lowest floor of the topic's snapshots: from there on nothing expires."""
        self._ack_ids = AckIds(secret, subscription.id)
        self._cursor = Cursor(subscription.id, state)
        self._position = state.floor
        self._end = state.floor
        self._leases = Leases()
        self._waiting = Waiting()
        self._attempts = Attempts(deliveries.failures)
        self._dying: dict[int, None] = {}
        self._keys = Keys() if subscription.config.ordered else None
        self._book = LeaseBook(deliveries.leases)
        self._accepted = Accepted()
        self._known_below = max([state.floor, *(seq + 1 for seq in deliveries.failures)])
        self._unsent = 0  # deliveries that are being written before they are sent
        self._line: Line = OrderedDict()
        self._consumers: set[Consumer] = set()
        self._view = view
        self._read_key = read_key
        self._forwarding = forwarding
        self._commits = commits
        self._clock = clock
        self._max_outstanding = max_outstanding
        # Grants of an earlier run of this process are all lower, if clocks do not go back.
        self._first_grant = self._next_grant = clock.now_us()
        self._alarm: Alarm | None = None
        self._alarm_at = 0.0
        self._loading: asyncio.Task[None] | None = None
        self._forwarder: asyncio.Task[None] | None = None
        self._closed: BrokerError | None = None

    # --- what there is -----------------------------------------------------------------------

    @property
    def floor(self) -> int:
        return self._cursor.floor

    @property
    def exactly_once(self) -> bool:
        """Whether acks are confirmed, and refused when they come too late."""
        return self.subscription.config.exactly_once

    @property
    def outstanding(self) -> int:
        """Messages at consumers."""
        return len(self._leases)

    @property
    def undelivered(self) -> int:
        """Messages that could be delivered now, or soon."""
        held_back = 0 if self._keys is None else self._keys.held_back
        return len(self._waiting) + held_back + self._fresh

    @property
    def open_streams(self) -> int:
        return sum(not consumer.once for consumer in self._consumers)

    @property
    def busy(self) -> bool:
        """True while messages are being read from storage, or written as leased."""
        return self._loading is not None or self._unsent > 0

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
        consumer.left = True
        self._dismiss(consumer)

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
        self._acknowledged(done)

    def modify_ack_deadline(
        self, ack_ids: Iterable[str], seconds: int, *, lenient: bool = False
    ) -> None:
        """Give subscribers ``seconds`` from now for what they hold; with 0, take it back.

        Stale ids are skipped; those of leases which have expired lease the message again, if it
        was not delivered since. Raises InvalidArgument like ``acknowledge``.
        """
        for delivered in self._parse(ack_ids, lenient=lenient):
            if delivered.epoch != self._cursor.epoch:
                continue
            if seconds > 0:
                self.extend(delivered.grant, delivered.seqs, seconds)
                self._lease_again(delivered, self._clock.monotonic() + seconds)
            else:
                self._nack(delivered.grant, delivered.seqs)
        self.dispatch()

    def acknowledge_exactly(self, ack_ids: Iterable[str]) -> Confirmation:
        """``acknowledge`` for exactly-once delivery: only the latest id of a valid lease counts.

        What is accepted holds once the group commit has written it. With ordering, an ack is
        refused while an earlier message of the key is not acknowledged.
        """
        answer = Confirmation()
        now = self._expire()
        done: set[int] = set()
        for seq, grant, ack_id in self._in_order(ack_ids, answer):
            if self._leases.grant_of(seq) != grant:
                known = self._accepted.has(grant, seq, now)
                (answer.accepted if known else answer.invalid).append(ack_id)
            elif self._keys is not None and seq in self._keys and not self._keys.is_next(seq):
                answer.unordered.append(ack_id)
            else:
                self._release(grant, (seq,))
                self._accepted.add(grant, (seq,), now)
                answer.accepted.append(ack_id)
                done.update(self._final((seq,)))
        self._acknowledged_finally(done, len(done))
        return answer

    def modify_ack_deadline_exactly(self, ack_ids: Iterable[str], seconds: int) -> Confirmation:
        """``modify_ack_deadline`` for exactly-once delivery; see ``acknowledge_exactly``."""
        answer = Confirmation()
        self._expire()
        by_grant: dict[int, list[int]] = {}
        for seq, grant, ack_id in self._in_order(ack_ids, answer):
            if self._leases.grant_of(seq) == grant:
                by_grant.setdefault(grant, []).append(seq)
                answer.accepted.append(ack_id)
            else:
                answer.invalid.append(ack_id)
        for grant, seqs in by_grant.items():
            if seconds > 0:
                self.extend(grant, seqs, seconds)
            else:
                self._nack(grant, seqs)
        self.dispatch()
        return answer

    def settle(self, grant: int, seqs: Sequence[int]) -> None:
        """A worker of the service has delivered these of what it holds under ``grant``."""
        self._acknowledged(set(self._release(grant, seqs)))

    def fail(self, grant: int, seqs: Sequence[int], reason: str) -> None:
        """A worker of the service could not deliver these; dead letters carry the reason."""
        self._nack(grant, seqs, reason)
        self.dispatch()

    def extend(self, grant: int, seqs: Iterable[int], seconds: float) -> None:
        """Whoever holds these under ``grant`` has them for ``seconds`` from now."""
        self._leases.extend(grant, seqs, self._clock.monotonic() + seconds)
        if self._book:
            self._book.extend(grant, self._clock.now_us() + int(seconds * SECOND_US))
            self._commits.save(self)

    def give_back(self, delivery: Delivery) -> None:
        """A delivery did not reach its consumer: as if it had not been made."""
        for seq in sorted(self._release(delivery.grant, delivery.seqs)):
            if self._keys is not None and seq in self._keys:
                self._end_leases(self._keys.take_back(seq))
            elif seq >= self._cursor.floor:
                self._waiting.add(seq, NACKED)
        self.counters.sent -= len(delivery.seqs)
        self.dispatch()

    def expire_before(self, seq: int, retention_us: int) -> None:
        """Messages below ``seq`` are past a retention of ``retention_us``.

        Ignored when they are kept for longer by now; so is what a snapshot holds.
        """
        if self.kept_from is not None:
            seq = min(seq, self.kept_from)
        floor = self._cursor.floor
        if seq <= floor or retention_us < self.subscription.retention_us:
            return
        self._forget_between(floor, seq)
        self._attempts.forget_below(seq)
        self._cursor.raise_floor(seq)
        self._position = max(self._position, seq)
        self._commits.save(self)
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

    def use(self, subscription: Subscription) -> None:
        """Its configuration has changed."""
        self.subscription = subscription
        if not subscription.config.exactly_once and self._book:
            self._book.clear()
            self._commits.save(self)
        self.dispatch()

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
        for task in (self._loading, self._forwarder):
            if task is not None:
                task.cancel()
        self._loading = None

    async def restore(self) -> None:
        """At the start: leases of exactly-once delivery that are still valid go on.

        Raises StorageUnavailable.
        """
        now, now_us = self._clock.monotonic(), self._clock.now_us()
        latest = {seq: grant for grant, seqs in self._book.stored() for seq in seqs}
        held: dict[int, list[int]] = {grant: [] for grant, _ in self._book.stored()}
        for seq, grant in sorted(latest.items()):
            if self._book.deadline_us(grant) > now_us and not self._cursor.is_done(seq):
                held[grant].append(seq)
        for grant, seqs in held.items():
            self._book.hold(grant, len(seqs))
            if seqs:
                deadline = now + (self._book.deadline_us(grant) - now_us) / SECOND_US
                self._leases.grant(grant, _NOBODY, deadline, seqs, [0] * len(seqs))
                self._known_below = max(self._known_below, seqs[-1] + 1)
        if self._keys is not None:
            for seq in sorted(seq for seqs in held.values() for seq in seqs):
                await self._restore_key(self._keys, seq)

    async def settled(self) -> None:
        """Wait until what is being read has arrived, and what is being written is written."""
        if self._loading is not None:
            await asyncio.wait([self._loading])
        elif self._unsent:
            await self._commits.flushed()

    def written(self) -> Awaitable[None]:
        """Resolves when all that happened until now is on disk. Raises StorageUnavailable."""
        return self._commits.flushed()

    # --- for the group commit ----------------------------------------------------------------

    def take_changes(self) -> CursorChanges:
        """See ``ports.DirtyCursor``."""
        changes = self._cursor.take_changes()
        stores_failures = self.subscription.config.dead_letter is not None
        failures = self._attempts.take_changes(store=stores_failures)
        leases = self._book.take_changes()
        if failures or leases:
            return replace(changes, deliveries=DeliveryChanges(failures, leases))
        return changes

    def put_back(self, changes: CursorChanges) -> None:
        """See ``ports.DirtyCursor``."""
        self._cursor.put_back(changes)
        if changes.deliveries is not None:
            self._attempts.put_back(changes.deliveries.failures)
            self._book.put_back(changes.deliveries.leases)

    # --- the dispatch step -------------------------------------------------------------------

    def dispatch(self) -> None:
        """Give what can be delivered to whoever has credit, in turn and in equal shares."""
        line = self._line
        turns = share = 0
        in_vain = 0  # so many consumers, one after the other, found nothing that is for them
        while line and in_vain < len(line) and self._loading is None and self._free_leases > 0:
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
                    in_vain += 1
                    if consumer in line:
                        line.move_to_end(consumer)
                    continue
            in_vain = 0
            line.pop(consumer, None)
            if consumer.once and credit > 0:
                self._dismiss(consumer)
            consumer.stand_in_line()
        self._set_alarm()

    @property
    def _fresh(self) -> int:
        # What retention or a seek passed over may not even have been heard of.
        return max(0, self._end - self._position)

    @property
    def _available(self) -> int:
        """About how many messages somebody might get now."""
        ready = self._waiting.ready + self._fresh
        return ready if self._keys is None else ready + self._keys.ready

    @property
    def _free_leases(self) -> int:
        """Leases take memory, so there is a limit to them however much consumers ask for."""
        taken = len(self._leases)
        if self._keys is not None:
            taken += self._keys.provisional
        return self._max_outstanding - taken

    @property
    def _may_read(self) -> bool:
        """What rests and is held back takes memory, too: beyond the limit nothing new is read."""
        taken = len(self._leases) + len(self._waiting)
        if self._keys is not None:
            taken += self._keys.held_back + self._keys.provisional
        return taken < self._max_outstanding

    def _deliver(self, consumer: Consumer, max_messages: int) -> bool:
        """Lease up to ``max_messages`` to a consumer and send them. False if there are none."""
        picked = Picked(max_messages, min(consumer.free_bytes, MAX_DELIVERY_BYTES))
        self._pick_waiting(picked)
        if self._keys is None:
            self._pick_fresh(picked)
        else:
            self._pick_held_back(picked, consumer, self._keys)
            self._pick_fresh_in_order(picked, consumer, self._keys)
        self._fail_unsent(picked)
        if not picked.messages:
            return False
        grant = self._next_grant
        self._next_grant += 1
        consumer.take(len(picked.messages), picked.size)
        config = self.subscription.config
        seconds = consumer.ack_deadline_s
        self._leases.grant(
            grant, consumer, self._clock.monotonic() + seconds, picked.seqs, picked.sizes
        )
        self.counters.sent += len(picked.messages)
        delivery = Delivery(
            grant,
            self._ack_ids.head(self._cursor.epoch, grant),
            picked.seqs,
            picked.messages,
            () if config.dead_letter is None else self._attempts.of_deliveries(picked.seqs),
        )
        if config.exactly_once:
            self._book.grant(grant, self._clock.now_us() + seconds * SECOND_US, picked.seqs)
            self._send_once_written(consumer, delivery)
        else:
            consumer.send(delivery)
        return True

    def _send_once_written(self, consumer: Consumer, delivery: Delivery) -> None:
        """Send a delivery when its lease is on disk."""
        self._commits.save(self)
        self._unsent += 1
        written = asyncio.ensure_future(self._commits.flushed())
        written.add_done_callback(partial(self._send_written, consumer, delivery))

    def _send_written(
        self, consumer: Consumer, delivery: Delivery, written: asyncio.Future[None]
    ) -> None:
        self._unsent -= 1
        if written.cancelled() or self._closed is not None:
            return
        is_valid = all(self._leases.grant_of(seq) == delivery.grant for seq in delivery.seqs)
        if written.exception() is None and is_valid and not consumer.left:
            consumer.send(delivery)
        else:
            self.give_back(delivery)

    # --- picking -----------------------------------------------------------------------------

    def _pick_waiting(self, picked: Picked) -> None:
        """Take messages that are to be delivered again, oldest first."""
        while not picked.full and (seq := self._waiting.first_ready()) is not None:
            window = self._view.find(seq)
            if window is None:
                self._load(seq)
                break
            self._waiting.discard(seq)
            message = window.messages[seq - window.first_seq]
            if seq in window.failures:
                picked.failed(seq, window.failures[seq])
            elif message is None or self._has_expired(window):
                self._done([seq])
            else:
                picked.add([seq], [message])

    def _pick_fresh(self, picked: Picked) -> None:
        """Take messages that were not delivered before, in order."""
        while self._position < self._end and not picked.full and self._loading is None:
            if not self._may_read:
                return
            position = self._position
            window = self._fresh_window(position)
            if window is None:
                continue
            offset = position - window.first_seq
            messages = window.messages[offset : offset + picked.room]
            self._position = position + len(messages)
            seqs: Sequence[int] = range(position, self._position)
            if position < max(self._known_below, self._cursor.top) or not window.is_whole:
                seqs, messages = self._sort_out(picked, window, seqs)
            unfit = picked.add(seqs, messages)  # type: ignore[arg-type]  # none is missing now
            if unfit is not None:
                self._position = unfit

    def _pick_fresh_in_order(self, picked: Picked, consumer: Consumer, keys: Keys) -> None:
        """``_pick_fresh``, where the messages of a key wait for each other."""
        while self._position < self._end and not picked.full and self._loading is None:
            if not self._may_read:
                return
            position = self._position
            window = self._fresh_window(position)
            if window is None:
                continue
            seqs: Sequence[int] = range(position, min(window.end_seq, position + picked.room))
            self._position = seqs[-1] + 1
            seqs, messages = self._sort_out(picked, window, seqs)
            for seq, message in zip(seqs, messages, strict=True):
                if picked.full:
                    self._position = seq
                    break
                key = self._read_key(message)
                if key and not keys.admits(key, seq, consumer):
                    self._end_leases(keys.hold_back(key, seq))
                    continue
                if key:
                    keys.deliver(key, seq, consumer)
                picked.add([seq], [message])

    def _fresh_window(self, position: int) -> Window | None:
        """The window that holds ``position``; None if it has to be read, or has expired."""
        window = self._view.find(position)
        if window is None:
            self._load(position)
        elif self._has_expired(window):
            self._position = window.end_seq
            self._done(range(position, window.end_seq))
            return None
        return window

    def _sort_out(
        self, picked: Picked, window: Window, seqs: Sequence[int]
    ) -> tuple[Sequence[int], list[bytes]]:
        """Out of what was read, what is to be delivered now.

        After a restart or a seek, some of what lies ahead is done, leased, or out of attempts; a
        view leaves messages out, or fails.
        """
        policy = self.subscription.config.dead_letter
        kept: list[int] = []
        messages: list[bytes] = []
        missing: list[int] = []
        for seq in seqs:
            message = window.messages[seq - window.first_seq]
            if self._cursor.is_done(seq) or seq in self._leases:
                continue
            if seq in window.failures:
                self._hold_back_failed(seq, message)
                picked.failed(seq, window.failures[seq])
            elif message is None:
                missing.append(seq)
            elif is_due(policy, self._attempts.failures(seq)):
                self._hold_back_failed(seq, message)
                self._die(seq)
            else:
                kept.append(seq)
                messages.append(message)
        self._done(missing)
        return kept, messages

    def _hold_back_failed(self, seq: int, message: bytes | None) -> None:
        """What comes after it in its key has to wait for it."""
        if self._keys is not None and message is not None and (key := self._read_key(message)):
            self._end_leases(self._keys.hold_back(key, seq))

    def _pick_held_back(self, picked: Picked, consumer: Consumer, keys: Keys) -> None:
        """Take messages whose turn has come in their ordering key."""
        while not picked.full and (key := keys.next_for(consumer)) is not None:
            seq = key.held_back[0]
            window = self._view.find(seq)
            if window is None:
                self._load(seq)
                break
            message = window.messages[seq - window.first_seq]
            if seq in self._dying:
                keys.rest(key, FOREVER)  # until it is forwarded
            elif seq in window.failures:
                keys.rest(key, FOREVER)  # until it is counted
                picked.failed(seq, window.failures[seq])
            elif message is None or self._has_expired(window):
                self._done(keys.discard([seq]))
            else:
                keys.deliver(key.name, seq, consumer)
                picked.add([seq], [message])

    # --- settling ----------------------------------------------------------------------------

    def _settle(self, delivered: Delivered) -> list[int]:
        """Take what an ack id still stands for out of its place."""
        grant, seqs = delivered.grant, delivered.seqs
        settled = self._release(grant, seqs)
        if len(settled) == len(seqs):
            return settled
        for seq in set(seqs).difference(settled):
            if self._waiting.grant_of(seq) == grant:  # expired, and not delivered again
                self._waiting.discard(seq)
                settled.append(seq)
            elif self._keys is not None:
                if self._keys.has_expired(seq, grant) and seq not in self._dying:
                    self._keys.discard([seq])
                    settled.append(seq)
            elif self._is_of_earlier_run(grant, seq):
                settled.append(seq)
        return settled

    def _acknowledged(self, settled: set[int]) -> None:
        self._acknowledged_finally(self._final(settled), len(settled))

    def _acknowledged_finally(self, done: Iterable[int], number: int) -> None:
        self._done(list(done))
        self.counters.acked += number
        self.dispatch()

    def _final(self, settled: Iterable[int]) -> Iterable[int]:
        """Which acks are final, now that these came."""
        keys = self._keys
        if keys is None:
            return settled
        final: list[int] = []
        for seq in sorted(settled):
            final += keys.acknowledge(seq) if seq in keys else [seq]
        return final

    def _in_order(self, ack_ids: Iterable[str], answer: Confirmation) -> list[tuple[int, int, str]]:
        """Seq, grant and id of what can be valid, by seq; the rest is ``answer.invalid``."""
        found: list[tuple[int, int, str]] = []
        for ack_id in dict.fromkeys(ack_ids):
            delivered = self._ack_ids.read(ack_id)
            if delivered is None or delivered.epoch != self._cursor.epoch:
                answer.invalid.append(ack_id)
            else:
                found.append((delivered.seqs[0], delivered.grant, ack_id))
        found.sort()
        return found

    def _is_of_earlier_run(self, grant: int, seq: int) -> bool:
        """True if it was delivered before a restart, and not since, and is not done."""
        return (
            grant < self._first_grant
            and self._position <= seq < self._end
            and not self._cursor.is_done(seq)
        )

    def _lease_again(self, delivered: Delivered, deadline: float) -> None:
        grant = delivered.grant
        seqs = [seq for seq in set(delivered.seqs) if self._waiting.grant_of(seq) == grant]
        if seqs:
            for seq in seqs:
                self._waiting.discard(seq)
            # Whoever holds them paid for them once, until they expired.
            self._leases.grant(grant, _NOBODY, deadline, seqs, [0] * len(seqs))

    def _release(self, grant: int, seqs: Sequence[int]) -> list[int]:
        """End those leases that are of this grant: which."""
        released = self._leases.release(grant, seqs)
        if self._book and released:
            self._book.release(grant, len(released))
            self._commits.save(self)
        return released

    def _end_leases(self, seqs: Iterable[int]) -> None:
        """End the leases of these, whatever their grant."""
        for seq in seqs:
            grant = self._leases.grant_of(seq)
            if grant is not None:
                self._release(grant, (seq,))

    def _done(self, seqs: Sequence[int]) -> None:
        if seqs:
            self._cursor.mark_done(seqs)
            if self._attempts:
                self._attempts.forget(seqs)
            self._commits.save(self)

    # --- failing -----------------------------------------------------------------------------

    def _nack(self, grant: int, seqs: Sequence[int], reason: str = "") -> None:
        released = self._release(grant, seqs)
        self._fail(released, NACKED, reason)
        self.counters.nacked += len(released)

    def _fail(self, seqs: Sequence[int], grant: int, reason: str = "") -> None:
        """Deliveries failed: by a nack, or (then with its ``grant``) by missing their deadline."""
        keys = self._keys
        for seq in seqs if keys is None else sorted(seqs):
            if keys is not None and seq in keys:
                taken = keys.take_back(seq)
                if not taken:
                    continue  # it was taken back by an earlier one, and did not fail itself
                self._end_leases(taken)
                keys.note_expiry(seq, grant)
            elif seq < self._cursor.floor:
                continue
            self._retry(seq, grant, self._attempts.fail(seq, reason))
        self._after_failures()

    def _fail_unsent(self, picked: Picked) -> None:
        """Messages could not even be sent: a transform failed."""
        for seq, reason in picked.failures:
            failures = self._attempts.fail(seq, reason)
            self._retry(seq, NACKED, failures, least_rest_s=own_backoff_s(failures))
        if picked.failures or self._dying:
            self._after_failures()

    def _retry(self, seq: int, grant: int, failures: int, least_rest_s: float = 0.0) -> None:
        """After its failure number ``failures``: it waits, rests first, or dies."""
        config = self.subscription.config
        if is_due(config.dead_letter, failures):
            self._die(seq)
            return
        rest_s = max(backoff_s(config.retry, failures), least_rest_s)
        until = self._clock.monotonic() + rest_s if rest_s else 0.0
        key = None if self._keys is None else self._keys.of(seq)
        if key is None or self._keys is None:
            self._waiting.add(seq, grant, until)
        else:
            self._keys.rest(key, until)

    def _die(self, seq: int) -> None:
        self._dying[seq] = None
        key = None if self._keys is None else self._keys.of(seq)
        if key is not None and self._keys is not None:
            self._keys.rest(key, FOREVER)

    def _after_failures(self) -> None:
        if self._attempts.changed and self.subscription.config.dead_letter is not None:
            self._commits.save(self)
        if self._dying and self._forwarder is None and self._closed is None:
            self._forwarder = asyncio.get_running_loop().create_task(self._forward_all())

    async def _forward_all(self) -> None:
        """Forward whatever is dying, many at once: they share a commit."""
        try:
            while self._dying:
                seqs = list(self._dying)[:_FORWARDED_AT_ONCE]
                await asyncio.gather(*[self._forward(seq, self._cursor.epoch) for seq in seqs])
        finally:
            self._forwarder = None

    async def _forward(self, seq: int, epoch: int) -> None:
        if self.subscription.config.dead_letter is None:  # any more
            self._spare(seq, epoch)
            return
        try:
            is_stored = await self._forwarding.forward(
                self.subscription,
                seq,
                attempts=self._attempts.failures(seq),
                reason=self._attempts.reason(seq),
                then=partial(self._forwarded, seq, epoch),
            )
        except Exception as error:
            if isinstance(error, BrokerError):
                _logger.warning(
                    "%s: cannot forward to the dead-letter topic: %s",
                    self.subscription.name,
                    error.message,
                )
            else:
                _logger.exception("%s: cannot forward", self.subscription.name)
            self._spare(seq, epoch)
        else:
            if not is_stored:
                self._forwarded(seq, epoch)

    def _forwarded(self, seq: int, epoch: int) -> None:
        """It is in the dead-letter topic, and done here."""
        if not self._revive(seq, epoch):
            return
        if self._keys is not None and (key := self._keys.of(seq)) is not None:
            self._keys.discard([seq])
            self._keys.release(key)
        self._done([seq])
        self.dispatch()

    def _spare(self, seq: int, epoch: int) -> None:
        """It cannot be forwarded: it is delivered once more. Pub/Sub does so, too."""
        if not self._revive(seq, epoch):
            return
        rest_s = max(
            backoff_s(self.subscription.config.retry, self._attempts.failures(seq)), _SPARED_REST_S
        )
        until = self._clock.monotonic() + rest_s
        if self._keys is not None and (key := self._keys.of(seq)) is not None:
            self._keys.rest(key, until)
        else:
            self._waiting.add(seq, NACKED, until)
        self.dispatch()

    def _revive(self, seq: int, epoch: int) -> bool:
        """It is dying no more. False if that was long over: a seek came between."""
        if epoch != self._cursor.epoch or self._closed is not None or seq not in self._dying:
            return False
        del self._dying[seq]
        return True

    # --- the parts of the above --------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed is not None:
            raise self._closed

    def _dismiss(self, consumer: Consumer) -> None:
        self._consumers.discard(consumer)
        self._line.pop(consumer, None)
        consumer.line = None

    def _parse(self, ack_ids: Iterable[str], *, lenient: bool) -> list[Delivered]:
        return self._ack_ids.parse_valid(ack_ids) if lenient else self._ack_ids.parse(ack_ids)

    def _has_expired(self, window: Window) -> bool:
        """Pub/Sub: retention counts from the publish time; a snapshot outlasts it."""
        if window.publish_time_us + self.subscription.retention_us > self._clock.now_us():
            return False
        return self.kept_from is None or window.end_seq <= self.kept_from

    def _forget_between(self, first: int, end: int) -> list[int]:
        """What waits, is held back, or dies from ``first`` up to ``end`` is gone: which it was."""
        gone = self._waiting.discard_between(first, end)
        if self._keys is not None:
            gone += self._keys.discard(self._keys.between(first, end))
        for seq in [seq for seq in self._dying if first <= seq < end]:
            del self._dying[seq]
            gone.append(seq)
        return gone

    def _restart(self) -> None:
        """After a seek: nothing is leased or waiting, and reading starts at the floor."""
        self._leases.clear()
        self._book.clear()
        self._accepted.clear()
        self._waiting.clear()
        self._attempts.clear()
        self._dying.clear()
        if self._keys is not None:
            self._keys.clear()
        self._position = self._cursor.floor
        self._end = max(self._end, self._position)
        self._commits.save(self)
        self.dispatch()

    async def _restore_key(self, keys: Keys, seq: int) -> None:
        window = self._view.find(seq)
        if window is None:
            await self._view.load(seq)
            window = self._view.find(seq)
        message = None if window is None else window.messages[seq - window.first_seq]
        if message is not None and (key := self._read_key(message)):
            keys.deliver(key, seq, _NOBODY)

    def _set_alarm(self) -> None:
        """Be called when the next thing is due; an alarm that is early anyway stays."""
        if self._closed is not None:
            return
        moments = [self._leases.next_deadline(), self._waiting.next_time()]
        if self._keys is not None:
            moments.append(self._keys.next_time())
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
        now = self._expire()
        self._waiting.wake(now)
        if self._keys is not None:
            self._keys.wake(now)
        self.dispatch()

    def _expire(self) -> float:
        """End the leases whose deadlines have passed. Returns the moment, of the monotonic clock."""
        now = self._clock.monotonic()
        for grant, seqs in self._leases.expire(now):
            if self._book:
                self._book.release(grant, len(seqs))
                self._commits.save(self)
            self._fail(seqs, grant)
            self.counters.expired += len(seqs)
        return now

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
        self._done(self._forget_between(seq, first))
        if seq <= self._position < first:
            position, self._position = self._position, first
            self._done(range(position, first))


_NOBODY: Final = Consumer(lambda _delivery: None, lambda _error: None, ack_deadline_s=0)
