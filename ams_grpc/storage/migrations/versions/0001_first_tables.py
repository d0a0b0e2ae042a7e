"""The first tables.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import secrets
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NUMBER: Any = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NAME: Any = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def number(name: str, **options: Any) -> sa.Column[int]:
    return sa.Column(name, NUMBER, nullable=False, **options)


def upgrade() -> None:
    meta = op.create_table(
        "meta",
        sa.Column("key", NAME, nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_meta"),
    )
    op.bulk_insert(meta, [{"key": "server_secret", "value": secrets.token_bytes(32)}])
    _create_topics()
    _create_subscriptions()
    _create_batches()
    _create_snapshots()


def _create_topics() -> None:
    op.create_table(
        "topics",
        number("id", autoincrement=True),
        sa.Column("name", NAME, nullable=True),
        sa.Column("project", NAME, nullable=False),
        number("version"),
        sa.Column("config", sa.Text(), nullable=False),
        number("next_seq", server_default="0"),
        number("first_seq", server_default="0"),
        number("last_publish_us", server_default="0"),
        number("byte_count", server_default="0"),
        number("created_us"),
        sa.PrimaryKeyConstraint("id", name="pk_topics"),
        sa.UniqueConstraint("name", name="uq_topics_name"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_topics_project_name", "topics", ["project", "name"])


def _create_subscriptions() -> None:
    op.create_table(
        "subscriptions",
        number("id", autoincrement=True),
        sa.Column("name", NAME, nullable=False),
        sa.Column("project", NAME, nullable=False),
        number("version"),
        number("topic_id"),
        number("start_seq"),
        sa.Column("detached", sa.Boolean(), nullable=False),
        sa.Column("config", sa.Text(), nullable=False),
        number("active_at_us"),
        number("created_us"),
        sa.PrimaryKeyConstraint("id", name="pk_subscriptions"),
        sa.UniqueConstraint("name", name="uq_subscriptions_name"),
        sa.ForeignKeyConstraint(["topic_id"], ["topics.id"], name="fk_subscriptions_topic_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_subscriptions_project_name", "subscriptions", ["project", "name"])
    op.create_index("ix_subscriptions_topic_id_name", "subscriptions", ["topic_id", "name"])
    op.create_table(
        "cursors",
        number("subscription_id", autoincrement=False),
        number("floor"),
        number("epoch"),
        number("acked_above_floor", server_default="0"),
        sa.PrimaryKeyConstraint("subscription_id", name="pk_cursors"),
        sa.ForeignKeyConstraint(
            ["subscription_id"],
            ["subscriptions.id"],
            name="fk_cursors_subscription_id",
            ondelete="CASCADE",
        ),
    )
    op.create_table(
        "ack_chunks",
        number("subscription_id"),
        number("chunk_no"),
        sa.Column("bits", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("subscription_id", "chunk_no", name="pk_ack_chunks"),
        sa.ForeignKeyConstraint(
            ["subscription_id"],
            ["cursors.subscription_id"],
            name="fk_ack_chunks_subscription_id",
            ondelete="CASCADE",
        ),
    )


def _create_batches() -> None:
    op.create_table(
        "batches",
        number("topic_id"),
        number("first_seq"),
        number("count"),
        number("publish_time_us"),
        number("byte_size"),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("topic_id", "first_seq", name="pk_batches"),
        sa.CheckConstraint("count > 0", name=op.f("ck_batches_count")),
    )
    op.create_index(
        "ix_batches_topic_id_publish_time_us_first_seq",
        "batches",
        ["topic_id", "publish_time_us", "first_seq"],
    )
    if op.get_context().dialect.name == "postgresql":
        # Compressing a megabyte takes longer than all the rest of a publish.
        op.execute("ALTER TABLE batches ALTER COLUMN payload SET STORAGE EXTERNAL")


def _create_snapshots() -> None:
    op.create_table(
        "snapshots",
        number("id", autoincrement=True),
        sa.Column("name", NAME, nullable=False),
        sa.Column("project", NAME, nullable=False),
        number("topic_id"),
        number("created_us"),
        number("expire_us"),
        sa.Column("labels", sa.Text(), nullable=False),
        number("floor"),
        sa.PrimaryKeyConstraint("id", name="pk_snapshots"),
        sa.UniqueConstraint("name", name="uq_snapshots_name"),
        sa.ForeignKeyConstraint(["topic_id"], ["topics.id"], name="fk_snapshots_topic_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_snapshots_project_name", "snapshots", ["project", "name"])
    op.create_index("ix_snapshots_topic_id_name", "snapshots", ["topic_id", "name"])
    op.create_index("ix_snapshots_expire_us", "snapshots", ["expire_us"])
    op.create_table(
        "snapshot_chunks",
        number("snapshot_id"),
        number("chunk_no"),
        sa.Column("bits", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("snapshot_id", "chunk_no", name="pk_snapshot_chunks"),
        sa.ForeignKeyConstraint(
            ["snapshot_id"],
            ["snapshots.id"],
            name="fk_snapshot_chunks_snapshot_id",
            ondelete="CASCADE",
        ),
    )
