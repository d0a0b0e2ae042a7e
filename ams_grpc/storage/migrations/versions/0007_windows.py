"""Windows of AMS's pulls, with what such pulls have given.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

NUMBER: Any = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NUMBERS = (
    "start_seq",
    "end_seq",
    "pulled_us",
    "messages",
    "data_bytes",
    "last_messages",
    "last_interval_us",
)


def upgrade() -> None:
    op.create_table(
        "windows",
        sa.Column("subscription_id", NUMBER, autoincrement=False, nullable=False),
        *[sa.Column(name, NUMBER, nullable=False) for name in NUMBERS],
        sa.PrimaryKeyConstraint("subscription_id", name="pk_windows"),
        sa.ForeignKeyConstraint(
            ["subscription_id"],
            ["cursors.subscription_id"],
            name="fk_windows_subscription_id",
            ondelete="CASCADE",
        ),
    )


def downgrade() -> None:
    op.drop_table("windows")
