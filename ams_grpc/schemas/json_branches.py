"""Keywords of JSON Schema that hold a value against other schemas."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ams_grpc.schemas.json_definitions import (
    nodes,
)
from ams_grpc.schemas.json_findings import Findings, Path
from ams_grpc.schemas.json_node import Compiling, Node


def compile_any_of(compiling: Compiling, node: Node, given: Mapping[str, Any]) -> None:
    branches = nodes(compiling, given, "anyOf")

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
    branches = nodes(compiling, given, "oneOf")

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
    branches = nodes(compiling, given, "allOf")

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


def _add_composite(
    node: Node, branches: Sequence[Node], check: Callable[[Any, Path, Findings], None]
) -> None:
    node.beside += branches
    node.add(check, steps=len(branches))
