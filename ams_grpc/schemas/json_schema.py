"""JSON Schema, drafts 4, 6 and 7, as AMS has it: a definition becomes one function per schema in it.

Checking a document calls these functions, and counts its steps: definitions come from users, and a
short one can ask for more than there is time. ``$ref`` leads to places in the definition only;
nothing is ever fetched. Source of the rules and of the texts: gojsonschema, which AMS uses.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from ams_grpc.schemas.errors import DefinitionError, IncompatibleError, MessageError
from ams_grpc.schemas.json_document import first_value
from ams_grpc.schemas.json_findings import ROOT, Budget, Findings, described
from ams_grpc.schemas.json_keywords import keywords
from ams_grpc.schemas.json_node import Draft, Node, types_of
from ams_grpc.schemas.json_references import References
from ams_grpc.schemas.patterns import PATTERN_BYTES, Patterns

_DRAFTS: Final = {f"http://json-schema.org/draft-0{draft}/schema": draft for draft in (4, 6, 7)}
_ENDLESS: Final = 1 << 20

_LEAST_WEIGHT: Final = 4
"""What is no JSON is gone over byte by byte, to say where it goes wrong."""


class JsonSchema:
    """A definition, ready to check documents."""

    def __init__(self, text: str) -> None:
        """Raises DefinitionError."""
        definition: object = orjson.loads(text)
        if definition is None:
            raise DefinitionError("schema is invalid")
        compiler = Compiler(definition)
        self._root = compiler.root
        self._weight = max(weight(self._root), _LEAST_WEIGHT)
        self.extra_bytes = compiler.patterns.count * PATTERN_BYTES

    def check_json(self, data: bytes) -> None:
        """Raises MessageError unless ``data`` begins with a document that follows the schema."""
        found = Findings(Budget(len(data)))
        try:
            self._root.check(first_value(data), None, found)
        except RecursionError:
            raise MessageError(
                described([f"{ROOT}: The document is nested too deep to be checked"])
            ) from None
        if found.violations:
            raise MessageError(described(found.violations))

    check_binary = check_json
    """There is one encoding, whatever a topic calls it."""

    def json_work(self, size: int) -> int:
        """What ``size`` bytes may cost, as that of so many bytes of plain data."""
        return size * self._weight

    binary_work = json_work

    def check_compatible(self, other: JsonSchema) -> None:
        raise IncompatibleError("a JSON Schema has no revisions beside each other")


class Compiler:
    """Makes a node of each schema in a definition, and finds what ``$ref`` means."""

    def __init__(self, definition: object) -> None:
        self.patterns = Patterns()
        given = definition.get("$schema") if isinstance(definition, dict) else None
        self.draft: Draft = _DRAFTS.get(given.rstrip("#"), 0) if isinstance(given, str) else 0
        self._references = References(definition, "id" if self.draft == 4 else "$id")
        self._nodes: dict[int, Node] = {}
        self._waiting: list[tuple[Node, dict[str, Any]]] = []
        self.root = self.node(definition, "schema")
        while self._waiting:  # not by recursion: references may lead far
            self._fill(*self._waiting.pop())

    def node(self, definition: object, key: str) -> Node:
        """The schema that is found under ``key``. Raises DefinitionError if it is none."""
        if isinstance(definition, bool):
            return Node(refuses_all=not definition)
        if not isinstance(definition, dict):
            raise DefinitionError(f"{key} must be of type object")
        known = self._nodes.get(id(definition))
        if known is None:
            known = self._nodes[id(definition)] = Node()
            self._waiting.append((known, definition))
        return known

    def _fill(self, node: Node, definition: dict[str, Any]) -> None:
        reference = definition.get("$ref")
        if isinstance(reference, str):  # what stands beside it does not count
            node.refer(self.node(self._references.find(reference, definition), "$ref"))
            return
        if "type" in definition:
            node.types = types_of(definition["type"])
        for compile_keyword in keywords(definition, self.draft):
            compile_keyword(self, node, definition)
        node.finish()


def weight(root: Node) -> int:
    """How many steps one value in a document may take, all schemas that look at it together.

    ``_ENDLESS`` if a schema contains itself: then it depends on the document.
    """
    known: dict[Node, int] = {}
    waiting: list[tuple[Node, bool]] = [(root, False)]
    begun: set[Node] = set()
    while waiting:
        node, is_ready = waiting.pop()
        if node in known:
            continue
        parts = [*node.beside, *node.inside]
        if is_ready:
            total = node.cost + sum(known.get(part, _ENDLESS) for part in node.beside)
            total += max((known.get(part, _ENDLESS) for part in node.inside), default=0)
            known[node] = min(total, _ENDLESS)
        elif node not in begun:
            begun.add(node)
            waiting.append((node, True))
            waiting += [(part, False) for part in parts if part not in known]
    return known[root]
