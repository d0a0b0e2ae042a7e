"""Bringing tables up to date, and what happens to a database that is not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event, inspect, text
from sqlalchemy.engine.interfaces import ReflectedIndex

from ams_grpc.storage import open_storage
from ams_grpc.storage.engine import Database, connect
from ams_grpc.storage.errors import NewerDatabaseError, OutdatedDatabaseError
from ams_grpc.storage.migrate import (
    HEAD,
    alembic_config,
    create,
    current,
    migrate,
    prepare,
    upgrade,
)
from ams_grpc.storage.tables import metadata
from tests.storage.world import ManualClock


@contextmanager
def writing(address: str) -> Iterator[Connection]:
    database = connect(address)
    try:
        with database.writer.begin() as connection:
            yield connection
    finally:
        database.close()


def start(address: str) -> None:
    """What the start of the service does with a database."""
    database = connect(address)
    try:
        prepare(database)
    finally:
        database.close()


def description(address: str) -> dict[str, object]:
    """All that there is to tell two SQLite databases apart, but for the secret."""
    with writing(address) as connection:
        found: dict[str, object] = {
            "version": connection.execute(text("SELECT * FROM alembic_version")).all(),
            "secrets": connection.execute(text("SELECT key, length(value) FROM meta")).all(),
            "page size": connection.execute(text("PRAGMA page_size")).scalar_one(),
        }
        inspector = inspect(connection)
        for table in inspector.get_table_names():
            query = text("SELECT sql FROM sqlite_master WHERE name = :name")
            statement = str(connection.execute(query, {"name": table}).scalar_one())
            found[table] = (
                [
                    {**column, "type": repr(column["type"])}
                    for column in inspector.get_columns(table)
                ],
                inspector.get_pk_constraint(table),
                inspector.get_foreign_keys(table),
                sorted(map(repr, inspector.get_unique_constraints(table))),
                inspector.get_check_constraints(table),
                sorted(map(_index_text, inspector.get_indexes(table))),
                "AUTOINCREMENT" in statement,
            )
    return found


def _index_text(index: ReflectedIndex) -> str:
    options = {name: str(value) for name, value in index.get("dialect_options", {}).items()}
    return repr({**index, "dialect_options": options})


def test_tables_made_at_the_start_are_those_of_the_migrations(tmp_path: Path) -> None:
    created, migrated = [f"sqlite:///{tmp_path / name}" for name in ("created", "migrated")]
    start(created)
    migrate(migrated)

    found = description(created)

    assert found == description(migrated)
    assert found["version"] == [(HEAD,)]
    assert found["secrets"] == [("server_secret", 32)]
    assert found.keys() >= metadata.tables.keys()
    with writing(created) as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []
    migrate(created)
    assert description(created) == found


def test_a_database_that_is_not_empty_is_left_to_the_migrations(sqlite_url: str) -> None:
    with writing(sqlite_url) as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
    database = connect(sqlite_url)
    try:
        assert not create(database)
    finally:
        database.close()
    start(sqlite_url)
    assert current(sqlite_url) == HEAD


def test_the_tables_are_those_of_the_code(address: str) -> None:
    with writing(address) as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []
        foreign_keys = inspect(connection).get_multi_foreign_keys()
        assert len(foreign_keys) >= 5


def test_ids_are_never_given_twice_on_sqlite(sqlite_url: str) -> None:
    migrate(sqlite_url)
    with writing(sqlite_url) as connection:
        for table in ("topics", "subscriptions", "snapshots"):
            query = text("SELECT sql FROM sqlite_master WHERE name = :name")
            statement = connection.execute(query, {"name": table}).scalar_one()
            assert "AUTOINCREMENT" in statement


def test_the_revision_in_the_code_is_the_last_in_the_directory() -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_heads() == [HEAD]


def test_migrating_again_changes_nothing(empty_database_url: str) -> None:
    assert current(empty_database_url) is None
    migrate(empty_database_url)
    with writing(empty_database_url) as connection:
        secret = connection.execute(text("SELECT value FROM meta")).scalar_one()
    migrate(empty_database_url)
    assert current(empty_database_url) == HEAD
    with writing(empty_database_url) as connection:
        assert connection.execute(text("SELECT value FROM meta")).scalar_one() == secret


async def test_an_empty_sqlite_database_is_made_ready_at_start(
    sqlite_url: str, clock: ManualClock
) -> None:
    async with open_storage(sqlite_url, clock) as storage:
        await storage.ping()
    assert current(sqlite_url) == HEAD


async def test_an_empty_postgresql_database_is_refused_with_the_command_to_run(
    postgres_url: str, clock: ManualClock
) -> None:
    with pytest.raises(OutdatedDatabaseError, match="ams-grpc migrate"):
        async with open_storage(postgres_url, clock):
            pass
    assert current(postgres_url) is None
    migrate(postgres_url)
    async with open_storage(postgres_url, clock) as storage:
        await storage.ping()


def test_a_database_of_a_later_version_is_refused_and_left_alone(empty_database_url: str) -> None:
    migrate(empty_database_url)
    with writing(empty_database_url) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for attempt in (start, migrate):
        with pytest.raises(NewerDatabaseError, match="9999"):
            attempt(empty_database_url)
    assert current(empty_database_url) == "9999"


@pytest.mark.parametrize("make", [upgrade, create])
def test_a_migration_that_fails_half_way_leaves_nothing_behind(
    empty_database_url: str, make: Callable[[Database], object]
) -> None:
    database = connect(empty_database_url)

    def fail(*arguments: object) -> None:
        statement = str(arguments[2])
        if "CREATE TABLE snapshot_chunks" in statement:
            raise RuntimeError("power cut")

    event.listen(database.writer, "before_cursor_execute", fail)
    try:
        with pytest.raises(RuntimeError, match="power cut"):
            make(database)
        with database.writer.connect() as connection:
            assert inspect(connection).get_table_names() == []
    finally:
        database.close()
    migrate(empty_database_url)
    assert current(empty_database_url) == HEAD


PREPARE = """
import sys
from ams_grpc.storage.engine import connect
from ams_grpc.storage.migrate import prepare

prepare(connect(sys.argv[1]))
assert "alembic" not in sys.modules
"""


def without_alembic(address: str) -> None:
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", PREPARE, address], check=True, cwd=root)


def test_a_database_that_is_up_to_date_is_recognised_without_alembic(address: str) -> None:
    without_alembic(address)


def test_an_empty_sqlite_database_is_filled_without_alembic(sqlite_url: str) -> None:
    without_alembic(sqlite_url)
    assert current(sqlite_url) == HEAD
