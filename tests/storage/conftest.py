"""A storage on every kind of database, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ams_grpc.storage import Storage, open_storage
from ams_grpc.storage.engine import Database, connect
from ams_grpc.storage.migrate import migrate
from tests.storage.world import ManualClock, Trouble, trouble_on


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def address(database_url: str) -> str:
    """The address of a database with empty tables, on SQLite, too."""
    migrate(database_url)
    return database_url


@pytest.fixture
async def storage(address: str, clock: ManualClock) -> AsyncIterator[Storage]:
    async with open_storage(address, clock) as opened:
        yield opened


@pytest.fixture
def trouble(monkeypatch: pytest.MonkeyPatch) -> list[Trouble]:
    """Holds, once a storage is open, what makes its transactions fail."""
    made: list[Trouble] = []

    def connect_to_trouble(address: str) -> Database:
        database = connect(address)
        made.append(trouble_on(database))
        return database

    monkeypatch.setattr("ams_grpc.storage.storage.connect", connect_to_trouble)
    return made
