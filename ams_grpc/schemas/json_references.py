"""Where ``$ref`` leads: to places in the same definition, by pointer or by ``$id``."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import unquote, urldefrag, urljoin

from ams_grpc.schemas.errors import DefinitionError

_MAX_CHARS: Final = 100
_NO_SCHEMAS: Final = ("enum", "const", "default", "examples")


class References:
    """The schemas in a definition, by their ids."""

    def __init__(self, definition: object, id_key: str) -> None:
        self._ids: dict[str, object] = {"": definition}
        self._bases: dict[int, str] = {}
        waiting: list[tuple[object, str]] = [(definition, "")]
        while waiting:
            part, base = waiting.pop()
            if isinstance(part, list):
                waiting += [(each, base) for each in part]
            if not isinstance(part, dict):
                continue
            given = part.get(id_key)
            if isinstance(given, str) and not isinstance(part.get("$ref"), str):
                full = _joined(base, given)
                self._ids.setdefault(full.removesuffix("#"), part)
                base = urldefrag(full).url
            self._bases[id(part)] = base
            waiting += [(each, base) for key, each in part.items() if key not in _NO_SCHEMAS]

    def find(self, reference: str, inside: dict[str, Any]) -> object:
        """What a reference means ``inside`` a schema. Raises DefinitionError."""
        full = _joined(self._bases.get(id(inside), ""), reference).removesuffix("#")
        if full in self._ids:
            return self._ids[full]
        base, pointer = urldefrag(full)
        if base not in self._ids or (pointer and not pointer.startswith("/")):
            shown = reference if len(reference) <= _MAX_CHARS else f"{reference[:_MAX_CHARS]}..."
            raise DefinitionError(f"Reference {shown} leads out of the schema, and is not followed")
        found = self._ids[base]
        for step in unquote(pointer).split("/")[1:]:
            found = _step(found, step.replace("~1", "/").replace("~0", "~"))
        return found


def _joined(base: str, reference: str) -> str:
    try:
        return urljoin(base, reference)
    except ValueError:
        raise DefinitionError("an id or a reference is no URI") from None


def _step(found: object, key: str) -> object:
    if isinstance(found, dict) and key in found:
        return found[key]
    if isinstance(found, list) and key.isdecimal() and len(key) < 10 and int(key) < len(found):
        return found[int(key)]
    raise DefinitionError(f"Object has no key '{key[:_MAX_CHARS]}'")
