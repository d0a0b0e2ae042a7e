"""Data in base64, read as AMS reads it, which says where it is none."""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from typing import Final

from ams_grpc.broker.errors import InvalidArgument

_LETTERS: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
_BREAKS: Final = b"\r\n"
_PADDING: Final = ord("=")


def read_base64(texts: Sequence[str]) -> tuple[list[bytes], InvalidArgument | None]:
    """The data of messages, up to the first that is no base64, and the refusal of that one.

    AMS names the first message that is wrong in any way. So whoever publishes to a topic with a
    schema has those before it checked, and then raises the refusal.
    """
    found: list[bytes] = []
    for place, text in enumerate(texts):
        try:
            found.append(binascii.a2b_base64(text, strict_mode=True))
            continue
        except ValueError:  # or no ASCII
            encoded = text.encode(errors="replace")
        wrong = first_wrong_byte(encoded)
        if wrong is not None:
            return found, InvalidArgument(
                f"Message {place} is not in valid base64 enocding,"
                f"illegal base64 data at input byte {wrong}",
                field=f"messages[{place}].data",
            )
        found.append(binascii.a2b_base64(encoded))
    return found, None


def first_wrong_byte(text: bytes) -> int | None:
    """Where Go's decoder stops, in the standard alphabet with padding; None: it does not.

    Line breaks count for nothing, but for the position.
    """
    at = in_quantum = 0
    while at < len(text):
        byte = text[at]
        at += 1
        if byte in _LETTERS:
            in_quantum = (in_quantum + 1) % 4
        elif byte in _BREAKS:
            continue
        elif byte != _PADDING or in_quantum < 2:
            return at - 1
        else:
            return _wrong_after_padding(text, at, in_quantum)
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
