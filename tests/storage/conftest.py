"""A storage on every kind of database, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ams_grpc.storage import Storage, open_storage
from ams_grpc.storage.migrate import migrate
from tests.storage.world import ManualClock


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
