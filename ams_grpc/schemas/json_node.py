"""A schema in a JSON Schema: the functions that look at a value, by the value's type."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, Final, Protocol, TypeAlias

from ams_grpc.schemas.errors import DefinitionError
from ams_grpc.schemas.json_findings import Findings, Path
from ams_grpc.schemas.patterns import Patterns

# Adds what is wrong with a value to the findings. Raises MessageError when it takes too long.
Check: TypeAlias = Callable[[Any, Path, Findings], None]

# 4, 6 or 7; 0: all of them at once, as AMS has it unless "$schema" says otherwise.
Draft: TypeAlias = int

BYTES_PER_STEP: Final = 64
"""So many bytes of a value that are looked at count as a step."""

NAMES_PER_STEP: Final = 16
"""So many names that are looked for count as a step."""

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "array": (list,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (NoneType,),
    "object": (dict,),
    "string": (str,),
}
_NAMES: Final = {kinds[0]: name for name, kinds in _TYPES.items() if name != "number"} | {
    float: "integer"
}
_KINDS: Final = tuple(_NAMES)


@dataclass(frozen=True, slots=True)
class Types:
    """The types that a schema takes; ``takes_whole``: and floats without a fraction."""

    shown: str
    kinds: frozenset[type]
    takes_whole: bool

    def takes(self, value: object) -> bool:
        return type(value) in self.kinds or (
            self.takes_whole and isinstance(value, float) and value.is_integer()
        )


def types_of(given: object) -> Types:
    """Of the keyword ``type``. Raises DefinitionError."""
    names: list[str] = []
    for name in given if isinstance(given, list) else [given]:
        if not isinstance(name, str):
            raise DefinitionError("Invalid type. Expected: string/array of strings, given: type")
        if name not in _TYPES:
            raise DefinitionError(
                f"has a primitive type that is NOT VALID -- given: /{name[:100]}/ Expected valid "
                f"values are:[{' '.join(_TYPES)}]"
            )
        names.append(name)
    shown = names[0] if len(names) == 1 else f"[{','.join(names)}]"
    kinds = frozenset(kind for name in names for kind in _TYPES[name])
    return Types(shown, kinds, "integer" in names)


def type_name(value: object) -> str:
    if isinstance(value, float) and not value.is_integer():
        return "number"
    return _NAMES[type(value)]


class Node:
    """A schema. ``check`` may be called once all of the definition is compiled."""

    def __init__(self, *, refuses_all: bool = False) -> None:
        self.types: Types | None = None
        self.cost = 1
        """Steps that it takes for a value, without its parts."""
        self.beside: list[Node] = []
        """Schemas that look at what this one looks at, or all of them at parts of it."""
        self.inside: list[Node] = []
        """Schemas of which each looks at a part of its own."""
        self.check: Check = _refuse if refuses_all else _accept
        self._checks: defaultdict[type, list[Check]] = defaultdict(list)

    def add(self, check: Check, *kinds: type, steps: int = 0) -> None:
        """Have ``check`` look at values of these types (none: of all); they are not otherwise.

        ``steps``: what it takes, at most, beside what it spends itself.
        """
        self.cost += steps
        for kind in kinds or _KINDS:
            self._checks[kind].append(check)

    def refer(self, target: Node) -> None:
        self.beside.append(target)

        def check(value: Any, path: Path, found: Findings) -> None:
            found.budget.spend(1)
            target.check(value, path, found)

        self.check = check

    def finish(self) -> None:
        """All checks are added."""
        types, cost = self.types, self.cost
        checks = {kind: tuple(self._checks[kind]) for kind in _KINDS}

        def check(value: Any, path: Path, found: Findings) -> None:
            found.budget.spend(cost)
            if types is not None and not types.takes(value):
                given = type_name(value)
                found.add(path, f"Invalid type. Expected: {types.shown}, given: {given}")
                return
            for each in checks[type(value)]:
                each(value, path, found)
            found.score += 4  # as many as gojsonschema gives for the stages of its own

        self.check = check


class Compiling(Protocol):
    """What keywords need to know of the definition around them."""

    patterns: Patterns
    draft: Draft

    def node(self, definition: object, key: str) -> Node:
        """The schema that is found under ``key``. Raises DefinitionError if it is none."""
        ...


def _accept(_value: object, _path: Path, _found: Findings) -> None:
    pass


def _refuse(_value: object, path: Path, found: Findings) -> None:
    found.add(path, "False always fails validation")
