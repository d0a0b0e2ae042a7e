"""IAM policies of topics, subscriptions, snapshots and schemas.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

NUMBER: Any = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
KINDS = ("topic", "subscription", "snapshot", "schema")


def upgrade() -> None:
    for kind in KINDS:
        op.create_table(
            f"{kind}_policies",
            sa.Column(
                "resource_id",
                NUMBER,
                sa.ForeignKey(f"{kind}s.id", ondelete="CASCADE"),
                primary_key=True,
                autoincrement=False,
                nullable=False,
            ),
            sa.Column("etag", sa.LargeBinary, nullable=False),
            sa.Column("bindings", sa.Text, nullable=False),
        )


def downgrade() -> None:
    for kind in KINDS:
        op.drop_table(f"{kind}_policies")
