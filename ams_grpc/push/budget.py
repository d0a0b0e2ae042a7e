"""What the push requests of all subscriptions may take together."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable


class Budget:
    """Requests at once, and bytes of messages in them. Who asked in vain is called when there is room.

    The last message may go beyond the bytes: one above the limit must not block for ever.
    """

    def __init__(self, requests: int, byte_size: int) -> None:
        self._requests = requests
        self._bytes = byte_size
        self._waiting: OrderedDict[Callable[[], None], None] = OrderedDict()

    def ask(self, when_there_is_room: Callable[[], None]) -> int:
        """How many more requests may begin; if none, the caller is called back once, in turn."""
        if self._is_used_up:
            self._waiting.setdefault(when_there_is_room)
            return 0
        return self._requests

    def forget(self, when_there_is_room: Callable[[], None]) -> None:
        """Whoever asked does not want to be called any more."""
        self._waiting.pop(when_there_is_room, None)

    def take(self, byte_size: int) -> None:
        """A request begins."""
        self._requests -= 1
        self._bytes -= byte_size

    def give(self, byte_size: int) -> None:
        """A request has ended."""
        self._requests += 1
        self._bytes += byte_size
        # Not everybody who waits has something left to push.
        for _ in range(len(self._waiting)):
            if self._is_used_up or not self._waiting:
                return
            self._waiting.popitem(last=False)[0]()

    @property
    def _is_used_up(self) -> bool:
        return self._requests <= 0 or self._bytes <= 0
