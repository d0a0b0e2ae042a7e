"""How much memory a protobuf message will take, before it is parsed: see ``shapes``.

A message that cannot become large is not looked at; any other is walked over on the wire, which
parses nothing.
"""

from __future__ import annotations

from ams_grpc.schemas.errors import MAX_DEPTH, MessageError
from ams_grpc.schemas.shapes import MAX_WEIGHT, Shape


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
