"""The keywords of JSON Schema that say what is right, in the order in which they are looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from ams_grpc.schemas import json_arrays as arrays
from ams_grpc.schemas import json_branches as branches
from ams_grpc.schemas import json_equality as equality
from ams_grpc.schemas import json_objects as objects
from ams_grpc.schemas import json_values as values
from ams_grpc.schemas.json_node import Compiling, Node

# Adds to a node what some keywords say. Raises DefinitionError.
CompileKeyword: TypeAlias = Callable[[Compiling, Node, Mapping[str, Any]], None]

_KEYWORDS: Final[Mapping[tuple[str, ...], CompileKeyword]] = {
    ("anyOf",): branches.compile_any_of,
    ("oneOf",): branches.compile_one_of,
    ("allOf",): branches.compile_all_of,
    ("not",): branches.compile_not,
    ("dependencies",): objects.compile_dependencies,
    ("if",): branches.compile_if,
    ("minProperties", "maxProperties"): objects.compile_sizes,
    ("propertyNames",): objects.compile_property_names,
    ("required",): objects.compile_required,
    ("patternProperties", "additionalProperties"): objects.compile_other_properties,
    ("items", "additionalItems"): arrays.compile_items,
    ("minItems", "maxItems"): arrays.compile_counts,
    ("uniqueItems",): equality.compile_unique_items,
    ("contains",): arrays.compile_contains,
    ("multipleOf",): values.compile_multiple_of,
    ("minimum", "exclusiveMinimum"): values.compile_minimum,
    ("maximum", "exclusiveMaximum"): values.compile_maximum,
    ("minLength", "maxLength"): values.compile_lengths,
    ("pattern",): values.compile_pattern,
    ("format",): values.compile_format,
    ("const",): equality.compile_const,
    ("enum",): equality.compile_enum,
    ("properties",): objects.compile_properties,
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
