"""The throw-away PostgreSQL that other tests rely on."""

from __future__ import annotations

import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, text

from tests.postgres import PostgresServer, ThrowAwayPostgres


def rows(server: PostgresServer) -> list[int]:
    with server.connect() as connection:
        return [number for (number,) in connection.execute("SELECT number FROM kept ORDER BY 1")]


def keep(server: PostgresServer, number: int) -> None:
    with server.connect() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (number int)")
        connection.execute("INSERT INTO kept VALUES (%s)", [number])


def unused_name() -> str:
    return f"ams_test_{secrets.token_hex(8)}"


def test_a_query_works_on_every_kind_of_database(empty_database_url: str) -> None:
    engine = create_engine(empty_database_url)
    try:
        with engine.connect() as connection:
            assert connection.execute(text("SELECT 6 * 7")).scalar_one() == 42
    finally:
        engine.dispose()


def test_each_test_has_an_empty_database_of_its_own(
    postgres: PostgresServer, postgres_url: str
) -> None:
    name = unused_name()
    mine = create_engine(postgres_url)
    others = create_engine(postgres.create_database(name))
    try:
        with others.begin() as connection:
            connection.execute(text("CREATE TABLE elsewhere (n int)"))
        with mine.connect() as connection:
            assert connection.execute(text("SELECT to_regclass('elsewhere')")).scalar() is None
    finally:
        mine.dispose()
        others.dispose()
        postgres.drop_database(name)


def test_a_database_is_dropped_while_somebody_is_connected(postgres: PostgresServer) -> None:
    name = unused_name()
    postgres.create_database(name)

    with postgres.connect(name) as connection:
        postgres.drop_database(name)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_it_comes_back_on_the_same_port_with_the_same_data(
    throw_away_postgres: ThrowAwayPostgres, how: str
) -> None:
    server = throw_away_postgres
    keep(server, 1)
    port = server.port
    url = server.url()

    server.stop() if how == "stop" else server.kill()

    assert not server.is_running
    with pytest.raises(psycopg.OperationalError):
        server.connect()

    server.start()

    assert (server.port, server.url()) == (port, url)
    assert rows(server) == [1]


def test_a_kill_breaks_connections_and_is_recovered_from(
    throw_away_postgres: ThrowAwayPostgres,
) -> None:
    server = throw_away_postgres
    keep(server, 1)
    with server.connect() as connection:
        server.kill()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")

    server.start()

    assert "automatic recovery in progress" in server.log()
    assert rows(server) == [1]


@pytest.mark.parametrize("fsync", [True, False])
def test_fsync_is_a_choice(fsync: bool) -> None:
    with ThrowAwayPostgres(fsync=fsync) as server, server.connect() as connection:
        row = connection.execute("SHOW fsync").fetchone()
    assert row == ("on" if fsync else "off",)


def test_an_older_major_version_and_a_setting_can_be_chosen() -> None:
    with (
        ThrowAwayPostgres(major=16, max_connections="7") as server,
        server.connect() as connection,
    ):
        version = connection.info.server_version
        row = connection.execute("SHOW max_connections").fetchone()
    assert version // 10_000 == 16
    assert row == ("7",)


def test_a_server_that_cannot_start_says_why() -> None:
    with (
        pytest.raises(RuntimeError, match="no_such_setting"),
        ThrowAwayPostgres(no_such_setting="1"),
    ):
        pass


def test_closing_removes_every_trace() -> None:
    with ThrowAwayPostgres() as server:
        assert server.directory.exists()

    assert not server.directory.exists()
    assert not server.is_running
    server.close()


def test_it_goes_away_when_the_tests_are_killed() -> None:
    program = (
        "import time; from tests.postgres import ThrowAwayPostgres\n"
        "with ThrowAwayPostgres() as server:\n"
        "    print(server.port, server.directory, flush=True)\n"
        "    time.sleep(60)\n"
    )
    root = Path(__file__).parents[2]
    tests = subprocess.Popen(
        [sys.executable, "-c", program], cwd=root, stdout=subprocess.PIPE, text=True
    )
    assert tests.stdout is not None
    with tests.stdout:
        port, directory = tests.stdout.readline().split()
    assert listens(int(port))

    tests.kill()
    tests.wait()

    deadline = time.monotonic() + 30
    while listens(int(port)) or Path(directory).exists():
        assert time.monotonic() < deadline, "the server outlived the process that started it"
        time.sleep(0.02)


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
