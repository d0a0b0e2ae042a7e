"""What can be wrong with definitions and messages. The texts are for whoever sent them."""

from __future__ import annotations


class DefinitionError(Exception):
    """This is no definition of a schema, or one that is too large or too deep."""


class IncompatibleError(Exception):
    """Two definitions cannot be revisions of one schema."""


class MessageError(Exception):
    """A message does not follow a schema.

    ``path`` is filled from the inside out, while the error travels through the records.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self._reason = reason
        self._path: list[str] = []

    def within(self, name: str) -> None:
        """It happened inside the field ``name``."""
        self._path.append(name)

    def __str__(self) -> str:
        path = ".".join(reversed(self._path))
        return f"{path}: {self._reason}" if path else self._reason


MAX_DEPTH = 100
"""How deep messages may be nested: as deep as protobuf allows."""
