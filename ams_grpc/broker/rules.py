"""What callers may ask for: bounds, defaults and labels, with the texts that Pub/Sub answers.

Each check returns nothing, or raises. None of them reads the state of the service.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Final

from ams_grpc.broker.catalog import DEFAULT_RETENTION_US, SubscriptionConfig, TopicConfig
from ams_grpc.broker.endpoints import EndpointRules
from ams_grpc.broker.errors import (
    InvalidArgument,
    OutOfRange,
    invalid_argument,
    out_of_bounds,
    too_large,
    too_small,
)
from ams_grpc.broker.filters import parse_filter
from ams_grpc.broker.object_names import check_object_names
from ams_grpc.broker.policies import (
    DAY_US,
    DEFAULT_EXPORT_DURATION_US,
    HOUR_US,
    MINUTE_US,
    SECOND_US,
    DeadLetterPolicy,
    JavaScriptTransform,
    MessageStoragePolicy,
    OidcToken,
    PushConfig,
    RetryPolicy,
    StorageExport,
    Transform,
)
from ams_grpc.broker.profiles import Profile

MIN_RETENTION_US: Final = 10 * MINUTE_US
MAX_RETENTION_US: Final = 31 * DAY_US
MAX_EXPIRATION_US: Final = 365 * DAY_US
MIN_STREAM_ACK_DEADLINE_S: Final = 10
MAX_ACK_DEADLINE_S: Final = 600
MAX_BACKOFF_US: Final = 600 * SECOND_US
MIN_DELIVERY_ATTEMPTS: Final = 5
MAX_DELIVERY_ATTEMPTS: Final = 100

PUSH_VERSION: Final = "x-goog-version"
PUSH_VERSIONS: Final = ("v1", "v1beta2", "v1beta1")
"""Pub/Sub: values of that attribute of a push config; all mean the same form here."""
MAX_PUSH_ATTRIBUTES: Final = 100
MAX_PUSH_ATTRIBUTE_KEY_BYTES: Final = 256
MAX_PUSH_ATTRIBUTE_VALUE_BYTES: Final = 1024
MAX_AUDIENCE_BYTES: Final = 2048
MAX_EMAIL_BYTES: Final = 320
"""As long as an address can be: 64 bytes, @ and 255."""

MAX_LABELS: Final = 64
MAX_LABEL_LENGTH: Final = 63

_KMS_KEY: Final = re.compile(
    r"projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+",
)


# --- topics and subscriptions -------------------------------------------------------------------


def check_topic(config: TopicConfig) -> None:
    """Raises InvalidArgument unless a topic may be configured so."""
    check_labels(config.labels)
    if config.message_retention_us is not None:
        _check_retention(config.message_retention_us)
    if config.kms_key_name:
        _check_kms_key_name(config.kms_key_name)
    if config.message_storage_policy is not None:
        _check_storage_policy(config.message_storage_policy)
    _check_transforms(config.transforms)


def check_subscription(
    config: SubscriptionConfig, profile: Profile, min_ack_deadline_s: int | None = None
) -> None:
    """Raises InvalidArgument, OutOfRange unless it may be configured so under ``profile``.

    ``min_ack_deadline_s``, if given, counts in place of the profile's.
    """
    check_labels(config.labels)
    _check_ack_deadline(
        config.ack_deadline_s,
        profile.min_ack_deadline_s if min_ack_deadline_s is None else min_ack_deadline_s,
    )
    _check_retention(config.message_retention_us)
    if config.expiration_ttl_us is not None:
        _check_expiration(config.expiration_ttl_us, config.message_retention_us, profile)
    if config.retry is not None:
        _check_retry(config.retry)
    if config.dead_letter is not None:
        _check_dead_letter(config.dead_letter)
    _check_receivers(config)
    if config.filter:
        parse_filter(config.filter)
    _check_transforms(config.transforms)
    if config.export is not None:
        _check_export(config.export, config.ack_deadline_s, profile)


def check_push(push: PushConfig, endpoints: EndpointRules) -> None:
    """Raises InvalidArgument unless messages may be pushed so."""
    endpoints.check(push.endpoint)
    _check_push_attributes(push.attributes)
    version = push.attributes.get(PUSH_VERSION, PUSH_VERSIONS[0])
    if version not in PUSH_VERSIONS:
        raise InvalidArgument(
            f"Invalid push endpoint version given in push config (version={version}).",
            field="push_config.attributes",
        )
    if push.oidc_token is not None:
        _check_oidc_token(push.oidc_token, endpoints)


def _check_push_attributes(attributes: Mapping[str, str]) -> None:
    """The limits of messages' attributes. Pub/Sub: one of them has a meaning, and is looked at after."""
    path = "push_config.attributes"
    if len(attributes) > MAX_PUSH_ATTRIBUTES:
        raise too_large(path, len(attributes), MAX_PUSH_ATTRIBUTES)
    for key, value in attributes.items():
        _check_size(f"{path}: a key", key, MAX_PUSH_ATTRIBUTE_KEY_BYTES, path)
        _check_size(f"{path}: a value", value, MAX_PUSH_ATTRIBUTE_VALUE_BYTES, path)


