"""Texts of requests that no database would keep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor

from ams_grpc.broker.errors import InvalidArgument

_NUL: Final = "\0"


def check_texts(request: Any) -> None:
    """Raises InvalidArgument for a text with NUL in it, which PostgreSQL does not take."""
    # Hardly a request has such a byte, and those that do have it mostly in numbers.
    if b"\0" in request.SerializeToString():
        for name, text in _texts(request):
            if _NUL in text:
                raise InvalidArgument(f"Invalid {name}: NUL is no character of a text", field=name)


def _texts(message: Any) -> Iterator[tuple[str, str]]:
    for field, value in message.ListFields():
        values = value if field.is_repeated else (value,)
        if field.cpp_type == FieldDescriptor.CPPTYPE_STRING and field.type == field.TYPE_STRING:
            yield from ((field.name, text) for text in values)
        elif field.message_type is not None:
            for each in values:
                yield from _texts(each)
