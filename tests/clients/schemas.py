"""Definitions of schemas, and the client for them."""

from __future__ import annotations

import json
from typing import Any, Final

from google.pubsub_v1 import SchemaServiceClient, types
from google.pubsub_v1.services.schema_service.transports import SchemaServiceGrpcTransport

from tests.clients.pubsub import PubSub

AVRO: Final = types.Schema.Type.AVRO
PROTO: Final = types.Schema.Type.PROTOCOL_BUFFER
BASIC: Final = types.SchemaView.BASIC
FULL: Final = types.SchemaView.FULL


def schemas_of(pubsub: PubSub) -> SchemaServiceClient:
    return SchemaServiceClient(transport=SchemaServiceGrpcTransport(channel=pubsub.channel))


def avro(*fields: str, **attributes: Any) -> str:
    """A record with fields of type int."""
    of_record = [{"name": name, "type": "int"} for name in fields]
    return json.dumps({"type": "record", "name": "Order", "fields": of_record, **attributes})


def avro_record(*fields: str, a_type: str = "int", **defaults: int) -> str:
    """A record with fields of type int, of which some have a default; ``a`` may be of another type."""
    of_record: list[dict[str, Any]] = [
        {"name": name, "type": a_type if name == "a" else "int"} for name in fields
    ]
    of_record += [{"name": name, "type": "int", "default": d} for name, d in defaults.items()]
    return json.dumps({"type": "record", "name": "Order", "fields": of_record})


def proto(message: str, fields: str = "string a = 1;") -> str:
    return f'syntax = "proto3"; message {message} {{ {fields} }}'
