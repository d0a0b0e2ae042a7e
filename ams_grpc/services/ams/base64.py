"""Data in base64, read as AMS reads it, which says where it is none."""

from __future__ import annotations

import binascii
import re
from typing import Final

_GOOD: Final = re.compile(rb"[A-Za-z0-9+/\r\n]+")
_BREAKS: Final = re.compile(rb"[\r\n]+")
_PADDING: Final = ord("=")


class NotBase64Error(Exception):
    """A message's data is no base64. The text goes behind "Message <i> "."""

    def __init__(self, place: int) -> None:
        super().__init__(
            "is not in valid base64 enocding,"  # AMS writes it so
            f"illegal base64 data at input byte {place}"
        )


def least_size(text: bytes) -> int:
    """How many bytes a text encodes at least, if it is base64."""
    return _without_breaks(text, len(text)) // 4 * 3 - 2


def read_base64(text: bytes) -> bytes:
    """Raises NotBase64Error."""
    wrong = _first_wrong_byte(text)
    if wrong is not None:
        raise NotBase64Error(wrong)
    return binascii.a2b_base64(text)


def _first_wrong_byte(text: bytes) -> int | None:
    """Where Go's decoder stops, in the standard alphabet with padding; None: it does not.

    Line breaks count for nothing, but for the position.
    """
    at = _behind(_GOOD, text, 0)
    in_quantum = _without_breaks(text, at) % 4
    if at == len(text):
        return at - in_quantum if in_quantum else None
    if text[at] != _PADDING or in_quantum < 2:
        return at
    return _wrong_after_padding(text, at + 1, in_quantum)


def _wrong_after_padding(text: bytes, at: int, in_quantum: int) -> int | None:
    """The same, behind the first ``=``."""
    if in_quantum == 2:  # another one is due
        at = _behind(_BREAKS, text, at)
        if at == len(text):
            return at
        if text[at] != _PADDING:
            return at - 1
        at += 1
    at = _behind(_BREAKS, text, at)
    return at if at < len(text) else None


def _behind(pattern: re.Pattern[bytes], text: bytes, at: int) -> int:
    """Where what is found at a place ends; the place itself if nothing is."""
    found = pattern.match(text, at)
    return at if found is None else found.end()


def _without_breaks(text: bytes, end: int) -> int:
    """How many bytes there are before ``end`` that count."""
    return end - text.count(b"\r", 0, end) - text.count(b"\n", 0, end)
