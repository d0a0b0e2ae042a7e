"""Reply -> JSON in AMS's form: its keys and their order, all fields, numbers as numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from http_bridge.ams.options import field_options

_INDENTATION: Final = re.compile(rb"(?m)^ +")
_DEEPEST: Final = 200
"""orjson writes 254 levels."""
_WHOLE: Final = 2.0**53
"""Up to here, a float can be told from its neighbours."""
_ESCAPES: Final = ((b"<", rb"\u003c"), (b">", rb"\u003e"), (b"&", rb"\u0026"))
_ESCAPES_BEYOND_ASCII: Final = (
    ("\u2028".encode(), rb"\u2028"),
    ("\u2029".encode(), rb"\u2029"),
)  # apart, since looking for several bytes takes ten times as long


def reply_json(reply: Message) -> dict[str, Any]:
    """What a reply shows, ready to be dumped."""
    return dict(_pairs(reply))


def dump(value: Any) -> bytes:
    """AMS: indented by three blanks, without a line feed at the end, and safe inside HTML."""
    return escaped(_INDENTATION.sub(_wider, orjson.dumps(value, option=orjson.OPT_INDENT_2)))


def escaped(text: bytes) -> bytes:
    """AMS: some characters of strings are written by their numbers. JSON has them nowhere else."""
    for character, escape in _ESCAPES if text.isascii() else (*_ESCAPES, *_ESCAPES_BEYOND_ASCII):
        if character in text:
            text = text.replace(character, escape)
    return text


def moment(seconds: int, nanos: int = 0) -> str:
    """AMS: RFC 3339 in UTC, with as many digits of a second as it takes."""
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{nanos:09d}".rstrip("0") + "Z" if nanos else f"{text}Z"


def _wider(indentation: re.Match[bytes]) -> bytes:
    return b" " * (len(indentation[0]) // 2 * 3)


def _pairs(message: Message) -> Iterator[tuple[str, Any]]:
    descriptor: Any = message.DESCRIPTOR
    for field in descriptor.fields:
        value = getattr(message, field.name)
        if field_options(field).json:
            if message.HasField(field.name):
                yield field.json_name, _document(value)
        elif field.message_type is not None and not field.is_repeated:
            if message.HasField(field.name):
                yield field.json_name, _inner(value)
        elif value or not field_options(field).omit_empty or _is_set(message, field):
            yield field.json_name, _shown(field, value)


def _is_set(message: Message, field: Any) -> bool:
    """Whether a field was set that can be empty and set."""
    return bool(field.has_presence and message.HasField(field.name))


def _shown(field: FieldDescriptor, value: Any) -> Any:
    if not field.is_repeated:
        return _number(value)
    inner = field.message_type
    if inner is None:
        return [_number(each) for each in value]
    if inner.GetOptions().map_entry:
        return dict(sorted(value.items()))
    return [_inner(each) for each in value]


def _inner(message: Any) -> Any:
    kind = message.DESCRIPTOR.full_name
    if kind == "google.protobuf.Timestamp":
        return moment(message.seconds, message.nanos)
    return reply_json(message)


def _document(text: str) -> Any:
    """What a free-form object shows: its own text if it is nested too deeply to be laid out."""
    try:
        return _sorted(orjson.loads(text), _DEEPEST)
    except RecursionError:
        return orjson.Fragment(text)


def _sorted(value: Any, levels: int) -> Any:
    """AMS: keys of free-form objects are in order. Raises RecursionError."""
    if not levels:
        raise RecursionError
    if isinstance(value, dict):
        return {key: _sorted(value[key], levels - 1) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted(each, levels - 1) for each in value]
    return _number(value)


def _number(value: Any) -> Any:
    """AMS: whole numbers have no fraction. Larger ones are no integers: they have lost digits."""
    if isinstance(value, float) and abs(value) <= _WHOLE and value.is_integer():
        return int(value)
    return value
