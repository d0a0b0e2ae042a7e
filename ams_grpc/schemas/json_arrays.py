"""Keywords of JSON Schema for arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ams_grpc.schemas.json_definitions import least_and_most
from ams_grpc.schemas.json_findings import Findings, Path
from ams_grpc.schemas.json_node import Compiling, Node


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
