"""What an endpoint answered, and how a push ended."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint answered. ``body`` is cut off somewhere above 64 KiB."""

    status: int
    body: bytes
    location: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """``kind`` is a word for counters (``ack``, ``status_5xx``, ``timeout`` ...).

    ``reason`` is for people, and shows no part of the message. ``answer`` is what the endpoint said
    to it, for the owner of the subscription alone.
    """

    accepted: bool
    kind: str
    reason: str = ""
    answer: str = field(default="", repr=False)


def outcome_of(status: int, accepted: Container[int]) -> Outcome:
    """How a push ended that was answered with ``status``."""
    if status in accepted:
        return Outcome(True, "ack")
    return Outcome(False, f"status_{status // 100}xx", f"status {status}")
