"""Users, projects, memberships and registrations.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

NUMBER: Any = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NAME: Any = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
PERSON = ("email", "first_name", "last_name", "organization", "description")


def number(name: str, **options: Any) -> sa.Column[int]:
    return sa.Column(name, NUMBER, nullable=False, **options)


def name(name: str) -> sa.Column[str]:
    return sa.Column(name, NAME, nullable=False)


def texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in names]


def upgrade() -> None:
    op.create_table(
        "users",
        number("id", autoincrement=True),
        name("uuid"),
        name("name"),
        *texts(*PERSON),
        sa.Column("service_roles", sa.Text(), nullable=False),
        sa.Column("token_digest", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_token", sa.LargeBinary(), nullable=False),
        number("created_us"),
        number("modified_us"),
        name("created_by"),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("uuid", name="uq_users_uuid"),
        sa.UniqueConstraint("name", name="uq_users_name"),
        sa.UniqueConstraint("token_digest", name="uq_users_token_digest"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "projects",
        number("id", autoincrement=True),
        name("uuid"),
        name("name"),
        *texts("description"),
        number("created_us"),
        number("modified_us"),
        name("created_by"),
        sa.PrimaryKeyConstraint("id", name="pk_projects"),
        sa.UniqueConstraint("uuid", name="uq_projects_uuid"),
        sa.UniqueConstraint("name", name="uq_projects_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "memberships",
        number("user_id"),
        number("project_id"),
        number("place"),
        sa.Column("roles", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "project_id", name="pk_memberships"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_memberships_user_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_memberships_project_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_memberships_project_id", "memberships", ["project_id"])
    op.create_table(
        "registrations",
        number("id", autoincrement=True),
        name("uuid"),
        name("name"),
        *texts(*PERSON),
        name("status"),
        sa.Column("activation_digest", sa.LargeBinary()),
        sa.Column("sealed_activation_token", sa.LargeBinary()),
        *texts("decline_comment"),
        number("registered_us"),
        number("modified_us"),
        name("modified_by"),
        sa.PrimaryKeyConstraint("id", name="pk_registrations"),
        sa.UniqueConstraint("uuid", name="uq_registrations_uuid"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    for table in ("registrations", "memberships", "projects", "users"):
        op.drop_table(table)
