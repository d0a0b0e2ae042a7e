"""How a push ended."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """``kind`` is a word for counters (``ack``, ``status_5xx``, ``timeout`` ...).

    ``reason`` is for people, and shows no part of the message.
    """

    accepted: bool
    kind: str
    reason: str = ""
