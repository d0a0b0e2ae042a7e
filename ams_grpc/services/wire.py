"""protobuf on the wire: numbers, and how much there is in a request that is not parsed yet."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from google.protobuf.message import Message

from ams_grpc.broker.errors import InvalidArgument

MAX_PARTS: Final = 110_000
"""Fields of a request, each value of a repeated one and each entry of a map counted. Each costs many
times its bytes, and time that nobody else gets. The largest publish of Pub/Sub has 103,001 (1,000
messages with 100 attributes, data and an ordering key), and JSON that the bridge takes no more."""

_MORE: Final = 0x80  # this bit of a varint's byte says that another byte follows
_FIXED: Final = {1: 8, 5: 4}
_MAX_SHIFT: Final = 63  # protobuf: ten bytes


def check_parts(message_class: type[Message], serialized: bytes) -> None:
    """Raises InvalidArgument for a serialized message with more than ``MAX_PARTS``.

    A part takes two bytes or more, so usual messages are not walked over.
    """
    if len(serialized) <= 2 * MAX_PARTS:
        return
    try:
        parts = _parts(message_class.DESCRIPTOR, serialized, 0, len(serialized), MAX_PARTS)
    except IndexError:
        return  # cut short, as parsing will find
    if parts > MAX_PARTS:
        raise InvalidArgument(f"The request has more than {MAX_PARTS} parts.")


def _parts(kind: Any, serialized: bytes, at: int, end: int, most: int) -> int:
    """How many there are between two places, of a message of that kind; it stops beyond ``most``. Raises IndexError."""
    messages = _messages_in(kind)
    parts = 0
    while at < end and parts <= most:
        parts += 1
        tag, at = serialized[at], at + 1
        if tag & _MORE:
            tag, at = read_varint(serialized, at - 1)
        kind_of_field = tag & 7
        if kind_of_field == 2:
            length, at = serialized[at], at + 1
            if length & _MORE:
                length, at = read_varint(serialized, at - 1)
            if length and tag in messages:
                parts += _parts(messages[tag], serialized, at, at + length, most - parts)
            at += length
        elif kind_of_field == 0:
            _, at = read_varint(serialized, at)
        else:  # the end of a group, with parts in between, or so many bytes
            at += _FIXED.get(kind_of_field, 0)
    return parts


@cache
def _messages_in(kind: Any) -> Mapping[int, Any]:
    """The kind of what is in a field, by its tag, if that is a message. Entries of maps are not taken apart."""
    return {
        field.number << 3 | 2: field.message_type
        for field in kind.fields
        if field.message_type is not None and not field.message_type.GetOptions().map_entry
    }


def varint(number: int) -> bytes:
    """A number of at least 0 as protobuf writes it."""
    parts = bytearray()
    while number >= _MORE:
        parts.append(number & (_MORE - 1) | _MORE)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """A number as protobuf writes it, and where it ends. IndexError: it does not end."""
    first = data[position]
    if first < _MORE:
        return first, position + 1
    second = data[position + 1]
    if second < _MORE:  # most that are longer than a byte end here
        return first - _MORE | second << 7, position + 2
    number, shift, position = first - _MORE | second - _MORE << 7, 14, position + 2
    while True:
        byte = data[position]
        position += 1
        number |= (byte & (_MORE - 1)) << shift
        if not byte & _MORE:
            return number, position
        shift += 7
        if shift > _MAX_SHIFT:  # or megabytes of these would become one number, bit by bit
            raise IndexError
