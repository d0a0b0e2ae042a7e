"""Schemas and their revisions, and the schema of a topic.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NUMBER: Any = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NAME: Any = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "schemas",
        sa.Column("id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("project", NAME, nullable=False),
        sa.Column("type", NAME, nullable=False),
        sa.Column("version", NUMBER, nullable=False),
        sa.Column("created_us", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_schemas"),
        sa.UniqueConstraint("name", name="uq_schemas_name"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_schemas_project_name", "schemas", ["project", "name"])
    op.create_table(
        "schema_revisions",
        sa.Column("id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("schema_id", NUMBER, nullable=False),
        sa.Column("revision_id", NAME, nullable=False),
        sa.Column("created_us", NUMBER, nullable=False),
        sa.Column("root", NAME, nullable=False),
        sa.Column("definition", sa.LargeBinary(), nullable=False),
        sa.Column("compiled", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_schema_revisions"),
        sa.ForeignKeyConstraint(
            ["schema_id"],
            ["schemas.id"],
            name="fk_schema_revisions_schema_id",
            ondelete="CASCADE",
        ),
        sa.UniqueConstraint(
            "schema_id", "revision_id", name="uq_schema_revisions_schema_id_revision_id"
        ),
        sqlite_autoincrement=True,
    )
    op.add_column("topics", sa.Column("schema_id", NUMBER))
    op.create_index("ix_topics_schema_id", "topics", ["schema_id"])


def downgrade() -> None:
    op.drop_index("ix_topics_schema_id", "topics")
    op.drop_column("topics", "schema_id")
    op.drop_table("schema_revisions")
    op.drop_table("schemas")
