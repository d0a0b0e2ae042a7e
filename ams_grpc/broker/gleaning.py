"""Goes back in the log for the messages that were left behind when long lines of keys were cut.

A key is read again when nothing of it is held back any more. From where its line was cut, the log
is read once more, for it and for all others that need it and come along the way, each up to a
portion. So a key that stays blocked costs nothing, and many that are free share what is read. A turn
has an end; then it is the next key's turn.

The portions together take half of the memory that is free, so what is gleaned is not cut again at
once, and a long backlog of one key is read in long pieces.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ams_grpc.broker.ordering import Keys
from ams_grpc.broker.places import Places
from ams_grpc.broker.reading import Reading
from ams_grpc.broker.views import Window

_SLICE: Final = 2_000
"""So many messages are looked at before the event loop gets its turn."""
_TURN: Final = 100_000
"""So many messages are looked at before the next key gets its turn."""


class Gleaner:
    """Works while keys of ``places`` are to be read again.

    ``room`` says how many more messages memory has a place for, ``read_to`` before which seq all was
    read before; ``changed`` is called when messages are held back that may go out.
    """

    def __init__(
        self,
        places: Places,
        reading: Reading,
        read_key: Callable[[bytes], str],
        *,
        room: Callable[[], int],
        read_to: Callable[[], int],
        changed: Callable[[], None],
    ) -> None:
        self._places = places
        self._reading = reading
        self._read_key = read_key
        self._room = room
        self._read_to = read_to
        self._changed = changed
        self._work: asyncio.Task[None] | None = None

    @property
    def work(self) -> asyncio.Task[None] | None:
        """What is being done; it may take as long as the log is."""
        return self._work

    def wake(self) -> None:
        """Some keys may need it."""
        keys = self._places.keys
        if keys is not None and keys.hungry and self._work is None:
            self._work = asyncio.get_running_loop().create_task(self._glean(keys))

    def stop(self) -> None:
        """What it was about does not hold any more."""
        if self._work is not None:
            self._work.cancel()
            self._work = None

    async def _glean(self, keys: Keys) -> None:
        try:
            while keys.hungry:
                await self._take_a_turn(keys)
                self._changed()
        finally:
            if self._work is asyncio.current_task():
                self._work = None

    async def _take_a_turn(self, keys: Keys) -> None:
        """Read on from where the line of the first hungry key was cut."""
        seq = next(iter(keys.hungry)).cut_at
        keys.followed = {key.name: key for key in keys.hungry if key.cut_at >= seq}
        portion = max(1, self._room() // (2 * len(keys.followed)))
        looked_at = rested_at = 0
        while keys.followed and looked_at < _TURN:
            seq = self._places.cursor.next_undone(seq)
            end = self._read_to()
            if seq >= end:
                break
            window = self._reading.find(seq)
            if window is None:
                seq = await self._load(seq, end)
            else:
                end = min(window.end_seq, end, seq + _SLICE)
                if self._hold_back(keys, window, range(seq, end), portion):
                    self._changed()
                looked_at += end - seq
                seq = end
                if looked_at - rested_at >= _SLICE:
                    rested_at = looked_at
                    await asyncio.sleep(0)
        for key in keys.followed.values():
            keys.advance(key, seq, is_all=seq >= self._read_to())
        keys.followed = {}

    async def _load(self, seq: int, end: int) -> int:
        """Returns from where on there is something, if only a consumer has what was before it."""
        first = await self._reading.load(seq)
        first = end if first is None else first
        if first > seq:
            self._places.lose(seq, first)
        return max(seq, first)

    def _hold_back(self, keys: Keys, window: Window, seqs: range, portion: int) -> bool:
        """Take what was left behind of the keys that are followed, until they have enough.

        False if there was nothing.
        """
        places, before = self._places, self._places.held_back
        is_over = self._reading.has_expired(window)
        done: list[int] = []
        messages = window.messages[seqs.start - window.first_seq : seqs.stop - window.first_seq]
        for seq, message in zip(seqs, messages, strict=True):
            if places.cursor.is_done(seq):
                continue
            if message is None:
                if seq not in places:  # the view has changed since it was left behind
                    done.append(seq)
                continue
            key = keys.followed.get(self._read_key(message))
            if key is None or seq < key.cut_at:
                continue
            if len(key.held_back) >= portion:
                key.cut_at = seq
                del keys.followed[key.name]
                continue
            key.cut_at = seq + 1
            if is_over:
                done.append(seq)
                continue
            keys.hold_back(key.name, seq)
            if places.is_due(seq):
                places.dying[seq] = None
        places.done(done)
        return places.held_back > before
