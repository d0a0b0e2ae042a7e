"""What a subscription is done with: a floor, and bitmaps above it.

Every seq below ``floor`` is done. Above it, one bit a seq, in chunks of 8192 (1 KiB). A chunk
exists once one of its seqs is done, and goes when the floor passes it. The floor goes back only
in ``rewind`` and ``replace``, which are seeks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import eq
from typing import Final

from ams_grpc.broker.ports import CursorChanges, CursorState

CHUNK_SEQS: Final = 8192
_CHUNK_BYTES: Final = CHUNK_SEQS // 8
_SHIFT: Final = 13
_MASK: Final = CHUNK_SEQS - 1


class Cursor:
    """One subscription's cursor, in memory; it knows what of itself is not written yet."""

    def __init__(self, subscription_id: int, state: CursorState) -> None:
        self.subscription_id = subscription_id
        self.floor = state.floor
        self.epoch = state.epoch
        self.acked_above_floor = 0
        self.top = state.floor
        """No seq from here on is done."""
        self._chunks = {no: bytearray(bits) for no, bits in state.chunks.items()}
        self._dirty: set[int] = set()
        self._replace = False
        self._changed = False
        self._recount()

    @property
    def changed(self) -> bool:
        """True if there is something to write."""
        return self._changed

    def is_done(self, seq: int) -> bool:
        if seq < self.floor:
            return True
        chunk = self._chunks.get(seq >> _SHIFT)
        if chunk is None:
            return False
        bit = seq & _MASK
        return bool(chunk[bit >> 3] & (1 << (bit & 7)))

    def next_undone(self, seq: int) -> int:
        """The first seq from there on that is not done."""
        seq = max(seq, self.floor)
        while (chunk := self._chunks.get(seq >> _SHIFT)) is not None:
            bits = int.from_bytes(chunk, "little") >> (seq & _MASK)
            run = (~bits & (bits + 1)).bit_length() - 1
            seq += run
            if run == 0 or seq & _MASK:
                break
        return seq

    def mark_done(self, seqs: Sequence[int]) -> None:
        """``seqs`` (in any order, repeats allowed) are done."""
        if not seqs:
            return
        self._changed = True
        if not isinstance(seqs, range):
            seqs = sorted(seqs)
        first, last = seqs[0], seqs[-1]
        if last - first + 1 == len(seqs) and (
            isinstance(seqs, range) or all(map(eq, seqs, range(first, last + 1)))
        ):
            self._mark_run(first, last + 1)
            return
        for seq in seqs:
            if seq < self.floor:
                continue
            chunk = self._chunk(seq >> _SHIFT)
            bit = seq & _MASK
            mask = 1 << (bit & 7)
            if not chunk[bit >> 3] & mask:
                chunk[bit >> 3] |= mask
                self.acked_above_floor += 1
                self._dirty.add(seq >> _SHIFT)
        self.top = max(self.top, last + 1)
        self._advance(self.floor)

    def raise_floor(self, seq: int) -> None:
        """All below ``seq`` is done."""
        if seq > self.floor:
            self._changed = True
            self._advance(seq)

    def rewind(self, start: int, replay_from: int) -> None:
        """Seek: all below ``start`` is done, all from ``replay_from`` on is not.

        What lies between them stays as it is.
        """
        replay_from = max(start, replay_from)
        for no in [no for no in self._chunks if (no + 1) * CHUNK_SEQS > replay_from]:
            chunk = self._chunks[no]
            keep = replay_from - no * CHUNK_SEQS
            if keep <= 0:
                del self._chunks[no]
            else:
                bits = int.from_bytes(chunk, "little") & ((1 << keep) - 1)
                self._chunks[no] = bytearray(bits.to_bytes(_CHUNK_BYTES, "little"))
        self.floor = min(self.floor, replay_from)
        self._new_epoch()
        self.raise_floor(start)

    def replace(self, floor: int, chunks: Mapping[int, bytes]) -> None:
        """Seek: take over a snapshot's state."""
        self.floor = floor
        self._chunks = {no: bytearray(bits) for no, bits in chunks.items()}
        self._new_epoch()
        self._advance(floor)

    def state(self) -> CursorState:
        """A copy of all of it."""
        return CursorState(
            self.floor, self.epoch, {no: bytes(bits) for no, bits in self._chunks.items()}
        )

    def take_changes(self) -> CursorChanges:
        """What is not written yet; from now on it counts as written."""
        written = self._chunks if self._replace else self._dirty & self._chunks.keys()
        changes = CursorChanges(
            self.subscription_id,
            self.floor,
            self.epoch,
            self.acked_above_floor,
            self._replace,
            {no: bytes(self._chunks[no]) for no in written},
        )
        self._dirty.clear()
        self._replace = self._changed = False
        return changes

    def put_back(self, changes: CursorChanges) -> None:
        """These changes were not written after all."""
        self._dirty |= changes.chunks.keys()
        self._replace |= changes.replace
        self._changed = True

    def _new_epoch(self) -> None:
        """Ack ids given out so far are stale from now on."""
        self.epoch += 1
        self._dirty.clear()
        self._replace = self._changed = True
        self._recount()

    def _recount(self) -> None:
        self.acked_above_floor = 0
        self.top = self.floor
        for no, chunk in self._chunks.items():
            bits = int.from_bytes(chunk, "little")
            start = no * CHUNK_SEQS
            if bits:
                self.top = max(self.top, start + bits.bit_length())
            self.acked_above_floor += (bits >> max(0, self.floor - start)).bit_count()

    def _advance(self, floor: int) -> None:
        """Raise the floor to ``floor``, and on over what is done there."""
        chunks = self._chunks
        if not chunks:
            self.floor = floor
            self.top = max(self.top, floor)
            return
        if floor >> _SHIFT > self.floor >> _SHIFT:
            for no in [no for no in chunks if (no + 1) * CHUNK_SEQS <= floor]:
                self._forget(no, self.floor)
        if self.floor < floor:
            passed = chunks.get(floor >> _SHIFT)
            if passed is not None:
                low = max(0, self.floor - (floor & ~_MASK))
                bits = int.from_bytes(passed, "little") >> low
                self.acked_above_floor -= (bits & ((1 << ((floor & _MASK) - low)) - 1)).bit_count()
            self.floor = floor
        while (chunk := chunks.get(self.floor >> _SHIFT)) is not None:
            bits = int.from_bytes(chunk, "little") >> (self.floor & _MASK)
            run = (~bits & (bits + 1)).bit_length() - 1
            if run == 0:
                break
            self.acked_above_floor -= run
            no = self.floor >> _SHIFT
            self.floor += run
            if self.floor & _MASK:
                break
            del chunks[no]
        self.top = max(self.top, self.floor)

    def _mark_run(self, start: int, end: int) -> None:
        """All of ``start`` to ``end`` (exclusive) is done."""
        if start <= self.floor:
            self._advance(max(self.floor, end))
            return
        for no in range(start >> _SHIFT, (end + _MASK) >> _SHIFT):
            chunk = self._chunk(no)
            low = max(start - no * CHUNK_SEQS, 0)
            high = min(end - no * CHUNK_SEQS, CHUNK_SEQS)
            before = int.from_bytes(chunk, "little")
            after = before | ((1 << high) - (1 << low))
            chunk[:] = after.to_bytes(_CHUNK_BYTES, "little")
            self.acked_above_floor += (before ^ after).bit_count()
            self._dirty.add(no)
        self.top = max(self.top, end)

    def _chunk(self, no: int) -> bytearray:
        chunk = self._chunks.get(no)
        if chunk is None:
            chunk = self._chunks[no] = bytearray(_CHUNK_BYTES)
        return chunk

    def _forget(self, no: int, floor: int) -> None:
        """Drop a chunk that the floor passes; its bits at or above ``floor`` no longer count."""
        bits = int.from_bytes(self._chunks.pop(no), "little")
        self.acked_above_floor -= (bits >> max(0, floor - no * CHUNK_SEQS)).bit_count()
