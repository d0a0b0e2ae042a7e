"""Avro: definitions, and whether a message follows one.

A definition becomes one function per type and encoding, once; checking a message calls them and
builds nothing.
"""

from __future__ import annotations

import orjson

from ams_grpc.schemas.avro_binary import TOO_SHORT, BinaryCompiler, EmptyValues
from ams_grpc.schemas.avro_compatibility import check_readable
from ams_grpc.schemas.avro_json import JsonCompiler
from ams_grpc.schemas.avro_types import parse
from ams_grpc.schemas.errors import MessageError


class AvroSchema:
    """A definition, ready to check messages."""

    extra_bytes = 0

    def __init__(self, text: str) -> None:
        """Raises DefinitionError."""
        self.type = parse(text)
        self._empty = EmptyValues()
        self._binary = BinaryCompiler(self._empty).compile(self.type)
        self._json = JsonCompiler().compile(self.type)

    def check_binary(self, data: bytes) -> None:
        """Raises MessageError unless ``data`` begins with a value; what follows it is tolerated."""
        self._empty.allow_for(data)
        try:
            if self._binary(data, 0, 0) > len(data):
                raise MessageError(TOO_SHORT)
        except IndexError:
            raise MessageError(TOO_SHORT) from None

    def check_json(self, data: bytes) -> None:
        """Raises MessageError unless ``data`` is a value in Avro's JSON encoding."""
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise MessageError(f"not JSON: {error}") from None
        self._json(value, 0)

    def binary_work(self, size: int) -> int:
        """What ``size`` bytes may cost, as that of so many bytes of plain data."""
        return size

    def json_work(self, size: int) -> int:
        """The same of JSON."""
        return size

    def check_compatible(self, other: AvroSchema) -> None:
        """Raises IncompatibleError unless each of two definitions reads what the other writes."""
        check_readable(reader=self.type, writer=other.type)
        check_readable(reader=other.type, writer=self.type)
