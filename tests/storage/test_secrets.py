"""Secrets of the service: made once, and the same for ever, on all nodes."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack

import pytest

from ams_grpc.storage import Storage, open_storage
from tests.storage.world import ManualClock


def make() -> bytes:
    return secrets.token_bytes(32)


async def test_a_secret_is_made_once(storage: Storage) -> None:
    first = await storage.secret("of_pushing", make)

    assert len(first) == 32
    assert await storage.secret("of_pushing", make) == first
    assert await storage.secret("of_others", make) != first


async def test_a_secret_outlives_the_process(address: str, clock: ManualClock) -> None:
    async with open_storage(address, clock) as storage:
        first = await storage.secret("of_pushing", make)
    async with open_storage(address, clock) as storage:
        assert await storage.secret("of_pushing", make) == first


async def test_who_needs_it_at_the_same_time_gets_the_same(storage: Storage) -> None:
    found = await asyncio.gather(*(storage.secret("of_pushing", make) for _ in range(10)))

    assert len({*found}) == 1


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_all_nodes_have_the_same(database_url: str, clock: ManualClock) -> None:
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(open_storage(database_url, clock)) for _ in range(3)
        ]
        found = await asyncio.gather(
            *(node.secret("of_pushing", make) for node in nodes for _ in range(3))
        )

    assert len({*found}) == 1


async def test_secrets_are_not_shown(storage: Storage) -> None:
    secret = await storage.secret("of_pushing", make)

    assert str(secret) not in repr(storage)
    assert "server_secret" not in repr(storage)
