"""The tables.

Ids are never used twice: what was deleted cannot come back under another name. Moments are
integers, microseconds since 1970 UTC. Names compare by their bytes on every database, as lists
and page tokens need it. ``config`` and ``labels`` are JSON; ``storage.records`` reads and writes it.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.types import TypeEngine

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

NUMBER: Final[TypeEngine[int]] = BigInteger().with_variant(Integer(), "sqlite")
"""64 bits. SQLite hands out ids only in a column whose type is exactly INTEGER."""

NAME: Final[TypeEngine[str]] = Text().with_variant(Text(collation="C"), "postgresql")


def _id() -> Column[int]:
    return Column("id", NUMBER, primary_key=True, autoincrement=True)


def _number(name: str, *arguments: Any, **options: Any) -> Column[int]:
    return Column(name, NUMBER, *arguments, nullable=False, **options)


def _counter(name: str) -> Column[int]:
    return _number(name, server_default="0")


meta: Final = Table(
    "meta",
    metadata,
    Column("key", NAME, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
"""``server_secret``: 32 random bytes, for ever. ``alive_us``: when the service last ran.
``last_segment``: the highest number of a segment (``storage.segments``) that was ever used.

Other secrets are made when they are first needed (``Storage.secret``).
"""

schemas: Final = Table(
    "schemas",
    metadata,
    _id(),
    Column("name", NAME, nullable=False, unique=True),
    Column("project", NAME, nullable=False),
    Column("type", NAME, nullable=False),
    _number("version"),
    _number("created_us"),
    Column("uuid", NAME, nullable=False, server_default=text("''")),
    Column(
        "attributes", Text, nullable=False, server_default=text("''")
    ),  # rules for them, in JSON
    Index(None, "project", "name"),
    sqlite_autoincrement=True,
)

schema_revisions: Final = Table(
    "schema_revisions",
    metadata,
    _id(),  # the revision's number: grows, and is never used twice
    _number("schema_id", ForeignKey("schemas.id", ondelete="CASCADE")),
    Column("revision_id", NAME, nullable=False),
    _number("created_us"),
    Column("root", NAME, nullable=False),
    Column("definition", LargeBinary, nullable=False),  # text as it came, in UTF-8
    Column("compiled", LargeBinary, nullable=False),
    UniqueConstraint("schema_id", "revision_id"),
    sqlite_autoincrement=True,
)

topics: Final = Table(
    "topics",
    metadata,
    _id(),
    Column("name", NAME, unique=True),  # the full name; NULL once the topic is deleted
    Column("project", NAME, nullable=False),
    _number("version"),
    Column("config", Text, nullable=False),
    _counter("next_seq"),
    _counter("first_seq"),  # the lowest seq that may still be stored
    _counter("last_publish_us"),
    _counter("byte_count"),  # of all that was ever published
    _number("created_us"),
    # The schema in its settings; NULL once that is deleted. No foreign key: see storage.schemas.
    Column("schema_id", NUMBER, index=True),
    Index(None, "project", "name"),
    sqlite_autoincrement=True,
)

subscriptions: Final = Table(
    "subscriptions",
    metadata,
    _id(),
    Column("name", NAME, nullable=False, unique=True),
    Column("project", NAME, nullable=False),
    _number("version"),
    _number("topic_id", ForeignKey("topics.id")),
    _number("start_seq"),
    Column("detached", Boolean, nullable=False),
    Column("config", Text, nullable=False),
    _number("active_at_us"),
    _number("created_us"),
    Column("worker", NAME, index=True),  # who delivers; NULL: subscribers pull
    Column("resource_error", NAME),  # what keeps the worker from working
    Index(None, "project", "name"),
    Index(None, "topic_id", "name"),
    sqlite_autoincrement=True,
)

cursors: Final = Table(
    "cursors",
    metadata,
    _number(
        "subscription_id",
        ForeignKey("subscriptions.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    _number("floor"),
    _number("epoch"),
    _counter("acked_above_floor"),
)

ack_chunks: Final = Table(
    "ack_chunks",
    metadata,
    _number(
        "subscription_id",
        ForeignKey("cursors.subscription_id", ondelete="CASCADE"),
        primary_key=True,
    ),
    _number("chunk_no", primary_key=True),
    Column("bits", LargeBinary, nullable=False),
)


def _of_cursor() -> Column[int]:
    return _number(
        "subscription_id",
        ForeignKey("cursors.subscription_id", ondelete="CASCADE"),
        primary_key=True,
    )


failures: Final = Table(
    "failures",
    metadata,
    _of_cursor(),
    _number("seq", primary_key=True),
    _number("count"),
)
"""Failed deliveries of messages that have any, where a dead-letter policy counts them."""

leases: Final = Table(
    "leases",
    metadata,
    _of_cursor(),
    _number("grant_no", primary_key=True),
    _number("deadline_us"),
    Column("seqs", LargeBinary, nullable=False),
)
"""Deliveries under exactly-once delivery: a message is not sent again before the deadline."""

windows: Final = Table(
    "windows",
    metadata,
    _number(
        "subscription_id",
        ForeignKey("cursors.subscription_id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    _number("start_seq"),
    _number("end_seq"),
    _number("pulled_us"),
    _number("messages"),
    _number("data_bytes"),
    _number("last_messages"),
    _number("last_interval_us"),
)
"""Windows of AMS's pulls, and what such pulls have given: ``broker.ports.StoredWindow``."""

