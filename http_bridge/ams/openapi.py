"""What AMS's REST dialect is like, for its OpenAPI document."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor

from ams_grpc.pb.ams.v1 import options_pb2
from http_bridge.ams.options import field_options, route_options
from http_bridge.openapi import Dialect, Schema
from http_bridge.routes import Route

_NAME: Final = "^[a-zA-Z0-9_-]{1,255}$"
_REQUIRED: Final = options_pb2.BODY_REQUIRED
_DOCUMENT: Final[Schema] = {"type": "object", "description": "A document of the caller's own."}
_PULL: Final[Schema] = {
    "type": "object",
    "properties": {
        "maxMessages": {"type": "string", "pattern": "^[0-9]+$", "examples": ["10"]},
        "returnImmediately": {"type": "string", "enum": ["true", "false"]},
    },
}
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
_FOR_REPLIES: Final = frozenset({"google.protobuf.Timestamp", "google.protobuf.FieldMask"})


def _is_for_requests(field: FieldDescriptor) -> bool:
    return field.message_type is None or field.message_type.full_name not in _FOR_REPLIES


def _is_always_shown(field: FieldDescriptor) -> bool:
    if field.message_type is not None and not field.is_repeated:
        return False
    options = field_options(field)
    return not (options.omit_empty or options.json)


def _body(route: Route) -> Schema | None:
    if route.method.full_name == "ams.v1.Subscriptions.Pull":
        return _PULL
    return None if route.body == "*" else _DOCUMENT


def _needs_body(route: Route) -> bool:
    return bool(route.body != "*" or route_options(route.method).body == _REQUIRED)


def _bad_request(method: MethodDescriptor) -> str:
    return route_options(method).bad_body or "The request is not valid."


def _empty_reply(method: MethodDescriptor) -> Schema | None:
    return {"type": "object"} if route_options(method).braces else None


def _summary(method: MethodDescriptor) -> str:
    name: Any = route_options(method).name
    return str(name)


AMS: Final = Dialect(
    title="ARGO Messaging Service API",
    description="The REST API of AMS. Names of topics, subscriptions, users and projects consist of "
    "letters, digits, - and _.",
    error={
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message", "status"],
                "properties": {
                    "code": {"type": "integer", "examples": [404]},
                    "message": {"type": "string", "examples": ["Topic doesn't exist"]},
                    "status": {"type": "string", "examples": ["NOT_FOUND"]},
                },
            }
        },
    },
    security_schemes={
        "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        "query": {"type": "apiKey", "in": "query", "name": "key"},
    },
    special={"google.protobuf.Timestamp": _TIME},
    is_document=lambda field: field_options(field).json,
    path_parameter={"type": "string", "pattern": _NAME},
    token_needed=lambda method: route_options(method).token or not route_options(method).open,
    summary=_summary,
    body=_body,
    needs_body=_needs_body,
    bad_request=_bad_request,
    empty_reply=_empty_reply,
    in_requests=_is_for_requests,
    needed=lambda field: field_options(field).required,
    always_shown=_is_always_shown,
)
