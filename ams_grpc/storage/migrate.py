"""Bringing a database's tables up to date.

An SQLite database has one user and is upgraded when the service starts, in one transaction. A
PostgreSQL database may be shared with nodes that still run the previous version: an operator
decides when, with `ams-grpc migrate`.

Alembic takes a while to import. A database that is up to date is recognised without it, and an
empty SQLite one gets its tables without it when the service starts: they are the same.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Column, Connection, MetaData, String, Table, insert, inspect, text

from ams_grpc.storage.engine import Database, connect
from ams_grpc.storage.errors import (
    NewerDatabaseError,
    OutdatedDatabaseError,
    UnreachableDatabaseError,
)
from ams_grpc.storage.failures import describe, is_unavailable
from ams_grpc.storage.tables import meta, metadata

if TYPE_CHECKING:
    from alembic.config import Config

HEAD: Final = "0010"
"""The revision that this version of the service works with."""

_VERSION: Final = Table(  # as Alembic makes it
    "alembic_version",
    MetaData(naming_convention={"pk": "alembic_version_pkc"}),
    Column("version_num", String(32), primary_key=True),
)
_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_LOCK_NUMBER: Final = 0x616D732D6D6967  # any number that is ours


def migrate(address: str) -> None:
    """Bring a database up to date; an empty one too. Raises DatabaseError."""
    database = connect(address)
    try:
        upgrade(database)
    finally:
        database.close()


def current(address: str) -> str | None:
    """The revision of a database; None if it has no tables. Raises DatabaseError."""
    database = connect(address, exclusive=False)
    try:
        return revision(database)
    finally:
        database.close()


def prepare(database: Database) -> None:
    """Upgrade an SQLite database, or fill an empty one; a PostgreSQL one must have been upgraded.

    Raises OutdatedDatabaseError, NewerDatabaseError, UnreachableDatabaseError.
    """
    found = revision(database)
    if found == HEAD:
        return
    if database.is_sqlite:
        if found is not None or not create(database):
            upgrade(database)
    elif found is None or found in _known_revisions():
        raise OutdatedDatabaseError(found, HEAD)
    else:
        raise NewerDatabaseError(found)


def revision(database: Database) -> str | None:
    """The revision that a database is at; None if it has no tables yet."""
    try:
        with database.writer.connect() as connection:
            return _revision(connection)
    except Exception as error:  # noqa: BLE001  # raised again, if need be in other words
        raise _unreachable(database, error) from None


def create(database: Database) -> bool:
    """Make the tables of an empty SQLite database, all or none; False: it is not empty."""
    try:
        with database.writer.begin() as connection:
            if inspect(connection).get_table_names():
                return False
            metadata.create_all(connection, checkfirst=False)
            _VERSION.create(connection, checkfirst=False)
            connection.execute(insert(_VERSION), {"version_num": HEAD})
            secret = {"key": "server_secret", "value": secrets.token_bytes(32)}
            connection.execute(insert(meta), secret)
            return True
    except Exception as error:  # noqa: BLE001  # raised again, if need be in other words
        raise _unreachable(database, error) from None


def upgrade(database: Database) -> None:
    """All steps to HEAD, or none of them. Does nothing to a database that is there already."""
    from alembic import command  # noqa: PLC0415  # slow to import, and rarely needed

    try:
        with database.writer.begin() as connection:
            if not database.is_sqlite:  # one at a time; the others find nothing left to do
                connection.execute(
                    text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK_NUMBER}
                )
            found = _revision(connection)
            if found is not None and found not in _known_revisions():
                raise NewerDatabaseError(found)
            config = alembic_config()
            config.attributes["connection"] = connection
            command.upgrade(config, HEAD)
    except Exception as error:  # noqa: BLE001  # raised again, if need be in other words
        raise _unreachable(database, error) from None


def alembic_config() -> Config:
    """Alembic's settings, which need no file: the migrations travel inside the package."""
    from alembic.config import Config  # noqa: PLC0415  # slow to import, and rarely needed

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


def _known_revisions() -> set[str]:
    from alembic.script import ScriptDirectory  # noqa: PLC0415  # slow to import, rarely needed

    scripts = ScriptDirectory.from_config(alembic_config())
    return {script.revision for script in scripts.walk_revisions()}


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def _unreachable(database: Database, error: Exception) -> Exception:
    if not is_unavailable(error):
        return error
    where = database.url.set(query={}).render_as_string(hide_password=True)
    return UnreachableDatabaseError(
        f"The database {where} cannot be used: {describe(error, database.password)}"
    )
