"""Publishing to a topic that looks at messages: what was checked is what is stored."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ams_grpc.broker.catalog import Topic, TopicConfig
from ams_grpc.broker.errors import InvalidArgument
from ams_grpc.broker.policies import CompressionMode, CompressionTransform
from ams_grpc.broker.ports import Admitted
from tests.unit.broker.world import TOPIC, World

GATED = TopicConfig(transforms=(CompressionTransform(CompressionMode.COMPRESS),))


class ScriptedGate:
    """Refuses the versions of topics that it is told to."""

    def __init__(self, refuses: Callable[[Topic], bool]) -> None:
        self.refuses = refuses
        self.saw: list[int] = []

    async def admit(self, topic: Topic, payload: bytes, count: int) -> Admitted:
        self.saw.append(topic.version)
        if self.refuses(topic):
            raise InvalidArgument("The message does not fit.")
        return Admitted(payload, count)


async def gated(world: World, refuses: Callable[[Topic], bool] = lambda _: False) -> ScriptedGate:
    await world.topics.update(TOPIC, lambda _: GATED)
    gate = ScriptedGate(refuses)
    world.topics._gate = gate
    return gate


async def change_elsewhere(world: World) -> None:
    """As another node does it: nobody here is told."""
    topic = await world.catalog.topic(TOPIC)
    await world.catalog.update_topic(topic, topic.config)


async def test_a_message_is_checked_again_when_the_topic_has_changed_since(world: World) -> None:
    gate = await gated(world)
    await world.publish(b"before")
    await change_elsewhere(world)

    await world.publish(b"after")

    assert gate.saw == [2, 2, 3]
    assert await world.pull_data() == [b"before", b"after"]


async def test_a_refusal_that_rests_on_an_old_topic_is_none(world: World) -> None:
    gate = await gated(world, refuses=lambda topic: topic.version == 2)
    with pytest.raises(InvalidArgument):
        await world.publish(b"too early")
    await change_elsewhere(world)

    await world.publish(b"in time")

    assert gate.saw == [2, 2, 3]
    assert await world.pull_data() == [b"in time"]


async def test_a_refusal_that_rests_on_the_topic_as_it_is_stands(world: World) -> None:
    gate = await gated(world, refuses=lambda _: True)
    await change_elsewhere(world)

    with pytest.raises(InvalidArgument):
        await world.publish(b"never")

    assert gate.saw == [3]