def _check_oidc_token(token: OidcToken, endpoints: EndpointRules) -> None:
    """Pub/Sub: an identity is needed, an audience is not."""
    path, email = "push_config.oidc_token.service_account_email", token.service_account_email
    if not email:
        raise invalid_argument("PushConfig::oidc_token::service_account_email", field=path)
    _check_size(path, email, MAX_EMAIL_BYTES)
    if not endpoints.lends(email):
        raise invalid_argument(f"{path}: tokens are not signed for {email}", field=path)
    _check_size("push_config.oidc_token.audience", token.audience, MAX_AUDIENCE_BYTES)


def _check_size(what: str, text: str, maximum: int, path: str = "") -> None:
    size = len(text.encode())
    if size > maximum:
        detail = f"{what} has {size} bytes; the maximum is {maximum}"
        raise invalid_argument(detail, field=path or what)


def default_retention_us(expiration_ttl_us: int | None) -> int:
    """How long a subscription keeps messages when its caller did not say.

    Pub/Sub: 7 days, or the time after which an unused subscription expires if that is shorter.
    """
    if expiration_ttl_us is None:
        return DEFAULT_RETENTION_US
    return min(max(expiration_ttl_us, MIN_RETENTION_US), DEFAULT_RETENTION_US)


def _check_retention(retention_us: int) -> None:
    if not MIN_RETENTION_US <= retention_us <= MAX_RETENTION_US:
        error = out_of_bounds(
            "message retention duration",
            duration_text(retention_us),
            duration_text(MIN_RETENTION_US),
            duration_text(MAX_RETENTION_US),
        )
        raise _at("message_retention_duration", error)


def _check_expiration(ttl_us: int, retention_us: int, profile: Profile) -> None:
    """Pub/Sub: 1 to 365 days, and not shorter than the retention.

    The shortest retention goes with every ttl, since a profile may allow a ttl below it.
    """
    name, given = "expiration duration", duration_text(ttl_us)
    if ttl_us < profile.min_expiration_us:
        error = too_small(name, given, duration_text(profile.min_expiration_us))
    elif ttl_us > MAX_EXPIRATION_US:
        error = too_large(name, given, duration_text(MAX_EXPIRATION_US))
    elif ttl_us < retention_us and retention_us > MIN_RETENTION_US:
        error = invalid_argument(
            f"expiration_policy.ttl {given} is shorter than "
            f"message_retention_duration {duration_text(retention_us)}"
        )
    else:
        return
    raise _at("expiration_policy.ttl", error)


def _check_retry(policy: RetryPolicy) -> None:
    """Pub/Sub: both backoffs are 0 to 600 seconds, and the maximum is not below the minimum."""
    minimum_us, maximum_us = policy.minimum_backoff_us, policy.maximum_backoff_us
    for name, backoff_us in (("minimum_backoff", minimum_us), ("maximum_backoff", maximum_us)):
        if not 0 <= backoff_us <= MAX_BACKOFF_US:
            given, highest = seconds_text(backoff_us), seconds_text(MAX_BACKOFF_US)
            raise _at(f"retry_policy.{name}", out_of_bounds(name, given, "0s", highest))
    if maximum_us < minimum_us:
        error = too_small("maximum_backoff", seconds_text(maximum_us), seconds_text(minimum_us))
        raise _at("retry_policy.maximum_backoff", error)


