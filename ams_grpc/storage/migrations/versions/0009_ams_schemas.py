"""What AMS knows of schemas: their uuids, and rules for attributes.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

NAME: Any = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("schemas", sa.Column("uuid", NAME, nullable=False, server_default=sa.text("''")))
    op.add_column(
        "schemas", sa.Column("attributes", sa.Text(), nullable=False, server_default=sa.text("''"))
    )
    connection = op.get_bind()
    given = sa.text("UPDATE schemas SET uuid = :uuid WHERE id = :id")
    for schema_id in connection.scalars(sa.text("SELECT id FROM schemas")).all():
        connection.execute(given, {"uuid": str(uuid4()), "id": schema_id})


def downgrade() -> None:
    op.drop_column("schemas", "attributes")
    op.drop_column("schemas", "uuid")
