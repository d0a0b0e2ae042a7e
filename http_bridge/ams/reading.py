"""JSON and query -> request, with the leniency of AMS, and its strictness.

Keys count whatever their case, an exact one before others; unknown ones are nothing, and ``null`` is
as if the key were not there. A value of the wrong type is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from math import isinf
from typing import Any, Final, NoReturn

import orjson
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from ams_grpc.pb.ams.v1 import options_pb2
from http_bridge.ams.options import field_options
from http_bridge.ams.routes import AmsMatch, AmsRoute
from http_bridge.arrival import TooLargeError
from http_bridge.limits import has_too_many_parts

_INTEGER: Final = re.compile(r"-?[0-9]+")
_INTEGERS: Final = {
    FieldDescriptor.CPPTYPE_INT32: 1 << 31,
    FieldDescriptor.CPPTYPE_INT64: 1 << 63,
}


class BadRequest(Exception):
    """A request that cannot be read. ``message`` is for the caller."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class _WrongType(Exception):
    """A value that its field cannot take."""


def named_by(match: AmsMatch) -> Message:
    """The request as far as the path says it."""
    return match.route.request_class(**match.variables)


def read_query(request: Message, match: AmsMatch, query: Mapping[str, str]) -> None:
    """Fill in what the query says. Raises BadRequest."""
    descriptor: Any = request.DESCRIPTOR
    for field in descriptor.fields:
        if field.name in match.variables:
            continue
        options = field_options(field)
        text = query.get(field.json_name) or query.get(options.also, "")
        if not text:
            continue
        if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
            setattr(request, field.name, text.lower() == "true")
        elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            setattr(request, field.name, text)
        else:
            try:
                number = _integer(text)
            except ValueError:
                raise BadRequest(options.refusal) from None
            bound = _INTEGERS[field.cpp_type]
            setattr(request, field.name, max(-bound, min(number, bound - 1)))


def read_body(request: Message, match: AmsMatch, body: bytes) -> None:
    """Fill in what the body says. Raises BadRequest, TooLargeError."""
    route = match.route
    if route.body_field not in {"*", ""}:
        setattr(request, route.body_field, body)
        return
    options = route.options
    if options.body == options_pb2.BODY_NONE:
        return
    if not body.strip() and options.body == options_pb2.BODY_OPTIONAL:
        return
    try:
        values = load(body, first_value_only=options.first_value_only)
        if options.texts_only and not all(isinstance(v, str | None) for v in values.values()):
            raise _WrongType
        _fill(request, values, skip=match.variables)
    except (ValueError, RecursionError, _WrongType):
        raise bad_body(route) from None


def bad_body(route: AmsRoute) -> BadRequest:
    """What a route says of a body that it cannot read."""
    return BadRequest(route.options.bad_body)


def load(body: bytes, *, first_value_only: bool = False) -> dict[str, Any]:
    """A JSON object; ``null`` is an empty one. Raises ValueError, RecursionError, TooLargeError."""
    if has_too_many_parts(body):
        raise TooLargeError
    value: Any
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = _load_slowly(body, first_value_only=first_value_only)
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    raise ValueError("no object")


def _integer(text: str) -> int:
    if _INTEGER.fullmatch(text) is None:
        raise ValueError(text)
    return int(text)


def _load_slowly(body: bytes, *, first_value_only: bool) -> Any:
    """AMS: what is no UTF-8, or half of a surrogate pair, becomes U+FFFD."""
    text = body.decode("utf-8", "replace").lstrip()
    decoder = json.JSONDecoder(parse_constant=_no_number, parse_float=_finite)
    value, end = decoder.raw_decode(text)
    if text[end:].strip() and not first_value_only:
        raise ValueError("more than one value")
    return _without_surrogates(value)


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)


def _finite(text: str) -> float:
    number = float(text)
    if isinf(number):
        raise ValueError(text)
    return number


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_surrogates(each) for each in value]
    if isinstance(value, dict):
        return {_without_surrogates(k): _without_surrogates(v) for k, v in value.items()}
    return value


def _fill(message: Message, values: Mapping[str, Any], *, skip: Iterable[str] = ()) -> None:
    descriptor: Any = message.DESCRIPTOR
    by_key = {key.lower(): value for key, value in values.items()}
    for field in descriptor.fields:
        if field.name in skip:
            continue
        inner = field.message_type
        if inner is not None and inner.full_name == "google.protobuf.FieldMask":
            present = (each for each in descriptor.fields if each.name not in skip)
            getattr(message, field.name).paths.extend(
                each.name for each in present if _value(values, by_key, each) is not None
            )
            continue
        value = _value(values, by_key, field)
        if value is not None:
            _set(message, field, value)
        elif field_options(field).required:
            raise _WrongType


def _value(values: Mapping[str, Any], by_key: Mapping[str, Any], field: FieldDescriptor) -> Any:
    name = field.json_name
    return values[name] if name in values else by_key.get(name.lower())


def _set(message: Message, field: FieldDescriptor, value: Any) -> None:
    inner = field.message_type
    if inner is not None and inner.full_name == "google.protobuf.Timestamp":
        return  # such fields are for replies
    if field_options(field).json:
        setattr(message, field.name, _document(_of(value, dict)))
    elif inner is not None and inner.GetOptions().map_entry:
        for key, text in _of(value, dict).items():
            getattr(message, field.name)[key] = _of(text, str)
    elif field.is_repeated:
        target = getattr(message, field.name)
        for each in _of(value, list):
            if inner is not None:
                _fill(target.add(), _of(each or {}, dict))
            else:
                target.append(_scalar(field, "" if each is None else each))
    elif inner is not None:
        sub = getattr(message, field.name)
        sub.SetInParent()
        _fill(sub, _of(value, dict))
    else:
        setattr(message, field.name, _scalar(field, value))


def _document(value: dict[str, Any]) -> str:
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # nested too deeply, or an integer of more than 64 bits
        raise _WrongType from None


def _scalar(field: FieldDescriptor, value: Any) -> Any:
    bound = _INTEGERS.get(field.cpp_type)
    if bound is not None:
        if type(value) is not int or not -bound <= value < bound:
            raise _WrongType
        return value
    return _of(value, bool if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else str)


def _of(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise _WrongType
    return value
