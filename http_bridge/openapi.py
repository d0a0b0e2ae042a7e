"""The OpenAPI 3.1 document of a REST API, made from its routes and the messages of its methods.

What the dialects differ in is a ``Dialect``: how values are written, which fields a request's body
has, and what an error looks like.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from http_bridge.routes import Route

Schema: TypeAlias = dict[str, Any]

_VARIABLE: Final = re.compile(r"\{([a-z_.]+)(?:=([^}]*))?\}")
_WORD: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_JSON: Final = "application/json"
_INTEGERS: Final = {
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_UINT64: "uint64",
}
_FLOATS: Final = {FieldDescriptor.TYPE_FLOAT: "float", FieldDescriptor.TYPE_DOUBLE: "double"}


_IDEMPOTENCY_KEY: Final[Schema] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "With the same key, a publish that is repeated happens once.",
    "schema": {"type": "string", "pattern": "^[!-~]+$", "maxLength": 255},
}


def _every_field(_field: FieldDescriptor) -> bool:
    return True


def _no_field(_field: FieldDescriptor) -> bool:
    return False


@dataclass(frozen=True)
class Dialect:
    """What a document says beyond routes and messages."""

    title: str
    description: str
    error: Schema
    security_schemes: Mapping[str, Schema]
    special: Mapping[str, Schema]
    """Schemas of well-known messages, such as google.protobuf.Timestamp."""

    is_document: Callable[[FieldDescriptor], bool] = _no_field
    """A text that is a JSON object, and written as such."""

    int64_as_text: bool = False
    path_parameter: Schema = field(default_factory=lambda: {"type": "string"})
    token_needed: Callable[[MethodDescriptor], bool] = lambda _method: False
    summary: Callable[[MethodDescriptor], str] = lambda method: _WORD.sub(" ", method.name)
    body: Callable[[Route], Schema | None] = lambda _route: None
    """The schema of a body that is not made of the request's fields."""
    needs_body: Callable[[Route], bool] = lambda _route: True
    """Of a route that has a body."""
    bad_request: Callable[[MethodDescriptor], str] = lambda _method: "The request is not valid."
    empty_reply: Callable[[MethodDescriptor], Schema | None] = lambda _method: {"type": "object"}
    """What a reply without fields looks like; None: there is no body."""
    in_requests: Callable[[FieldDescriptor], bool] = _every_field
    needed: Callable[[FieldDescriptor], bool] = _no_field
    """A field that requests must have."""
    always_shown: Callable[[FieldDescriptor], bool] = _no_field
    """A field that replies always have."""


def document(routes: Iterable[Route], dialect: Dialect) -> dict[str, Any]:
    """The OpenAPI document, ready to be written as JSON."""
    routes = list(routes)
    schemas = _Schemas(dialect, _messages_of(each.method.input_type for each in routes))
    paths: dict[str, Any] = {}
    seen: set[str] = set()
    for route in routes:
        path = path_of(route.template)
        verb = route.http_method.lower()
        if verb in paths.get(path, {}):
            continue  # the first of two routes wins
        operation = _operation(route, path, dialect, schemas)
        if operation["operationId"] in seen:
            operation["operationId"] += f"_{verb}"
        seen.add(operation["operationId"])
        paths.setdefault(path, {})[verb] = operation
    services = dict.fromkeys(route.method.containing_service.name for route in routes)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": dialect.title,
            "description": dialect.description,
            "version": version("ams-grpc"),
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in services],
        "paths": paths,
        "components": {
            "schemas": {"Error": dialect.error, **schemas.components},
            "responses": {
                "Error": {
                    "description": "The request was refused.",
                    "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Error"}}},
                }
            },
            "securitySchemes": dict(dialect.security_schemes),
        },
    }


def path_of(template: str) -> str:
    """A template of google.api.http as OpenAPI has it.

    ``/v1/{topic=projects/*/topics/*}:publish`` is ``/v1/projects/{project}/topics/{topic}:publish``.
    """
    return _VARIABLE.sub(lambda found: _expanded(found[1], found[2] or "*"), template)


def _expanded(name: str, pattern: str) -> str:
    segments = pattern.split("/")
    if len(segments) == 1:
        return f"{{{name}}}"
    return "/".join(
        f"{{{segments[at - 1].removesuffix('s')}}}" if segment == "*" else segment
        for at, segment in enumerate(segments)
    )


