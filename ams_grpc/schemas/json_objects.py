"""Keywords of JSON Schema for objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ams_grpc.schemas.json_definitions import (
    compiled_pattern,
    least_and_most,
    mapping,
    strings,
)
from ams_grpc.schemas.json_findings import Findings, Path, brief
from ams_grpc.schemas.json_node import NAMES_PER_STEP, Compiling, Node
from ams_grpc.schemas.patterns import Matches

_PATTERN_STEPS: Final = 8


def compile_sizes(_compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    least, most = least_and_most(given, "minProperties", "maxProperties")

    def check(value: Any, path: Path, found: Findings) -> None:
        if len(value) < least:
            found.add(path, f"Must have at least {least} properties")
        if most is not None and len(value) > most:
            found.add(path, f"Must have at most {most} properties")

    node.add(check, dict)


def compile_required(_compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    if isinstance(given["required"], bool) and "properties" not in given:
        return  # draft 3 wrote it so, and many schemas in the field still do
    names = [(name, brief(name)) for name in strings(given["required"], "required")]

    def check(value: Any, path: Path, found: Findings) -> None:
        for name, shown in names:
            if name not in value:
                found.add(path, f"{shown} is required")

    node.add(check, dict, steps=len(names) // NAMES_PER_STEP)


def compile_property_names(compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    of_name = compiling.node(given["propertyNames"], "propertyNames")

    def check(value: Any, path: Path, found: Findings) -> None:
        for name in value:
            result = found.apart()
            of_name.check(name, path, result)
            if result.count:
                found.add(path, f'Property name of "{brief(name)}" does not match')
                found.merge(result)

    node.beside.append(of_name)
    node.add(check, dict)


def compile_other_properties(compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    """``patternProperties``, and ``additionalProperties`` for what neither names."""
    named = mapping(given, "properties") if "properties" in given else {}
    patterns: list[tuple[Matches, Node]] = []
    if "patternProperties" in given:
        for pattern, definition in mapping(given, "patternProperties").items():
            refusal = f"Invalid regex pattern '{pattern[:100]}'"
            matches = compiled_pattern(compiling, pattern, refusal)
            patterns.append((matches, compiling.node(definition, "patternProperties")))
    others = given.get("additionalProperties", True)
    of_others = compiling.node(others, "additionalProperties")
    steps = 1 + _PATTERN_STEPS * len(patterns)

    def check(value: Any, path: Path, found: Findings) -> None:
        for name, part in value.items():
            found.budget.spend(steps)
            is_known = name in named
            for matches, of_part in patterns:
                if matches(name):
                    is_known = True
                    of_part.check(part, (path, name), found)
            if is_known:
                continue
            if others is False:
                found.add(path, f"Additional property {brief(name)} is not allowed")
            else:
                of_others.check(part, (path, name), found)

    node.beside += [of_part for _, of_part in patterns]
    node.inside.append(of_others)
    if patterns or others is not True:
        node.add(check, dict, steps=steps)


def compile_properties(compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    parts = {
        name: compiling.node(definition, "properties")
        for name, definition in mapping(given, "properties").items()
    }

    def check(value: Any, path: Path, found: Findings) -> None:
        found.budget.spend(min(len(value), len(parts)) // NAMES_PER_STEP)
        for name in parts if len(parts) <= len(value) else value:
            if name in value and name in parts:
                parts[name].check(value[name], (path, name), found)

    node.inside += parts.values()
    node.add(check, dict)


def compile_dependencies(compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    names: dict[str, Sequence[str]] = {}
    schemas: dict[str, Node] = {}
    for key, value in mapping(given, "dependencies").items():
        if isinstance(value, list):
            names[key] = strings(value, "dependencies")
        else:
            schemas[key] = compiling.node(value, "dependencies")

    def check(value: Any, path: Path, found: Findings) -> None:
        for key in names.keys() & value.keys():
            for name in names[key]:
                if name not in value:
                    found.add(path, f"Has a dependency on {brief(name)}")
        for key in schemas.keys() & value.keys():
            schemas[key].check(value, path, found)

    node.beside += schemas.values()
    width = len(names) + len(schemas) + sum(map(len, names.values()))
    node.add(check, dict, steps=width // NAMES_PER_STEP)
