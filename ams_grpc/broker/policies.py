"""What a topic or subscription can be given beside plain numbers, as records.

Durations are microseconds (``_us``). The bounds are in ``rules``; what each means to messages is in
the room that carries it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeAlias

from ams_grpc.broker.names import SchemaName, TopicName

SECOND_US: Final = 1_000_000
MINUTE_US: Final = 60 * SECOND_US
HOUR_US: Final = 60 * MINUTE_US
DAY_US: Final = 24 * HOUR_US


# --- of topics ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MessageStoragePolicy:
    """Pub/Sub: where messages may rest. Stored and returned; one service has one place."""

    allowed_persistence_regions: tuple[str, ...]
    enforce_in_transit: bool = False


class Encoding(StrEnum):
    """How messages are written that follow a schema."""

    UNSPECIFIED = ""
    JSON = "JSON"
    BINARY = "BINARY"


@dataclass(frozen=True, slots=True)
class SchemaSettings:
    """The schema that a topic's messages follow. ``schema`` None: it was deleted.

    Revision ids may be empty: no bound. The rest is looked up when the topic is given the schema,
    and is what counts from then on: ``schema_id`` is the schema's identity, so that another of the
    same name does not take its place, and the numbers say which revisions are in range, also when
    those that bound it are gone (0: no bound).

    ``ams``: given as AMS gives it. Then the encoding follows from the schema's type, messages are
    stored as they came, and refused in AMS's words.
    """

    schema: SchemaName | None
    encoding: Encoding = Encoding.UNSPECIFIED
    first_revision_id: str = ""
    last_revision_id: str = ""
    schema_id: int = 0
    first_revision: int = 0
    last_revision: int = 0
    ams: bool = False

    def admits(self, revision: int) -> bool:
        """Whether messages may follow the revision of that number."""
        return self.first_revision <= revision and (
            not self.last_revision or revision <= self.last_revision
        )

    @property
    def asked_for(self) -> SchemaSettings:
        """What the caller said, without what was looked up."""
        return SchemaSettings(
            self.schema, self.encoding, self.first_revision_id, self.last_revision_id
        )


# --- of both ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JavaScriptTransform:
    """A function of the user's that is called with each message.

    ``enabled`` of any transform means nothing any more, and is shown as it was set.
    """

    function_name: str
    code: str
    disabled: bool = False
    enabled: bool = False


class CompressionMode(StrEnum):
    COMPRESS = "COMPRESS"
    DECOMPRESS = "DECOMPRESS"


class CompressionAlgorithm(StrEnum):
    ZLIB = "ZLIB"
    ZSTD = "ZSTD"


@dataclass(frozen=True, slots=True)
class CompressionTransform:
    """Packs or unpacks the data of each message."""

    mode: CompressionMode
    algorithm: CompressionAlgorithm = CompressionAlgorithm.ZLIB
    disabled: bool = False
    enabled: bool = False


Transform: TypeAlias = JavaScriptTransform | CompressionTransform


# --- of subscriptions ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Pub/Sub: how long a message rests after its n-th failure: minimum x 2^(n-1), at most maximum."""

    minimum_backoff_us: int = 10 * SECOND_US
    maximum_backoff_us: int = 600 * SECOND_US


@dataclass(frozen=True, slots=True)
class DeadLetterPolicy:
    """Where a message goes when its delivery number ``max_delivery_attempts`` has failed."""

    topic: TopicName
    max_delivery_attempts: int = 5


@dataclass(frozen=True, slots=True)
class OidcToken:
    """Pub/Sub: identity in the token of a push request; no ``audience`` means the endpoint."""

    service_account_email: str
    audience: str = ""


@dataclass(frozen=True, slots=True)
class PushConfig:
    """Where messages are pushed to, and in which form.

    ``unwrapped``: the body is the message's data; ``write_metadata`` puts the rest into headers.
    ``attributes`` are as the caller gave them (``x-goog-version``).
    """

    endpoint: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    oidc_token: OidcToken | None = None
    unwrapped: bool = False
    write_metadata: bool = False


@dataclass(frozen=True, slots=True)
class AvroFormat:
    """Objects of an export are Avro files; by default they are text, one message a line."""

    write_metadata: bool = False
    use_topic_schema: bool = False


DEFAULT_EXPORT_DURATION_US: Final = 300 * SECOND_US


@dataclass(frozen=True, slots=True)
class StorageExport:
    """Messages are written to objects of a bucket.

    An object is closed when it reaches ``max_duration_us``, ``max_bytes`` or ``max_messages``; 0
    for the last two means no such limit.
    """

    bucket: str
    filename_prefix: str = ""
    filename_suffix: str = ""
    filename_datetime_format: str = ""
    avro: AvroFormat | None = None
    max_duration_us: int = DEFAULT_EXPORT_DURATION_US
    max_bytes: int = 0
    max_messages: int = 0
    service_account_email: str = ""
