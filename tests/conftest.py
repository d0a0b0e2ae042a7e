"""Databases for tests.

A test that asks for `database_url` runs twice, on SQLite and on PostgreSQL, each time with a
database of its own that has empty tables. A test that takes the database server away asks for `throw_away_postgres`.
Fixtures for many tests take their servers from `shared_server`, which does the same for them.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ams_grpc.storage.migrate import migrate
from tests.postgres import ExternalPostgres, PostgresServer, ThrowAwayPostgres
from tests.server import Server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The PostgreSQL server of this test process, for tests that only need databases on it.

    It is the one at AMS_TEST_DATABASE_URL, or else a throw-away one. With pytest-xdist each worker
    has its own: starting one costs a second, sharing one would cost a lock and its corner cases.
    """
    external = os.environ.get("AMS_TEST_DATABASE_URL")
    if external:
        elsewhere = ExternalPostgres(external)
        yield elsewhere
        elsewhere.drop_patterns()
        return
    with ThrowAwayPostgres() as server:
        yield server


@pytest.fixture
def throw_away_postgres() -> Iterator[ThrowAwayPostgres]:
    """A PostgreSQL server of this test's own, to stop, kill and start again."""
    with ThrowAwayPostgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """The address of an empty PostgreSQL database, without tables."""
    name = f"ams_test_{secrets.token_hex(8)}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


@pytest.fixture
def migrated_postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """The address of a PostgreSQL database with empty tables."""
    name = f"ams_test_{secrets.token_hex(8)}"
    yield postgres.create_database(name, prepare=migrate)
    postgres.drop_database(name)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The address of an SQLite database in a file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'ams.sqlite3'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The address of a database with empty tables; the test runs once on each kind.

    On SQLite whoever opens it first makes the tables.
    """
    fixture = "sqlite_url" if request.param == "sqlite" else "migrated_postgres_url"
    url = request.getfixturevalue(fixture)
    assert isinstance(url, str)
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest) -> str:
    """The address of a database without tables; the test runs once on each kind."""
    fixture = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    url = request.getfixturevalue(fixture)
    assert isinstance(url, str)
    return url


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """The kind of database that shared servers are on: all that use them run once on each."""
    assert isinstance(request.param, str)
    return request.param


@pytest.fixture(scope="session")
def shared_server(
    database: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Server]]:
    """Starts a server that stays until the session is over. It takes the options of `Server`."""
    postgres: PostgresServer | None = None
    if database == "postgresql":
        postgres = request.getfixturevalue("postgres")

    with ExitStack() as servers:

        def start(**options: Any) -> Server:
            data = tmp_path_factory.mktemp("server")
            url = None
            if postgres is not None:
                url = postgres.create_database(f"ams_test_{secrets.token_hex(8)}", prepare=migrate)
            return servers.enter_context(Server(data, url, measured=True, **options))

        yield start
