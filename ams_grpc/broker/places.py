"""In which place each message of one subscription is, once it was read, until it is done.

    leased     at a consumer, until a deadline (``Leases``)
    waiting    a delivery failed, and it is to be delivered again (``Waiting``)
    held back  of an ordering key, and not its turn (``Keys``); the end of a long line is not kept
               in memory, but left behind in the log
    dying      its last delivery attempt failed; it is being forwarded to the dead-letter topic
    done       acknowledged, expired, filtered out, forwarded, or gone (``Cursor``)

With an ordering key, what is not delivered is held back instead of waiting, and an acknowledged
message may be leased no more and still not be done: its ack is provisional (see ``ordering``).

Here are the moves between them; when they happen is the runtime's business. ``save`` is called when
something is to be written: the cursor, failures (dead-letter policy), leases (exactly-once delivery).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Final

from ams_grpc.broker.ack_ids import Delivered
from ams_grpc.broker.catalog import Subscription
from ams_grpc.broker.clock import Clock
from ams_grpc.broker.consumers import Consumer
from ams_grpc.broker.cursor import Cursor
from ams_grpc.broker.dead_letters import is_due
from ams_grpc.broker.exactly_once import LeaseBook
from ams_grpc.broker.leases import Leases
from ams_grpc.broker.ordering import Keys
from ams_grpc.broker.policies import SECOND_US
from ams_grpc.broker.ports import CursorChanges, CursorState, Deliveries, DeliveryChanges
from ams_grpc.broker.retry import NACKED, Attempts, backoff_s, own_backoff_s
from ams_grpc.broker.waiting import Waiting
from ams_grpc.broker.windows import PullWindow

SPARED_REST_S: Final = 1.0
"""How long a message rests at least after its dead-letter topic did not take it."""

_KEYS_THAT_MAY_BLOCK: Final = 10
"""One ordering key may have at most the share of so many in what is outstanding."""

NOBODY: Final = Consumer(lambda _delivery: None, lambda _error: None, ack_deadline_s=0)
"""Holds leases of consumers that are not known any more."""


class Places:
    """The places of one subscription's messages. For the group commit it is the ``DirtyCursor``."""

    def __init__(
        self,
        subscription: Subscription,
        state: CursorState,
        deliveries: Deliveries,
        clock: Clock,
        save: Callable[[], None],
        max_outstanding: int,
    ) -> None:
        self.subscription = subscription
        self.subscription_id = subscription.id
        self.cursor = Cursor(subscription.id, state)
        self.leases = Leases()
        self.waiting = Waiting()
        self.attempts = Attempts(deliveries.failures)
        self.keys: Keys | None = None
        if subscription.config.ordered:
            self.keys = Keys(most_out=max(1, max_outstanding // _KEYS_THAT_MAY_BLOCK))
        self.dying: dict[int, None] = {}
        self.book = LeaseBook(deliveries.leases)
        self.window = None if state.window is None else PullWindow(state.window)
        """That of AMS's pulls; None as long as there were none."""
        self.known_below = max([state.floor, *(seq + 1 for seq in deliveries.failures)])
        """From here on, nothing is known of what is fresh but what the cursor says."""
        self._clock = clock
        self._save = save

    @property
    def held_back(self) -> int:
        return 0 if self.keys is None else self.keys.held_back

    @property
    def provisional(self) -> int:
        return 0 if self.keys is None else self.keys.provisional

    def __contains__(self, seq: int) -> bool:
        """Whether it is in memory: read, not done, and not left behind."""
        return (
            seq in self.leases
            or seq in self.waiting
            or seq in self.dying
            or (self.keys is not None and seq in self.keys)
        )

    @property
    def ready(self) -> int:
        """About how many messages that were read somebody might get now."""
        return self.waiting.ready + (0 if self.keys is None else self.keys.ready)

    @property
    def in_memory(self) -> int:
        """What takes memory: messages that were read and are not done, and lines that are cut."""
        of_keys = 0 if self.keys is None else self.keys.in_memory
        return len(self.leases) + len(self.waiting) + of_keys

    def make_room(self) -> bool:
        """Keep less in memory of what can be read again. False if there is nothing to forget."""
        return self.keys is not None and self.keys.cut_long_lines(self._must_be_known)

    def _must_be_known(self, seq: int) -> bool:
        """Whether it is dying, or was: if it is read again, nobody knows that it was spared."""
        return seq in self.dying or self.is_due(seq)

    def use(self, subscription: Subscription) -> None:
        """Its configuration has changed: other things are to be stored from now on."""
        before, config = self.subscription.config, subscription.config
        self.subscription = subscription
        if config.exactly_once and not before.exactly_once:
            for grant, (deadline, seqs) in self.leases.held().items():
                rest_us = int((deadline - self._clock.monotonic()) * SECOND_US)
                self.book.grant(grant, self._clock.now_us() + rest_us, seqs)
        elif before.exactly_once and not config.exactly_once:
            self.book.clear()
        if config.dead_letter is not None and before.dead_letter is None:
            self.attempts.store_all()
        if config != before:
            self._save()

    # --- leasing -----------------------------------------------------------------------------

    def extend(self, grant: int, seqs: Iterable[int], seconds: float) -> None:
        """Whoever holds these under ``grant`` has them for ``seconds`` from now."""
        self.leases.extend(grant, seqs, self._clock.monotonic() + seconds)
        if self.book:
            self.book.extend(grant, self._clock.now_us() + int(seconds * SECOND_US))
            self._save()

    def lease_again(self, delivered: Delivered, seconds: float) -> None:
        """Those that missed their deadline, and were not delivered since, are leased once more."""
        grant = delivered.grant
        seqs = [seq for seq in set(delivered.seqs) if self._waits_since(seq, grant)]
        if seqs:
            for seq in seqs:
                self.waiting.discard(seq)
            # Whoever holds them paid for them once, until they expired.
            deadline = self._clock.monotonic() + seconds
            self.leases.grant(grant, NOBODY, deadline, seqs, [0] * len(seqs))

    def release(self, grant: int, seqs: Sequence[int]) -> list[int]:
        """End those leases that are of this grant, since their messages are done: which."""
        released = self.leases.release(grant, seqs)
        if self.book and released:
            self.book.release(grant, len(released))
            self._save()
        return released

    def reclaim(self, grant: int, seqs: Sequence[int]) -> list[int]:
        """End those leases that are of this grant: which. Their messages come again."""
        reclaimed = self.leases.release(grant, seqs)
        if self.book and reclaimed:
            self.book.reclaim(grant, reclaimed)
            self._save()
        return reclaimed

    def end_leases(self, seqs: Iterable[int]) -> None:
        """End the leases of these, whatever their grant. They come again."""
        by_grant: dict[int, list[int]] = defaultdict(list)
        for seq in seqs:
            grant = self.leases.grant_of(seq)
            if grant is not None:
                by_grant[grant].append(seq)
        for grant, held in by_grant.items():
            self.reclaim(grant, held)

    def take_back(self, seqs: Iterable[int]) -> None:
        """Leases of these ended, but by no failure: they go out again."""
        for seq in sorted(seqs):
            if self.keys is not None and seq in self.keys:
                self._take_back_key(self.keys, seq)
            elif seq >= self.cursor.floor:
                self.waiting.add(seq)

    def _take_back_key(self, keys: Keys, seq: int) -> bool:
        """It, and what went out of its key after it, is held back. False if there is no such."""
        taken = keys.take_back(seq)
        self.end_leases(taken)
        keys.discard([gone for gone in taken if gone < self.cursor.floor])  # by retention
        return seq in keys and bool(taken)

    def expire(self, now: float, unsent: AbstractSet[int]) -> int:
        """End the leases whose deadlines have passed: of how many messages.

        Those of grants that are ``unsent`` are no failures.
        """
        number = 0
        expired = self.leases.expire(now)
        if self.book and expired:
            for grant, seqs in expired:
                self.book.reclaim(grant, seqs)
            self._save()
        if self.keys is not None and len(expired) > 1:  # of each key, the first is to fail
            expired = [(g, [seq]) for seq, g in sorted((s, g) for g, seqs in expired for s in seqs)]
        for grant, seqs in expired:
            if grant in unsent:
                self.take_back(seqs)
            else:
                self.fail(seqs, grant)
                number += len(seqs)
        return number

    # --- after a restart ---------------------------------------------------------------------

    def restore(self) -> int:
        """What is stored beside the cursor holds, as far as it is not over.

        Returns below which seq messages were read before the restart, if some of their leases are
        still valid: ``resume`` has to be called for them.
        """
        self.attempts.forget_if(self.cursor.is_done)
        end = 0
        if self.subscription.config.exactly_once:
            end = self._restore_leases()
        else:  # it may have been, before it was switched off while this did not run
            self.book.clear()
        if self.book or self.attempts.changed:  # what is over goes from the storage, too
            self._save()
        return end

    def _restore_leases(self) -> int:
        now, now_us = self._clock.monotonic(), self._clock.now_us()
        stored = self.book.stored()
        latest = {seq: grant for grant, seqs in stored for seq in seqs}
        held: dict[int, list[int]] = {grant: [] for grant, _ in stored}
        for seq, grant in sorted(latest.items()):
            if self.book.deadline_us(grant) > now_us and not self.cursor.is_done(seq):
                held[grant].append(seq)
        for grant, seqs in held.items():
            if seqs:
                deadline = now + (self.book.deadline_us(grant) - now_us) / SECOND_US
                self.leases.grant(grant, NOBODY, deadline, seqs, [0] * len(seqs))
            self.book.hold(grant, len(seqs))
        return max((seqs[-1] + 1 for seqs in held.values() if seqs), default=0)

    def resume(self, seq: int, name: str) -> None:
        """It was read before the restart, and is not done: if it is not leased any more, it waits.

        ``name`` is its ordering key. What fails to be leased in a key ends the leases of those that
        come after it. To be called for one after the other.
        """
        keys = self.keys if name else None
        if seq in self.leases and (keys is None or keys.admits(name, NOBODY)):
            if keys is not None:
                keys.deliver(name, seq, NOBODY)
            return
        self.end_leases([seq])
        if keys is not None:
            if keys.cut(name) is not None:
                return
            keys.hold_back(name, seq)
        if self.is_due(seq):
            self.dying[seq] = None
        elif keys is None:
            self.waiting.add(seq)

    # --- settling ----------------------------------------------------------------------------

    def settle(self, delivered: Delivered) -> list[int]:
        """Take what an ack id still stands for out of its place: which.

        That of a lease which has expired counts as long as its message was not delivered again.
        """
        grant, seqs = delivered.grant, delivered.seqs
        settled = self.release(grant, seqs)
        if len(settled) == len(seqs):
            return settled
        for seq in set(seqs).difference(settled):
            if self._waits_since(seq, grant):
                self.waiting.discard(seq)
                settled.append(seq)
            elif (
                self.keys is not None
                and self.keys.has_expired(seq, grant)
                and seq not in self.dying
            ):
                self.keys.discard([seq])
                settled.append(seq)
        return settled

    def _waits_since(self, seq: int, grant: int) -> bool:
        """Whether it waits, without an ordering key, since that delivery missed its deadline."""
        return seq in self.waiting and self.attempts.expired(seq) == grant

    def final(self, settled: Iterable[int]) -> Iterable[int]:
        """Which acks are final, now that these came."""
        keys = self.keys
        if keys is None:
            return settled
        final: list[int] = []
        for seq in sorted(settled):
            final += keys.acknowledge(seq) if seq in keys else [seq]
        return final

    def done(self, seqs: Sequence[int]) -> None:
        """These are done: the group commit is to write it."""
        if seqs:
            self.cursor.mark_done(seqs)
            if self.attempts:
                self.attempts.forget(seqs)
            self._save()

    def lose(self, first: int, end: int) -> None:
        """Nothing from ``first`` up to ``end`` is stored any more: it is done.

        But what consumers have of it is theirs until it comes back.
        """
        self._forget_between(first, end)
        with_consumers = set(self.leases.between(first, end))
        if self.keys is not None:
            with_consumers.update(self.keys.between(first, end))
        for seq in [*sorted(with_consumers), end]:
            self.done(range(first, seq))
            first = seq + 1

    def _forget_between(self, first: int, end: int) -> None:
        """Nothing waits, is held back, or dies from ``first`` up to ``end``."""
        self.waiting.discard_between(first, end)
        if self.keys is not None:
            self.keys.discard_between(first, end)
        for seq in [seq for seq in self.dying if first <= seq < end]:
            del self.dying[seq]

    def raise_floor(self, seq: int) -> None:
        """All below ``seq`` is done, whoever holds it."""
        self._forget_between(self.cursor.floor, seq)
        self.attempts.forget_below(seq)
        self.cursor.raise_floor(seq)
        self._save()

    def open_window(self, end: int, messages: int) -> None:
        """AMS: a pull gave ``messages`` from the floor up to ``end``.

        Written before the process ends, or with what comes first; so that those who ask again and
        again whether there are messages do not write.
        """
        if self.window is None:
            self.window = PullWindow()
        self.window.open(self.cursor.floor, end, messages, self._clock.now_us())
        if messages:
            self._save()

    def acknowledge_window(self, end: int) -> None:
        """AMS: of what the last pull gave, all below ``end`` is done. Raises what the window does."""
        deadline_s = self.subscription.config.ack_deadline_s
        (self.window or PullWindow()).acknowledge(end, self._clock.now_us(), deadline_s)
        self.raise_floor(end)

    def close_window(self) -> None:
        """AMS: what the last pull gave cannot be acknowledged any more."""
        if self.window is not None:
            self.window.close()

    def clear(self) -> None:
        """A seek: only the cursor says what is done, and nothing else is known."""
        self.leases.clear()
        self.book.clear()
        self.waiting.clear()
        self.attempts.clear()
        self.dying.clear()
        self.close_window()
        if self.keys is not None:
            self.keys.clear()
        self._save()

    # --- failing -----------------------------------------------------------------------------

    def nack(
        self, grant: int, seqs: Sequence[int], reason: str = "", *, by_worker: bool = False
    ) -> int:
        """Some of a delivery are handed back: how many. A worker's rest, whatever the policies."""
        released = self.reclaim(grant, seqs)
        self.fail(released, NACKED, reason, by_worker=by_worker)
        return len(released)

    def fail(
        self, seqs: Sequence[int], grant: int, reason: str = "", *, by_worker: bool = False
    ) -> None:
        """Deliveries failed: by a nack, or (then with its ``grant``) by missing their deadline."""
        keys = self.keys
        for seq in seqs if keys is None else sorted(seqs):
            if keys is not None and seq in keys:
                if not self._take_back_key(keys, seq):
                    continue  # it was taken back by an earlier one, and did not fail itself
                keys.note_expiry(seq, grant)
            elif seq < self.cursor.floor:
                continue
            number = self.attempts.fail(seq, reason, grant)
            self._retry(seq, number, own_backoff_s(number) if by_worker else 0.0)
        self._count_failures()

    def fail_unsent(self, failures: Iterable[tuple[int, str]]) -> None:
        """Messages, each with its reason, could not even be sent: a transform failed."""
        for seq, reason in failures:
            number = self.attempts.fail(seq, reason)
            self._retry(seq, number, own_backoff_s(number))
        self._count_failures()

    def is_due(self, seq: int) -> bool:
        """Whether it has had all its delivery attempts."""
        policy = self.subscription.config.dead_letter
        return is_due(policy, self.attempts.failures(seq))

    def forwarded(self, seq: int) -> None:
        """A dying message is in the dead-letter topic, and done here."""
        del self.dying[seq]
        if self.keys is not None and seq in self.keys:
            self.keys.discard([seq])
        self.done([seq])

    def spare(self, seq: int) -> None:
        """A dying message cannot be forwarded: it is delivered once more. Pub/Sub does so, too."""
        del self.dying[seq]
        failures = self.attempts.failures(seq)
        rest_s = max(backoff_s(self.subscription.config.retry, failures), SPARED_REST_S)
        key = None if self.keys is None else self.keys.of(seq)
        if key is None or key.held_back[0] == seq:  # else its turn comes later
            self._put_back(seq, rest_s)

    def _retry(self, seq: int, failures: int, least_rest_s: float) -> None:
        """After its failure number ``failures``: it waits, rests first, or dies."""
        if self.is_due(seq):
            self.dying[seq] = None
        else:
            rest_s = max(backoff_s(self.subscription.config.retry, failures), least_rest_s)
            self._put_back(seq, rest_s)

    def _put_back(self, seq: int, rest_s: float) -> None:
        until = self._clock.monotonic() + rest_s if rest_s else 0.0
        if self.keys is not None and (key := self.keys.of(seq)) is not None:
            self.keys.rest(key, until)
        else:
            self.waiting.add(seq, until)

    def _count_failures(self) -> None:
        if self.attempts.changed and self.subscription.config.dead_letter is not None:
            self._save()

    # --- time --------------------------------------------------------------------------------

    def next_time(self) -> float | None:
        """When the next deadline passes, or the next rest is over."""
        moments = [self.leases.next_deadline(), self.waiting.next_time()]
        if self.keys is not None:
            moments.append(self.keys.next_time())
        return min((moment for moment in moments if moment is not None), default=None)

    def wake(self, now: float) -> None:
        """What has rested may go out."""
        self.waiting.wake(now)
        if self.keys is not None:
            self.keys.wake(now)

    # --- for the group commit ----------------------------------------------------------------

    def take_changes(self) -> CursorChanges:
        """See ``ports.DirtyCursor``."""
        changes = self.cursor.take_changes()
        stores_failures = self.subscription.config.dead_letter is not None
        failures = self.attempts.take_changes(store=stores_failures)
        leases = self.book.take_changes()
        if failures or leases:
            changes = replace(changes, deliveries=DeliveryChanges(failures, leases))
        if self.window is not None and self.window.changed:
            changes = replace(changes, window=self.window.take_changes())
        return changes

    def put_back(self, changes: CursorChanges) -> None:
        """See ``ports.DirtyCursor``."""
        self.cursor.put_back(changes)
        if changes.deliveries is not None:
            self.attempts.put_back(changes.deliveries.failures)
            self.book.put_back(changes.deliveries.leases)
        if changes.window is not None and self.window is not None:
            self.window.changed = True
