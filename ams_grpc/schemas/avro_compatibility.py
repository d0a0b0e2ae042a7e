"""Whether what was written with one Avro definition can be read with another.

Source of the rules: the Avro specification, "Schema Resolution". Pairs of types are worked off a
list, each once, so that types may refer to themselves and be nested as they like.
"""

from __future__ import annotations

from typing import Final

from ams_grpc.schemas.avro_types import (
    Array,
    AvroType,
    Enum,
    Field,
    Fixed,
    Map,
    Primitive,
    Record,
    Union,
    label,
)
from ams_grpc.schemas.errors import IncompatibleError

_PROMOTIONS: Final = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
    "string": {"bytes"},
    "bytes": {"string"},
}
"""What a written primitive may be read as."""

_MAX_STEPS: Final = 200_000


def check_readable(*, reader: AvroType, writer: AvroType) -> None:
    """Raises IncompatibleError unless ``reader`` reads all that ``writer`` writes."""
    pairs: list[tuple[AvroType, AvroType, str]] = [(reader, writer, "")]
    seen: set[tuple[AvroType, AvroType]] = set()
    steps = 0
    while pairs:
        of_reader, of_writer, where = pairs.pop()
        if (of_reader, of_writer) in seen:
            continue
        seen.add((of_reader, of_writer))
        steps += 1 + _width(of_reader) + _width(of_writer)
        if steps > _MAX_STEPS:
            raise IncompatibleError("the definitions are too complex to be compared")
        pairs += _parts(of_reader, of_writer, where)


def _width(avro_type: AvroType) -> int:
    """How much there is to look at in a type itself."""
    match avro_type:
        case Union(branches):
            return len(branches)
        case Record(fields=fields):
            return len(fields)
        case Enum(symbols=symbols):
            return len(symbols)
        case _:
            return 0


def _parts(reader: AvroType, writer: AvroType, where: str) -> list[tuple[AvroType, AvroType, str]]:
    """What must be readable for a pair of types to be: pairs of their parts."""
    match reader, writer:
        case _, Union(branches):
            return [(reader, branch, where) for branch in branches]
        case Union(branches), _:
            return [(_branch_for(branches, writer, where), writer, where)]
        case Primitive(to), Primitive(written) if to == written or to in _PROMOTIONS.get(
            written, ()
        ):
            return []
        case Array(items), Array(written_items):
            return [(items, written_items, where)]
        case Map(values), Map(written_values):
            return [(values, written_values, where)]
        case Fixed(), Fixed() if _same_name(reader, writer) and reader.size == writer.size:
            return []
        case Enum(), Enum() if _same_name(reader, writer):
            missing = set(writer.symbols) - set(reader.symbols)
            if missing and not reader.has_default:
                raise IncompatibleError(
                    f"{_at(where)}{min(missing)} is missing in the enum {reader.name}"
                )
            return []
        case Record(), Record() if _same_name(reader, writer):
            return _fields(reader, writer)
        case _:
            raise _mismatch(reader, writer, where)


def _branch_for(branches: tuple[AvroType, ...], writer: AvroType, where: str) -> AvroType:
    """The branch of a reader's union that reads a type. Avro: the first that matches."""
    for branch in branches:
        match branch, writer:
            case Primitive(to), Primitive(written) if to == written:
                return branch
            case (Array(), Array()) | (Map(), Map()):
                return branch
            case ((Fixed() | Enum() | Record()), (Fixed() | Enum() | Record())):
                if type(branch) is type(writer) and _same_name(branch, writer):
                    return branch
            case _:
                continue
    for branch in branches:
        match branch, writer:
            case Primitive(to), Primitive(written) if to in _PROMOTIONS.get(written, ()):
                return branch
            case _:
                continue
    raise _mismatch(Union(branches), writer, where)


def _fields(reader: Record, writer: Record) -> list[tuple[AvroType, AvroType, str]]:
    written = {field.name: field for field in writer.fields}
    pairs: list[tuple[AvroType, AvroType, str]] = []
    for field in reader.fields:
        source = _source(field, written)
        if source is not None:
            pairs.append((field.type, source.type, f"{reader.name}.{field.name}"))
        elif not field.has_default:
            raise IncompatibleError(
                f"{reader.name}.{field.name} has no default and is missing in {writer.name}"
            )
    return pairs


def _source(field: Field, written: dict[str, Field]) -> Field | None:
    if field.name in written:
        return written[field.name]
    return next((written[alias] for alias in sorted(field.aliases) if alias in written), None)


def _same_name(reader: Fixed | Enum | Record, writer: Fixed | Enum | Record) -> bool:
    return reader.name == writer.name or writer.name in reader.aliases


def _mismatch(reader: AvroType, writer: AvroType, where: str) -> IncompatibleError:
    return IncompatibleError(
        f"{_at(where)}type {label(writer)} is not compatible with type {label(reader)}"
    )


def _at(where: str) -> str:
    return f"{where}: " if where else ""