def _check_dead_letter(policy: DeadLetterPolicy) -> None:
    """Pub/Sub: 5 to 100 attempts. That the topic exists is not for the rules to know."""
    name, attempts = "max_delivery_attempts", policy.max_delivery_attempts
    if attempts < MIN_DELIVERY_ATTEMPTS:
        error = too_small(name, attempts, MIN_DELIVERY_ATTEMPTS)
    elif attempts > MAX_DELIVERY_ATTEMPTS:
        error = too_large(name, attempts, MAX_DELIVERY_ATTEMPTS)
    else:
        return
    raise OutOfRange(error.message, field=f"dead_letter_policy.{name}")


def _check_receivers(config: SubscriptionConfig) -> None:
    """Pub/Sub: messages are pulled, pushed or exported; exactly once they are only pulled."""
    if config.is_pushed and config.export is not None:
        raise invalid_argument(
            "push_config and cloud_storage_config cannot both be set", field="push_config"
        )
    if config.exactly_once and config.worker is not None:
        raise invalid_argument(
            "enable_exactly_once_delivery is for subscriptions that are pulled",
            field="enable_exactly_once_delivery",
        )


def _at(field: str, error: InvalidArgument) -> InvalidArgument:
    """For texts that name a field in other words than its path."""
    error.field = field
    return error


_MAX_TEXT: Final = 1024
_MAX_REGIONS: Final = 100


def _check_kms_key_name(name: str) -> None:
    """Pub/Sub: the name of a Cloud KMS key. It is stored and returned; nothing is encrypted."""
    if len(name) > _MAX_TEXT or _KMS_KEY.fullmatch(name) is None or not name.isprintable():
        raise invalid_argument("kms_key_name", field="kms_key_name")


def _check_storage_policy(policy: MessageStoragePolicy) -> None:
    """Pub/Sub: a policy that is set names at least one region."""
    regions = policy.allowed_persistence_regions
    if not 0 < len(regions) <= _MAX_REGIONS or not all(
        0 < len(region) <= _MAX_TEXT and region.isprintable() for region in regions
    ):
        path = "message_storage_policy.allowed_persistence_regions"
        raise invalid_argument(path, field=path)


# --- transforms ---------------------------------------------------------------------------------

MAX_ENABLED_TRANSFORMS: Final = 5
MAX_TRANSFORMS: Final = 20
MAX_CODE_BYTES: Final = 20 * 1024
_FUNCTION_NAME: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]{0,254}")


def _check_transforms(transforms: Sequence[Transform]) -> None:
    """Pub/Sub: at most 5 enabled ones. Whether code works is for ``ports.TransformCheck``."""
    enabled = sum(not transform.disabled for transform in transforms)
    if enabled > MAX_ENABLED_TRANSFORMS:
        raise InvalidArgument(
            "The request exceeds the maximum number of enabled message transforms. Maximum enabled "
            f"transforms: {MAX_ENABLED_TRANSFORMS}. Enabled transforms: {enabled}",
            field="message_transforms",
        )
    if len(transforms) > MAX_TRANSFORMS:
        raise too_large("message_transforms", len(transforms), MAX_TRANSFORMS)
    names: set[str] = set()
    for transform in transforms:
        if isinstance(transform, JavaScriptTransform):
            _check_function(transform)
            if transform.function_name in names:
                raise _bad_function(
                    "function_name", f"two functions have the name {transform.function_name}"
                )
            names.add(transform.function_name)


