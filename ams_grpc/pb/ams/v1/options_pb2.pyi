# mypy: ignore-errors
from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Body(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BODY_NONE: _ClassVar[Body]
    BODY_OPTIONAL: _ClassVar[Body]
    BODY_REQUIRED: _ClassVar[Body]
BODY_NONE: Body
BODY_OPTIONAL: Body
BODY_REQUIRED: Body
ROUTE_FIELD_NUMBER: _ClassVar[int]
route: _descriptor.FieldDescriptor
OMIT_EMPTY_FIELD_NUMBER: _ClassVar[int]
omit_empty: _descriptor.FieldDescriptor
REFUSAL_FIELD_NUMBER: _ClassVar[int]
refusal: _descriptor.FieldDescriptor
ALSO_FIELD_NUMBER: _ClassVar[int]
also: _descriptor.FieldDescriptor
REQUIRED_FIELD_NUMBER: _ClassVar[int]
required: _descriptor.FieldDescriptor
JSON_FIELD_NUMBER: _ClassVar[int]
json: _descriptor.FieldDescriptor

class Route(_message.Message):
    __slots__ = ("name", "body", "bad_body", "first_value_only", "open", "braces", "texts_only", "token", "changes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    BAD_BODY_FIELD_NUMBER: _ClassVar[int]
    FIRST_VALUE_ONLY_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    BRACES_FIELD_NUMBER: _ClassVar[int]
    TEXTS_ONLY_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    name: str
    body: Body
    bad_body: str
    first_value_only: bool
    open: bool
    braces: bool
    texts_only: bool
    token: bool
    changes: bool
    def __init__(self, name: _Optional[str] = ..., body: _Optional[_Union[Body, str]] = ..., bad_body: _Optional[str] = ..., first_value_only: _Optional[bool] = ..., open: _Optional[bool] = ..., braces: _Optional[bool] = ..., texts_only: _Optional[bool] = ..., token: _Optional[bool] = ..., changes: _Optional[bool] = ...) -> None: ...
