"""Publishing to a topic that looks at messages: what was checked is what is stored."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ams_grpc.broker.catalog import Topic, TopicConfig
from ams_grpc.broker.errors import InvalidArgument
from ams_grpc.broker.policies import DAY_US, CompressionMode, CompressionTransform
from ams_grpc.broker.ports import Admitted, Once
from tests.unit.broker.fakes import encode
from tests.unit.broker.world import TOPIC, World

GATED = TopicConfig(transforms=(CompressionTransform(CompressionMode.COMPRESS),))


ONCE = Once(b"k" * 16, b"d" * 16, DAY_US)


class ScriptedGate:
    """Refuses the versions of topics that it is told to."""

    def __init__(self, refuses: Callable[[Topic], bool]) -> None:
        self.refuses = refuses
        self.saw: list[int] = []
        self.admitted: Admitted | None = None
        """What it leaves of a publish, if not all."""

    async def admit(self, topic: Topic, payload: bytes, count: int) -> Admitted:
        self.saw.append(topic.version)
        if self.refuses(topic):
            raise InvalidArgument("The message does not fit.")
        return self.admitted or Admitted(payload, count)


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


async def test_what_was_taken_once_gets_its_answer_again_though_it_would_be_refused_now(
    world: World,
) -> None:
    gate = await gated(world)
    first = await world.topics.publish(TOPIC, encode([b"1"]), 1, once=ONCE)
    gate.refuses = lambda _: True

    assert await world.topics.publish(TOPIC, encode([b"1"]), 1, once=ONCE) == first

    assert await world.pull_data() == [b"1"]
    assert gate.saw == [2]


async def test_that_nothing_was_left_of_it_is_remembered_too(world: World) -> None:
    gate = await gated(world)
    gate.admitted = Admitted(b"", 0, ())
    first = await world.topics.publish(TOPIC, encode([b"1"]), 1, once=ONCE)
    gate.admitted = None

    assert await world.topics.publish(TOPIC, encode([b"1"]), 1, once=ONCE) == first

    assert first.places == ()
    assert await world.pull_data() == []