batches: Final = Table(
    "batches",
    metadata,
    # No foreign key: topics go only after their batches, and a check for each publish costs.
    _number("topic_id", primary_key=True),
    _number("first_seq", primary_key=True),
    _number("count"),
    _number("publish_time_us"),
    _number("byte_size"),
    Column("payload", LargeBinary, nullable=False),  # what precedes it is read without it
    # Where a large payload is; then ``payload`` is empty. See storage.segments.
    Column("segment", NUMBER),
    Column("segment_offset", NUMBER),
    CheckConstraint("count > 0", name="count"),
    Index(None, "topic_id", "publish_time_us", "first_seq"),
    Index(
        None,
        "segment",
        "segment_offset",
        sqlite_where=text("segment IS NOT NULL"),
        postgresql_where=text("segment IS NOT NULL"),
    ),
)

onces: Final = Table(
    "onces",
    metadata,
    # No foreign key: a topic's end would take all of its keys at once. They go when they expire.
    _number("topic_id", primary_key=True),
    Column("key", LargeBinary, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    _number("first_seq"),
    _number("publish_time_us"),
    Column("places", LargeBinary),  # as ``ports.Appended`` has them
    _number("expire_us", index=True),
    sqlite_with_rowid=False,
)
"""What publishes were answered that are done once (``ports.Once``)."""

snapshots: Final = Table(
    "snapshots",
    metadata,
    _id(),
    Column("name", NAME, nullable=False, unique=True),
    Column("project", NAME, nullable=False),
    _number("topic_id", ForeignKey("topics.id")),
    _number("created_us"),
    _number("expire_us", index=True),
    Column("labels", Text, nullable=False),
    _number("floor"),
    Column("ordered", Boolean, nullable=False, server_default=false()),  # as its subscription
    Index(None, "project", "name"),
    Index(None, "topic_id", "name"),
    sqlite_autoincrement=True,
)

snapshot_chunks: Final = Table(
    "snapshot_chunks",
    metadata,
    _number("snapshot_id", ForeignKey("snapshots.id", ondelete="CASCADE"), primary_key=True),
    _number("chunk_no", primary_key=True),
    Column("bits", LargeBinary, nullable=False),
)


def _policies_of(resources: Table) -> Table:
    """IAM policies of one kind of resources: a row goes with its resource."""
    return Table(
        f"{resources.name.removesuffix('s')}_policies",
        metadata,
        _number(
            "resource_id",
            ForeignKey(resources.c.id, ondelete="CASCADE"),
            primary_key=True,
            autoincrement=False,
        ),
        Column("etag", LargeBinary, nullable=False),
        Column("bindings", Text, nullable=False),  # JSON
    )


topic_policies: Final = _policies_of(topics)
subscription_policies: Final = _policies_of(subscriptions)
snapshot_policies: Final = _policies_of(snapshots)
schema_policies: Final = _policies_of(schemas)

# --- figures -------------------------------------------------------------------------------------

daily_messages: Final = Table(
    "daily_messages",
    metadata,
    Column("project", NAME, primary_key=True),
    Column("topic", NAME, primary_key=True),  # its id, without the project
    _number("day", primary_key=True, autoincrement=False),  # since 1970 UTC
    _number("messages"),
)
"""Messages by day, as far as they are counted: see ``storage.days``. They outlive their topic."""

topic_marks: Final = Table(
    "topic_marks",
    metadata,
    _number(
        "topic_id",
        ForeignKey("topics.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    _number("counted_seq"),  # all below are in daily_messages
    # The last publish when they were counted: when, its first seq, and when the one before was.
    _number("event_us"),
    _number("event_seq"),
    _number("before_us"),
)

consumption: Final = Table(
    "consumption",
    metadata,
    _number(
        "subscription_id",
        ForeignKey("subscriptions.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    _number("messages"),
    _number("byte_size"),
    _number("last_us"),
    _number("last_count"),
    _number("before_us"),
)

node_usage: Final = Table(
    "node_usage",
    metadata,
    Column("host", NAME, primary_key=True),
    _number("cpu_permille"),
    _number("memory_permille"),
    _number("measured_us"),
)

# --- accounts ------------------------------------------------------------------------------------
# Who did something is kept as a uuid, which may be that of a user who is gone.


def _texts(*names: str) -> list[Column[str]]:
    return [Column(name, Text, nullable=False) for name in names]


_PERSON: Final = ("email", "first_name", "last_name", "organization", "description")

users: Final = Table(
    "users",
    metadata,
    _id(),
    Column("uuid", NAME, nullable=False, unique=True),
    Column("name", NAME, nullable=False, unique=True),
    *_texts(*_PERSON),
    Column("service_roles", Text, nullable=False),  # JSON
    Column("token_digest", LargeBinary, nullable=False, unique=True),  # keyed; see auth.tokens
    Column("sealed_token", LargeBinary, nullable=False),
    _number("created_us"),
    _number("modified_us"),
    Column("created_by", NAME, nullable=False),
    sqlite_autoincrement=True,
)

projects: Final = Table(
    "projects",
    metadata,
    _id(),
    Column("uuid", NAME, nullable=False, unique=True),
    Column("name", NAME, nullable=False, unique=True),
    *_texts("description"),
    _number("created_us"),
    _number("modified_us"),
    Column("created_by", NAME, nullable=False),
    sqlite_autoincrement=True,
)

memberships: Final = Table(
    "memberships",
    metadata,
    _number("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    _number(
        "project_id", ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True, index=True
    ),
    _number("place"),  # among those of the user
    Column("roles", Text, nullable=False),  # JSON
)

registrations: Final = Table(
    "registrations",
    metadata,
    _id(),
    Column("uuid", NAME, nullable=False, unique=True),
    Column("name", NAME, nullable=False),
    *_texts(*_PERSON),
    Column("status", NAME, nullable=False),
    Column("activation_digest", LargeBinary),
    Column("sealed_activation_token", LargeBinary),
    *_texts("decline_comment"),
    _number("registered_us"),
    _number("modified_us"),
    Column("modified_by", NAME, nullable=False),
    sqlite_autoincrement=True,
)
