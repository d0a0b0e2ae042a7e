"""Keywords of JSON Schema that look at a value itself, and at no schema beside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from math import isfinite
from typing import Any, Final

import orjson

from ams_grpc.schemas.errors import DefinitionError, MessageError
from ams_grpc.schemas.json_findings import ROOT, Findings, Path, described, field
from ams_grpc.schemas.json_formats import FORMATS
from ams_grpc.schemas.json_node import Compiling, Node
from ams_grpc.schemas.patterns import BadPatternError, Matches

_BYTES_PER_STEP: Final = 64


def number(given: Mapping[str, Any], keyword: str) -> int | float:
    """Raises DefinitionError unless a keyword has a number."""
    value: object = given[keyword]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DefinitionError(f"{keyword} must be of a number")
    return value


def count(given: Mapping[str, Any], keyword: str) -> int:
    """Raises DefinitionError unless a keyword has a number of things."""
    value = number(given, keyword)
    if value != int(value):
        raise DefinitionError(f"{keyword} must be of an integer")
    if value < 0:
        raise DefinitionError(f"{keyword} must be greater than or equal to 0")
    return int(value)


def text(given: Mapping[str, Any], keyword: str) -> str:
    """Raises DefinitionError unless a keyword has a text."""
    value: object = given[keyword]
    if not isinstance(value, str):
        raise DefinitionError(f"{keyword} must be of type string")
    return value


# --- numbers --------------------------------------------------------------------------------------


def compile_multiple_of(_compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    multiple = number(given, "multipleOf")
    if multiple <= 0:
        raise DefinitionError("multipleOf must be strictly greater than 0")
    exact = Fraction(repr(multiple))

    def check(value: Any, path: Path, found: Findings) -> None:
        if not isfinite(value) or Fraction(repr(value)) % exact:
            found.add(path, f"Must be a multiple of {multiple:.10g}")

    node.add(check, int, float, width=64)


def compile_minimum(compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    least, above = _bounds(compiling, given, "minimum", "exclusiveMinimum")

    def check(value: Any, path: Path, found: Findings) -> None:
        if least is not None and value < least:
            found.add(path, f"Must be greater than or equal to {least:.10g}")
        if above is not None and value <= above:
            found.add(path, f"Must be greater than {above:.10g}")

    node.add(check, int, float)


def compile_maximum(compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    most, below = _bounds(compiling, given, "maximum", "exclusiveMaximum")

    def check(value: Any, path: Path, found: Findings) -> None:
        if most is not None and value > most:
            found.add(path, f"Must be less than or equal to {most:.10g}")
        if below is not None and value >= below:
            found.add(path, f"Must be less than {below:.10g}")

    node.add(check, int, float)


def _bounds(
    compiling: Compiling, given: Mapping[str, Any], keyword: str, exclusive: str
) -> tuple[float | None, float | None]:
    """The bound that belongs to a range, and the one that does not.

    Draft 4: ``exclusive`` says which of them the bound is.
    """
    bound = number(given, keyword) if keyword in given else None
    said = given.get(exclusive)
    if isinstance(said, bool) and compiling.draft in {0, 4}:
        if bound is None:
            raise DefinitionError(f"{exclusive} cannot be used without {keyword}")
        return (None, bound) if said else (bound, None)
    if said is None:
        return bound, None
    if compiling.draft == 4:
        raise DefinitionError(f"{exclusive} must be of a boolean")
    return bound, number(given, exclusive)


# --- texts ----------------------------------------------------------------------------------------


def compile_lengths(_compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    least, most = least_and_most(given, "minLength", "maxLength")
    texts = "String length must be"

    def check(value: Any, path: Path, found: Findings) -> None:
        if len(value) < least:
            found.add(path, f"{texts} greater than or equal to {least}")
        if most is not None and len(value) > most:
            found.add(path, f"{texts} less than or equal to {most}")

    node.add(check, str)


def least_and_most(given: Mapping[str, Any], least: str, most: str) -> tuple[int, int | None]:
    """Bounds of a size. Raises DefinitionError, also when they exclude each other."""
    low = count(given, least) if least in given else 0
    high = count(given, most) if most in given else None
    if high is not None and low > high:
        raise DefinitionError(f"{least} cannot be greater than {most}")
    return low, high


def compile_pattern(compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    pattern = text(given, "pattern")
    matches = compiled_pattern(compiling, pattern, "pattern must be a valid regex")

    def check(value: Any, path: Path, found: Findings) -> None:
        found.budget.spend(8 + len(value) // _BYTES_PER_STEP)
        if not matches(value):
            found.add(path, f"Does not match pattern '{pattern}'")

    node.add(check, str)


def compiled_pattern(compiling: Compiling, pattern: str, refusal: str) -> Matches:
    """Raises DefinitionError."""
    try:
        return compiling.patterns.compile(pattern)
    except BadPatternError:
        raise DefinitionError(refusal) from None


def compile_format(_compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    name = text(given, "format")
    fits = FORMATS.get(name)
    if fits is None:
        return

    def check(value: Any, path: Path, found: Findings) -> None:
        found.budget.spend(len(value) // _BYTES_PER_STEP)
        if not fits(value):
            found.add(path, f"Does not match format '{name}'")

    node.add(check, str, width=64)


# --- values that are equal to others --------------------------------------------------------------


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
    shown = ", ".join(_json(value).decode() for value in values)

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
