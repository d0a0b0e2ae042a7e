"""What keywords of JSON Schema may have for a value in a definition. All raise DefinitionError."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ams_grpc.schemas.errors import DefinitionError
from ams_grpc.schemas.json_node import Compiling, Node
from ams_grpc.schemas.patterns import BadPatternError, Matches


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


def least_and_most(given: Mapping[str, Any], least: str, most: str) -> tuple[int, int | None]:
    """Bounds of a size. Raises DefinitionError, also when they exclude each other."""
    low = count(given, least) if least in given else 0
    high = count(given, most) if most in given else None
    if high is not None and low > high:
        raise DefinitionError(f"{least} cannot be greater than {most}")
    return low, high


def compiled_pattern(compiling: Compiling, pattern: str, refusal: str) -> Matches:
    """Raises DefinitionError."""
    try:
        return compiling.patterns.compile(pattern)
    except BadPatternError:
        raise DefinitionError(refusal) from None


def nodes(compiling: Compiling, given: Mapping[str, Any], keyword: str) -> Sequence[Node]:
    definitions = given[keyword]
    if not isinstance(definitions, list):
        raise DefinitionError(f"{keyword} must be of an array")
    if not definitions:
        raise DefinitionError(f"{keyword} must not be empty")
    return [compiling.node(definition, keyword) for definition in definitions]


def mapping(given: Mapping[str, Any], keyword: str) -> Mapping[str, Any]:
    value: object = given[keyword]
    if not isinstance(value, dict):
        raise DefinitionError(f"{keyword} must be of type object")
    return value


def strings(value: object, keyword: str) -> Sequence[str]:
    if not isinstance(value, list):
        raise DefinitionError(f"{keyword} must be of an array")
    for each in value:
        if not isinstance(each, str):
            raise DefinitionError(f"{keyword} items must be of type string")
    return value
