"""JSON <-> protobuf messages, as google.api.http maps them, with the errors that Google answers.

In: fields by their JSON or their proto names; what the path and the query say goes where they name.
Out: lowerCamelCase, defaults left out, 64-bit numbers as strings, bytes in base64.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from http_bridge.limits import MOST_SEPARATORS, has_too_many_parts
from http_bridge.routes import Match

_SYSTEM_PARAMETERS: Final = frozenset(
    {
        "alt", "$alt", "key", "access_token", "fields", "prettyPrint", "$prettyPrint", "quotaUser",
        "userIp", "callback", "uploadType", "upload_protocol", "$.xgafv", "oauth_token",
    }
)  # fmt: skip
_UNKNOWN_FIELD: Final = re.compile(r'has no field named "([^"]*)"(?: at "([^"]*)")?')
_BAD_FIELD: Final = re.compile(r"Failed to parse (\S+) field: (.*?)\.?$", re.DOTALL)


class BadJson(Exception):
    """A request that is no message of its method; ``field`` is at fault, if that is known."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.field = field


def request_of(match: Match, query: Iterable[tuple[str, str]], body: bytes) -> Message:
    """The request that a method is to get. Raises BadJson.

    The path wins over the body; the query may set what neither of them can.
    """
    route = match.route
    descriptor = route.method.input_type
    given = _read(body)
    values: dict[str, Any] = {}
    if route.body == "*":
        values = given
    elif route.body:
        values[route.body] = given
    elif given:
        raise BadJson("Invalid JSON payload received. This method takes no body.")
    for name, value in query:
        if name not in _SYSTEM_PARAMETERS:
            _put(values, descriptor, name, value)
    for name, value in match.fields.items():
        _put_path(values, descriptor, name, value)
    message = GetMessageClass(descriptor)()
    try:
        _refuse_twins(values, descriptor)
        return json_format.ParseDict(values, message, max_recursion_depth=50)
    except (json_format.ParseError, ValueError, TypeError, AttributeError) as error:
        raise _explained(str(error)) from None
    except RecursionError:
        raise BadJson("Invalid JSON payload received. It is nested too deeply.") from None


def reply_json(reply: Message, *, pretty: bool, enums_as_numbers: bool) -> bytes:
    """A reply as JSON, with a line feed behind it."""
    values = json_format.MessageToDict(reply, use_integers_for_enums=enums_as_numbers)
    return dump(values, pretty=pretty)


def dump(values: Mapping[str, Any], *, pretty: bool = True) -> bytes:
    """JSON text, indented by two blanks or not at all, with a line feed behind it."""
    options = orjson.OPT_APPEND_NEWLINE | (orjson.OPT_INDENT_2 if pretty else 0)
    return orjson.dumps(values, option=options)


def _read(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    if has_too_many_parts(body):
        raise BadJson(f"Invalid JSON payload received. More than {MOST_SEPARATORS} parts.")
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadJson(f"Invalid JSON payload received. {error}") from None
    if not isinstance(given, dict):
        raise BadJson("Invalid JSON payload received. Root element must be a message.")
    return given


def _refuse_twins(values: Mapping[str, Any], descriptor: Descriptor) -> None:
    """A field is given by one of its two names, not by both. Raises BadJson."""
    given: set[str] = set()
    for name, value in values.items():
        field = _field(descriptor, name)
        if field is None:
            continue
        if field.name in given:
            raise BadJson(f"Invalid value at '{field.name}', it is given twice.", field.name)
        given.add(field.name)
        inner = field.message_type
        if inner is None or inner.GetOptions().map_entry:
            continue
        for each in value if isinstance(value, list) else (value,):
            if isinstance(each, dict):
                _refuse_twins(each, inner)


def _put(values: dict[str, Any], descriptor: Descriptor, name: str, text: str) -> None:
    """Set what a query parameter names, at any depth."""
    *outer, last = name.split(".")
    for part in outer:
        field = _field(descriptor, part)
        inner_type = None if field is None or field.is_repeated else field.message_type
        if field is None or inner_type is None:
            raise _no_parameter(name)
        inner = values.setdefault(_spelling(values, field), {})
        if not isinstance(inner, dict):
            raise _no_parameter(name)
        values, descriptor = inner, inner_type
    target = _field(descriptor, last)
    if target is None:
        raise _no_parameter(name)
    key = _spelling(values, target)
    value = _scalar(target, text)
    if target.is_repeated:
        values.setdefault(key, []).append(value)
    else:
        values[key] = value


def _put_path(values: dict[str, Any], descriptor: Descriptor, name: str, text: str) -> None:
    """Set what the path names, whatever the body says."""
    *outer, last = name.split(".")
    for part in outer:
        field = descriptor.fields_by_name[part]
        inner = values.setdefault(_spelling(values, field), {})
        if not isinstance(inner, dict) or field.message_type is None:
            raise BadJson(f"Invalid value at '{part}', it is no message.", part)
        values, descriptor = inner, field.message_type
    values[_spelling(values, descriptor.fields_by_name[last])] = text


def _field(descriptor: Descriptor, name: str) -> FieldDescriptor | None:
    by_json = descriptor.fields_by_camelcase_name
    return descriptor.fields_by_name.get(name) or by_json.get(name)


def _spelling(values: Mapping[str, Any], field: FieldDescriptor) -> str:
    """The name under which a field is there already, or else its JSON name."""
    return field.name if field.name in values else field.json_name


def _scalar(field: FieldDescriptor, text: str) -> Any:
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        if text not in {"true", "false"}:
            raise BadJson(f"Invalid value at '{field.name}' (TYPE_BOOL), \"{text}\"", field.name)
        return text == "true"
    if field.enum_type is not None and text.lstrip("-").isdecimal():
        return int(text)
    return text


def _no_parameter(name: str) -> BadJson:
    return BadJson(
        f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter.', name
    )


def _explained(text: str) -> BadJson:
    """What json_format says, in Google's words where they are known."""
    unknown = _UNKNOWN_FIELD.search(text)
    if unknown is not None:
        name = unknown[1]
        return BadJson(
            f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.', name
        )
    bad = _BAD_FIELD.match(text)
    if bad is not None:
        return BadJson(f"Invalid value at '{bad[1]}', {bad[2]}", bad[1])
    return BadJson(f"Invalid JSON payload received. {text}")
