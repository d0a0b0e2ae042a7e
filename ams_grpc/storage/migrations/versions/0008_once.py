"""Publishes that are done once, however often they are asked for.

Revision ID: 0008
Revises: 0006
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

NUMBER: Any = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "onces",
        sa.Column("topic_id", NUMBER, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("first_seq", NUMBER, nullable=False),
        sa.Column("publish_time_us", NUMBER, nullable=False),
        sa.Column("places", sa.LargeBinary()),
        sa.Column("expire_us", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("topic_id", "key", name="pk_onces"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_onces_expire_us", "onces", ["expire_us"])


def downgrade() -> None:
    op.drop_table("onces")
