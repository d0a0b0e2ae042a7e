"""Protobuf <-> the policies of topics and subscriptions (``broker.policies``).

``convert`` puts topics and subscriptions together out of these. Bounds are the broker's; here is
refused what cannot be a record at all, with the path of the field.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from google.protobuf.message import Message

from ams_grpc.broker.catalog import SubscriptionConfig
from ams_grpc.broker.errors import Unimplemented, invalid_argument
from ams_grpc.broker.names import DELETED_SCHEMA, SchemaName, TopicName
from ams_grpc.broker.policies import (
    AvroFormat,
    CompressionAlgorithm,
    CompressionMode,
    CompressionTransform,
    DeadLetterPolicy,
    Encoding,
    JavaScriptTransform,
    MessageStoragePolicy,
    OidcToken,
    PushConfig,
    RetryPolicy,
    SchemaSettings,
    StorageExport,
    Transform,
)
from ams_grpc.broker.rules import PUSH_VERSION, PUSH_VERSIONS
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.pb.google.pubsub.v1 import schema_pb2
from ams_grpc.services.time import duration_pb, duration_us


def not_supported(path: str, reason: str = "") -> Unimplemented:
    """The error for a field that this version does not honour."""
    because = f": {reason}" if reason else ""
    return Unimplemented(
        f"The field '{path}' is not supported by this version of the service{because}.", field=path
    )


# --- of topics ----------------------------------------------------------------------------------


def storage_policy(policy: pb.MessageStoragePolicy) -> MessageStoragePolicy:
    return MessageStoragePolicy(
        tuple(policy.allowed_persistence_regions), policy.enforce_in_transit
    )


def storage_policy_pb(policy: MessageStoragePolicy) -> pb.MessageStoragePolicy:
    return pb.MessageStoragePolicy(
        allowed_persistence_regions=policy.allowed_persistence_regions,
        enforce_in_transit=policy.enforce_in_transit,
    )


def schema_settings(settings: pb.SchemaSettings) -> SchemaSettings:
    """Raises InvalidArgument for what is no schema's name.

    That of a deleted schema is none either; but an update of something else hands it back.
    """
    is_deleted = settings.schema == DELETED_SCHEMA
    return SchemaSettings(
        schema=None if is_deleted else SchemaName.parse(settings.schema),
        encoding=encoding(settings.encoding),
        first_revision_id=settings.first_revision_id,
        last_revision_id=settings.last_revision_id,
    )


def encoding(number: int) -> Encoding:
    """An unknown one counts as none."""
    match number:
        case schema_pb2.JSON:
            return Encoding.JSON
        case schema_pb2.BINARY:
            return Encoding.BINARY
        case _:
            return Encoding.UNSPECIFIED


def schema_settings_pb(settings: SchemaSettings) -> pb.SchemaSettings:
    return pb.SchemaSettings(
        schema=DELETED_SCHEMA if settings.schema is None else str(settings.schema),
        encoding=settings.encoding or None,
        first_revision_id=settings.first_revision_id,
        last_revision_id=settings.last_revision_id,
    )


# --- of both ------------------------------------------------------------------------------------


def transforms(given: Iterable[pb.MessageTransform]) -> tuple[Transform, ...]:
    """Raises InvalidArgument for a transform that does nothing; Unimplemented for AIInference."""
    return tuple(map(_transform, given))


def _transform(given: pb.MessageTransform) -> Transform:
    match given.WhichOneof("transform"):
        case "javascript_udf":
            udf = given.javascript_udf
            return JavaScriptTransform(
                udf.function_name, udf.code, disabled=given.disabled, enabled=given.enabled
            )
        case "compression":
            mode, algorithm = _compression(given.compression)
            return CompressionTransform(
                mode, algorithm, disabled=given.disabled, enabled=given.enabled
            )
        case "ai_inference":
            raise not_supported(
                "message_transforms.ai_inference", "it would need Google's Vertex AI"
            )
        case _:
            raise invalid_argument(
                "message_transforms: a transform is empty", field="message_transforms"
            )


_MODES: Final = {
    pb.Compression.COMPRESS: CompressionMode.COMPRESS,
    pb.Compression.DECOMPRESS: CompressionMode.DECOMPRESS,
}
_ALGORITHMS: Final = {
    pb.Compression.ZLIB: CompressionAlgorithm.ZLIB,
    pb.Compression.ZSTD: CompressionAlgorithm.ZSTD,
}


def _compression(compression: pb.Compression) -> tuple[CompressionMode, CompressionAlgorithm]:
    path = "message_transforms.compression"
    algorithm = _ALGORITHMS.get(compression.compression_algorithm)
    if algorithm is None:
        raise invalid_argument(f"{path}.compression_algorithm", field=path)
    mode = _MODES.get(compression.compression_mode)
    if mode is None:
        raise invalid_argument(f"{path}.compression_mode", field=path)
    return mode, algorithm


def transforms_pb(given: Iterable[Transform]) -> list[pb.MessageTransform]:
    return list(map(_transform_pb, given))


def _transform_pb(transform: Transform) -> pb.MessageTransform:
    shown = pb.MessageTransform(disabled=transform.disabled, enabled=transform.enabled)
    match transform:
        case JavaScriptTransform(function_name, code):
            shown.javascript_udf.function_name = function_name
            shown.javascript_udf.code = code
        case CompressionTransform(mode, algorithm):
            compression = pb.Compression(
                compression_algorithm=str(algorithm), compression_mode=str(mode)
            )
            shown.compression.CopyFrom(compression)
    return shown


# --- of subscriptions ---------------------------------------------------------------------------


def retry_policy(policy: pb.RetryPolicy) -> RetryPolicy:
    """Pub/Sub: bounds that are not set are filled in. Raises InvalidArgument."""
    default = RetryPolicy()
    return RetryPolicy(
        duration_us(policy.minimum_backoff, "retry_policy.minimum_backoff")
        if policy.HasField("minimum_backoff")
        else default.minimum_backoff_us,
        duration_us(policy.maximum_backoff, "retry_policy.maximum_backoff")
        if policy.HasField("maximum_backoff")
        else default.maximum_backoff_us,
    )


def retry_policy_pb(policy: RetryPolicy) -> pb.RetryPolicy:
    return pb.RetryPolicy(
        minimum_backoff=duration_pb(policy.minimum_backoff_us),
        maximum_backoff=duration_pb(policy.maximum_backoff_us),
    )


def dead_letter_policy(policy: pb.DeadLetterPolicy) -> DeadLetterPolicy:
    """Pub/Sub: 0 attempts mean 5. Raises InvalidArgument for what is no topic's name."""
    return DeadLetterPolicy(
        TopicName.parse(policy.dead_letter_topic), policy.max_delivery_attempts or 5
    )


