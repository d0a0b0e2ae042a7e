"""Rules for the attributes of messages, which a schema may have beside its definition.

In JSON, one entry for each attribute that there is a rule for::

    {"site": {"required": true, "pattern": "^[A-Z]+$"}, "kind": {"values": ["ping", "report"]}}

Other attributes may be there and have any value. A pattern may match anywhere in a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from ams_grpc.schemas.errors import DefinitionError, MessageError
from ams_grpc.schemas.json_findings import Budget, Findings, numbered
from ams_grpc.schemas.patterns import BadPatternError, Matches, Patterns

MAX_RULES: Final = 100
MAX_NAME_BYTES: Final = 256
"""Pub/Sub: so many attributes may a message have, with names so long."""

_KEYS: Final = {"required", "values", "pattern"}


@dataclass(frozen=True, slots=True)
class Rule:
    """For one attribute. ``values`` None: any that matches ``pattern``, if there is one."""

    name: str
    is_required: bool
    values: frozenset[str] | None
    allowed: str
    pattern: str
    matches: Matches | None


class AttributeRules:
    """Rules, ready to check attributes."""

    def __init__(self, text: str) -> None:
        """Raises DefinitionError."""
        given: object = orjson.loads(text)
        if not isinstance(given, dict):
            raise DefinitionError("attributes: they must be an object")
        if len(given) > MAX_RULES:
            raise DefinitionError(f"attributes: there are more than {MAX_RULES}")
        patterns = Patterns()
        self._rules = [_rule(name, rule, patterns) for name, rule in given.items()]

    def __len__(self) -> int:
        return len(self._rules)

    def check(self, attributes: Mapping[str, str]) -> None:
        """Raises MessageError unless attributes follow the rules."""
        found = Findings(Budget(0))
        for rule in self._rules:
            value = attributes.get(rule.name)
            if value is None:
                if rule.is_required:
                    found.add((None, rule.name), "is required")
                continue
            if rule.values is not None and value not in rule.values:
                found.add((None, rule.name), f"must be one of the following: {rule.allowed}")
            if rule.matches is not None and not rule.matches(value):
                found.add((None, rule.name), f"Does not match pattern '{rule.pattern}'")
        if found.violations:
            raise MessageError(numbered("attributes are not valid", found.violations))


def _rule(name: str, given: Any, patterns: Patterns) -> Rule:
    where = f"attributes.{name[:100]}"
    if not name or len(name.encode()) > MAX_NAME_BYTES:
        raise DefinitionError(f"{where}: a name has 1 to {MAX_NAME_BYTES} bytes")
    if not isinstance(given, dict) or given.keys() - _KEYS:
        raise DefinitionError(f"{where}: a rule is an object of required, values and pattern")
    is_required = given.get("required", False)
    if not isinstance(is_required, bool):
        raise DefinitionError(f"{where}.required: true or false")
    values = given.get("values")
    if values is not None and not (
        isinstance(values, list) and values and all(isinstance(each, str) for each in values)
    ):
        raise DefinitionError(f"{where}.values: texts, at least one")
    pattern = given.get("pattern", "")
    if not isinstance(pattern, str):
        raise DefinitionError(f"{where}.pattern: a text")
    try:
        matches = patterns.compile(pattern) if pattern else None
    except BadPatternError:
        raise DefinitionError(f"{where}.pattern: no regular expression (RE2)") from None
    return Rule(
        name=name,
        is_required=is_required,
        values=None if values is None else frozenset(values),
        allowed=", ".join(f'"{each}"' for each in values or ()),
        pattern=pattern,
        matches=matches,
    )