def _operation(route: Route, path: str, dialect: Dialect, schemas: _Schemas) -> dict[str, Any]:
    method = route.method
    bound = {found[1].partition(".")[0] for found in _VARIABLE.finditer(route.template)}
    top_level = {found[1] for found in _VARIABLE.finditer(route.template)}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": dialect.path_parameter}
        for name in re.findall(r"\{([^}]+)\}", path)
    ]
    if route.body != "*":
        parameters += _query(method.input_type, bound | {route.body}, dialect, schemas)
    if method.name == "Publish":
        parameters.append(_IDEMPOTENCY_KEY)
    operation: dict[str, Any] = {
        "operationId": method.name,
        "summary": dialect.summary(method),
        "tags": [method.containing_service.name],
        "parameters": parameters,
        "responses": {
            "200": _success(method, dialect, schemas),
            "400": _refusal(dialect.bad_request(method)),
            "default": {"$ref": "#/components/responses/Error"},
        },
        "security": [
            *([] if dialect.token_needed(method) else [{}]),
            *({name: []} for name in dialect.security_schemes),
        ],
    }
    if route.body:
        operation["requestBody"] = {
            "required": dialect.needs_body(route),
            "content": {_JSON: {"schema": dialect.body(route) or schemas.body(route, top_level)}},
        }
    return operation


def _query(
    message: Descriptor, taken: set[str], dialect: Dialect, schemas: _Schemas
) -> list[dict[str, Any]]:
    """What a query may say: all plain values that neither the path nor the body has."""
    return [
        {"name": each.json_name, "in": "query", "schema": schemas.of_field(each)}
        for each in message.fields
        if each.name not in taken
        and (each.message_type is None or each.message_type.full_name in dialect.special)
        and dialect.in_requests(each)
    ]


def _success(method: MethodDescriptor, dialect: Dialect, schemas: _Schemas) -> dict[str, Any]:
    reply = method.output_type
    schema = schemas.of_message(reply) if reply.fields else dialect.empty_reply(method)
    answer: dict[str, Any] = {"description": "It is done."}
    return answer if schema is None else answer | {"content": {_JSON: {"schema": schema}}}


def _refusal(text: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    return {"description": text, "content": {_JSON: {"schema": schema}}}


class _Schemas:
    """The components of a document: one for each message, made when it is first needed."""

    def __init__(self, dialect: Dialect, of_requests: frozenset[str]) -> None:
        self.components: dict[str, Schema] = {}
        self._dialect = dialect
        self._of_requests = of_requests

    def body(self, route: Route, taken: set[str]) -> Schema:
        """What the body of a request is: all of the message but what the path has, or one field."""
        message = route.method.input_type
        if route.body != "*":
            return self.of_field(message.fields_by_name[route.body])
        fields = [each for each in message.fields if each.name not in taken]
        return self._object(filter(self._dialect.in_requests, fields), self._dialect.needed)

    def of_message(self, message: Descriptor) -> Schema:
        special = self._dialect.special.get(message.full_name)
        if special is not None:
            return special
        name = message.full_name.removeprefix(f"{message.file.package}.")
        if name not in self.components:
            self.components[name] = {}  # a message may contain itself
            is_sent = message.full_name in self._of_requests
            dialect = self._dialect
            needed = dialect.needed if is_sent else dialect.always_shown
            self.components[name] = self._object(message.fields, needed)
        return {"$ref": f"#/components/schemas/{name}"}

    def of_field(self, field: FieldDescriptor) -> Schema:
        message = field.message_type
        if self._dialect.is_document(field):
            return {"type": "object"}
        if message is not None and message.GetOptions().map_entry:
            return {
                "type": "object",
                "additionalProperties": self.of_field(message.fields_by_name["value"]),
            }
        one = self._value(field) if message is None else self.of_message(message)
        return {"type": "array", "items": one} if field.is_repeated else one

    def _object(
        self, fields: Iterable[FieldDescriptor], needed: Callable[[FieldDescriptor], bool]
    ) -> Schema:
        fields = list(fields)
        schema: Schema = {
            "type": "object",
            "properties": {each.json_name: self.of_field(each) for each in fields},
        }
        required = [each.json_name for each in fields if needed(each)]
        return schema | {"required": required} if required else schema

    def _value(self, field: FieldDescriptor) -> Schema:
        if field.enum_type is not None:
            return {"type": "string", "enum": [each.name for each in field.enum_type.values]}
        integer = _INTEGERS.get(field.type)
        if integer is not None:
            is_text = self._dialect.int64_as_text and integer.endswith("64")
            return {"type": "string" if is_text else "integer", "format": integer}
        if field.type in _FLOATS:
            return {"type": "number", "format": _FLOATS[field.type]}
        if field.type == FieldDescriptor.TYPE_BOOL:
            return {"type": "boolean"}
        if field.type == FieldDescriptor.TYPE_BYTES:
            return {"type": "string", "contentEncoding": "base64"}
        return {"type": "string"}


def _messages_of(messages: Iterable[Descriptor]) -> frozenset[str]:
    """The full names of all messages that these contain."""
    found: set[str] = set()
    waiting = list(messages)
    while waiting:
        message = waiting.pop()
        if message.full_name not in found:
            found.add(message.full_name)
            waiting += [each.message_type for each in message.fields if each.message_type]
    return frozenset(found)
