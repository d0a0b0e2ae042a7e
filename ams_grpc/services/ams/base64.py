"""Data in base64, read as AMS reads it, which says where it is none."""

from __future__ import annotations

import binascii
from typing import Final

_LETTERS: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
_BREAKS: Final = b"\r\n"
_PADDING: Final = ord("=")


class NotBase64Error(Exception):
    """A message's data is no base64. The text goes behind "Message <i> "."""

    def __init__(self, place: int) -> None:
        super().__init__(
            "is not in valid base64 enocding,"  # AMS writes it so
            f"illegal base64 data at input byte {place}"
        )


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
    in_quantum = 0
    for at, byte in enumerate(text):
        if byte in _LETTERS:
            in_quantum = (in_quantum + 1) % 4
        elif byte in _BREAKS:
            continue
        elif byte != _PADDING or in_quantum < 2:
            return at
        else:
            return _wrong_after_padding(text, at + 1, in_quantum)
    return len(text) - in_quantum if in_quantum else None


def _wrong_after_padding(text: bytes, at: int, in_quantum: int) -> int | None:
    """The same, behind the first ``=``."""
    if in_quantum == 2:  # another one is due
        at = _behind_breaks(text, at)
        if at == len(text):
            return at
        if text[at] != _PADDING:
            return at - 1
        at += 1
    at = _behind_breaks(text, at)
    return at if at < len(text) else None


def _behind_breaks(text: bytes, at: int) -> int:
    while at < len(text) and text[at] in _BREAKS:
        at += 1
    return at
