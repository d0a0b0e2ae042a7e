"""Deliveries that outlive the process; subscriptions that the service itself delivers.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NUMBER: Any = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NAME: Any = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("subscriptions", sa.Column("worker", NAME))
    op.add_column("subscriptions", sa.Column("resource_error", NAME))
    op.add_column(
        "snapshots", sa.Column("ordered", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.create_index("ix_subscriptions_worker", "subscriptions", ["worker"])
    op.create_table(
        "failures",
        sa.Column("subscription_id", NUMBER, nullable=False),
        sa.Column("seq", NUMBER, nullable=False),
        sa.Column("count", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("subscription_id", "seq", name="pk_failures"),
        _of_cursor("failures"),
    )
    op.create_table(
        "leases",
        sa.Column("subscription_id", NUMBER, nullable=False),
        sa.Column("grant_no", NUMBER, nullable=False),
        sa.Column("deadline_us", NUMBER, nullable=False),
        sa.Column("seqs", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("subscription_id", "grant_no", name="pk_leases"),
        _of_cursor("leases"),
    )


def _of_cursor(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["subscription_id"],
        ["cursors.subscription_id"],
        name=f"fk_{table}_subscription_id",
        ondelete="CASCADE",
    )


def downgrade() -> None:
    op.drop_table("leases")
    op.drop_table("failures")
    op.drop_column("snapshots", "ordered")
    op.drop_index("ix_subscriptions_worker", "subscriptions")
    op.drop_column("subscriptions", "resource_error")
    op.drop_column("subscriptions", "worker")
