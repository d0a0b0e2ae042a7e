"""What one request may cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SMALL_BODY_BYTES: Final = 12 * 1024
"""A larger body is taken in only when it is known that its sender may send it. What is made of less, and of
a path of 8 KiB, is no large request for the guard: it has less than 64 KiB, though numbers may grow
to 3.8 times their size when they are read, and texts that are no UTF-8 to three times."""

LARGE_BODY_BYTES: Final = 64 * 1024
"""A larger body is read in a thread: others have their turn meanwhile."""

MOST_SEPARATORS: Final = 100_000
"""Commas, colons and opening brackets in JSON. No value comes without one, and each costs many times
its bytes in memory, and time that nobody else gets."""

_PIECE_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Of every request to a REST API."""

    max_bytes: int = 20 * 1024 * 1024
    """Of its body. The default has room for a publish of 10 MB in base64, and JSON around it."""

    timeout_s: float = 60.0
    """For its body to arrive, and again for the call."""


def has_too_many_parts(body: bytes) -> bool:
    """Whether JSON has more than MOST_SEPARATORS. A small body costs nothing, a usual one little."""
    if len(body) <= MOST_SEPARATORS or _separators(body) <= MOST_SEPARATORS:
        return False
    return _has_too_many_outside_of_strings(body)


def _has_too_many_outside_of_strings(body: bytes) -> bool:
    """By pieces, since other threads wait while one is looked at."""
    found, at, inside = 0, 0, False
    while at < len(body) and found <= MOST_SEPARATORS:
        end = at + _PIECE_BYTES
        piece = body[at:end]
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2:  # what is escaped belongs to its backslash
            end += 1
            piece = body[at:end]
        piece = piece.replace(rb"\\", b"").replace(rb"\"", b"")
        parts = piece.split(b'"')
        found += _separators(b"".join(parts[inside::2]))
        inside ^= len(parts) % 2 == 0
        at = end
    return found > MOST_SEPARATORS


def _separators(text: bytes) -> int:
    return text.count(b",") + text.count(b":") + text.count(b"[")