def _check_function(transform: JavaScriptTransform) -> None:
    if _FUNCTION_NAME.fullmatch(transform.function_name) is None:
        raise _bad_function("function_name", "function_name is not the name of a function")
    if not transform.code:
        raise _bad_function("code", "code is empty")
    size = len(transform.code.encode())
    if size > MAX_CODE_BYTES:
        raise _bad_function("code", f"code has {size} bytes; the maximum is {MAX_CODE_BYTES}")


def _bad_function(field: str, detail: str) -> InvalidArgument:
    path = f"message_transforms.javascript_udf.{field}"
    return invalid_argument(f"message_transforms: {detail}", field=path)


# --- exports ------------------------------------------------------------------------------------

MAX_EXPORT_DURATION_US: Final = 10 * MINUTE_US
MIN_EXPORT_BYTES: Final = 1_000
MAX_EXPORT_BYTES: Final = 10 * 1024**3

_BUCKET: Final = re.compile(r"[a-z0-9](?:[a-z0-9_-]|\.(?!\.)){1,220}[a-z0-9]")
_MAX_BUCKET_PART: Final = 63


def _check_export(export: StorageExport, ack_deadline_s: int, profile: Profile) -> None:
    """Pub/Sub: CloudStorageConfig."""
    _check_bucket(export.bucket)
    check_object_names(export)
    path = "cloud_storage_config.service_account_email"
    _check_size(path, export.service_account_email, MAX_EMAIL_BYTES)
    _check_export_duration(export.max_duration_us, ack_deadline_s, profile)
    path = "cloud_storage_config.max_bytes"
    if export.max_bytes and not MIN_EXPORT_BYTES <= export.max_bytes <= MAX_EXPORT_BYTES:
        raise out_of_bounds(path, export.max_bytes, MIN_EXPORT_BYTES, MAX_EXPORT_BYTES)
    path = "cloud_storage_config.max_messages"
    if export.max_messages and export.max_messages < profile.min_export_messages:
        raise too_small(path, export.max_messages, profile.min_export_messages)


def _check_bucket(bucket: str) -> None:
    """Cloud Storage: 3 to 63 characters, or 222 with dots between parts of up to 63."""
    parts = bucket.split(".")
    if _BUCKET.fullmatch(bucket) is None or any(len(part) > _MAX_BUCKET_PART for part in parts):
        path = "cloud_storage_config.bucket"
        raise invalid_argument(f"{path}: '{bucket}' is not the name of a bucket", field=path)


def _check_export_duration(duration_us: int, ack_deadline_s: int, profile: Profile) -> None:
    """Pub/Sub: 1 to 10 minutes, and not above the ack deadline.

    The default of 5 minutes goes with every ack deadline: otherwise the default ack deadline, of 10
    seconds, could not stay as it is.
    """
    path = "cloud_storage_config.max_duration"
    if not profile.min_export_duration_us <= duration_us <= MAX_EXPORT_DURATION_US:
        raise out_of_bounds(
            path,
            duration_text(duration_us),
            duration_text(profile.min_export_duration_us),
            duration_text(MAX_EXPORT_DURATION_US),
        )
    if duration_us > ack_deadline_s * SECOND_US and duration_us != DEFAULT_EXPORT_DURATION_US:
        raise invalid_argument(
            f"{path} {duration_text(duration_us)} is longer than "
            f"ack_deadline_seconds {ack_deadline_s}",
            field=path,
        )


# --- labels -------------------------------------------------------------------------------------


def check_labels(labels: Mapping[str, str]) -> None:
    """Pub/Sub: at most 64; keys of 1 to 63 characters, values of 0 to 63.

    Characters are letters that are not upper case, digits of any script, ``_`` and ``-``; a key
    starts with such a letter.
    """
    if len(labels) > MAX_LABELS:
        raise _invalid_labels("labels", f"{len(labels)} labels exceed the maximum of {MAX_LABELS}")
    for key, value in labels.items():
        _check_label_key(key)
        _check_label_value(key, value)


