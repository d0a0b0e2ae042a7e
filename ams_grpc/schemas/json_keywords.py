"""The keywords of JSON Schema that say what is right, in the order in which they are looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from ams_grpc.schemas import json_applicators as applicators
from ams_grpc.schemas import json_values as values
from ams_grpc.schemas.json_node import Compiling, Node

# Adds to a node what some keywords say. Raises DefinitionError.
CompileKeyword: TypeAlias = Callable[[Compiling, Node, Mapping[str, Any]], None]

_KEYWORDS: Final[Mapping[tuple[str, ...], CompileKeyword]] = {
    ("anyOf",): applicators.compile_any_of,
    ("oneOf",): applicators.compile_one_of,
    ("allOf",): applicators.compile_all_of,
    ("not",): applicators.compile_not,
    ("dependencies",): applicators.compile_dependencies,
    ("if",): applicators.compile_if,
    ("minProperties", "maxProperties"): applicators.compile_sizes,
    ("propertyNames",): applicators.compile_property_names,
    ("required",): applicators.compile_required,
    ("patternProperties", "additionalProperties"): applicators.compile_other_properties,
    ("items", "additionalItems"): applicators.compile_items,
    ("minItems", "maxItems"): applicators.compile_counts,
    ("uniqueItems",): values.compile_unique_items,
    ("contains",): applicators.compile_contains,
    ("multipleOf",): values.compile_multiple_of,
    ("minimum", "exclusiveMinimum"): values.compile_minimum,
    ("maximum", "exclusiveMaximum"): values.compile_maximum,
    ("minLength", "maxLength"): values.compile_lengths,
    ("pattern",): values.compile_pattern,
    ("format",): values.compile_format,
    ("const",): values.compile_const,
    ("enum",): values.compile_enum,
    ("properties",): applicators.compile_properties,
}

_SINCE: Final = {"const": 6, "contains": 6, "propertyNames": 6, "if": 7}


def keywords(definition: Mapping[str, Any], draft: int) -> Sequence[CompileKeyword]:
    """What to do about the keywords in a schema. Those of later drafts say nothing."""
    return [
        compile_keyword
        for names, compile_keyword in _KEYWORDS.items()
        if any(name in definition for name in names)
        and (not draft or _SINCE.get(names[0], 4) <= draft)
    ]