def dead_letter_policy_pb(policy: DeadLetterPolicy) -> pb.DeadLetterPolicy:
    return pb.DeadLetterPolicy(
        dead_letter_topic=str(policy.topic), max_delivery_attempts=policy.max_delivery_attempts
    )


def push_config(config: pb.PushConfig, before: PushConfig | None = None) -> PushConfig | None:
    """Pub/Sub: without an endpoint, subscribers pull; whatever else is set then means nothing.

    A version that is not given stays as it was ``before``, which at first is v1.
    """
    if not config.push_endpoint:
        return None
    version = (
        PUSH_VERSIONS[0]
        if before is None
        else before.attributes.get(PUSH_VERSION, PUSH_VERSIONS[0])
    )
    return PushConfig(
        endpoint=config.push_endpoint,
        attributes={PUSH_VERSION: version} | dict(config.attributes),
        oidc_token=(
            OidcToken(config.oidc_token.service_account_email, config.oidc_token.audience)
            if config.HasField("oidc_token")
            else None
        ),
        unwrapped=config.HasField("no_wrapper"),
        write_metadata=config.no_wrapper.write_metadata,
    )


def push_config_pb(subscription: SubscriptionConfig) -> pb.PushConfig:
    """Pub/Sub: an empty one says that subscribers pull. Of AMS's push, the URL is all it can say."""
    config = subscription.push
    if subscription.ams_push is not None:
        return pb.PushConfig(push_endpoint=subscription.ams_push.url)
    if config is None:
        return pb.PushConfig()
    return pb.PushConfig(
        push_endpoint=config.endpoint,
        attributes=config.attributes,
        oidc_token=(
            pb.PushConfig.OidcToken(
                service_account_email=config.oidc_token.service_account_email,
                audience=config.oidc_token.audience,
            )
            if config.oidc_token is not None
            else None
        ),
        no_wrapper=(
            pb.PushConfig.NoWrapper(write_metadata=config.write_metadata)
            if config.unwrapped
            else None
        ),
    )


def storage_export(config: pb.CloudStorageConfig) -> StorageExport:
    """Raises InvalidArgument."""
    default = StorageExport(config.bucket)
    return StorageExport(
        bucket=config.bucket,
        filename_prefix=config.filename_prefix,
        filename_suffix=config.filename_suffix,
        filename_datetime_format=config.filename_datetime_format,
        avro=(
            AvroFormat(config.avro_config.write_metadata, config.avro_config.use_topic_schema)
            if config.HasField("avro_config")
            else None
        ),
        max_duration_us=(
            duration_us(config.max_duration, "cloud_storage_config.max_duration")
            if config.HasField("max_duration")
            else default.max_duration_us
        ),
        max_bytes=config.max_bytes,
        max_messages=config.max_messages,
        service_account_email=config.service_account_email,
    )


def storage_export_pb(config: StorageExport, resource_error: str) -> pb.CloudStorageConfig:
    """``resource_error``: what is wrong with it, by the name that Pub/Sub gives it."""
    shown = pb.CloudStorageConfig(
        bucket=config.bucket,
        filename_prefix=config.filename_prefix,
        filename_suffix=config.filename_suffix,
        filename_datetime_format=config.filename_datetime_format,
        max_duration=duration_pb(config.max_duration_us),
        max_bytes=config.max_bytes,
        max_messages=config.max_messages,
        state=resource_error or "ACTIVE",
        service_account_email=config.service_account_email,
    )
    if config.avro is None:
        shown.text_config.SetInParent()
    else:
        shown.avro_config.SetInParent()
        shown.avro_config.write_metadata = config.avro.write_metadata
        shown.avro_config.use_topic_schema = config.avro.use_topic_schema
    return shown


def refuse(message: Message, unsupported: dict[str, str]) -> None:
    """Raises Unimplemented if a field out of ``unsupported`` is set; its value says why."""
    for field, _ in message.ListFields():
        if field.name in unsupported:
            raise not_supported(field.name, unsupported[field.name])
