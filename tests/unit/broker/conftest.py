"""What the broker's tests start from."""

from __future__ import annotations

import pytest

from tests.unit.broker.fakes import ManualClock, Stored
from tests.unit.broker.world import World


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def empty(clock: ManualClock) -> World:
    """A service without any topic."""
    world = World(clock, Stored())
    world.start()
    return world


@pytest.fixture
async def world(empty: World) -> World:
    """A topic and a subscription."""
    await empty.create()
    return empty
