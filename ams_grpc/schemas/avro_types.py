"""Avro definitions: JSON text in, a tree of types out.

Names are full names, and references are resolved: a record that refers to itself is a cycle in
that tree. Logical types and unknown attributes say nothing about what is on the wire, so they are
passed over. Source of the rules: the Avro specification, "Schema Declaration".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeGuard

import orjson

from ams_grpc.schemas.errors import DefinitionError

MAX_DEFINITION_DEPTH: Final = 64
MAX_TYPES: Final = 20_000
MAX_STEPS: Final = 200_000

PRIMITIVES: Final = frozenset(
    {"null", "boolean", "int", "long", "float", "double", "bytes", "string"}
)
INT_MAX: Final = 2**31 - 1
LONG_MAX: Final = 2**63 - 1

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FULL_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_ABSENT: Final = object()
_MOST_VALUES: Final = 2**63  # a bound for numbers that double and double


@dataclass(frozen=True, slots=True, eq=False)
class Primitive:
    """One of ``PRIMITIVES``."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Fixed:
    name: str
    aliases: frozenset[str]
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class Enum:
    name: str
    aliases: frozenset[str]
    symbols: tuple[str, ...]
    has_default: bool


@dataclass(frozen=True, slots=True, eq=False)
class Array:
    items: AvroType


@dataclass(frozen=True, slots=True, eq=False)
class Map:
    values: AvroType


