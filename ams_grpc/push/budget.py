"""What the push requests of all subscriptions may take together.

Endpoints can hold on to requests for minutes. So that those of a few subscriptions do not hold all
there are, a subscription takes at most as much as it leaves free, and an eighth is for those that have
nothing running: of that, each gets one request.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, TypeAlias

Caller: TypeAlias = Callable[[], None]
"""Who pushes: called when there is room again. Callers are told apart by equality."""

_KEPT: Final = 8  # one part in so many is for those that have nothing running


@dataclass(slots=True)
class _Share:
    requests: int = 0
    byte_size: int = 0


class Budget:
    """Requests at once, and bytes of messages in them. Who asked in vain is called when there is room.

    The last message may go beyond the bytes: one above the limit must not block for ever.
    """

    def __init__(self, requests: int, byte_size: int) -> None:
        self._requests = requests
        self._bytes = byte_size
        self._kept_requests = requests // _KEPT
        self._kept_bytes = byte_size // _KEPT
        self._shares: dict[Hashable, _Share] = {}
        self._waiting: OrderedDict[Caller, None] = OrderedDict()

    def ask(self, caller: Caller) -> int:
        """How many more requests may begin; if none, the caller is called back once, in turn."""
        room = self._room(caller)
        if room == 0:
            self._waiting.setdefault(caller)
        return room

    def free_bytes(self, caller: Caller) -> int:
        """How long the messages of those requests may be together; the last may go beyond."""
        share = self._shares.get(caller)
        taken = 0 if share is None else share.byte_size
        return max(1, self._half_of(self._bytes - self._kept_bytes - taken))

    def forget(self, caller: Caller) -> None:
        """Whoever asked does not want to be called any more."""
        self._waiting.pop(caller, None)

    def take(self, caller: Caller, byte_size: int) -> None:
        """A request begins."""
        self._requests -= 1
        self._bytes -= byte_size
        share = self._shares.setdefault(caller, _Share())
        share.requests += 1
        share.byte_size += byte_size

    def give(self, caller: Caller, byte_size: int) -> None:
        """A request has ended."""
        self._requests += 1
        self._bytes += byte_size
        share = self._shares[caller]
        share.requests -= 1
        share.byte_size -= byte_size
        if share.requests == 0:
            del self._shares[caller]
        for waiting in list(self._waiting):
            if self._is_used_up:
                return
            # Not everybody who waits has something left to push, nor has room.
            if waiting in self._waiting and self._room(waiting):
                del self._waiting[waiting]
                waiting()

    def _room(self, caller: Caller) -> int:
        if self._is_used_up:
            return 0
        share = self._shares.get(caller)
        if share is None:
            return max(1, self._half_of(self._requests - self._kept_requests))
        if share.byte_size >= self._bytes - self._kept_bytes:
            return 0
        return max(0, self._half_of(self._requests - self._kept_requests - share.requests))

    @staticmethod
    def _half_of(room: int) -> int:
        """Rounded up: a budget of one request is one."""
        return (room + 1) // 2

    @property
    def _is_used_up(self) -> bool:
        return self._requests <= 0 or self._bytes <= 0
