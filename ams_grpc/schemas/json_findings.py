"""What is wrong with a document, said as AMS says it, and what finding out may cost.

AMS shows the texts of gojsonschema: ``<path>: <description>``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from ams_grpc.schemas.errors import MessageError

# Keys and indexes on the way to a value, from the inside out.
Path: TypeAlias = "tuple[Path, str | int] | None"

ROOT: Final = "(root)"
MAX_VIOLATIONS: Final = 20
_MAX_CHARS: Final = 300

FREE_STEPS: Final = 100_000
STEPS_PER_BYTE: Final = 2


class Budget:
    """How many steps are left for a document, of some 0.3 us each."""

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = FREE_STEPS + STEPS_PER_BYTE * size

    def spend(self, steps: int) -> None:
        """Raises MessageError when there are no more."""
        self.left -= steps
        if self.left < 0:
            raise MessageError(described([f"{ROOT}: The document takes too long to be checked"]))


class Findings:
    """The first violations of a schema, and how well a document does beside them.

    ``score`` says of several schemas which one it was meant for: what fits counts for it, and what
    does not against it.
    """

    __slots__ = ("budget", "count", "score", "violations")

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.score = 0
        self.count = 0
        self.violations: list[str] = []

    def add(self, path: Path, description: str) -> None:
        self.budget.spend(1)
        self.count += 1
        self.score -= 2
        if len(self.violations) < MAX_VIOLATIONS:
            self.violations.append(f"{brief(shown(path))}: {brief(description)}")

    def merge(self, other: Findings) -> None:
        self.count += other.count
        self.score += other.score
        self.violations += other.violations[: MAX_VIOLATIONS - len(self.violations)]

    def apart(self) -> Findings:
        """For a schema whose violations may not count."""
        return Findings(self.budget)


def described(violations: Sequence[str]) -> str:
    """AMS: what is said of data behind "Message <i> "."""
    return numbered("data is not valid", violations)


def numbered(summary: str, violations: Sequence[str]) -> str:
    """AMS: one violation behind a comma, several with numbers."""
    if len(violations) == 1:
        return f"{summary},{violations[0]}"
    return f"{summary}." + "".join(f"{number}){each}." for number, each in enumerate(violations, 1))


def shown(path: Path) -> str:
    steps: list[str] = []
    while path is not None:
        path, step = path
        steps.append(str(step))
    return ".".join(reversed(steps)) or ROOT


def field(path: Path) -> str:
    """What a description calls the value itself."""
    return ROOT if path is None else str(path[1])


def brief(text: str) -> str:
    """What is told of a text that may be long. Those of a definition are cut when it is compiled."""
    return text if len(text) <= _MAX_CHARS else f"{text[: _MAX_CHARS - 3]}..."
