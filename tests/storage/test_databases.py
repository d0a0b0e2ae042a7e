"""Opening databases: who may, which ones, and what is said when it fails."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import OperationalError

from ams_grpc.storage import open_storage
from ams_grpc.storage.engine import Database, connect
from ams_grpc.storage.errors import (
    DatabaseError,
    DatabaseInUseError,
    UnreachableDatabaseError,
    UnsupportedDatabaseError,
)
from ams_grpc.storage.migrate import HEAD, current, migrate
from tests.postgres import ThrowAwayPostgres
from tests.storage.world import ManualClock, publish, stored, topic

HOLD = """
import sys, asyncio
from ams_grpc.broker.clock import SystemClock
from ams_grpc.storage import open_storage

async def hold():
    async with open_storage(sys.argv[1], SystemClock()):
        print("open", flush=True)
        await asyncio.Event().wait()

asyncio.run(hold())
"""


@contextlib.contextmanager
def another_process(address: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has the database open."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, address],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            yield process
        finally:
            process.kill()


async def test_a_second_process_on_an_sqlite_database_is_refused(
    sqlite_url: str, clock: ManualClock
) -> None:
    path = make_url(sqlite_url).database
    with another_process(sqlite_url):
        with pytest.raises(DatabaseInUseError, match=f"{path} is in use by another process"):
            async with open_storage(sqlite_url, clock):
                pass
        with pytest.raises(DatabaseInUseError):
            migrate(sqlite_url)
        assert current(sqlite_url) == HEAD


async def test_a_killed_process_lets_go_of_its_sqlite_database(
    sqlite_url: str, clock: ManualClock
) -> None:
    with another_process(sqlite_url) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        async with open_storage(sqlite_url, clock) as storage:
            await topic(storage)


async def test_a_link_to_an_open_sqlite_database_is_refused_too(
    sqlite_url: str, clock: ManualClock, tmp_path: Path
) -> None:
    link = tmp_path / "elsewhere.sqlite3"
    async with open_storage(sqlite_url, clock):
        link.symlink_to(make_url(sqlite_url).database or "")
        with pytest.raises(DatabaseInUseError):
            connect(f"sqlite:///{link}")


async def test_several_processes_may_use_one_postgresql_database(
    postgres_url: str, clock: ManualClock
) -> None:
    migrate(postgres_url)
    with another_process(postgres_url):
        async with open_storage(postgres_url, clock) as storage:
            orders = await topic(storage)
            await publish(storage, orders, b"a")
            assert await stored(storage, orders) == [(0, 1, b"a")]


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ams.sqlite3",
        "mysql://localhost/ams",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:////no/such/directory/ams.sqlite3",
        "sqlite:////",
    ],
)
def test_what_is_no_database_for_the_service_is_refused(address: str) -> None:
    with pytest.raises(UnsupportedDatabaseError):
        connect(address)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear Sir or Madam, " * 100)
    with pytest.raises(DatabaseError, match="not a database"):
        migrate(f"sqlite:///{path}")


def test_an_sqlite_database_is_for_its_owner_only(sqlite_url: str) -> None:
    migrate(sqlite_url)
    path = Path(make_url(sqlite_url).database or "")
    assert path.stat().st_mode & 0o077 == 0


def test_a_commit_on_sqlite_survives_the_loss_of_power(sqlite_url: str) -> None:
    with opened(sqlite_url) as database, database.writer.connect() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


@pytest.mark.parametrize(
    "default, used", [("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")]
)
def test_a_commit_on_postgresql_survives_it_whatever_the_default(
    postgres_url: str, default: str, used: str
) -> None:
    with opened(postgres_url) as database:
        with database.writer.begin() as connection:
            name = make_url(postgres_url).database
            connection.execute(text(f"ALTER DATABASE {name} SET synchronous_commit = {default}"))
        with database.writer.connect() as connection:
            assert connection.execute(text("SHOW synchronous_commit")).scalar() == used


def test_what_is_locked_on_postgresql_is_seen_as_others_left_it(postgres_url: str) -> None:
    """Whatever the default: locks would otherwise show what was there before others had them."""
    with opened(postgres_url) as database:
        with database.writer.begin() as connection:
            name = make_url(postgres_url).database
            default = "default_transaction_isolation = 'repeatable read'"
            connection.execute(text(f"ALTER DATABASE {name} SET {default}"))
        with database.writer.connect() as connection:
            used = connection.execute(text("SHOW transaction_isolation")).scalar()
            assert used == "read committed"


def test_readers_cannot_write_to_sqlite(sqlite_url: str) -> None:
    migrate(sqlite_url)
    with (
        opened(sqlite_url) as database,
        database.readers.connect() as connection,
        pytest.raises(OperationalError, match="readonly"),
    ):
        connection.execute(text("DELETE FROM meta"))


async def test_passwords_are_in_no_message(
    throw_away_postgres: ThrowAwayPostgres,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    address = throw_away_postgres.url()
    wrong = make_url(address).set(password="s3cret-and-wrong")
    said = []
    for refused in (
        wrong.render_as_string(hide_password=False),
        wrong.set(port=1).render_as_string(hide_password=False),
        wrong.set(host="no-such-host.invalid").render_as_string(hide_password=False),
        "postgresql://ams:s3cret-and-wrong@[::1/ams",
    ):
        with pytest.raises(DatabaseError) as error:
            async with open_storage(refused, clock):
                pass
        said.append(f"{error.value} {error.value!r} {error.value.__cause__}")
    assert "s3cret" not in "".join(said)
    assert "s3cret" not in caplog.text


def test_a_database_that_does_not_answer_is_named(throw_away_postgres: ThrowAwayPostgres) -> None:
    address = throw_away_postgres.url()
    throw_away_postgres.stop()
    with pytest.raises(UnreachableDatabaseError, match=f"127.0.0.1:{throw_away_postgres.port}"):
        migrate(address)


def test_an_old_sqlite_library_is_refused(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(UnsupportedDatabaseError, match=r"3\.35"):
        connect(sqlite_url)


@contextlib.contextmanager
def opened(address: str) -> Iterator[Database]:
    database = connect(address)
    try:
        yield database
    finally:
        database.close()


def test_closing_twice_is_harmless(sqlite_url: str) -> None:
    with opened(sqlite_url) as database:
        database.close()
    assert os.path.exists(make_url(sqlite_url).database or "")  # noqa: PTH110
