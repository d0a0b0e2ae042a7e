"""What was decided a moment ago, so that it need not be decided for each call."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

MAX_REMEMBERED: Final = 10_000

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Memory(Generic[Key, Value]):
    """Keeps values for ``seconds``, by the clock ``now``, and up to MAX_REMEMBERED of them."""

    def __init__(self, now: Callable[[], float], seconds: float) -> None:
        self._now = now
        self._seconds = seconds
        self._kept: OrderedDict[Key, tuple[Value, float]] = OrderedDict()
        self.generation = 0
        """How often things have changed: to be read before something is found out."""

    def get(self, key: Key) -> Value | None:
        """What is remembered; None if nothing is."""
        found = self._kept.get(key)
        return found[0] if found is not None and found[1] > self._now() else None

    def keep(self, key: Key, value: Value, generation: int) -> None:
        """Remember what was found out, unless things have changed since ``generation``."""
        self._kept.pop(key, None)
        if generation == self.generation:
            now = self._now()
            self._kept[key] = value, now + self._seconds
            while len(self._kept) > MAX_REMEMBERED or self._oldest_until() <= now:
                self._kept.popitem(last=False)

    def _oldest_until(self) -> float:
        return next(iter(self._kept.values()))[1]

    def forget(self) -> None:
        """Things have changed: what is remembered may be wrong."""
        self.generation += 1
        self._kept.clear()