def _check_label_key(key: str) -> None:
    if len(key) > MAX_LABEL_LENGTH:
        fault = f"exceeds maximum key length {MAX_LABEL_LENGTH} with a length of {len(key)}"
    elif key and not _is_label_letter(key[0]):
        fault = (
            rf"{_NO_LABEL_KEY}; first character "
            f'"{key[0]}" is not a non-uppercased letter (Unicode character class Ll or Lo)'
        )
    elif not key or not all(map(_is_label_character, key)):
        fault = _NO_LABEL_KEY
    else:
        return
    raise _invalid_labels("labels", f'key "{key}" {fault}')


def _check_label_value(key: str, value: str) -> None:
    if len(value) > MAX_LABEL_LENGTH:
        fault = f"exceeds maximum value length {MAX_LABEL_LENGTH} with a length of {len(value)}"
    elif not all(map(_is_label_character, value)):
        fault = _NO_LABEL_VALUE
    else:
        return
    raise _invalid_labels(f"labels.{key}", f'value "{value}" {fault}')


_NO_LABEL_KEY: Final = (
    r'does not conform to regular expression "[\p{Ll}\p{Lo}][\p{Ll}\p{Lo}\p{N}_-]{0,62}"'
)
_NO_LABEL_VALUE: Final = r'does not conform to regular expression "[\p{Ll}\p{Lo}\p{N}_-]{0,63}"'


def _is_label_letter(character: str) -> bool:
    return unicodedata.category(character) in {"Ll", "Lo"}


def _is_label_character(character: str) -> bool:
    return (
        character in "_-"
        or _is_label_letter(character)
        or unicodedata.category(character).startswith("N")
    )


def _invalid_labels(path: str, fault: str) -> InvalidArgument:
    return invalid_argument(f'Invalid labels: Invalid field "{path}"; {fault}', field="labels")


# --- pulling and acknowledging ------------------------------------------------------------------


def check_max_messages(max_messages: int) -> None:
    """Pub/Sub: a pull asks for at least one message; there is no upper bound."""
    if max_messages < 1:
        raise invalid_argument("max_messages", field="max_messages")


def check_modify_ack_deadline(ack_deadline_s: int) -> None:
    """Pub/Sub: 0 (a nack) to 600 seconds, in every profile."""
    _check_ack_deadline(ack_deadline_s, 0)


def check_stream_ack_deadline(ack_deadline_s: int) -> None:
    """Pub/Sub: 10 to 600 seconds on a stream, in every profile."""
    if not MIN_STREAM_ACK_DEADLINE_S <= ack_deadline_s <= MAX_ACK_DEADLINE_S:
        raise InvalidArgument(
            f"stream_ack_deadline_seconds must be between {MIN_STREAM_ACK_DEADLINE_S} "
            f"and {MAX_ACK_DEADLINE_S} seconds",
            field="stream_ack_deadline_seconds",
        )


def _check_ack_deadline(ack_deadline_s: int, minimum_s: int) -> None:
    if not minimum_s <= ack_deadline_s <= MAX_ACK_DEADLINE_S:
        raise InvalidArgument(
            f"Invalid ack deadline given (ack_deadline={ack_deadline_s}). The ack deadline must be "
            f"between {minimum_s} and {MAX_ACK_DEADLINE_S} seconds.",
            field="ack_deadline_seconds",
        )


# --- durations in texts -------------------------------------------------------------------------


def duration_text(duration_us: int) -> str:
    """A duration as Go writes it, without trailing zeros: ``9m59s``, ``10m0.5s``, ``744h``."""
    if duration_us < 0:
        return f"-{duration_text(-duration_us)}"
    hours, rest = divmod(duration_us, HOUR_US)
    minutes, rest = divmod(rest, MINUTE_US)
    text = f"{hours}h" if hours else ""
    if minutes or (hours and rest):
        text += f"{minutes}m"
    if rest or not text:
        text += seconds_text(rest)
    return text


def seconds_text(duration_us: int) -> str:
    """A duration in seconds alone, without trailing zeros: ``601s``, ``0.5s``."""
    if duration_us < 0:
        return f"-{seconds_text(-duration_us)}"
    seconds, fraction = divmod(duration_us, SECOND_US)
    return f"{seconds}.{fraction:06d}".rstrip("0").rstrip(".") + "s"
