"""How much memory a protobuf message will take, before it is parsed.

Two bytes can begin a message, and in memory it has a place for each of its fields: ten megabytes of
the wrong bytes would become gigabytes. A message that cannot become large is not looked at; any
other is walked over on the wire, which parses nothing.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.descriptor import Descriptor

from ams_grpc.schemas.errors import MAX_DEPTH, MessageError

MAX_WEIGHT: Final = 64 * 1024 * 1024
"""Bytes of memory that a message may take beside its data."""

_MESSAGE_BYTES: Final = 48
_FIELD_BYTES: Final = 16


class Shape:
    """Of a message type: what one takes in memory, and which of its fields are messages."""

    __slots__ = ("fields", "heaviest", "weight")

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.heaviest = 0
        """The largest weight among the messages inside it, at any depth."""
        self.fields: dict[int, Shape] = {}


class Shapes:
    def __init__(self) -> None:
        self._known: dict[str, Shape] = {}

    def of(self, root: Descriptor) -> Shape:
        """The shape of a message type and of all that are in it."""
        shape = self._shape(root)
        waiting = [root]
        seen = {root.full_name}
        while waiting:
            message = waiting.pop()
            for field in [*message.fields, *message.file.pool.FindAllExtensions(message)]:
                inner = field.message_type
                if inner is None:
                    continue
                self._shape(message).fields[field.number] = self._shape(inner)
                shape.heaviest = max(shape.heaviest, self._shape(inner).weight)
                if inner.full_name not in seen:
                    seen.add(inner.full_name)
                    waiting.append(inner)
        return shape

    def _shape(self, message: Descriptor) -> Shape:
        if message.full_name not in self._known:
            weight = _MESSAGE_BYTES + _FIELD_BYTES * len(message.fields)
            self._known[message.full_name] = Shape(weight)
        return self._known[message.full_name]


def check_weight(data: bytes, shape: Shape) -> None:
    """Raises MessageError if ``data``, as a message of ``shape``, takes more than ``MAX_WEIGHT``."""
    if len(data) // 2 * shape.heaviest <= MAX_WEIGHT:
        return
    try:
        weight = _weigh(data, shape)
    except IndexError:
        raise MessageError("the data ends too early") from None
    if weight > MAX_WEIGHT:
        raise MessageError("it has too many messages inside it")


def _weigh(data: bytes, shape: Shape) -> int:
    """The weight of the messages in ``data``; it stops beyond ``MAX_WEIGHT``."""
    weight = at = 0
    end = len(data)
    outer: list[tuple[int, Shape]] = []  # the messages around this one: where they end
    while weight <= MAX_WEIGHT:
        while at >= end:
            if not outer:
                return weight
            end, shape = outer.pop()
        tag, at = _read_varint(data, at)
        match tag & 7:
            case 0:
                _, at = _read_varint(data, at)
            case 1:
                at += 8
            case 2:
                size, at = _read_varint(data, at)
                inner = shape.fields.get(tag >> 3)
                if inner is None:
                    at += size
                elif len(outer) > MAX_DEPTH:
                    raise MessageError(f"messages are nested deeper than {MAX_DEPTH}")
                else:
                    weight += inner.weight
                    outer.append((end, shape))
                    end, shape = min(at + size, end), inner
            case 3:  # a group: its fields come until its end
                inner = shape.fields.get(tag >> 3, shape)
                weight += inner.weight
                outer.append((end, shape))
                shape = inner
            case 4:
                if not outer:
                    raise IndexError
                end, shape = outer.pop()
            case _:
                at += 4
    return weight


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
        if shift > 63:
            raise MessageError("a number has more than 10 bytes")
