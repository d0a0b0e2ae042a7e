"""A topic's log as one subscription sees it.

Most see all of it. Filters and transforms leave messages out, or change them: that is another view
of the same log. The runtime reads windows, and asks no more than what is in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ams_grpc.broker.log import Batch, Log


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
