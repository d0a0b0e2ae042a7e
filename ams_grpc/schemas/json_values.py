"""Keywords of JSON Schema that look at a value itself, and at no schema beside."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import isfinite
from typing import Any

from ams_grpc.schemas.errors import DefinitionError
from ams_grpc.schemas.json_definitions import compiled_pattern, least_and_most, number, text
from ams_grpc.schemas.json_findings import Findings, Path, brief
from ams_grpc.schemas.json_formats import FORMATS
from ams_grpc.schemas.json_node import BYTES_PER_STEP, Compiling, Node

# --- numbers --------------------------------------------------------------------------------------


def compile_multiple_of(_compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    multiple = number(given, "multipleOf")
    if multiple <= 0:
        raise DefinitionError("multipleOf must be strictly greater than 0")
    exact = Fraction(repr(multiple))

    def check(value: Any, path: Path, found: Findings) -> None:
        if not isfinite(value) or Fraction(repr(value)) % exact:
            found.add(path, f"Must be a multiple of {multiple:.10g}")

    node.add(check, int, float, steps=4)


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


def compile_pattern(compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    pattern = text(given, "pattern")
    matches = compiled_pattern(compiling, pattern, "pattern must be a valid regex")
    shown = brief(pattern)

    def check(value: Any, path: Path, found: Findings) -> None:
        found.budget.spend(8 + len(value) // BYTES_PER_STEP)
        if not matches(value):
            found.add(path, f"Does not match pattern '{shown}'")

    node.add(check, str)


def compile_format(_compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    name = text(given, "format")
    fits = FORMATS.get(name)
    if fits is None:
        return

    def check(value: Any, path: Path, found: Findings) -> None:
        found.budget.spend(len(value) // BYTES_PER_STEP)
        if not fits(value):
            found.add(path, f"Does not match format '{name}'")

    node.add(check, str, steps=4)
