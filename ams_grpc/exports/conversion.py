"""From a message's data to a record of the topic's schema, whatever the data claim to be.

Data may be hostile: five bytes can announce an array of 2^40 nulls. So nothing is read on the event
loop but short data, by our own reader, whose work is bounded by their length. It decides alone when
a message has the topic's revision already. All else goes through fastavro, on a thread of a few that
all exports share, after our own reader has checked the data, and within limits:

- it reads and writes through objects of Python, since its own code never lets other threads run;
- these count: data of too many values, or that become too large by defaults, are refused;
- what takes no bytes is not counted there, so arrays of it are not converted at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO, StringIO
from typing import Any, Final

import fastavro
import orjson
from fastavro import _write_py

from ams_grpc.exports.records import UnfitMessage
from ams_grpc.schemas.avro_binary import BinaryCompiler, EmptyValues
from ams_grpc.schemas.avro_types import (
    Array,
    AvroType,
    Map,
    Record,
    Union,
    empty_values,
    parse,
)
from ams_grpc.schemas.errors import MessageError

MAX_STEPS: Final = 4_000_000
"""So often fastavro may read, or write, for one message: about as many values as it may have."""
MAX_RECORD_BYTES: Final = 64 << 20
"""A message has 10 MB at most; defaults of another revision may make a record longer."""
_SHORT_BYTES: Final = 4096
_threads: Final = ThreadPoolExecutor(2, "export-avro")


class Definition:
    """An Avro schema in all forms that conversion needs. Logical types count as what they are.

    Raises whatever a definition that is not valid leads our parser or fastavro to.
    """

    def __init__(self, definition: Any) -> None:
        avro_type = parse(orjson.dumps(definition).decode())
        types = list(_types(avro_type, set()))
        self.parsed: Any = fastavro.parse_schema(_without_logical_types(definition))
        self.has_uncounted = any(
            isinstance(each, Array) and empty_values(each.items) for each in types
        )
        self.weight = 1 + sum(map(empty_values, types))
        """Of one step: what takes no bytes comes along with something that does."""
        self._empty = EmptyValues()
        self._end = BinaryCompiler(self._empty).compile(avro_type)

    def record_in(self, data: bytes) -> bytes:
        """The value that data begin with. Raises UnfitMessage."""
        self._empty.allow_for(data)
        try:
            end = self._end(data, 0, 0)
        except IndexError:
            end = len(data) + 1
        except (MessageError, RecursionError) as error:
            raise _unfit(error) from error
        if end > len(data):
            raise UnfitMessage("The data do not follow the topic's schema: they end too early.")
        return data[:end]


async def convert(data: bytes, writer: Definition, reader: Definition, *, is_json: bool) -> bytes:
    """Data of a message as a record. Raises UnfitMessage."""
    if is_json:
        return await _on_thread(lambda: _of_json(data, writer, reader))
    if writer is reader:
        if len(data) <= _SHORT_BYTES:
            return reader.record_in(data)
        return await _on_thread(lambda: reader.record_in(data))
    if writer.has_uncounted:
        raise UnfitMessage("Arrays of what takes no bytes are not converted.")
    return await _on_thread(lambda: _of_other_revision(data, writer, reader))


async def _on_thread(work: Callable[[], bytes]) -> bytes:
    return await asyncio.get_running_loop().run_in_executor(_threads, work)


def _of_json(data: bytes, writer: Definition, reader: Definition) -> bytes:
    try:
        line = StringIO(orjson.dumps(orjson.loads(data)).decode())
        value = next(fastavro.json_reader(line, writer.parsed, reader.parsed))
        return _encoded(value, reader)
    except UnfitMessage:
        raise
    except Exception as error:  # fastavro raises whatever the data lead it to
        raise _unfit(error) from error


def _of_other_revision(data: bytes, writer: Definition, reader: Definition) -> bytes:
    source = _Source(writer.record_in(data), writer.weight)
    try:
        value = fastavro.schemaless_reader(source, writer.parsed, reader.parsed)  # type: ignore[arg-type]
        return _encoded(value, reader)
    except UnfitMessage:
        raise
    except Exception as error:  # see above
        raise _unfit(error) from error


def _encoded(value: object, schema: Definition) -> bytes:
    sink = _Sink(schema.weight)
    # The one in C writes to memory of its own, without a limit.
    _write_py.schemaless_writer(sink, schema.parsed, value)  # type: ignore[arg-type]
    return sink.content.getvalue()


class _Steps:
    def __init__(self, weight: int) -> None:
        self._left = MAX_STEPS // weight
        self.step()  # also if none follows

    def step(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise UnfitMessage("The data have too many values to be converted.")


class _Source(_Steps):
    """What fastavro reads from."""

    def __init__(self, data: bytes, weight: int) -> None:
        super().__init__(weight)
        self._data = BytesIO(data)

    def read(self, size: int) -> bytes:
        self.step()
        return self._data.read(size)


class _Sink(_Steps):
    """What fastavro writes to."""

    def __init__(self, weight: int) -> None:
        super().__init__(weight)
        self.content = BytesIO()

    def write(self, data: bytes) -> None:
        self.step()
        if self.content.tell() + len(data) > MAX_RECORD_BYTES:
            raise UnfitMessage("Defaults of the topic's schema make the record too long.")
        self.content.write(data)


def _unfit(error: Exception) -> UnfitMessage:
    return UnfitMessage(f"The data do not follow the topic's schema ({type(error).__name__}).")


def _types(avro_type: AvroType, known: set[Record]) -> Iterator[AvroType]:
    """A type and all that it consists of."""
    yield avro_type
    match avro_type:
        case Array(items=part) | Map(values=part):
            yield from _types(part, known)
        case Union(branches=parts):
            for part in parts:
                yield from _types(part, known)
        case Record(fields=fields) if avro_type not in known:
            known.add(avro_type)
            for field in fields:
                yield from _types(field.type, known)


def _without_logical_types(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {
            key: _without_logical_types(value) if key != "default" else value
            for key, value in schema.items()
            if key != "logicalType"
        }
    if isinstance(schema, list):
        return [_without_logical_types(part) for part in schema]
    return schema