@dataclass(frozen=True, slots=True, eq=False)
class Union:
    branches: tuple[AvroType, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    name: str
    aliases: frozenset[str]
    type: AvroType
    has_default: bool


@dataclass(slots=True, eq=False)
class Record:
    """``fields`` are filled in last, since they may refer to the record."""

    name: str
    aliases: frozenset[str]
    fields: tuple[Field, ...] = ()
    is_complete: bool = False
    empty_values: int = 0
    """How many values one is, itself and all inside it, if they all take no byte; 0 if not."""


AvroType: TypeAlias = Primitive | Fixed | Enum | Array | Map | Union | Record


def empty_values(avro_type: AvroType) -> int:
    """How many values a value of a type is, itself and all inside it, if they all take no byte.

    0 for other types, whose values all take at least one byte. At most ``_MOST_VALUES``.
    """
    match avro_type:
        case Primitive(name):
            return int(name == "null")
        case Fixed(size=size):
            return int(size == 0)
        case Record():
            return avro_type.empty_values
        case _:
            return 0


def label(avro_type: AvroType) -> str:
    """What a branch of a union is called: its full name, or its kind if it has none."""
    match avro_type:
        case Array():
            return "array"
        case Map():
            return "map"
        case Union():
            return "union"
        case _:
            return avro_type.name


def parse(text: str) -> AvroType:
    """Raises DefinitionError."""
    try:
        definition = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise DefinitionError(f"not JSON: {error}") from None
    parser = _Parser()
    avro_type = parser.type(definition, "", 0)
    parser.check_defaults()
    return avro_type


class _Parser:
    def __init__(self) -> None:
        self._named: dict[str, AvroType] = {}
        self._count = 0
        self._steps = 0
        self._defaults: list[tuple[str, AvroType, object]] = []

    def type(self, definition: object, namespace: str, depth: int) -> AvroType:
        self._count += 1
        if depth > MAX_DEFINITION_DEPTH:
            raise DefinitionError(f"types are nested deeper than {MAX_DEFINITION_DEPTH}")
        if self._count > MAX_TYPES:
            raise DefinitionError(f"there are more than {MAX_TYPES} types")
        match definition:
            case str():
                return self._reference(definition, namespace)
            case list():
                return self._union(definition, namespace, depth)
            case dict():
                return self._complex(definition, namespace, depth)
            case _:
                raise DefinitionError("a type is a name, an object or an array")

    def check_defaults(self) -> None:
        """Done last: a default may be of a type that is defined later."""
        for name, avro_type, value in self._defaults:
            if not self._is_default(avro_type, value, 0):
                raise DefinitionError(f"the default of the field {name} does not have its type")

    def _is_default(self, avro_type: AvroType, value: object, depth: int) -> bool:
        """Avro: defaults are JSON with untagged unions; fields with a default may be missing."""
        self._steps += 1
        if depth > MAX_DEFINITION_DEPTH or self._steps > MAX_STEPS:  # branches in branches
            raise DefinitionError("the defaults are too complex")
        fits, deeper = self._is_default, depth + 1
        match avro_type:
            case Primitive(name):
                return _is_primitive(name, value)
            case Fixed(size=size):
                return is_bytes(value) and len(value) == size
            case Enum(symbols=symbols):
                return isinstance(value, str) and value in symbols
            case Array(items):
                return isinstance(value, list) and all(fits(items, v, deeper) for v in value)
            case Map(values):
                return isinstance(value, dict) and all(
                    fits(values, v, deeper) for v in value.values()
                )
            case Union(branches):
                return any(fits(branch, value, deeper) for branch in branches)
            case Record(fields=fields):
                return isinstance(value, dict) and all(
                    fits(each.type, value[each.name], deeper)
                    if each.name in value
                    else each.has_default
                    for each in fields
                )

    def _reference(self, name: str, namespace: str) -> AvroType:
        if name in PRIMITIVES:
            return Primitive(name)
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        if full not in self._named:
            raise DefinitionError(f"unknown type {_shown(name)}")
        return self._named[full]

    def _union(self, definition: Sequence[object], namespace: str, depth: int) -> Union:
        branches = tuple(self.type(branch, namespace, depth + 1) for branch in definition)
        labels = [label(branch) for branch in branches]
        if "union" in labels:
            raise DefinitionError("a union is directly in a union")
        if len(set(labels)) != len(labels):
            raise DefinitionError("a union has two branches of one type")
        if not branches:
            raise DefinitionError("a union is empty")
        return Union(branches)

    def _complex(self, given: Mapping[str, Any], namespace: str, depth: int) -> AvroType:
        match given.get("type"):
            case "array":
                return Array(self.type(given.get("items"), namespace, depth + 1))
            case "map":
                return Map(self.type(given.get("values"), namespace, depth + 1))
            case "fixed":
                name, aliases = self._names(given, namespace)
                return self._define(name, Fixed(name, aliases, _size(given)))
            case "enum":
                name, aliases = self._names(given, namespace)
                return self._define(name, Enum(name, aliases, *_symbols(given)))
            case "record" | "error":
                return self._record(given, namespace, depth)
            case inner:
                return self.type(inner, namespace, depth + 1)

    def _record(self, given: Mapping[str, Any], namespace: str, depth: int) -> Record:
        name, aliases = self._names(given, namespace)
        record = Record(name, aliases)
        self._define(name, record)
        given_fields = given.get("fields")
        if not isinstance(given_fields, list):
            raise DefinitionError(f"the record {name} has no array of fields")
        fields: list[Field] = []
        seen: set[str] = set()
        for each in given_fields:
            of_field = self._field(each, name, depth)
            if of_field.name in seen:
                raise DefinitionError(f"the record {name} has two fields {of_field.name}")
            seen.add(of_field.name)
            fields.append(of_field)
        record.fields = tuple(fields)
        inside = [empty_values(each.type) for each in fields]
        if all(inside):
            record.empty_values = min(1 + sum(inside), _MOST_VALUES)
        record.is_complete = True
        return record

    def _field(self, given: object, record: str, depth: int) -> Field:
        if not isinstance(given, dict):
            raise DefinitionError(f"a field of the record {record} is no object")
        name = given.get("name")
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            raise DefinitionError(f"a field of the record {record} has no valid name")
        avro_type = self.type(given.get("type"), record.rpartition(".")[0], depth + 1)
        if isinstance(avro_type, Record) and not avro_type.is_complete:
            raise DefinitionError(f"the record {avro_type.name} contains itself without an end")
        default = given.get("default", _ABSENT)
        if default is not _ABSENT:
            self._defaults.append((f"{record}.{name}", avro_type, default))
        aliases = _strings(given.get("aliases", []), f"aliases of {record}.{name}")
        return Field(name, frozenset(aliases), avro_type, default is not _ABSENT)

    def _names(self, given: Mapping[str, Any], namespace: str) -> tuple[str, frozenset[str]]:
        """Full name and full aliases of a named type."""
        name, own = given.get("name"), given.get("namespace", namespace)
        if not isinstance(name, str) or not isinstance(own, str):
            raise DefinitionError("a record, enum or fixed has no name")
        full = name if "." in name or not own else f"{own}.{name}"
        if _FULL_NAME.fullmatch(full) is None:
            raise DefinitionError(f"{_shown(full)} is no name")
        if full.rpartition(".")[2] in PRIMITIVES:
            raise DefinitionError(f"{_shown(full)} is the name of a primitive type")
        own = full.rpartition(".")[0]
        aliases = _strings(given.get("aliases", []), f"aliases of {full}")
        return full, frozenset(
            alias if "." in alias or not own else f"{own}.{alias}" for alias in aliases
        )

    def _define(self, name: str, avro_type: AvroType) -> AvroType:
        if name in self._named:
            raise DefinitionError(f"{name} is defined twice")
        self._named[name] = avro_type
        return avro_type


def _size(given: Mapping[str, Any]) -> int:
    size = given.get("size")
    if type(size) is not int or not 0 <= size <= INT_MAX:
        raise DefinitionError("a fixed has no valid size")
    return size


def _symbols(given: Mapping[str, Any]) -> tuple[tuple[str, ...], bool]:
    symbols = _strings(given.get("symbols"), "symbols of an enum")
    if len(set(symbols)) != len(symbols) or not all(map(_NAME.fullmatch, symbols)):
        raise DefinitionError("an enum has symbols that are no names, or one of them twice")
    default = given.get("default", _ABSENT)
    if default is not _ABSENT and default not in symbols:
        raise DefinitionError("the default of an enum is none of its symbols")
    return tuple(symbols), default is not _ABSENT


def _strings(given: object, what: str) -> list[str]:
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise DefinitionError(f"the {what} are no array of strings")
    return given


def _is_primitive(name: str, value: object) -> bool:
    match name:
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "int" | "long":
            most = INT_MAX if name == "int" else LONG_MAX
            return type(value) is int and -most - 1 <= value <= most
        case "float" | "double":
            return type(value) in {int, float}
        case "string":
            return isinstance(value, str)
        case _:
            return is_bytes(value)


def is_bytes(value: object) -> TypeGuard[str]:
    """Avro JSON: bytes are a string of the characters U+0000 to U+00FF."""
    return isinstance(value, str) and (value.isascii() or max(value) <= "\xff")


def _shown(name: str) -> str:
    return repr(name if len(name) <= 100 else f"{name[:97]}...")
