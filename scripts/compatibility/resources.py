"""What becomes of the fields of resources: create some, and compare what is shown."""

from __future__ import annotations

import base64
import re
import time
from contextlib import suppress
from typing import Any, Final

import grpc
from google.iam.v1 import iam_policy_pb2, policy_pb2  # type: ignore[import-untyped]
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.pb.google.pubsub.v1 import schema_pb2
from scripts.compatibility.fates import (
    OUTPUT,
    REFUSED,
    WORKS,
    Fate,
    UnknownFateError,
    is_output_only,
    leaves,
    values,
)
from scripts.compatibility.service import Service, is_unimplemented

_P: Final = "projects/resources"
TOPIC: Final = f"{_P}/topics/base"
TOPIC_WITH_SCHEMA: Final = f"{_P}/topics/topic-with-schema"
SUBSCRIPTION: Final = f"{_P}/subscriptions/base"
SCHEMA: Final = f"{_P}/schemas/base"
_AVRO: Final = '{"type": "record", "name": "Base", "fields": [{"name": "a", "type": "string"}]}'

_COMPILED: Final = FileDescriptorSet()
_FILE: Final = _COMPILED.file.add(name="base.proto", syntax="proto3")
_FILE.message_type.add(name="Base").field.add(
    name="a",
    number=1,
    type=FieldDescriptorProto.TYPE_STRING,
    label=FieldDescriptorProto.LABEL_OPTIONAL,
)

_JAVASCRIPT: Final = {
    "javascript_udf": {
        "function_name": "f",
        "code": "function f(message, metadata) { return message; }",
    },
    "disabled": True,
}
_TRANSFORMS: Final[list[dict[str, Any]]] = [
    {
        "message_transforms": [
            {**_JAVASCRIPT, "enabled": True},
            {"compression": {"compression_algorithm": "ZLIB", "compression_mode": "COMPRESS"}},
            {"compression": {"compression_algorithm": "ZSTD", "compression_mode": "COMPRESS"}},
        ]
    },
    {"message_transforms": [{"ai_inference": {"endpoint": "projects/p/locations/l/endpoints/e"}}]},
]
EXAMPLES: Final[dict[type[Message], list[dict[str, Any]]]] = {
    pb.Topic: [
        {
            "labels": {"team": "a"},
            "kms_key_name": "projects/p/locations/eu/keyRings/r/cryptoKeys/k",
            "message_storage_policy": {
                "allowed_persistence_regions": ["europe-west1"],
                "enforce_in_transit": True,
            },
            "message_retention_duration": "600s",
            "satisfies_pzs": True,
            "tags": {"a": "b"},
        },
        {"schema_settings": {"schema": SCHEMA, "encoding": "JSON"}},
        {"ingestion_data_source_settings": {"cloud_storage": {"bucket": "b"}}},
        *_TRANSFORMS,
    ],
    pb.Subscription: [
        {
            "ack_deadline_seconds": 20,
            "retain_acked_messages": True,
            "message_retention_duration": "600s",
            "labels": {"team": "a"},
            "enable_message_ordering": True,
            "expiration_policy": {"ttl": "86400s"},
            "filter": "attributes:a",
            "dead_letter_policy": {"dead_letter_topic": TOPIC, "max_delivery_attempts": 7},
            "retry_policy": {"minimum_backoff": "1s", "maximum_backoff": "60s"},
            "enable_exactly_once_delivery": True,
            "detached": True,
            "tags": {"a": "b"},
        },
        {
            "push_config": {
                "push_endpoint": "https://example.com/push",
                "attributes": {"x-goog-version": "v1"},
                "oidc_token": {
                    "service_account_email": "push@example.com",
                    "audience": "example",
                },
                "no_wrapper": {"write_metadata": True},
            }
        },
        {"push_config": {"push_endpoint": "https://example.com/push", "pubsub_wrapper": {}}},
        {
            "cloud_storage_config": {
                "bucket": "bucket",
                "filename_prefix": "a",
                "filename_suffix": ".avro",
                "filename_datetime_format": "YYYY-MM-DD/hh_mm_ssZ",
                "avro_config": {"write_metadata": True},
                "max_duration": "60s",
                "max_bytes": 10_000,
                "max_messages": 1_000,
                "service_account_email": "export@example.com",
            },
            "ack_deadline_seconds": 600,
        },
        {
            "cloud_storage_config": {"bucket": "bucket", "text_config": {}},
            "ack_deadline_seconds": 600,
        },
        {
            "cloud_storage_config": {
                "bucket": "bucket",
                "avro_config": {"use_topic_schema": True},
            },
            "topic": TOPIC_WITH_SCHEMA,
            "ack_deadline_seconds": 600,
        },
        {"bigquery_config": {"table": "p.d.t"}},
        {"bigtable_config": {"table": "projects/p/instances/i/tables/t"}},
        *_TRANSFORMS,
    ],
    pb.Snapshot: [{"labels": {"team": "a"}}],
    schema_pb2.Schema: [
        {"type": "AVRO", "definition": _AVRO},
        {
            "type": "PROTOCOL_BUFFER",
            "compiled_proto_schema": {
                "root_message": "Base",
                "compiled_bytes": base64.b64encode(_COMPILED.SerializeToString()).decode(),
            },
        },
    ],
    pb.PubsubMessage: [{"data": "eA==", "attributes": {"a": "b"}, "ordering_key": "k"}],
    policy_pb2.Policy: [
        {
            "version": 3,
            "bindings": [
                {
                    "role": "roles/pubsub.viewer",
                    "members": ["allUsers"],
                    "condition": {
                        "expression": "true",
                        "title": "t",
                        "description": "d",
                        "location": "l",
                    },
                }
            ],
            "audit_configs": [
                {
                    "service": "allServices",
                    "audit_log_configs": [
                        {"log_type": "DATA_READ", "exempted_members": ["user:a@example.com"]}
                    ],
                }
            ],
        },
    ],
}
"""What is created of each. Examples that are refused say what is refused."""


