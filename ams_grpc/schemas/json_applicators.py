"""Keywords of JSON Schema that apply schemas: to a value again, or to its parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ams_grpc.schemas.errors import DefinitionError
from ams_grpc.schemas.json_findings import Findings, Path
from ams_grpc.schemas.json_node import Compiling, Node
from ams_grpc.schemas.json_values import compiled_pattern, least_and_most
from ams_grpc.schemas.patterns import Matches

_PATTERN_STEPS = 8


# --- several schemas for one value -----------------------------------------------------------------


def compile_any_of(compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    branches = _nodes(compiling, given, "anyOf")

    def check(value: Any, path: Path, found: Findings) -> None:
        best: Findings | None = None
        for branch in branches:
            result = found.apart()
            branch.check(value, path, result)
            if not result.count:
                return
            best = result if best is None or result.score > best.score else best
        found.add(path, "Must validate at least one schema (anyOf)")
        if best is not None:
            found.merge(best)

    _add_composite(node, branches, check)


def compile_one_of(compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    branches = _nodes(compiling, given, "oneOf")

    def check(value: Any, path: Path, found: Findings) -> None:
        best: Findings | None = None
        fitting = 0
        for branch in branches:
            result = found.apart()
            branch.check(value, path, result)
            fitting += not result.count
            if result.count:
                best = result if best is None or result.score > best.score else best
        if fitting != 1:
            found.add(path, "Must validate one and only one schema (oneOf)")
        if best is not None and not fitting:
            found.merge(best)

    _add_composite(node, branches, check)


def compile_all_of(compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    branches = _nodes(compiling, given, "allOf")

    def check(value: Any, path: Path, found: Findings) -> None:
        failed = found.apart()
        for branch in branches:
            branch.check(value, path, failed)
        if failed.count:
            found.add(path, "Must validate all the schemas (allOf)")
        found.merge(failed)

    _add_composite(node, branches, check)


def compile_not(compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    branch = compiling.node(given["not"], "not")

    def check(value: Any, path: Path, found: Findings) -> None:
        result = found.apart()
        branch.check(value, path, result)
        if not result.count:
            found.add(path, "Must not validate the schema (not)")

    _add_composite(node, [branch], check)


def compile_if(compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    condition, then, otherwise = (
        compiling.node(given.get(keyword, True), keyword) for keyword in ("if", "then", "else")
    )

    def check(value: Any, path: Path, found: Findings) -> None:
        result = found.apart()
        condition.check(value, path, result)
        branch, name, said = (
            (otherwise, "else", "was not") if result.count else (then, "then", "was")
        )
        result = found.apart()
        branch.check(value, path, result)
        if result.count:
            found.add(path, f'Must validate "{name}" as "if" {said} valid')
            found.merge(result)

    _add_composite(node, [condition, then, otherwise], check)


def compile_dependencies(compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    names: dict[str, Sequence[str]] = {}
    schemas: dict[str, Node] = {}
    for key, value in _object(given, "dependencies").items():
        if isinstance(value, list):
            names[key] = _strings(value, "dependencies")
        else:
            schemas[key] = compiling.node(value, "dependencies")

    def check(value: Any, path: Path, found: Findings) -> None:
        for key in names.keys() & value.keys():
            for name in names[key]:
                if name not in value:
                    found.add(path, f"Has a dependency on {name}")
        for key in schemas.keys() & value.keys():
            schemas[key].check(value, path, found)

    node.beside += schemas.values()
    node.add(check, dict, width=len(names) + len(schemas) + sum(map(len, names.values())))


def _add_composite(
    node: Node, branches: Sequence[Node], check: Callable[[Any, Path, Findings], None]
) -> None:
    node.beside += branches
    node.add(check)


# --- objects --------------------------------------------------------------------------------------


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
    names = _strings(given["required"], "required")

    def check(value: Any, path: Path, found: Findings) -> None:
        for name in names:
            if name not in value:
                found.add(path, f"{name} is required")

    node.add(check, dict, width=len(names))


def compile_property_names(compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    of_name = compiling.node(given["propertyNames"], "propertyNames")

    def check(value: Any, path: Path, found: Findings) -> None:
        for name in value:
            result = found.apart()
            of_name.check(name, path, result)
            if result.count:
                found.add(path, f'Property name of "{name}" does not match')
                found.merge(result)

    node.beside.append(of_name)
    node.add(check, dict)


def compile_other_properties(compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    """``patternProperties``, and ``additionalProperties`` for what neither names."""
    named = _object(given, "properties") if "properties" in given else {}
    patterns: list[tuple[Matches, Node]] = []
    if "patternProperties" in given:
        for pattern, definition in _object(given, "patternProperties").items():
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
                found.add(path, f"Additional property {name} is not allowed")
            else:
                of_others.check(part, (path, name), found)

    node.beside += [of_part for _, of_part in patterns]
    node.inside.append(of_others)
    if patterns or others is not True:
        node.add(check, dict, width=16 * steps)


def compile_properties(compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    parts = {
        name: compiling.node(definition, "properties")
        for name, definition in _object(given, "properties").items()
    }
    known = tuple(parts.items())

    def check(value: Any, path: Path, found: Findings) -> None:
        for name, part in known:
            if name in value:
                part.check(value[name], (path, name), found)

    node.inside += parts.values()
    node.add(check, dict, width=len(parts))


# --- arrays ---------------------------------------------------------------------------------------


def compile_items(compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    """``items``, of one schema or of one for each place, and ``additionalItems`` for other places."""
    items = given.get("items", True)
    if not isinstance(items, list):
        of_item = compiling.node(items, "items")

        def check_all(value: Any, path: Path, found: Findings) -> None:
            for place, item in enumerate(value):
                of_item.check(item, (path, place), found)

        node.inside.append(of_item)
        if "items" in given:
            node.add(check_all, list)
        return
    places = [compiling.node(definition, "items") for definition in items]
    others = given.get("additionalItems", True)
    of_others = compiling.node(others, "additionalItems")

    def check(value: Any, path: Path, found: Findings) -> None:
        for place, (item, of_place) in enumerate(zip(value, places, strict=False)):
            of_place.check(item, (path, place), found)
        if len(value) <= len(places):
            return
        if others is False:
            found.add(path, "No additional items allowed on array")
            return
        for place in range(len(places), len(value)):
            of_others.check(value[place], (path, place), found)

    node.inside += [*places, of_others]
    node.add(check, list)


def compile_counts(_compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    least, most = least_and_most(given, "minItems", "maxItems")

    def check(value: Any, path: Path, found: Findings) -> None:
        if len(value) < least:
            found.add(path, f"Array must have at least {least} items")
        if most is not None and len(value) > most:
            found.add(path, f"Array must have at most {most} items")

    node.add(check, list)


def compile_contains(compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    wanted = compiling.node(given["contains"], "contains")

    def check(value: Any, path: Path, found: Findings) -> None:
        best: Findings | None = None
        for place, item in enumerate(value):
            result = found.apart()
            wanted.check(item, (path, place), result)
            if not result.count:
                return
            best = result if best is None or result.score > best.score else best
        found.add(path, "At least one of the items must match")
        if best is not None:
            found.merge(best)

    node.beside.append(wanted)
    node.add(check, list)


# --- definitions ----------------------------------------------------------------------------------


def _nodes(compiling: Compiling, given: Mapping[str, Any], keyword: str) -> Sequence[Node]:
    definitions = given[keyword]
    if not isinstance(definitions, list):
        raise DefinitionError(f"{keyword} must be of an array")
    if not definitions:
        raise DefinitionError(f"{keyword} must not be empty")
    return [compiling.node(definition, keyword) for definition in definitions]


def _object(given: Mapping[str, Any], keyword: str) -> Mapping[str, Any]:
    value: object = given[keyword]
    if not isinstance(value, dict):
        raise DefinitionError(f"{keyword} must be of type object")
    return value


def _strings(value: object, keyword: str) -> Sequence[str]:
    if not isinstance(value, list):
        raise DefinitionError(f"{keyword} must be of an array")
    for each in value:
        if not isinstance(each, str):
            raise DefinitionError(f"{keyword} items must be of type string")
    return value
