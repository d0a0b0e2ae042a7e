"""Protocol Buffers: definitions as text or compiled, and messages that follow them.

What counts is a FileDescriptorSet; text is compiled to one. Every definition gets a descriptor
pool of its own, so none meets another, or the service's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import orjson
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import (
    Edition,
    FileDescriptorProto,
    FileDescriptorSet,
)
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from ams_grpc.schemas.errors import MAX_DEPTH, DefinitionError, MessageError
from ams_grpc.schemas.json_weight import check_json_weight
from ams_grpc.schemas.protobuf_compatibility import check_same
from ams_grpc.schemas.protoc import MAX_COMPILED_BYTES, compile_proto
from ams_grpc.schemas.shapes import MAX_WEIGHT, Shape, Shapes
from ams_grpc.schemas.wire import check_weight

WELL_KNOWN: Final = "google.protobuf"
MAX_FILES: Final = 500
_MAX_REASON_CHARS: Final = 1_000  # it may list all fields of a message


@dataclass(frozen=True, slots=True)
class Compiled:
    """A serialized FileDescriptorSet, and the full name of the message that is meant."""

    descriptors: bytes
    root: str


def compile_text(text: str) -> Compiled:
    """Compile a .proto file with one top-level message, without imports. Blocks.

    Raises DefinitionError.
    """
    descriptors = compile_proto(text)
    [file] = FileDescriptorSet.FromString(descriptors).file
    if file.dependency:
        raise DefinitionError("imports are not supported")
    if file.service or file.enum_type or file.extension or len(file.message_type) != 1:
        raise DefinitionError("there must be one top-level message, and nothing beside it")
    name = file.message_type[0].name
    compiled = Compiled(descriptors, f"{file.package}.{name}" if file.package else name)
    ProtobufSchema(compiled)
    return compiled


class ProtobufSchema:
    """A definition, ready to check messages."""

    extra_bytes = 0

    def __init__(self, compiled: Compiled) -> None:
        """Raises DefinitionError."""
        self._pool = _pool(_read_files(compiled.descriptors))
        self.descriptor = _find(self._pool, compiled.root)
        self._shapes = Shapes()
        self._shape = self._shapes.of(self.descriptor)
        self._heaviest = MAX_WEIGHT if self._shapes.has_any else self._shape.heaviest
        # Methods are called on the class: a field of the definition may have a method's name.
        try:
            self._class = GetMessageClass(self.descriptor)
        except RecursionError:
            raise DefinitionError("messages are nested too deep in each other") from None

    def check_binary(self, data: bytes) -> None:
        """Raises MessageError unless ``data`` is a message of it, without unknown fields."""
        check_weight(data, self._shape)
        message_class = self._class
        try:
            message = message_class.FromString(data)
        except DecodeError:
            raise MessageError("the bytes are no such message") from None
        self._check_required(message)
        size = message_class.ByteSize(message)
        message_class.DiscardUnknownFields(message)
        if message_class.ByteSize(message) != size:
            raise MessageError("it has fields or enum values that the schema lacks")

    def check_json(self, data: bytes) -> None:
        """Raises MessageError unless ``data`` is a message of it in the JSON of proto3."""
        from google.protobuf.json_format import ParseDict, ParseError  # noqa: PLC0415  # late

        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise MessageError(f"not JSON: {error}") from None
        if not isinstance(value, dict):
            raise MessageError("no JSON object")
        check_json_weight(value, len(data), self._shape, self._named)
        message = self._class()
        try:
            ParseDict(value, message, descriptor_pool=self._pool, max_recursion_depth=MAX_DEPTH)
        except ParseError as error:
            raise MessageError(str(error)[:_MAX_REASON_CHARS]) from None
        except (AttributeError, LookupError, TypeError, ValueError, RecursionError):
            # Its author did not think of everything, such as fields named like methods.
            raise MessageError("the JSON does not fit") from None
        self._check_required(message)

    def binary_work(self, size: int) -> int:
        """What ``size`` bytes may cost, as that of so many bytes of plain data."""
        return size * (1 + self._shape.heaviest // 512)

    def json_work(self, size: int) -> int:
        """The same of JSON: three characters may begin the heaviest message there is."""
        return self._shape.weight // 8 + size * (4 + self._heaviest // 16)

    def check_compatible(self, other: ProtobufSchema) -> None:
        """Raises IncompatibleError unless messages of each definition can be read with the other."""
        check_same(self.descriptor, other.descriptor)

    def _check_required(self, message: Message) -> None:
        if not self._class.IsInitialized(message):
            raise MessageError("a required field is missing")

    def _named(self, type_url: object) -> Shape | None:
        """The shape of the message type that an Any names."""
        if not isinstance(type_url, str):
            return None
        try:
            named = self._pool.FindMessageTypeByName(type_url.rpartition("/")[2])
        except KeyError:
            return None
        return self._shapes.of(named)


# --- descriptors --------------------------------------------------------------------------------


def _read_files(descriptors: bytes) -> list[FileDescriptorProto]:
    """The files of a set, each after those that it imports. Raises DefinitionError."""
    if len(descriptors) > MAX_COMPILED_BYTES:
        raise DefinitionError("the compiled definition is too large")
    try:
        files = {file.name: file for file in FileDescriptorSet.FromString(descriptors).file}
    except DecodeError:
        raise DefinitionError("the bytes are no FileDescriptorSet") from None
    if len(files) > MAX_FILES:
        raise DefinitionError(f"there are more than {MAX_FILES} files")
    waiting = {name: set(file.dependency) for name, file in files.items()}
    ordered: list[FileDescriptorProto] = []
    while waiting:
        ready = [name for name, missing in waiting.items() if not missing]
        if not ready:
            raise DefinitionError("a file that is imported is missing, or imports are circular")
        for name in ready:
            del waiting[name]
            ordered.append(files[name])
        for missing in waiting.values():
            missing.difference_update(ready)
    return ordered


def _pool(files: Iterable[FileDescriptorProto]) -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for file in files:
        if file.edition > Edition.EDITION_2023:
            raise DefinitionError("editions after 2023 are not supported")
        try:
            pool.Add(file)
        except (TypeError, ValueError) as error:
            raise DefinitionError(str(error)[:400]) from None
        if file.package == WELL_KNOWN:
            _check_well_known(file)
    return pool


def _find(pool: descriptor_pool.DescriptorPool, root: str) -> Descriptor:
    try:
        return pool.FindMessageTypeByName(root)
    except KeyError:
        raise DefinitionError("the root message is not in the definition") from None


def _check_well_known(file: FileDescriptorProto) -> None:
    """Messages of Google's own package must be Google's: code relies on their fields."""
    known = descriptor_pool.Default()
    for message in file.message_type:
        try:
            real: Descriptor = known.FindMessageTypeByName(f"{WELL_KNOWN}.{message.name}")
        except KeyError:
            continue
        if {(f.number, f.name, f.type) for f in message.field} != {
            (f.number, f.name, f.type) for f in real.fields
        }:
            raise DefinitionError(f"{real.full_name} is not Google's")