class Resources:
    """Creates one resource after the other, and says what is shown of each."""

    def __init__(self, service: Service) -> None:
        self._call = service.call
        self._number = 0
        self._revision = "00000000"

    async def prepare(self) -> None:
        """What the examples refer to."""
        schema = schema_pb2.Schema(type=schema_pb2.Schema.AVRO, definition=_AVRO)
        with suppress(Unimplemented):
            self._revision = (await self._create_schema("base", schema)).revision_id
        await self._call("CreateTopic", pb.Topic(name=TOPIC))
        settings = pb.SchemaSettings(schema=SCHEMA, encoding=schema_pb2.JSON)
        followed = pb.Topic(name=TOPIC_WITH_SCHEMA, schema_settings=settings)
        await self._call("CreateTopic", followed)
        await self._call("CreateSubscription", pb.Subscription(name=SUBSCRIPTION, topic=TOPIC))

    async def shown(self, given: Message) -> Message:
        """How a resource is shown that is created so. Raises grpc.aio.AioRpcError, Unimplemented."""
        self._number += 1
        id_ = f"example-{self._number}"
        match given:
            case pb.Topic():
                given.name = f"{_P}/topics/{id_}"
                if given.HasField("schema_settings"):
                    given.schema_settings.first_revision_id = self._revision
                    given.schema_settings.last_revision_id = self._revision
                await self._call("CreateTopic", given)
                return await self._get("GetTopic", pb.GetTopicRequest(topic=given.name))
            case pb.Subscription():
                given.name, given.topic = f"{_P}/subscriptions/{id_}", given.topic or TOPIC
                await self._call("CreateSubscription", given)
                request = pb.GetSubscriptionRequest(subscription=given.name)
                return await self._get("GetSubscription", request)
            case pb.Snapshot():
                return await self._snapshot(id_, given)
            case pb.PubsubMessage():
                publish = pb.PublishRequest(topic=TOPIC, messages=[given])
                await self._call("Publish", publish)
                pull = pb.PullRequest(subscription=SUBSCRIPTION, max_messages=1)
                pulled = await self._call("Pull", pull)
                message: Message = pulled.received_messages[0].message
                return message
            case schema_pb2.Schema():
                name = (await self._create_schema(id_, given)).name
                get = schema_pb2.GetSchemaRequest(name=name, view=schema_pb2.FULL)
                return await self._get("GetSchema", get)
            case _:
                set_policy = iam_policy_pb2.SetIamPolicyRequest(resource=TOPIC, policy=given)
                return await self._get("SetIamPolicy", set_policy)

    async def _snapshot(self, id_: str, given: pb.Snapshot) -> Message:
        given.name = f"{_P}/snapshots/{id_}"
        given.topic = TOPIC
        given.expire_time.FromSeconds(int(time.time()) + 86_400)
        await self._call(
            "CreateSnapshot",
            pb.CreateSnapshotRequest(
                name=given.name, subscription=SUBSCRIPTION, labels=given.labels
            ),
        )
        mask = FieldMask(paths=["expire_time"])
        await self._call(
            "UpdateSnapshot", pb.UpdateSnapshotRequest(snapshot=given, update_mask=mask)
        )
        return await self._get("GetSnapshot", pb.GetSnapshotRequest(snapshot=given.name))

    async def _create_schema(self, id_: str, schema: schema_pb2.Schema) -> Any:
        request = schema_pb2.CreateSchemaRequest(parent=_P, schema=schema, schema_id=id_)
        try:
            return await self._call("CreateSchema", request)
        except grpc.aio.AioRpcError as error:
            if is_unimplemented(error):
                raise Unimplemented from error
            raise

    async def _get(self, method: str, request: Message) -> Message:
        shown: Message = await self._call(method, request)
        return shown


