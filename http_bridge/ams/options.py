"""What the options of the protos say (``ams/v1/options.proto``)."""

from __future__ import annotations

from functools import cache
from typing import Any, Final, NamedTuple

from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor

from ams_grpc.pb.ams.v1 import options_pb2

# The stubs know extensions by another type than the one that indexes them.
_ROUTE: Final[Any] = options_pb2.route
_OMIT_EMPTY: Final[Any] = options_pb2.omit_empty
_REFUSAL: Final[Any] = options_pb2.refusal
_ALSO: Final[Any] = options_pb2.also
_REQUIRED: Final[Any] = options_pb2.required
_JSON: Final[Any] = options_pb2.json


class FieldOptions(NamedTuple):
    """See ``options.proto``."""

    omit_empty: bool
    refusal: str
    also: str
    required: bool
    json: bool


@cache
def field_options(field: FieldDescriptor) -> FieldOptions:
    """What the protos say of a field."""
    found: Any = field.GetOptions().Extensions
    return FieldOptions(
        omit_empty=found[_OMIT_EMPTY],
        refusal=found[_REFUSAL],
        also=found[_ALSO],
        required=found[_REQUIRED],
        json=found[_JSON],
    )


def route_options(method: MethodDescriptor) -> Any:
    """The ``Route`` of a method."""
    found: Any = method.GetOptions().Extensions
    return found[_ROUTE]
