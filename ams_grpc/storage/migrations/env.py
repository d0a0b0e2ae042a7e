"""How Alembic reaches the database: on the connection that ``storage.migrate`` hands over."""

from __future__ import annotations

from alembic import context

from ams_grpc.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by copying it
    transactional_ddl=True,  # all or nothing, also on SQLite
)
with context.begin_transaction():
    context.run_migrations()
