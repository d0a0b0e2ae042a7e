"""How an object is written: what ``text`` and ``avro`` have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias

AvroSchema: TypeAlias = "dict[str, object] | list[object] | str"

SchemaOfTopic: TypeAlias = "Callable[[int, str], Awaitable[AvroSchema | None]]"
"""The Avro schema of a topic: its id, and a revision's id or "" for the one in force, in; a parsed
definition out, or None if there is none."""


class UnfitMessage(Exception):
    """This message cannot be written in that format; the text is the reason, without its data."""


class Format(Protocol):
    """How one object is written: its head, then blocks of records. Made anew for each object."""

    @property
    def head(self) -> bytes:
        """What the object begins with."""
        ...

    @property
    def overhead(self) -> int:
        """How many bytes the next block has, at most, beyond its records."""
        ...

    async def record(self, message: bytes) -> bytes:
        """A serialized PubsubMessage as the object will have it. Raises UnfitMessage."""
        ...

    def block(self, records: Sequence[bytes]) -> bytes:
        """What comes next in the object."""
        ...
