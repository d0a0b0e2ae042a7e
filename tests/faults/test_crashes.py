"""kill -9, again and again: nothing that was answered is lost, nothing that is done comes back.

Publishers, and subscribers of three kinds, work on while the server is killed at random moments,
at times while it starts, and started again with the same address and data. A ledger keeps what
was promised, each promise with the server process that made it.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc
import pytest

from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from tests.faults.pubsub import PATIENCE_S, Client, grows
from tests.server import Server

pytestmark = pytest.mark.asyncio(
    loop_scope="session"
)  # gRPC keeps to the loop it was used in first

KILLS: Final = 22
PUBLISHERS: Final = 4
LARGE: Final = bytes(70_000)  # SQLite keeps such payloads beside the database
TOPIC: Final = "projects/p/topics/orders"
STREAMED: Final = "projects/p/subscriptions/streamed"
PULLED: Final = "projects/p/subscriptions/pulled"
IDLE: Final = "projects/p/subscriptions/idle"
SUBSCRIPTIONS: Final = (STREAMED, PULLED, IDLE)


@dataclass
class Ledger:
    """What the server has promised, and what it has done."""

    process: int = 0
    """Which server process is, or will be, the one that answers; counted at each kill."""
    published: dict[str, bytes] = field(default_factory=dict)
    """By message id: what was answered with this id."""
    attempted: set[bytes] = field(default_factory=set)
    received: dict[str, dict[str, bytes]] = field(default_factory=lambda: defaultdict(dict))
    """By subscription and message id."""
    done: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    """By subscription and message id: the process that confirmed the acknowledgement."""
    redelivered: int = 0

    def was_published(self, ids: list[str], data: list[bytes]) -> None:
        for message_id, each in zip(ids, data, strict=True):
            assert message_id not in self.published, f"{message_id} was given to two messages"
            self.published[message_id] = each

    def was_received(
        self, subscription: str, received: list[pb.ReceivedMessage], process: int
    ) -> None:
        """`process` delivered them; -1 if a kill came between, so that nobody can tell."""
        for each in received:
            message_id, data = each.message.message_id, each.message.data
            assert data in self.attempted, f"nobody published {data!r}"
            assert self.published.get(message_id, data) == data
            self.redelivered += message_id in self.received[subscription]
            self.received[subscription][message_id] = data
            confirmed_by = self.done[subscription].get(message_id, process)
            assert process == -1 or confirmed_by >= process, (
                f"{subscription} got {message_id} from process {process}, although process "
                f"{confirmed_by} had confirmed its acknowledgement"
            )

    def was_acknowledged(
        self, subscription: str, received: list[pb.ReceivedMessage], process: int
    ) -> None:
        """`process` delivered them and confirmed their acknowledgement."""
        for each in received:
            self.done[subscription][each.message.message_id] = process

    def lost(self, subscription: str) -> set[str]:
        return self.published.keys() - self.received[subscription].keys()


class Clients:
    """Publishers and subscribers that start again whenever something fails."""

    def __init__(self, client: Client, ledger: Ledger, chance: random.Random) -> None:
        self._client = client
        self._ledger = ledger
        self._chance = chance

    async def publish(self, publisher: int) -> None:
        number = 0
        while True:
            count = self._chance.choice([1, 1, 3, 20])
            ballast = LARGE if self._chance.random() < 0.1 else b""
            data = [b"%d-%d%b" % (publisher, number + i, ballast) for i in range(count)]
            number += count
            self._ledger.attempted.update(data)
            with suppress(grpc.aio.AioRpcError):
                self._ledger.was_published(
                    await self._client.publish(TOPIC, *data, wait=True), data
                )

    async def subscribe(self) -> None:
        while True:
            with suppress(grpc.aio.AioRpcError):
                before = self._ledger.process
                stream = await self._client.stream(
                    STREAMED, wait=True, stream_ack_deadline_seconds=600
                )
                await stream.response()
                # A stream lives in one process; a kill while it was opened hides in which.
                process = before if before == self._ledger.process else -1
                while True:
                    received = list((await stream.response(PATIENCE_S)).received_messages)
                    self._ledger.was_received(STREAMED, received, process)
                    await self._acknowledge_some(STREAMED, received, process)

    async def pull(self) -> None:
        while True:
            with suppress(grpc.aio.AioRpcError):
                before = self._ledger.process
                received = await self._client.pull(PULLED, 50, wait=True, timeout_s=2.0)
                process = before if before == self._ledger.process else -1
                self._ledger.was_received(PULLED, received, process)
                await self._acknowledge_some(PULLED, received, process)

    async def _acknowledge_some(
        self, subscription: str, received: list[pb.ReceivedMessage], process: int
    ) -> None:
        """Most of them; who forgets the others will see them again after the next kill."""
        some = [each for each in received if self._chance.random() < 0.8]
        if some:
            await self._client.acknowledge(subscription, some)
            if process == self._ledger.process:
                self._ledger.was_acknowledged(subscription, some, process)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        work = [
            *(self.publish(publisher) for publisher in range(PUBLISHERS)),
            *(self.subscribe(), self.subscribe(), self.pull(), self.pull()),
        ]
        tasks = [asyncio.create_task(each) for each in work]
        watch = asyncio.gather(*tasks)
        try:
            yield
            if watch.done():
                watch.result()  # a promise was broken
        finally:
            watch.cancel()
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(asyncio.CancelledError, AssertionError):
                await watch
        for result in results:
            assert isinstance(result, asyncio.CancelledError), f"a client stopped: {result!r}"

    async def drain(self, subscription: str) -> None:
        """Receive and acknowledge until nothing that was promised is missing."""
        async with asyncio.timeout(2 * PATIENCE_S):
            while True:
                received = await self._client.pull(subscription, now=True, wait=True)
                self._ledger.was_received(subscription, received, self._ledger.process)
                if received:
                    await self._client.acknowledge(subscription, received)
                    self._ledger.was_acknowledged(subscription, received, self._ledger.process)
                elif not self._ledger.lost(subscription):
                    return


async def kill_and_start(server: Server, ledger: Ledger, chance: random.Random) -> None:
    ledger.process += 1
    server.kill()
    if chance.random() < 0.2:
        server.launch()
        await asyncio.sleep(chance.uniform(0.0, 1.0))  # while it starts: in any step of it
        ledger.process += 1
        server.kill()
    await asyncio.to_thread(server.start)


@pytest.mark.crashes
@pytest.mark.timeout(300)
async def test_no_promise_is_broken_by_kill_9(tmp_path: Path, database_url: str) -> None:
    seed = secrets.randbits(32)
    sys.stderr.write(f"{seed=}\n")  # shown if the test fails
    chance = random.Random(seed)
    ledger = Ledger()
    with Server(tmp_path, database_url) as server:
        async with Client(server.endpoint, connections=2) as client:
            clients = Clients(client, ledger, chance)
            await client.create_topic(TOPIC)
            for subscription in SUBSCRIPTIONS:
                await client.create_subscription(subscription, TOPIC, ack_deadline_seconds=600)

            async with clients.at_work():
                for _ in range(KILLS):
                    await asyncio.sleep(chance.uniform(0.0, 0.6))  # at a random moment
                    await kill_and_start(server, ledger, chance)
                await grows(ledger.published)

            # What clients held when they were stopped comes back after one more kill.
            await kill_and_start(server, ledger, chance)
            for subscription in SUBSCRIPTIONS:
                await clients.drain(subscription)
            await kill_and_start(server, ledger, chance)
            for subscription in SUBSCRIPTIONS:
                again = await client.pull(subscription, now=True, wait=True)
                ledger.was_received(subscription, again, ledger.process)

    # Otherwise this test would have looked at nothing.
    sys.stderr.write(f"{len(ledger.published)} published, {ledger.redelivered} redelivered\n")
    assert len(ledger.published) > 10 * KILLS
    assert ledger.redelivered > KILLS
    assert len(ledger.done[STREAMED]) > 10 * KILLS
    assert len(ledger.done[PULLED]) > 10 * KILLS
