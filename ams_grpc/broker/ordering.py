"""Ordering keys of one subscription: what of each key is out, and what comes after it.

A key has a state only while something of it is outstanding or held back; a million idle keys cost
nothing. The messages of a key stand in one line, by seq:

    acknowledged and final | outstanding, some acknowledged provisionally | held back | left behind

Pub/Sub: the outstanding part belongs to one consumer. An ack is final once all before it in the key
are; until then it is provisional, and a failure in front of it takes it back. What fails goes, with
all that was delivered after it, back to the head of the line.

When too much is held back altogether, the long lines are cut: of each, the end is forgotten, and all
that is remembered is from which seq on messages of the key were left behind in the log. They are
read again (``gleaning``) when the rest of the line has gone out.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import Final

from ams_grpc.broker.consumers import Consumer

FOREVER: Final = float("inf")
WHOLE: Final = 1 << 63
"""Where a line is cut that is not: behind all seqs."""


class Key:
    """One ordering key in use."""

    __slots__ = (
        "acked",
        "blocked_until",
        "cut_at",
        "expired",
        "held_back",
        "holder",
        "name",
        "outstanding",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.outstanding: deque[int] = deque()
        self.acked: set[int] = set()
        """Those of ``outstanding`` that are acknowledged provisionally."""
        self.held_back: deque[int] = deque()
        self.holder: Consumer | None = None
        """Who has the outstanding ones."""
        self.blocked_until = 0.0
        """It rests until this moment, since the first one held back failed. 0 when it does not."""
        self.expired: tuple[int, int] | None = None
        """The message that failed last, and the grant that missed its deadline (or ``NACKED``)."""
        self.cut_at = WHOLE
        """All before it is done or in this line; what was read from here on was left behind."""


class Keys:
    """The ordering keys of one subscription that are in use.

    Of a key, at most ``most_out`` messages are outstanding at a time: else a subscriber that never
    acknowledges the first, but all that come after it, would get hold of the whole memory.
    """

    def __init__(self, most_out: int) -> None:
        self._most_out = most_out
        self._keys: dict[str, Key] = {}
        self._key_of: dict[int, Key] = {}
        self._free: OrderedDict[Key, None] = OrderedDict()  # held back, nobody holds, not resting
        self._resting: list[tuple[float, int, Key]] = []
        self._tie = 0
        self._own: dict[Consumer, dict[Key, None]] = {}  # what each holder may get more of
        self._long: dict[Key, None] = {}  # more than one held back
        self._cut: dict[str, Key] = {}
        self.hungry: OrderedDict[Key, None] = OrderedDict()
        """Cut, and nothing is held back any more: to be read again, in this order."""
        self.followed: dict[str, Key] = {}
        """Hungry when reading again began: what it passes is held back. A line that is cut drops out."""
        self.held_back = 0
        """Messages that were read, and cannot go out yet."""
        self.provisional = 0
        """Messages acknowledged whose ack is not final."""

    def __contains__(self, seq: int) -> bool:
        return seq in self._key_of

    def __len__(self) -> int:
        return len(self._keys)

    def of(self, seq: int) -> Key | None:
        """The key of a message that is outstanding or held back."""
        return self._key_of.get(seq)

    def cut(self, name: str) -> Key | None:
        """The key of that name, if its line is cut: what is read of it stays in the log."""
        return self._cut.get(name)

    # --- delivering --------------------------------------------------------------------------

    def admits(self, name: str, consumer: Consumer) -> bool:
        """Whether the next message of a key, just read, may go to ``consumer`` now."""
        key = self._keys.get(name)
        if key is None:
            return True
        return (
            not key.held_back
            and not key.blocked_until
            and key.cut_at == WHOLE
            and (key.holder is None or (key.holder is consumer and self._may_grow(key, consumer)))
        )

    def hold_back(self, name: str, seq: int) -> None:
        """A message that was just read waits."""
        key = self._key(name)
        self._key_of[seq] = key
        key.held_back.append(seq)
        self.held_back += 1
        self._review(key)

    def deliver(self, name: str, seq: int, consumer: Consumer) -> None:
        """A message goes out to ``consumer``: the next of its key."""
        key = self._key(name)
        self._key_of[seq] = key
        if key.held_back and key.held_back[0] == seq:
            key.held_back.popleft()
            self.held_back -= 1
        key.outstanding.append(seq)
        key.holder = consumer
        self._review(key)

    def next_for(self, consumer: Consumer) -> Key | None:
        """A key of which ``consumer`` may get what is held back."""
        own = self._own.get(consumer)
        return next(iter(own)) if own else next(iter(self._free), None)

    @property
    def ready(self) -> int:
        """At most so many messages can go out, to the right consumers."""
        return self.held_back if self._free or self._own else 0

    # --- settling ----------------------------------------------------------------------------

    def acknowledge(self, seq: int) -> list[int]:
        """An outstanding message is acknowledged: which acks, by that, are final."""
        key = self._key_of[seq]
        key.acked.add(seq)
        self.provisional += 1
        final: list[int] = []
        while key.outstanding and key.outstanding[0] in key.acked:
            done = key.outstanding.popleft()
            key.acked.remove(done)
            del self._key_of[done]
            final.append(done)
        self.provisional -= len(final)
        self._review(key)
        return final

    def is_next(self, seq: int) -> bool:
        """Whether all before it in its key is acknowledged."""
        key = self._key_of[seq]
        return bool(key.outstanding) and key.outstanding[0] == seq

    def take_back(self, seq: int) -> list[int]:
        """Outstanding ``seq``, and all that went out after it, are to go out again: which.

        Empty if it is not outstanding any more.
        """
        key = self._key_of.get(seq)
        if key is None or seq not in key.outstanding:
            return []
        taken: list[int] = []
        while key.outstanding and key.outstanding[-1] >= seq:
            later = key.outstanding.pop()
            taken.append(later)
            key.held_back.appendleft(later)
            if later in key.acked:
                key.acked.remove(later)
                self.provisional -= 1
        self.held_back += len(taken)
        if key.expired is not None and key.expired[0] != seq:
            key.expired = None
        key.blocked_until = 0.0
        self._review(key)
        taken.reverse()
        return taken

    def note_expiry(self, seq: int, grant: int) -> None:
        """``seq`` was taken back since delivery ``grant`` missed its deadline (or by a nack)."""
        self._key_of[seq].expired = (seq, grant)

    def has_expired(self, seq: int, grant: int) -> bool:
        """Whether that delivery missed its deadline, ``seq`` is next, and nothing came since."""
        key = self._key_of.get(seq)
        return key is not None and key.expired == (seq, grant) and not key.outstanding

    def discard(self, seqs: Iterable[int]) -> None:
        """These were held back, and are done, in whatever way."""
        for seq in seqs:
            key = self._key_of.pop(seq)
            if key.held_back[0] == seq:
                key.held_back.popleft()
                key.blocked_until = 0.0
            else:
                key.held_back.remove(seq)
            self.held_back -= 1
            self._review(key)

    def between(self, first: int, end: int) -> list[int]:
        """What is outstanding or held back from ``first`` up to ``end``."""
        return [seq for seq in self._key_of if first <= seq < end]

    def discard_between(self, first: int, end: int) -> list[int]:
        """What is held back from ``first`` up to ``end`` is done: which it was."""
        gone = [
            seq
            for seq, key in self._key_of.items()
            if first <= seq < end and key.held_back and key.held_back[0] <= seq
        ]
        self.discard(gone)
        return gone

    def clear(self) -> None:
        """A seek: nothing is outstanding, held back or left behind."""
        self._keys.clear()
        self._own.clear()
        self._long.clear()
        self._cut.clear()
        self.hungry.clear()
        self.followed.clear()
        self._key_of.clear()
        self._free.clear()
        self._resting.clear()
        self.held_back = self.provisional = 0

    # --- cutting -----------------------------------------------------------------------------

    @property
    def in_memory(self) -> int:
        """What it keeps beside leases: messages, and where lines are cut."""
        return self.held_back + self.provisional + len(self._cut)

    def cut_long_lines(self, is_needed: Callable[[int], bool]) -> bool:
        """Forget at least half of what the lines hold back that hold back more than one.

        Nothing that is needed is forgotten, nor what stands before it. False if nothing was.
        """
        if not self._long:
            return False
        before = self.held_back
        total = sum(len(key.held_back) for key in self._long)
        share = max(1, total // (2 * len(self._long)))
        for key in list(self._long):
            while len(key.held_back) > share and not is_needed(key.held_back[-1]):
                key.cut_at = key.held_back.pop()
                del self._key_of[key.cut_at]
                self.held_back -= 1
                self._cut[key.name] = key
                self.followed.pop(key.name, None)
            self._review(key)
        return self.held_back < before

    def advance(self, key: Key, seq: int, *, is_all: bool) -> None:
        """Nothing of it is left behind below ``seq``; nothing at all, if that ``is_all`` of the log.

        If it is hungry still, others come before it.
        """
        if is_all:
            key.cut_at = WHOLE
            del self._cut[key.name]
        else:
            key.cut_at = max(key.cut_at, seq)
        self.hungry.pop(key, None)
        self._review(key)

    # --- resting -----------------------------------------------------------------------------

    def rest(self, key: Key, until: float) -> None:
        """Nothing of the key goes out before that moment (0: at once), unless its head is discarded."""
        key.blocked_until = until
        if 0.0 < until < FOREVER:
            self._tie += 1
            heappush(self._resting, (until, self._tie, key))
        self._review(key)

    def wake(self, now: float) -> None:
        """Keys whose rest is over go on."""
        while self._resting and self._resting[0][0] <= now:
            until, _, key = heappop(self._resting)
            if key.blocked_until == until:
                self.rest(key, 0.0)

    def next_time(self) -> float | None:
        """When the next rest is over."""
        resting = self._resting
        while resting and resting[0][2].blocked_until != resting[0][0]:
            heappop(resting)
        return resting[0][0] if resting else None

    # --- the parts of the above --------------------------------------------------------------

    def _key(self, name: str) -> Key:
        key = self._keys.get(name)
        if key is None:
            key = self._keys[name] = Key(name)
        return key

    def _review(self, key: Key) -> None:
        """Something has changed: who may take more of the key, and whether it is still in use."""
        if key.holder is not None and not key.outstanding:
            self._let_go(key, key.holder)
            key.holder = None
        may_go = bool(key.held_back) and not key.blocked_until
        if key.holder is not None:
            if may_go and self._may_grow(key, key.holder):
                self._own.setdefault(key.holder, {})[key] = None
            else:
                self._let_go(key, key.holder)
        if may_go and key.holder is None:
            self._free.setdefault(key)
        else:
            self._free.pop(key, None)
        if key.held_back:
            if len(key.held_back) > 1:
                self._long.setdefault(key)
            else:
                self._long.pop(key, None)
            self.hungry.pop(key, None)
        elif key.cut_at != WHOLE:
            self.hungry.setdefault(key)
        if not key.outstanding and not key.held_back:
            key.blocked_until = 0.0
            if key.cut_at == WHOLE:
                self._keys.pop(key.name, None)

    def _may_grow(self, key: Key, holder: Consumer) -> bool:
        """Whether who holds the key may get more of it."""
        return not holder.one_per_key and len(key.outstanding) < self._most_out

    def _let_go(self, key: Key, holder: Consumer) -> None:
        own = self._own.get(holder)
        if own is not None:
            own.pop(key, None)
            if not own:
                del self._own[holder]
