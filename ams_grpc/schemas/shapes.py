"""What the messages of a definition weigh: how much memory one takes, whatever is in it.

A few bytes can begin a message, and it has a place for each of its fields: ten megabytes of the
wrong bytes would become gigabytes. ``wire`` and ``json_weight`` find out what a message weighs
before it is parsed.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor

MAX_WEIGHT: Final = 64 * 1024 * 1024
"""Bytes of memory that a message may take beside its data."""

ANY: Final = "google.protobuf.Any"

_MESSAGE_BYTES: Final = 48
_FIELD_BYTES: Final = 16
_DYNAMIC: Final = frozenset(f"google.protobuf.{name}" for name in ("Struct", "Value", "ListValue"))
_DYNAMIC_BYTES: Final = 256


class Shape:
    """Of a message type: what one takes in memory, and which of its fields are messages."""

    __slots__ = ("fields", "heaviest", "is_any", "is_dynamic", "is_map_entry", "names", "weight")

    def __init__(self, message: Descriptor) -> None:
        self.weight = _MESSAGE_BYTES + _FIELD_BYTES * len(message.fields)
        self.heaviest = 0
        """The largest weight among the messages inside it, at any depth."""
        self.fields: dict[int, Shape] = {}
        self.names: dict[str, Shape] = {}
        """The same by what they are called in JSON."""
        self.is_map_entry: bool = message.GetOptions().map_entry
        self.is_any = message.full_name == ANY
        self.is_dynamic = message.full_name in _DYNAMIC
        """In JSON it is any value; each value in it is a message of its own."""
        if self.is_dynamic:
            self.weight = _DYNAMIC_BYTES


class Shapes:
    def __init__(self) -> None:
        self._known: dict[str, Shape] = {}
        self._complete: set[str] = set()

    def of(self, root: Descriptor) -> Shape:
        """The shape of a message type and of all that are in it."""
        shape = self._shape(root)
        if root.full_name in self._complete:
            return shape
        waiting = [root]
        seen = {root.full_name}
        while waiting:
            message = waiting.pop()
            self._fill(message)
            for field in _fields(message):
                inner = field.message_type
                if inner is None:
                    continue
                shape.heaviest = max(shape.heaviest, self._shape(inner).weight)
                if inner.full_name not in seen:
                    seen.add(inner.full_name)
                    waiting.append(inner)
        self._complete.add(root.full_name)
        return shape

    @property
    def has_any(self) -> bool:
        """True if messages may have messages inside them that only they name."""
        return ANY in self._known

    def _fill(self, message: Descriptor) -> None:
        shape = self._shape(message)
        inner = [
            (field, self._shape(field.message_type))
            for field in _fields(message)
            if field.message_type is not None
        ]
        shape.fields = {field.number: of_field for field, of_field in inner}
        shape.names = {
            **{field.name: of_field for field, of_field in inner if not field.is_extension},
            **{f"[{field.full_name}]": of_field for field, of_field in inner if field.is_extension},
            # Last: who has a name in JSON has it before who only has it as a field.
            **{field.json_name: of_field for field, of_field in inner if not field.is_extension},
        }

    def _shape(self, message: Descriptor) -> Shape:
        known = self._known.get(message.full_name)
        # Threads may get here at the same time: they must get the same one.
        return known or self._known.setdefault(message.full_name, Shape(message))


def _fields(message: Descriptor) -> list[FieldDescriptor]:
    return [*message.fields, *message.file.pool.FindAllExtensions(message)]
