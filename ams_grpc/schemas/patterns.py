"""Regular expressions that users write: by RE2, whose time is bounded by the length of the text.

It is also what AMS uses, so they mean the same. What they may take in memory is bounded: one of
them by ``_MAX_BYTES``, those of a definition by their number.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final, TypeAlias

from ams_grpc.schemas.errors import DefinitionError

MAX_PATTERNS: Final = 100
"""In one definition."""

PATTERN_BYTES: Final = 32 * 1024
"""What one counts for beside its text, among the definitions that are kept."""

_MAX_BYTES: Final = 256 * 1024

# Whether a text has a match anywhere in it.
Matches: TypeAlias = Callable[[str], bool]


class BadPatternError(Exception):
    """This is no regular expression, or one that takes too much memory."""


class Patterns:
    """Those of one definition."""

    def __init__(self) -> None:
        self.count = 0

    def compile(self, pattern: str) -> Matches:
        """Raises BadPatternError; DefinitionError when there are too many."""
        self.count += 1
        if self.count > MAX_PATTERNS:
            raise DefinitionError(f"there are more than {MAX_PATTERNS} regular expressions")
        search = _compile(pattern).search

        def matches(text: str) -> bool:
            return search(text.encode()) is not None

        return matches


def is_pattern(text: str) -> bool:
    try:
        _compile(text)
    except BadPatternError:
        return False
    return True


def _compile(pattern: str) -> Any:
    re2 = _re2()
    options = re2.Options()
    options.max_mem = _MAX_BYTES
    options.log_errors = False
    try:
        return re2.compile(pattern.encode(), options)
    except re2.error:
        raise BadPatternError from None


@cache
def _re2() -> Any:
    import re2  # type: ignore[import-untyped]  # noqa: PLC0415  # when somebody needs it

    return re2
