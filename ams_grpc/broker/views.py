"""A topic's log as one subscription sees it.

Most see all of it. Filters and transforms leave messages out, or change them: that is another view
of the same log. The runtime reads windows, and asks no more than what is in them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from ams_grpc.broker.filters import AttributesOf, Filter
from ams_grpc.broker.log import Batch, Log

_RECENT_WINDOWS: Final = 4
_RECENT_BYTES: Final = 1 << 20
_SIFTED_AT_ONCE: Final = 20_000
"""So many messages are looked at before the event loop gets its turn."""


class Window(Protocol):
    """A stretch of a topic's log."""

    @property
    def first_seq(self) -> int: ...

    @property
    def end_seq(self) -> int: ...

    @property
    def publish_time_us(self) -> int:
        """All its messages were published then."""
        ...

    @property
    def messages(self) -> Sequence[bytes | None]:
        """Serialized messages from ``first_seq`` on. None: that one is not for this subscription."""
        ...

    @property
    def is_whole(self) -> bool:
        """True if no message is None, and there are no failures: the usual case."""
        ...

    @property
    def failures(self) -> Mapping[int, str]:
        """Why messages cannot be delivered now: by seq, a reason. Their bytes count for nothing."""
        ...


class View(Protocol):
    """How one subscription reads its topic's log."""

    def find(self, seq: int) -> Window | None:
        """The window that holds ``seq``, if it is in memory."""
        ...

    async def load(self, seq: int) -> int | None:
        """Bring the window that holds ``seq`` into memory: right afterwards ``find`` has it.

        Returns the first seq stored at or after ``seq``: a greater one when those between are
        gone, None when nothing is left. Raises StorageUnavailable.
        """
        ...


class PlainView:
    """All messages, as they are stored."""

    def __init__(self, log: Log, topic_id: int) -> None:
        self._log = log
        self._topic_id = topic_id

    def find(self, seq: int) -> Batch | None:
        return self._log.find(self._topic_id, seq)

    async def load(self, seq: int) -> int | None:
        return await self._log.load(self._topic_id, seq)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A window that a view has made: messages that were published together, some left out."""

    first_seq: int
    publish_time_us: int
    messages: Sequence[bytes | None]
    failures: Mapping[int, str] = field(default_factory=dict)

    @property
    def end_seq(self) -> int:
        return self.first_seq + len(self.messages)

    @property
    def is_whole(self) -> bool:
        return False


class Recent:
    """The windows that a view gave out last: a few, of few bytes, and always the very last one."""

    def __init__(self) -> None:
        self._windows: deque[tuple[Window, int]] = deque()
        self._size = 0

    def find(self, seq: int) -> Window | None:
        """The window that holds ``seq``."""
        for window, _ in self._windows:
            if window.first_seq <= seq < window.end_seq:
                return window
        return None

    def add(self, window: Window) -> None:
        size = sum(len(message) for message in window.messages if message is not None)
        self._windows.appendleft((window, size))
        self._size += size
        while len(self._windows) > 1 and (
            len(self._windows) > _RECENT_WINDOWS or self._size > _RECENT_BYTES
        ):
            _, size = self._windows.pop()
            self._size -= size


class FilteredView:
    """The messages whose attributes match a filter, as they are stored.

    Batches of very many messages are taken apart beside the event loop and shown in parts, by ``load``.
    """

    def __init__(
        self, log: Log, topic_id: int, selected: Filter, attributes_of: AttributesOf
    ) -> None:
        self._log = log
        self._topic_id = topic_id
        self._filter = selected
        self._attributes_of = attributes_of
        self._recent = Recent()
        self._allowance = _SIFTED_AT_ONCE

    def find(self, seq: int) -> Window | None:
        window = self._recent.find(seq)
        if window is None and self._allowance > 0:
            batch = self._log.find(self._topic_id, seq)
            if batch is not None and not _is_long(batch):
                self._allowance -= batch.end_seq - batch.first_seq
                window = self._sifted(batch, batch.first_seq, batch.messages)
                self._recent.add(window)
        return window

    async def load(self, seq: int) -> int | None:
        first: int | None = seq
        batch = self._log.find(self._topic_id, seq)
        if batch is None:
            first = await self._log.load(self._topic_id, seq)
            batch = self._log.find(self._topic_id, seq)
        if batch is not None and _is_long(batch):
            messages = await asyncio.to_thread(_messages_of, batch)
            at = seq - batch.first_seq
            self._recent.add(self._sifted(batch, seq, messages[at : at + _SIFTED_AT_ONCE]))
        self._allowance = _SIFTED_AT_ONCE
        return first

    def _sifted(self, batch: Batch, first_seq: int, messages: Sequence[bytes]) -> Window:
        """A batch, or a part of a long one."""
        selected = self._filter.select(messages, self._attributes_of)
        if None not in selected and messages is batch.messages:
            return batch
        return Stretch(first_seq, batch.publish_time_us, selected)


def _is_long(batch: Batch) -> bool:
    """True if it takes too long to take it apart and look at it in one step."""
    return batch.end_seq - batch.first_seq > _SIFTED_AT_ONCE


def _messages_of(batch: Batch) -> list[bytes]:
    return batch.messages
