"""A service whose methods live in several rooms."""

from __future__ import annotations

from typing import Any


class Parts:
    """One servicer, made of several: a method is that of the first part which has it."""

    def __init__(self, *parts: object) -> None:
        self._parts = parts

    def __getattr__(self, name: str) -> Any:
        for part in self._parts:
            if not name.startswith("_") and hasattr(part, name):
                return getattr(part, name)
        raise AttributeError(name)