class Unimplemented(Exception):
    """There is no method that could create such a resource."""


async def fates_of_resources(service: Service) -> dict[str, Fate]:
    """The fate of each field of each kind of resource, by its path.

    That of a field that no example sets has an empty word. Raises UnknownFateError for an example that
    is refused without naming a field.
    """
    resources = Resources(service)
    await resources.prepare()
    fates: dict[str, Fate] = {}
    for kind, examples in EXAMPLES.items():
        found: dict[str, Fate] = {}
        for example in examples:
            for path, fate in (await _fates(resources, ParseDict(example, kind()))).items():
                found[path] = _both(found.get(path), fate)
        for path, field in leaves(kind.DESCRIPTOR):
            if is_output_only(field) and found.get(path, _UNSEEN).word != REFUSED:
                found[path] = Fate(OUTPUT)
            fates[f"{kind.DESCRIPTOR.name}.{path}"] = found.get(path, _UNSEEN)
    return fates


async def _fates(resources: Resources, given: Message) -> dict[str, Fate]:
    """What becomes of what one example sets."""
    paths = [path for path, _ in leaves(given.DESCRIPTOR)]
    try:
        shown = await resources.shown(given)
    except Unimplemented:
        return dict.fromkeys(paths, Fate(REFUSED, "the method is not there"))
    except grpc.aio.AioRpcError as error:
        refusal = _REFUSAL.fullmatch(error.details() or "") if is_unimplemented(error) else None
        if refusal is None:
            raise UnknownFateError(
                f"an example of a {given.DESCRIPTOR.name} was to be right: "
                f"{error.code().name}: {error.details()}\n{given}"
            ) from None
        at, why = refusal["path"], refusal["why"] or ""
        return {path: Fate(REFUSED, why) for path in paths if f"{path}.".startswith(f"{at}.")}
    return {
        path: Fate(WORKS)
        for path in paths
        if (wanted := values(given, path)) and values(shown, path) == wanted
    }


_UNSEEN: Final = Fate("")
_REFUSAL: Final = re.compile(
    r"The field '(?P<path>.*)' is not supported by this version of the service(: (?P<why>.*))?\."
)


def _both(before: Fate | None, now: Fate) -> Fate:
    """Of a field of which one example works and another is refused."""
    if before is None or before == now:
        return now
    works, refused = (before, now) if now.word == REFUSED else (now, before)
    return Fate(works.word, f"not every value: {refused.why}") if refused.why else works
