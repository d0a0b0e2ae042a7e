"""What subscribers were delivered, as the figures of a subscription show it."""

from __future__ import annotations

import pytest

from ams_grpc.broker.errors import StorageUnavailable
from ams_grpc.broker.figures import Consumption, Consumptions, Event
from tests.unit.broker.world import ORDERS, World


async def consumed(world: World) -> Consumption:
    return await world.broker.ledger.consumption(await world.catalog.subscription(ORDERS))


async def test_deliveries_count_before_and_after_they_are_written(world: World) -> None:
    assert await consumed(world) == Consumption()
    await world.publish(b"1", b"22")
    await world.pull(1)
    await world.pull(1)
    at_us = world.clock.now_us()
    world.clock.advance(5)
    expected = Consumption(2, 3, Event(at_us, 2))

    assert await consumed(world) == expected
    await world.broker.retention.run_once()
    await world.broker.retention.run_once()
    assert await consumed(world) == expected
    world.restart()
    assert await consumed(world) == expected


async def test_redeliveries_count_again(world: World) -> None:
    """AMS: number_of_messages of subscriptions."""
    await world.publish(b"1")
    await world.nack(*await world.pull())
    await world.broker.ledger.write()
    world.clock.advance(2)
    assert await world.pull()
    found = await consumed(world)
    assert found.messages == 2
    assert found.last == Event(world.clock.now_us(), 1, world.clock.now_us() - 2_000_000)


@pytest.mark.parametrize("is_written", [False, True])
async def test_what_never_reached_its_subscriber_does_not_count(
    world: World, is_written: bool
) -> None:
    await world.publish(b"1", b"22", b"333")
    delivery = await world.pulls.pull(ORDERS, 2, 0)
    assert delivery is not None
    if is_written:
        await world.broker.ledger.write()
    (await world.runtime()).give_back(delivery)

    assert await world.pull_data() == [b"1", b"22", b"333"]
    found = await consumed(world)
    assert (found.messages, found.byte_size) == (3, 6)


async def test_what_cannot_be_written_is_written_later(world: World) -> None:
    await world.publish(b"1")
    await world.pull()
    world.consumption.failures = 1
    with pytest.raises(StorageUnavailable):
        await world.broker.ledger.write()
    await world.publish(b"2")
    await world.pull()
    await world.broker.ledger.write()
    assert [each.messages for each in world.stored.consumption.values()] == [2]


async def test_the_end_of_the_service_writes_what_is_left(world: World) -> None:
    await world.publish(b"1")
    await world.pull()
    async with world.broker:
        pass
    assert [each.messages for each in world.stored.consumption.values()] == [1]


class Known:
    """A ``ConsumptionReader`` that knows one thing."""

    def __init__(self, consumption: Consumption) -> None:
        self.known = consumption

    async def consumption(self, _subscription: object) -> Consumption:
        return self.known


async def test_several_readers_add_up_and_the_later_event_counts(world: World) -> None:
    early, late = Event(10, 1), Event(20, 2, 10)
    both = Consumptions(
        Known(Consumption(1, 10, late)), Known(Consumption(2, 20, early)), Known(Consumption())
    )
    subscription = await world.catalog.subscription(ORDERS)
    assert await both.consumption(subscription) == Consumption(3, 30, late)


@pytest.mark.parametrize(
    "event, rate",
    [
        (Event(5_000_000, 3), 3.0),
        (Event(5_000_000, 3, 3_000_000), 1.5),
        (Event(5_000_000, 3, 4_999_000), 3000.0),
        (Event(5_000_000, 3, 5_000_000), 3_000_000.0),
    ],
)
def test_a_rate_is_the_messages_of_an_event_by_the_seconds_since_the_one_before(
    event: Event, rate: float
) -> None:
    """AMS: publish_rate and consume_rate."""
    assert event.per_second == rate
