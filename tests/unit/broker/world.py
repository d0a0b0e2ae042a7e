"""A whole broker on a storage in memory, with one topic and one subscription to begin with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

from ams_grpc.broker.broker import Broker, BrokerSettings
from ams_grpc.broker.catalog import SubscriptionConfig, TopicConfig
from ams_grpc.broker.consumers import Consumer, Delivery
from ams_grpc.broker.errors import BrokerError
from ams_grpc.broker.names import SnapshotName, SubscriptionName, TopicName
from ams_grpc.broker.profiles import STRICT
from ams_grpc.broker.runtime import SubscriptionRuntime
from tests.unit.broker.fakes import (
    AnySchema,
    ManualClock,
    MemoryCatalog,
    MemoryCommits,
    MemoryConsumption,
    MemoryLog,
    ScriptedUpkeep,
    Stored,
    annotate,
    decode,
    encode,
    read_key,
)

TOPIC = TopicName("project", "orders")
ORDERS = SubscriptionName("project", "orders-sub")


def snapshot_name(name: str) -> SnapshotName:
    return SnapshotName("project", name)


class Received(NamedTuple):
    """A message as a subscriber gets it."""

    data: bytes
    ack_id: str
    seq: int


def received(delivery: Delivery) -> list[Received]:
    head = delivery.ack_id_head.decode()
    return [
        Received(message, f"{head}{seq:012x}", seq)
        for seq, message in zip(delivery.seqs, delivery.messages, strict=True)
    ]


class Stream:
    """A streaming subscriber: what came, delivery by delivery, and how it ended."""

    def __init__(
        self, *, ack_deadline_s: int = 10, max_messages: int = 0, max_bytes: int = 0
    ) -> None:
        self.deliveries: list[list[Received]] = []
        self.error: BrokerError | None = None
        self.consumer = Consumer(
            lambda delivery: self.deliveries.append(received(delivery)),
            self._end,
            ack_deadline_s=ack_deadline_s,
            max_messages=max_messages,
            max_bytes=max_bytes,
        )

    @property
    def messages(self) -> list[Received]:
        return [message for delivery in self.deliveries for message in delivery]

    @property
    def data(self) -> list[bytes]:
        return [message.data for message in self.messages]

    def _end(self, error: BrokerError) -> None:
        self.error = error


@dataclass
class World:
    """The parts, and the calls that tests make most."""

    clock: ManualClock
    stored: Stored
    cache_bytes: int = 1 << 20
    max_outstanding: int = 100_000

    def start(self) -> None:
        self.reader = MemoryLog(self.stored)
        self.commits = MemoryCommits(self.stored, self.clock)
        self.catalog = MemoryCatalog(self.stored, self.clock)
        self.upkeep = ScriptedUpkeep(self.stored)
        self.consumption = MemoryConsumption(self.stored)
        self.broker = Broker(
            catalog=self.catalog,
            reader=self.reader,
            commits=self.commits,
            upkeep=self.upkeep,
            consumption=self.consumption,
            decode=decode,
            read_key=read_key,
            annotate=annotate,
            schemas=AnySchema(),
            clock=self.clock,
            secret=b"secret",
            settings=BrokerSettings(
                STRICT, cache_bytes=self.cache_bytes, max_outstanding=self.max_outstanding
            ),
        )
        self.commits.on_append = self.broker.appended
        self.topics = self.broker.topics
        self.subscriptions = self.broker.subscriptions
        self.runtimes = self.broker.runtimes
        self.pulls = self.broker.pulls
        self.snapshots = self.broker.snapshots

    def restart(self) -> None:
        """As after a crash: what was not written is gone."""
        self.broker.drain()
        self.clock.advance(1)
        self.start()

    async def create(
        self,
        *,
        topic: TopicConfig | None = None,
        subscription: SubscriptionConfig | None = None,
    ) -> None:
        await self.topics.create(TOPIC, topic or TopicConfig())
        await self.subscriptions.create(ORDERS, TOPIC, subscription or SubscriptionConfig())

    async def publish(self, *messages: bytes) -> None:
        await self.topics.publish(TOPIC, encode(messages), len(messages))

    async def pull(
        self, max_messages: int = 100, *, name: SubscriptionName = ORDERS
    ) -> list[Received]:
        """What there is."""
        delivery = await self.pulls.pull(name, max_messages, 0)
        return [] if delivery is None else received(delivery)

    async def pull_data(self, *, name: SubscriptionName = ORDERS) -> list[bytes]:
        return [message.data for message in await self.pull(name=name)]

    async def ack(self, *messages: Received, name: SubscriptionName = ORDERS) -> None:
        await self.pulls.acknowledge(name, [message.ack_id for message in messages])

    async def extend(self, seconds: int, *messages: Received) -> None:
        ids = [message.ack_id for message in messages]
        await self.pulls.modify_ack_deadline(ORDERS, ids, seconds)

    async def nack(self, *messages: Received) -> None:
        await self.extend(0, *messages)

    async def runtime(self, *, name: SubscriptionName = ORDERS) -> SubscriptionRuntime:
        return await self.runtimes.runtime(name)

    async def stream(
        self, *, ack_deadline_s: int = 10, max_messages: int = 0, max_bytes: int = 0
    ) -> Stream:
        stream = Stream(
            ack_deadline_s=ack_deadline_s, max_messages=max_messages, max_bytes=max_bytes
        )
        runtime = await self.runtime()
        runtime.add(stream.consumer)
        await runtime.settled()
        return stream


async def eventually(condition: Callable[[], object]) -> None:
    """Let everybody else run until it holds."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to that")


async def begun(work: Awaitable[object]) -> asyncio.Future[object]:
    """Begin some work, and let it come as far as it can."""
    task = asyncio.ensure_future(work)
    for _ in range(20):
        await asyncio.sleep(0)
    return task
