"""What one subscription gives out next: of what waits, of what is held back, and of what is fresh.

It reads on in the background when the next messages are not in memory; until they are, nothing is
picked. Fresh is what lies between ``position`` and ``end``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from ams_grpc.broker.consumers import Consumer
from ams_grpc.broker.ordering import FOREVER, Keys
from ams_grpc.broker.picked import Picked
from ams_grpc.broker.places import Places
from ams_grpc.broker.reading import Reading
from ams_grpc.broker.views import Window

MAX_DELIVERY_MESSAGES: Final = 1000
_LEFT_BEHIND_AT_ONCE: Final = 10_000
"""So many messages are left behind in the log before the event loop gets its turn."""


class Picker:
    """Picks messages out of ``places`` and the log.

    ``read_key`` finds the ordering key in a serialized message. ``changed`` is called when there
    is more to pick from.
    """

    def __init__(
        self,
        places: Places,
        reading: Reading,
        read_key: Callable[[bytes], str],
        *,
        max_outstanding: int,
        changed: Callable[[], None],
    ) -> None:
        self.position = self.end = places.cursor.floor
        self.loading: asyncio.Task[None] | None = None
        """What is being read, or a pause in which others have their turn."""
        self._places = places
        self._reading = reading
        self._read_key = read_key
        self._max_outstanding = max_outstanding
        self._changed = changed
        self._left_behind = 0  # so many messages, since the event loop had its turn
        self._stopped = False

    @property
    def fresh(self) -> int:
        """How many messages were not looked at."""
        # What retention or a seek passed over may not even have been heard of.
        return max(0, self.end - self.position)

    def pick(self, picked: Picked, consumer: Consumer) -> None:
        """Fill ``picked`` with what the consumer may get now."""
        if consumer.prefers_new:
            self._pick_fresh(picked, consumer)
        self._pick_waiting(picked)
        if self._places.keys is not None:
            self._pick_held_back(picked, consumer, self._places.keys)
        self._pick_fresh(picked, consumer)

    def go_on_from(self, seq: int) -> None:
        """Nothing below ``seq`` is to be picked any more."""
        self.position = max(self.position, seq)

    def restart(self, seq: int) -> None:
        """Everything from ``seq`` on is fresh again."""
        self.position = seq
        self.end = max(self.end, seq)

    def stop(self) -> None:
        """Nothing is read any more."""
        self._stopped = True
        if self.loading is not None:
            self.loading.cancel()
            self.loading = None

    async def resume(self, end: int) -> None:
        """Put all below ``end`` that is not done where it was before the restart."""
        places, seq = self._places, self._places.cursor.floor
        while (seq := places.cursor.next_undone(seq)) < end:
            name = ""
            if places.keys is not None:
                window = self._reading.find(seq)
                if window is None:
                    stored = await self._reading.view.load(seq)
                    self._skip(seq, end if stored is None else stored)
                    seq = end if stored is None else stored
                    continue
                message = window.messages[seq - window.first_seq]
                if message is not None and not self._reading.has_expired(window):
                    name = self._read_key(message)
                self._has_room()
            places.resume(seq, name)
            seq += 1

    # --- the parts of the above --------------------------------------------------------------

    def _has_room(self) -> bool:
        """Whether one more message fits into memory, perhaps in the place of what is forgotten."""
        while self._places.in_memory >= self._max_outstanding:
            if not self._places.make_room():
                return False
        return True

    def _pick_waiting(self, picked: Picked) -> None:
        """Take messages that are to be delivered again, oldest first."""
        waiting = self._places.waiting
        while not picked.full and (seq := waiting.first_ready()) is not None:
            window = self._reading.find(seq)
            if window is None:
                self._load(seq)
                break
            waiting.discard(seq)
            message = window.messages[seq - window.first_seq]
            if seq in window.failures:
                picked.failed(seq, window.failures[seq])
            elif message is None or self._reading.has_expired(window):
                self._places.done([seq])
            else:
                picked.add([seq], [message])

    def _pick_held_back(self, picked: Picked, consumer: Consumer, keys: Keys) -> None:
        """Take messages whose turn has come in their ordering key."""
        while not picked.full and (key := keys.next_for(consumer)) is not None:
            seq = key.held_back[0]
            window = self._reading.find(seq)
            if window is None:
                self._load(seq)
                break
            message = window.messages[seq - window.first_seq]
            if seq in self._places.dying:
                keys.rest(key, FOREVER)  # until it is forwarded
            elif seq in window.failures:
                keys.rest(key, FOREVER)  # until it is counted
                picked.failed(seq, window.failures[seq])
            elif message is None or self._reading.has_expired(window):
                keys.discard([seq])
                self._places.done([seq])
            else:
                keys.deliver(key.name, seq, consumer)
                picked.add([seq], [message])

    def _pick_fresh(self, picked: Picked, consumer: Consumer) -> None:
        """Take messages that were not delivered before, in order."""
        places = self._places
        while self.position < self.end and not picked.full and self.loading is None:
            if not self._has_room():
                return
            if self._left_behind >= _LEFT_BEHIND_AT_ONCE:
                self.loading = asyncio.get_running_loop().create_task(self._pause())
                return
            position = self.position
            window = self._fresh_window(position)
            if window is None:
                continue
            known_below = max(places.known_below, places.cursor.top)
            if places.keys is not None or position < known_below or not window.is_whole:
                self.position = self._pick_one_by_one(picked, window, consumer)
                continue
            end = min(window.end_seq, position + picked.room)
            offset = position - window.first_seq
            messages = window.messages[offset : end - window.first_seq]
            unfit = picked.add(range(position, end), messages)  # type: ignore[arg-type]
            self.position = end if unfit is None else unfit

    def _pick_one_by_one(self, picked: Picked, window: Window, consumer: Consumer) -> int:
        """``_pick_fresh`` where there is more to it. Returns how far it came.

        Messages of a key wait for each other. After a restart or a seek, some of what lies ahead is
        done, leased, or out of attempts; a view leaves messages out, or fails.
        """
        places, keys = self._places, self._places.keys
        messages, failures, first = window.messages, window.failures, window.first_seq
        missing: list[int] = []
        seq = self.position
        end = min(window.end_seq, seq + MAX_DELIVERY_MESSAGES)
        while seq < end and not picked.full:
            message = messages[seq - first]
            if places.cursor.is_done(seq):
                pass
            elif message is None and seq not in failures:
                missing.append(seq)
            elif message is None or seq in failures or places.is_due(seq):
                self._pick_failed(picked, seq, message, failures, consumer)
            elif keys is not None and (key := self._read_key(message)):
                if keys.admits(key, consumer):
                    keys.deliver(key, seq, consumer)
                    picked.add([seq], [message])
                elif keys.cut(key) is None:
                    keys.hold_back(key, seq)
                else:
                    self._left_behind += 1
            else:
                picked.add([seq], [message])
            seq += 1
        places.done(missing)
        return seq

    def _pick_failed(
        self,
        picked: Picked,
        seq: int,
        message: bytes | None,
        failures: Mapping[int, str],
        consumer: Consumer,
    ) -> None:
        """It cannot be delivered, or not any more; what comes after it in its key has to wait."""
        places, keys = self._places, self._places.keys
        is_next = True
        if keys is not None and message is not None and (key := self._read_key(message)):
            if keys.cut(key) is not None:
                self._left_behind += 1
                return
            is_next = keys.admits(key, consumer)
            keys.hold_back(key, seq)
        if seq not in failures:
            places.dying[seq] = None
        elif is_next:
            picked.failed(seq, failures[seq])

    def _fresh_window(self, position: int) -> Window | None:
        """The window that holds ``position``; None if it has to be read, or has expired."""
        window = self._reading.find(position)
        if window is None:
            self._load(position)
        elif self._reading.has_expired(window):
            self.position = window.end_seq
            self._places.done(range(position, window.end_seq))
            return None
        return window

    def _load(self, seq: int) -> None:
        """Read on from ``seq`` in the background; ``dispatch`` waits for it."""
        if self.loading is None and not self._stopped:
            self.loading = asyncio.get_running_loop().create_task(self._read(seq, self.end))

    async def _read(self, seq: int, end: int) -> None:
        try:
            first = await self._reading.load(seq)
        finally:
            self.loading = None
        self._skip(seq, end if first is None else first)
        self._changed()

    async def _pause(self) -> None:
        """Let others have their turn; ``dispatch`` waits for it."""
        try:
            await asyncio.sleep(0)
        finally:
            self.loading = None
        self._left_behind = 0
        self._changed()

    def _skip(self, seq: int, first: int) -> None:
        """Nothing from ``seq`` up to ``first`` is stored any more: retention took it."""
        if first > seq:
            self._places.lose(seq, first)
            if seq <= self.position < first:
                self.position = first
