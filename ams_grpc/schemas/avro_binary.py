"""Avro's binary encoding: a function per type that finds where a value ends, or that it is none.

Values of empty types take no bytes and are passed over, so that the work for a message is bounded
by its size, whatever counts it names; records, arrays and maps count their depth. Source of the
rules: the Avro specification, "Binary Encoding".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from ams_grpc.schemas.avro_types import (
    INT_MAX,
    Array,
    AvroType,
    Enum,
    Fixed,
    Map,
    Primitive,
    Record,
    Union,
    is_empty,
)
from ams_grpc.schemas.errors import MAX_DEPTH, MessageError

# The position behind a value that begins at a position. IndexError: the data ends before it does.
Binary: TypeAlias = Callable[[bytes, int, int], int]

TOO_SHORT: Final = "the data ends too early"
_TOO_DEEP: Final = f"values are nested deeper than {MAX_DEPTH}"


class BinaryCompiler:
    def __init__(self) -> None:
        self._records: dict[Record, Binary] = {}

    def compile(self, avro_type: AvroType) -> Binary:
        if is_empty(avro_type):
            return _nothing
        match avro_type:
            case Primitive(name):
                return _BINARY_PRIMITIVES[name]
            case Fixed(size=size):
                return _skip(size)
            case Enum(symbols=symbols):
                return _enum(len(symbols))
            case Array(items):
                return _blocks(self.compile(items), has_keys=False)
            case Map(values):
                return _blocks(self.compile(values), has_keys=True)
            case Union(branches):
                return _union([self.compile(branch) for branch in branches])
            case Record():
                return self._record(avro_type)

    def _record(self, record: Record) -> Binary:
        if record in self._records:
            return self._records[record]

        def later(data: bytes, at: int, depth: int) -> int:
            return check(data, at, depth)

        self._records[record] = later  # for those who meet it within itself
        fields = [
            (each.name, self.compile(each.type))
            for each in record.fields
            if not is_empty(each.type)
        ]

        def check(data: bytes, at: int, depth: int) -> int:
            if depth > MAX_DEPTH:
                raise MessageError(_TOO_DEEP)
            name = ""
            try:
                for name, field in fields:  # noqa: B007  # it is for the errors
                    at = field(data, at, depth + 1)
            except MessageError as error:
                error.within(name)
                raise
            except IndexError:
                too_short = MessageError(TOO_SHORT)
                too_short.within(name)
                raise too_short from None
            return at

        self._records[record] = check
        return check


def _nothing(_data: bytes, at: int, _depth: int) -> int:
    return at


def _boolean(data: bytes, at: int, _depth: int) -> int:
    if data[at] > 1:
        raise MessageError("neither true nor false")
    return at + 1


def _long(data: bytes, at: int, _depth: int) -> int:
    return at + 1 if data[at] < 0x80 else _read_long(data, at)[1]


def _int(data: bytes, at: int, _depth: int) -> int:
    if data[at] < 0x80:
        return at + 1
    value, at = _read_long(data, at)
    if not -INT_MAX - 1 <= value <= INT_MAX:
        raise MessageError("out of the range of int")
    return at


def _read_long(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise MessageError("a number has more than 10 bytes")
    if number >> 64:
        raise MessageError("out of the range of long")
    return (number >> 1) ^ -(number & 1), at


def _skip(size: int) -> Binary:
    def check(data: bytes, at: int, _depth: int) -> int:
        at += size
        if at > len(data):
            raise MessageError(TOO_SHORT)
        return at

    return check


def _read_extent(data: bytes, at: int) -> tuple[int, int]:
    """Where bytes begin and end that have their length in front."""
    size, start = _read_long(data, at)
    end = start + size
    if size < 0:
        raise MessageError("a length is negative")
    if end > len(data):
        raise MessageError(TOO_SHORT)
    return start, end


def _bytes(data: bytes, at: int, _depth: int) -> int:
    return _read_extent(data, at)[1]


def _string(data: bytes, at: int, _depth: int) -> int:
    start, end = _read_extent(data, at)
    try:
        data[start:end].decode()
    except UnicodeDecodeError:
        raise MessageError("a string is not UTF-8") from None
    return end


_BINARY_PRIMITIVES: Final[dict[str, Binary]] = {
    "boolean": _boolean,
    "int": _int,
    "long": _long,
    "float": _skip(4),
    "double": _skip(8),
    "bytes": _bytes,
    "string": _string,
}


def _enum(count: int) -> Binary:
    def check(data: bytes, at: int, _depth: int) -> int:
        index, at = _read_long(data, at)
        if not 0 <= index < count:
            raise MessageError("an enum has no symbol of that number")
        return at

    return check


def _union(branches: list[Binary]) -> Binary:
    count = len(branches)

    def check(data: bytes, at: int, depth: int) -> int:
        index, at = _read_long(data, at)
        if not 0 <= index < count:
            raise MessageError("a union has no branch of that number")
        return branches[index](data, at, depth)

    return check


def _blocks(item: Binary, *, has_keys: bool) -> Binary:
    """An array or a map: blocks of items, each with its count, the last with the count 0."""
    is_nothing = item is _nothing and not has_keys

    def check(data: bytes, at: int, depth: int) -> int:
        if depth > MAX_DEPTH:
            raise MessageError(_TOO_DEEP)
        while True:
            count, at = _read_long(data, at)
            if count == 0:
                return at
            if count < 0:  # then the size of the block in bytes comes next
                count = -count
                at = _long(data, at, depth)
            if is_nothing:
                continue
            for _ in range(count):
                if has_keys:
                    at = _string(data, at, depth)
                at = item(data, at, depth + 1)

    return check
