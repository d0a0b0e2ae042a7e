"""Keywords of JSON Schema for values that are to be equal to others, or to differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from ams_grpc.schemas.errors import DefinitionError, MessageError
from ams_grpc.schemas.json_findings import ROOT, Findings, Path, brief, described, field
from ams_grpc.schemas.json_node import Compiling, Node

_BYTES_PER_STEP: Final = 8


def compile_const(_compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    _compile_allowed(node, [given["const"]], lambda name, shown: f"{name} does not match: {shown}")


def compile_enum(_compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    values = given["enum"]
    if not isinstance(values, list):
        raise DefinitionError("enum must be of an array")
    _compile_allowed(
        node, values, lambda name, shown: f"{name} must be one of the following: {shown}"
    )


def _compile_allowed(node: Node, values: list[Any], description: Callable[[str, str], str]) -> None:
    allowed = {_identity(value) for value in values}
    shown = brief(", ".join(_json(value).decode() for value in values))

    def check(value: Any, path: Path, found: Findings) -> None:
        if _counted_identity(value, found) not in allowed:
            found.add(path, description(field(path), shown))

    node.add(check)


def compile_unique_items(_compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    if not isinstance(given["uniqueItems"], bool):
        raise DefinitionError("uniqueItems must be of type boolean")
    if not given["uniqueItems"]:
        return

    def check(value: Any, path: Path, found: Findings) -> None:
        seen: dict[bytes, int] = {}
        for place, item in enumerate(value):
            identity = _counted_identity(item, found)
            if identity in seen:
                found.add(path, f"array items[{seen[identity]},{place}] must be unique")
            seen[identity] = place

    node.add(check, list)


def _counted_identity(value: object, found: Findings) -> bytes:
    identity = _identity(value)
    found.budget.spend(1 + len(identity) // _BYTES_PER_STEP)
    return identity


def _identity(value: object) -> bytes:
    """The same for values that JSON Schema takes for equal, such as 1 and 1.0, and for no others."""
    kind = type(value)
    if kind is float or ((kind is list or kind is dict) and value):
        value = _with_whole_numbers(value)
    return _json(value)


def _with_whole_numbers(value: object) -> object:
    match value:
        case float():
            return int(value) if value.is_integer() and abs(value) < 2**63 else value
        case list():
            return [_with_whole_numbers(each) for each in value]
        case dict():
            return {key: _with_whole_numbers(each) for key, each in value.items()}
        case _:
            return value


def _json(value: object) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except (TypeError, RecursionError):  # deeper than it goes, or a number of hundreds of digits
        raise MessageError(
            described([f"{ROOT}: The document has values too deep or too long to be compared"])
        ) from None
