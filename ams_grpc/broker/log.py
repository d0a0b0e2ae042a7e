"""Topics' logs as the subscriptions read them: one cache of decoded batches for all.

Ten subscriptions of one topic take each batch apart once. The cache is bounded in bytes and
forgets what was used least recently; what it lacks is read from storage.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from ams_grpc.broker.ports import Decoder, LogReader, StoredBatch

_MESSAGE_OVERHEAD: Final = 96
"""Bytes that a message costs in memory beside its own: object, list slot, id, publish time."""


class Batch:
    """A stored batch, taken apart when first asked for its messages."""

    __slots__ = (
        "_decode",
        "_messages",
        "_stored",
        "cost",
        "end_seq",
        "first_seq",
        "publish_time_us",
    )

    is_whole: Final = True
    failures: Final[Mapping[int, str]] = {}
    """All can be delivered: see ``views.Window``."""

    def __init__(self, stored: StoredBatch, decode: Decoder) -> None:
        self.first_seq = stored.first_seq
        self.end_seq = stored.first_seq + stored.count
        self.publish_time_us = stored.publish_time_us
        self.cost = len(stored.payload) + stored.count * _MESSAGE_OVERHEAD
        """Bytes of memory, about."""
        self._decode = decode
        self._stored: StoredBatch | None = stored
        self._messages: list[bytes] = []

    @property
    def messages(self) -> list[bytes]:
        """The serialized messages, in order; the first has seq ``first_seq``."""
        stored = self._stored
        if stored is not None:
            self._messages = self._decode(
                stored.payload, stored.first_seq, stored.count, stored.publish_time_us
            )
            self._stored = None
        return self._messages


class Log:
    """Reads topics' logs through a cache of at most ``cache_bytes``."""

    def __init__(
        self, reader: LogReader, decode: Decoder, *, cache_bytes: int, read_bytes: int
    ) -> None:
        self._reader = reader
        self._decode = decode
        self._capacity = cache_bytes
        self._read_bytes = min(read_bytes, max(cache_bytes // 4, 1))
        self._batches: OrderedDict[tuple[int, int], Batch] = OrderedDict()
        self._first_seqs: dict[int, list[int]] = {}  # topic id -> first seqs in the cache, sorted
        self.cached_bytes = 0

    def find(self, topic_id: int, seq: int) -> Batch | None:
        """The batch that holds ``seq``, if it is in the cache."""
        first_seqs = self._first_seqs.get(topic_id)
        if not first_seqs:
            return None
        at = bisect_right(first_seqs, seq) - 1
        if at < 0:
            return None
        key = (topic_id, first_seqs[at])
        batch = self._batches[key]
        if seq >= batch.end_seq:
            return None
        self._batches.move_to_end(key)
        return batch

    def add(self, stored: StoredBatch) -> None:
        """Keep a batch, since it is about to be read."""
        key = (stored.topic_id, stored.first_seq)
        if key in self._batches:
            return
        batch = Batch(stored, self._decode)
        self._batches[key] = batch
        insort(self._first_seqs.setdefault(stored.topic_id, []), stored.first_seq)
        self.cached_bytes += batch.cost
        while self.cached_bytes > self._capacity and len(self._batches) > 1:
            self._evict()

    async def load(self, topic_id: int, seq: int) -> int | None:
        """Read on from ``seq`` into the cache.

        Returns the first seq stored at or after ``seq``: a greater one when those between are
        gone, None when nothing is left. Raises StorageUnavailable, UnreadableMessages.
        """
        batches = await self._reader.read(topic_id, seq, self._read_bytes)
        for batch in reversed(batches):  # so that the first is the last to be forgotten
            self.add(batch)
        return max(seq, batches[0].first_seq) if batches else None

    def forget(self, topic_id: int) -> None:
        """A topic is of no interest any more."""
        for first_seq in self._first_seqs.pop(topic_id, ()):
            self.cached_bytes -= self._batches.pop((topic_id, first_seq)).cost

    def _evict(self) -> None:
        (topic_id, first_seq), batch = self._batches.popitem(last=False)
        first_seqs = self._first_seqs[topic_id]
        del first_seqs[bisect_right(first_seqs, first_seq) - 1]
        if not first_seqs:
            del self._first_seqs[topic_id]
        self.cached_bytes -= batch.cost
