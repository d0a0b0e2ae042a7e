"""Avro's JSON encoding: a function per type that refuses what is no value of it.

Source of the rules: the Avro specification, "JSON Encoding".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from ams_grpc.schemas.avro_types import (
    INT_MAX,
    LONG_MAX,
    Array,
    AvroType,
    Enum,
    Fixed,
    Map,
    Primitive,
    Record,
    Union,
    is_bytes,
    label,
)
from ams_grpc.schemas.errors import MAX_DEPTH, MessageError

Json: TypeAlias = Callable[[Any, int], None]

_TOO_DEEP: Final = f"values are nested deeper than {MAX_DEPTH}"


class JsonCompiler:
    def __init__(self) -> None:
        self._records: dict[Record, Json] = {}

    def compile(self, avro_type: AvroType) -> Json:
        match avro_type:
            case Primitive(name):
                return _JSON_PRIMITIVES[name]
            case Fixed(size=size):
                return _json_fixed(size)
            case Enum(symbols=symbols):
                return _json_enum(frozenset(symbols))
            case Array(items):
                return _json_array(self.compile(items))
            case Map(values):
                return _json_map(self.compile(values))
            case Union(branches):
                return _json_union({label(branch): self.compile(branch) for branch in branches})
            case Record():
                return self._record(avro_type)

    def _record(self, record: Record) -> Json:
        if record in self._records:
            return self._records[record]

        def later(value: Any, depth: int) -> None:
            check(value, depth)

        self._records[record] = later
        fields = [(each.name, self.compile(each.type)) for each in record.fields]

        def check(value: Any, depth: int) -> None:
            if depth > MAX_DEPTH:
                raise MessageError(_TOO_DEEP)
            if type(value) is not dict:
                raise MessageError("no object, as a record is")
            name = ""
            try:
                for name, field in fields:
                    field(value[name], depth + 1)
            except MessageError as error:
                error.within(name)
                raise
            except KeyError:
                raise MessageError(f"Field was not found in JSON object: {name}") from None

        self._records[record] = check
        return check


def _json_primitive(kind: type, what: str) -> Json:
    def check(value: Any, _depth: int) -> None:
        if type(value) is not kind:
            raise MessageError(f"not of type {what}")

    return check


def _json_integer(most: int, what: str) -> Json:
    def check(value: Any, _depth: int) -> None:
        if type(value) is not int or not -most - 1 <= value <= most:
            raise MessageError(f"not of type {what}")

    return check


def _json_number(value: Any, _depth: int) -> None:
    if type(value) is not float and type(value) is not int:
        raise MessageError("not a number")


def _json_bytes(value: Any, _depth: int) -> None:
    if not is_bytes(value):
        raise MessageError("not a string of U+0000 to U+00FF, as bytes are")


_JSON_PRIMITIVES: Final[dict[str, Json]] = {
    "null": _json_primitive(type(None), "null"),
    "boolean": _json_primitive(bool, "boolean"),
    "int": _json_integer(INT_MAX, "int"),
    "long": _json_integer(LONG_MAX, "long"),
    "float": _json_number,
    "double": _json_number,
    "bytes": _json_bytes,
    "string": _json_primitive(str, "string"),
}


def _json_fixed(size: int) -> Json:
    def check(value: Any, depth: int) -> None:
        _json_bytes(value, depth)
        if len(value) != size:
            raise MessageError(f"a fixed has {len(value)} bytes, not {size}")

    return check


def _json_enum(symbols: frozenset[str]) -> Json:
    def check(value: Any, _depth: int) -> None:
        if type(value) is not str or value not in symbols:
            raise MessageError("none of the symbols of its enum")

    return check


def _json_array(item: Json) -> Json:
    def check(value: Any, depth: int) -> None:
        if type(value) is not list or depth > MAX_DEPTH:
            raise MessageError(_TOO_DEEP if depth > MAX_DEPTH else "not an array")
        for each in value:
            item(each, depth + 1)

    return check


def _json_map(item: Json) -> Json:
    def check(value: Any, depth: int) -> None:
        if type(value) is not dict or depth > MAX_DEPTH:
            raise MessageError(_TOO_DEEP if depth > MAX_DEPTH else "no object, as a map is")
        for each in value.values():
            item(each, depth + 1)

    return check


def _json_union(branches: dict[str, Json]) -> Json:
    may_be_null = "null" in branches

    def check(value: Any, depth: int) -> None:
        if value is None and may_be_null:
            return
        if type(value) is not dict or len(value) != 1:
            raise MessageError('a union is null, or {"type": value}')
        [(name, inner)] = value.items()
        branch = branches.get(name)
        if branch is None or name == "null":
            raise MessageError("a union has no branch of that type")
        branch(inner, depth)

    return check
