"""A broker in memory with one topic, one exported subscription, and its worker."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from ams_grpc.broker.catalog import Subscription, SubscriptionConfig, TopicConfig
from ams_grpc.broker.cursor import Cursor
from ams_grpc.broker.policies import SECOND_US, StorageExport
from ams_grpc.exports.buckets import Bucket
from ams_grpc.exports.records import AvroSchema
from ams_grpc.exports.worker import ExportWorker
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from tests.unit.broker.fakes import ManualClock, Stored
from tests.unit.broker.world import ORDERS, World
from tests.unit.exports.buckets import MemoryBucket

MINUTE_US = 60 * SECOND_US


class Exporting:
    """The world of ``tests.unit.broker``, and a worker in it."""

    def __init__(self, *, max_messages: int = 1000) -> None:
        self.world = World(ManualClock(), Stored())
        self.world.start()
        self.bucket = MemoryBucket()
        self.buckets: dict[str, Bucket] = {"archive": self.bucket}
        self.schemas: dict[str, AvroSchema] = {}
        """By revision; "" is the one in force."""
        self.max_messages = max_messages
        self.worker: ExportWorker | None = None
        self.published: list[bytes] = []
        self.given_up: set[bytes] = set()
        """Data of messages that a seek has passed over."""

    @property
    def clock(self) -> ManualClock:
        return self.world.clock

    async def begin(
        self, export: StorageExport | None = None, topic: TopicConfig | None = None, **config: Any
    ) -> None:
        """Create topic and subscription, and start the worker."""
        export = export or StorageExport("archive", max_duration_us=MINUTE_US)
        config = {"ack_deadline_s": 60} | config
        await self.world.create(
            topic=topic, subscription=SubscriptionConfig(export=export, **config)
        )
        await self.start()

    async def start(self) -> None:
        self.worker = ExportWorker(
            await self.subscription(),
            runtimes=self.world.runtimes,
            catalog=self.world.catalog,
            clock=self.clock,
            bucket_of=self.buckets.__getitem__,
            schema_of_topic=self._schema,
            max_messages=self.max_messages,
        )
        self.worker.start()
        await settled()

    async def crash(self) -> None:
        """The process is killed, and a new one starts: what was in memory is gone."""
        await self.kill()
        self.world.restart()
        await self.start()

    async def kill(self) -> None:
        """End the worker in the middle of whatever it does, if there is one."""
        if self.worker is not None and self.worker._task is not None:
            self.worker._task.cancel()
            await asyncio.wait([self.worker._task])

    async def publish(self, *data: bytes, **fields: Any) -> None:
        self.published += data
        messages = [pb.PubsubMessage(data=each, **fields).SerializeToString() for each in data]
        await self.world.publish(*messages)
        await settled()

    async def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await settled()

    async def close(self) -> None:
        assert self.worker is not None
        await self.worker.close()

    async def change(self, **changes: Any) -> None:
        """Update the subscription's export."""

        def changed(subscription: Subscription) -> SubscriptionConfig:
            assert subscription.config.export is not None
            return replace(
                subscription.config, export=replace(subscription.config.export, **changes)
            )

        assert self.worker is not None
        self.worker.changed(await self.world.subscriptions.update(ORDERS, changed))
        await settled()

    async def subscription(self) -> Subscription:
        return await self.world.catalog.subscription(ORDERS)

    async def acknowledged(self) -> set[bytes]:
        """The data of the messages that are done, as memory and as storage have it."""
        subscription = await self.subscription()
        runtime = await self.world.runtime()
        done: set[bytes] = set()
        for state in (runtime.cursor_state(), await self.world.catalog.cursor(subscription)):
            cursor = Cursor(subscription.id, state)
            done.update(data for seq, data in enumerate(self.published, 1) if cursor.is_done(seq))
        return done

    async def _schema(self, _topic_id: int, revision: str) -> AvroSchema | None:
        return self.schemas.get(revision)


async def settled() -> None:
    """Let everybody come as far as they can without time."""
    for _ in range(100):
        await asyncio.sleep(0)
