"""Payloads beside the database.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

NUMBER: Any = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INDEX = "ix_batches_segment_segment_offset"


def upgrade() -> None:
    op.add_column("batches", sa.Column("segment", NUMBER))
    op.add_column("batches", sa.Column("segment_offset", NUMBER))
    in_segment = sa.text("segment IS NOT NULL")
    op.create_index(
        INDEX,
        "batches",
        ["segment", "segment_offset"],
        sqlite_where=in_segment,
        postgresql_where=in_segment,
    )


def downgrade() -> None:
    _move_into_rows(op.get_bind())
    op.drop_index(INDEX, "batches")
    op.drop_column("batches", "segment_offset")
    op.drop_column("batches", "segment")


def _move_into_rows(connection: sa.Connection) -> None:
    """All payloads back into the database. The segments' folder can be removed afterwards."""
    rows = connection.execute(
        sa.text(
            "SELECT topic_id, first_seq, byte_size, segment, segment_offset FROM batches"
            " WHERE segment IS NOT NULL"
        )
    ).all()
    if not rows:
        return
    database = connection.execute(sa.text("PRAGMA database_list")).all()[0][2]
    for topic_id, first_seq, size, segment, offset in rows:
        with Path(f"{database}.segments", f"{segment:010d}.segment").open("rb") as file:
            file.seek(offset)
            payload = file.read(size)
        if len(payload) != size:
            raise ValueError(f"{file.name} is damaged")
        connection.execute(
            sa.text(
                "UPDATE batches SET payload = :payload"
                " WHERE topic_id = :topic_id AND first_seq = :first_seq"
            ),
            {"payload": payload, "topic_id": topic_id, "first_seq": first_seq},
        )
