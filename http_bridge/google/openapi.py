"""What Google's REST dialect is like, for its OpenAPI document."""

from __future__ import annotations

from typing import Final

from http_bridge.openapi import Dialect

_TIME: Final = {"type": "string", "format": "date-time"}
_ANY: Final = {"type": "object", "properties": {"@type": {"type": "string"}}}

GOOGLE: Final = Dialect(
    title="Pub/Sub API",
    description="Google's REST API of Pub/Sub v1. In open mode no token is needed.",
    error={
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message", "status"],
                "properties": {
                    "code": {"type": "integer", "examples": [404]},
                    "message": {"type": "string"},
                    "status": {"type": "string", "examples": ["NOT_FOUND"]},
                    "details": {"type": "array", "items": _ANY},
                },
            }
        },
    },
    security_schemes={
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    },
    special={
        "google.protobuf.Timestamp": _TIME,
        "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?s$"},
        "google.protobuf.FieldMask": {"type": "string", "examples": ["labels,filter"]},
        "google.protobuf.Struct": {"type": "object"},
        "google.protobuf.Any": _ANY,
    },
    int64_as_text=True,
)
