"""Subscriptions that the service itself delivers.

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

NAME: Any = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("subscriptions", sa.Column("worker", NAME))
    op.add_column("subscriptions", sa.Column("resource_error", NAME))
    op.create_index("ix_subscriptions_worker", "subscriptions", ["worker"])


def downgrade() -> None:
    op.drop_index("ix_subscriptions_worker", "subscriptions")
    op.drop_column("subscriptions", "resource_error")
    op.drop_column("subscriptions", "worker")
