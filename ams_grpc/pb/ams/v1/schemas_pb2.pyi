# mypy: ignore-errors
from ams_grpc.pb.ams.v1 import options_pb2 as _options_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Schema(_message.Message):
    __slots__ = ("uuid", "name", "type", "schema", "attributes")
    UUID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    name: str
    type: str
    schema: str
    attributes: str
    def __init__(self, uuid: _Optional[str] = ..., name: _Optional[str] = ..., type: _Optional[str] = ..., schema: _Optional[str] = ..., attributes: _Optional[str] = ...) -> None: ...

class SchemaList(_message.Message):
    __slots__ = ("schemas",)
    SCHEMAS_FIELD_NUMBER: _ClassVar[int]
    schemas: _containers.RepeatedCompositeFieldContainer[Schema]
    def __init__(self, schemas: _Optional[_Iterable[_Union[Schema, _Mapping]]] = ...) -> None: ...

class SchemaRequest(_message.Message):
    __slots__ = ("project", "schema_id")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_ID_FIELD_NUMBER: _ClassVar[int]
    project: str
    schema_id: str
    def __init__(self, project: _Optional[str] = ..., schema_id: _Optional[str] = ...) -> None: ...

class CreateSchemaRequest(_message.Message):
    __slots__ = ("project", "schema_id", "type", "schema", "attributes")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    project: str
    schema_id: str
    type: str
    schema: str
    attributes: str
    def __init__(self, project: _Optional[str] = ..., schema_id: _Optional[str] = ..., type: _Optional[str] = ..., schema: _Optional[str] = ..., attributes: _Optional[str] = ...) -> None: ...

class UpdateSchemaRequest(_message.Message):
    __slots__ = ("project", "schema_id", "name", "type", "schema", "attributes")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    project: str
    schema_id: str
    name: str
    type: str
    schema: str
    attributes: str
    def __init__(self, project: _Optional[str] = ..., schema_id: _Optional[str] = ..., name: _Optional[str] = ..., type: _Optional[str] = ..., schema: _Optional[str] = ..., attributes: _Optional[str] = ...) -> None: ...

class ListSchemasRequest(_message.Message):
    __slots__ = ("project",)
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    project: str
    def __init__(self, project: _Optional[str] = ...) -> None: ...

class ValidateMessageRequest(_message.Message):
    __slots__ = ("project", "schema_id", "document")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_ID_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    project: str
    schema_id: str
    document: bytes
    def __init__(self, project: _Optional[str] = ..., schema_id: _Optional[str] = ..., document: _Optional[bytes] = ...) -> None: ...

class ValidateMessageReply(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: str
    def __init__(self, message: _Optional[str] = ...) -> None: ...
