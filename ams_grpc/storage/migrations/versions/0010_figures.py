"""Messages by day, what was consumed, and how busy nodes are.

Revision ID: 0010
Revises: 0006
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

NUMBER: Any = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NAME: Any = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def numbers(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, NUMBER, nullable=False, autoincrement=False) for name in names]


def owned(table: str, key: str, owner: str, *columns: sa.Column[Any]) -> None:
    """A table whose rows go with those of ``owner``."""
    op.create_table(
        table,
        *numbers(key),
        *columns,
        sa.PrimaryKeyConstraint(key, name=f"pk_{table}"),
        sa.ForeignKeyConstraint(
            [key], [f"{owner}.id"], name=f"fk_{table}_{key}", ondelete="CASCADE"
        ),
    )


def upgrade() -> None:
    op.create_table(
        "daily_messages",
        sa.Column("project", NAME, nullable=False),
        sa.Column("topic", NAME, nullable=False),
        *numbers("day", "messages"),
        sa.PrimaryKeyConstraint("project", "topic", "day", name="pk_daily_messages"),
    )
    owned(
        "topic_marks",
        "topic_id",
        "topics",
        *numbers("counted_seq", "event_us", "event_seq", "before_us"),
    )
    owned(
        "consumption",
        "subscription_id",
        "subscriptions",
        *numbers("messages", "byte_size", "last_us", "last_count", "before_us"),
    )
    op.create_table(
        "node_usage",
        sa.Column("host", NAME, nullable=False),
        *numbers("cpu_permille", "memory_permille", "measured_us"),
        sa.PrimaryKeyConstraint("host", name="pk_node_usage"),
    )


def downgrade() -> None:
    for table in ("node_usage", "consumption", "topic_marks", "daily_messages"):
        op.drop_table(table)
