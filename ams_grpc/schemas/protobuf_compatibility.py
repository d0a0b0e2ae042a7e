"""Whether two Protocol Buffers definitions can be revisions of one schema.

Pub/Sub: fields are the same when their numbers are. One that both have keeps its type and stays
single or repeated; one that only one of them has is not required; enums have the same values.
Names may change. Messages are compared in pairs, each once, so they may contain themselves.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from ams_grpc.schemas.errors import IncompatibleError

_MAX_STEPS: Final = 200_000
_Pair: TypeAlias = tuple[Descriptor, Descriptor] | tuple[EnumDescriptor, EnumDescriptor]

_TYPE_NAMES: Final = {
    getattr(FieldDescriptor, f"TYPE_{name.upper()}"): name
    for name in (
        *("double", "float", "int32", "int64", "uint32", "uint64", "sint32", "sint64"),
        *("fixed32", "fixed64", "sfixed32", "sfixed64"),
        *("bool", "string", "bytes", "group", "message", "enum"),
    )
}


def check_same(ours: Descriptor, theirs: Descriptor) -> None:
    """Raises IncompatibleError unless each of two messages can be read as the other."""
    pairs: list[_Pair] = [(ours, theirs)]
    seen: set[tuple[str, str]] = set()
    steps = 0
    while pairs:
        left, right = pairs.pop()
        if (left.full_name, right.full_name) in seen:
            continue
        seen.add((left.full_name, right.full_name))
        steps += _width(left) + _width(right)
        if steps > _MAX_STEPS:
            raise IncompatibleError("the definitions are too complex to be compared")
        if isinstance(left, EnumDescriptor) and isinstance(right, EnumDescriptor):
            _compare_enums(left, right)
        elif isinstance(left, Descriptor) and isinstance(right, Descriptor):
            pairs += _compare(left, right)


def _width(of: Descriptor | EnumDescriptor) -> int:
    """How much there is to look at in a type itself."""
    return 1 + len(of.fields if isinstance(of, Descriptor) else of.values)


def _compare(left: Descriptor, right: Descriptor) -> list[_Pair]:
    """What else must be the same for two messages to be."""
    ours, theirs = dict(left.fields_by_number), dict(right.fields_by_number)
    for number, field in [*ours.items(), *theirs.items()]:
        if field.is_required and not (
            number in ours
            and number in theirs
            and ours[number].is_required
            and theirs[number].is_required
        ):
            raise IncompatibleError(f"{field.full_name} is required in one of them only")
    pairs: list[_Pair] = []
    for number in sorted(ours.keys() & theirs.keys()):
        one, other = ours[number], theirs[number]
        if _kind(one) != _kind(other):
            raise IncompatibleError(
                f"{one.name} of type {_kind(one)} is not compatible with "
                f"{other.name} of type {_kind(other)}"
            )
        if one.enum_type is not None and other.enum_type is not None:
            pairs.append((one.enum_type, other.enum_type))
        if one.message_type is not None and other.message_type is not None:
            pairs.append((one.message_type, other.message_type))
    return pairs


def _kind(field: FieldDescriptor) -> str:
    name = _TYPE_NAMES[field.type]
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return "map"
    return f"repeated {name}" if field.is_repeated else name


def _compare_enums(left: EnumDescriptor, right: EnumDescriptor) -> None:
    for enum, other in ((left, right), (right, left)):
        for number, value in enum.values_by_number.items():
            if number not in other.values_by_number:
                raise IncompatibleError(
                    f"{_scope(enum)}{value.name} = {number} is missing in {other.full_name}"
                )


def _scope(enum: EnumDescriptor) -> str:
    """Protobuf: the values of an enum live beside it, not in it."""
    scope = enum.full_name.rpartition(".")[0]
    return f"{scope}." if scope else ""
