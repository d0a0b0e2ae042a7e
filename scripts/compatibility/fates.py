"""What becomes of a method or field, and the fields that there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from google.api import field_behavior_pb2  # type: ignore[import-untyped]
from google.protobuf.message import Message

Descriptor: TypeAlias = Any
FieldDescriptor: TypeAlias = Any
"""Protobuf has them twice, in Python and in C, with the same attributes."""

WORKS: Final = "works"
STORED: Final = "stored only"
OUTPUT: Final = "output only"
IGNORED: Final = "ignored"
REFUSED: Final = "refused"


@dataclass(frozen=True, slots=True)
class Fate:
    """One of the words above, and why, where that is not plain."""

    word: str
    why: str = ""


class UnknownFateError(Exception):
    """The program cannot say what becomes of something."""


_OURS: Final = ("google.pubsub.", "google.iam.", "google.type.")


def is_map(field: FieldDescriptor) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def is_output_only(field: FieldDescriptor) -> bool:
    behavior = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.OUTPUT_ONLY in behavior


def leaves(message: Descriptor, above: str = "") -> Iterator[tuple[str, FieldDescriptor]]:
    """The fields of a message, and those in the messages that it holds, by path."""
    for field in message.fields:
        path = f"{above}{field.name}"
        inner = field.message_type
        if (
            inner is not None
            and inner.fields
            and not is_map(field)
            and inner.full_name.startswith(_OURS)
            and not is_output_only(field)
        ):
            yield from leaves(inner, f"{path}.")
        else:
            yield path, field


def values(message: Message, path: str) -> list[Any]:
    """What is set at a path; in lists, for each of their entries."""
    name, _, rest = path.partition(".")
    field = message.DESCRIPTOR.fields_by_name[name]
    value = getattr(message, name)
    if is_map(field):
        return [dict(value)] if value else []
    if field.is_repeated:
        parts = list(value)
    elif field.has_presence:
        parts = [value] if message.HasField(name) else []
    else:
        parts = [value] if value != field.default_value else []
    return [inner for part in parts for inner in values(part, rest)] if rest else parts
