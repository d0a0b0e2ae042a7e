"""Avro's binary encoding: a function per type that finds where a value ends, or that it is none.

Values of empty types take no bytes and are passed over, so that the work for a message is bounded
by its size, whatever counts it names. They are counted, since whoever reads the message makes each
of them; records, arrays and maps count their depth. Source of the rules: the Avro specification,
"Binary Encoding".
"""

from __future__ import annotations

import threading
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
    empty_values,
)
from ams_grpc.schemas.errors import MAX_DEPTH, MessageError

# The position behind a value that begins at a position. IndexError: the data ends before it does.
Binary: TypeAlias = Callable[[bytes, int, int], int]

MAX_EMPTY_VALUES: Final = 1_000_000
"""Values that take no bytes, in one message, beside one for each byte of its data."""

TOO_SHORT: Final = "the data ends too early"
_TOO_DEEP: Final = f"values are nested deeper than {MAX_DEPTH}"


class EmptyValues(threading.local):
    """How many values that take no bytes the message may have that a thread is at."""

    def __init__(self) -> None:
        self._left = 0

    def allow_for(self, data: bytes) -> None:
        self._left = MAX_EMPTY_VALUES + len(data)

    def count(self, values: int) -> None:
        """Raises MessageError when there are too many."""
        self._left -= values
        if self._left < 0:
            raise MessageError("it has too many values that take no bytes")


class BinaryCompiler:
    def __init__(self, empty: EmptyValues) -> None:
        self._empty = empty
        self._records: dict[Record, Binary] = {}

    def compile(self, avro_type: AvroType) -> Binary:
        if empty := empty_values(avro_type):
            return _nothing if empty == 1 else self._nothings(empty)
        match avro_type:
            case Primitive(name):
                return _BINARY_PRIMITIVES[name]
            case Fixed(size=size):
                return _skip(size)
            case Enum(symbols=symbols):
                return _enum(len(symbols))
            case Array(items) if empty := empty_values(items):
                return self._blocks_of_nothing(empty)
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
            if not empty_values(each.type)
        ]
        empty, count_empty = (
            sum(empty_values(each.type) for each in record.fields),
            self._empty.count,
        )

        def check(data: bytes, at: int, depth: int) -> int:
            if depth > MAX_DEPTH:
                raise MessageError(_TOO_DEEP)
            if empty:
                count_empty(empty)
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

    def _nothings(self, values: int) -> Binary:
        count_empty = self._empty.count

        def check(_data: bytes, at: int, _depth: int) -> int:
            count_empty(values)
            return at

        return check

    def _blocks_of_nothing(self, values: int) -> Binary:
        """An array whose items take no bytes; each is so many values."""
        count_empty = self._empty.count

        def check(data: bytes, at: int, depth: int) -> int:
            if depth > MAX_DEPTH:
                raise MessageError(_TOO_DEEP)
            while True:
                count, at = _read_block(data, at)
                if count == 0:
                    return at
                count_empty(count * values)

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


def _read_block(data: bytes, at: int) -> tuple[int, int]:
    """How many items come now, and where."""
    count, at = _read_long(data, at)
    if count < 0:  # then the size of the block in bytes comes next
        return -count, _long(data, at, 0)
    return count, at


def _blocks(item: Binary, *, has_keys: bool) -> Binary:
    """An array or a map: blocks of items, each with its count, the last with the count 0."""

    def check(data: bytes, at: int, depth: int) -> int:
        if depth > MAX_DEPTH:
            raise MessageError(_TOO_DEEP)
        while True:
            count, at = _read_block(data, at)
            if count == 0:
                return at
            for _ in range(count):
                if has_keys:
                    at = _string(data, at, depth)
                at = item(data, at, depth + 1)

    return check
