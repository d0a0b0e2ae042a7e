"""Free-form JSON of a request, as text, and the way back."""

from __future__ import annotations

from math import isfinite
from typing import Final

import orjson
from google.protobuf.struct_pb2 import Struct, Value

from ams_grpc.broker.errors import InvalidArgument

_WHOLE: Final = 2.0**53
"""Up to here, a number without a fraction is an integer: Struct knows floats only."""


def text_of(struct: Struct) -> str:
    """JSON with sorted keys. Raises InvalidArgument for what JSON cannot say."""
    return orjson.dumps(_object(struct), option=orjson.OPT_SORT_KEYS).decode()


def struct_of(text: str) -> Struct | None:
    """None if the text is no JSON object."""
    try:
        value: object = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(value, dict):
        return None
    struct = Struct()
    struct.update(value)
    return struct


def _object(struct: Struct) -> dict[str, object]:
    return {key: _plain(value) for key, value in struct.fields.items()}


def _plain(value: Value) -> object:
    match value.WhichOneof("kind"):
        case "struct_value":
            return _object(value.struct_value)
        case "list_value":
            return [_plain(each) for each in value.list_value.values]
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "number_value":
            return _number(value.number_value)
        case _:
            return None


def _number(number: float) -> int | float:
    if not isfinite(number):
        raise InvalidArgument("JSON has no number that is infinite or none")
    return int(number) if number.is_integer() and abs(number) <= _WHOLE else number
