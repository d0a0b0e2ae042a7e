"""kill -9, again and again: keys stay in order, acks hold, dead letters are forwarded once.

Publishers with ordering keys, and subscribers that acknowledge, refuse and forget, work on while the
server is killed at random moments and started again. Some messages are poison: no subscriber ever
acknowledges them. Afterwards a ledger of each subscription has to balance.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from tests.faults.pubsub import PATIENCE_S, Client, data_of
from tests.server import Server

pytestmark = pytest.mark.asyncio(
    loop_scope="session"
)  # gRPC keeps to the loop it was used in first

KILLS: Final = 20
PUBLISHERS: Final = 3
KEYS: Final = 8  # of each publisher
LEASE_S: Final = 2
ATTEMPTS: Final = 5
TOPIC: Final = "projects/p/topics/orders"


@dataclass
class Source:
    """One subscription with a dead-letter topic of its own, and what is known of its messages.

    A message is known by its data: publisher, key, and number in the key.
    """

    id: str
    exactly_once: bool = False
    ordered: bool = False
    streamed: bool = False
    confirmed: dict[bytes, float] = field(default_factory=dict)
    """When it was answered that their acks hold (with exactly-once delivery)."""
    perhaps: set[bytes] = field(default_factory=set)
    """Their acks were not answered; or they were, and mean little (without)."""
    dead: Counter[bytes] = field(default_factory=Counter)
    left: set[bytes] = field(default_factory=set)
    """They came, and were acknowledged, after all was over."""
    held_until: dict[bytes, float] = field(default_factory=dict)
    """Until when, at least, they are leased: exactly-once delivery gives them to nobody else."""
    came: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """By key: what the one subscriber of an ordered subscription got, in this order."""

    @property
    def name(self) -> str:
        return f"projects/p/subscriptions/{self.id}"

    @property
    def dead_letter_topic(self) -> str:
        return f"projects/p/topics/dead-{self.id}"

    @property
    def morgue(self) -> str:
        return f"projects/p/subscriptions/dead-{self.id}"

    def was_received(self, received: Sequence[pb.ReceivedMessage], asked_at: float) -> None:
        """They came upon a request of that moment."""
        for each in received:
            data = each.message.data
            acknowledged_at = self.confirmed.get(data)
            assert acknowledged_at is None or acknowledged_at > asked_at, (
                f"{self.id}: {data!r} came again although its acknowledgement was confirmed"
            )
            if self.exactly_once and not (self.ordered or self.streamed):
                assert time.monotonic() >= self.held_until.get(data, 0.0), (
                    f"{self.id}: {data!r} came again although its lease was valid"
                )
                self.held_until[data] = asked_at + LEASE_S
            if self.ordered:
                self.came[each.message.ordering_key].append(_number(data))

    def missing(self, published: set[bytes]) -> set[bytes]:
        return published - self.confirmed.keys() - self.perhaps - self.dead.keys() - self.left

    def check(self, published: dict[str, list[int]]) -> None:
        """What has to be true of it in the end. ``published`` is by key."""
        twice = {data for data, times in self.dead.items() if times > 1}
        assert not twice, f"{self.id}: forwarded more than once: {twice}"
        assert not self.left & self.dead.keys(), f"{self.id}: forwarded, and came again"
        if self.exactly_once:
            both = self.confirmed.keys() & self.dead.keys()
            assert not both, f"{self.id}: acknowledged, and forwarded: {both}"
            assert not self.confirmed.keys() & self.left
        for key, numbers in self.came.items():
            dead = {_number(data) for data in self.dead if data.startswith(key.encode() + b"-")}
            for before, after in pairwise(numbers):
                skipped = {n for n in published[key] if before < n < after} - dead
                assert not skipped, f"{self.id}: {key} came as {numbers}, without {skipped}"


def _number(data: bytes) -> int:
    return int(data.rpartition(b"-")[2])


def _is_poison(data: bytes) -> bool:
    return _number(data) % 10 == 7


def _refused(error: grpc.aio.AioRpcError) -> set[str]:
    """The ack ids that an answer names as refused; the others of the request hold."""
    for name, value in error.trailing_metadata() or ():
        if name == "grpc-status-details-bin":
            info = ErrorInfo()
            assert Status.FromString(value).details[0].Unpack(info)
            return set(info.metadata)
    raise AssertionError(f"no details: {error}")


class Clients:
    """Publishers and subscribers that start again whenever something fails."""

    def __init__(self, client: Client, sources: Sequence[Source], chance: random.Random) -> None:
        self._client = client
        self._sources = sources
        self._chance = chance
        self.published: dict[str, list[int]] = defaultdict(list)
        """By key: the numbers that were answered."""
        self.refused = 0

    @property
    def data(self) -> set[bytes]:
        return {b"%s-%d" % (k.encode(), n) for k, ns in self.published.items() for n in ns}

    async def publish(self, publisher: int) -> None:
        next_number: Counter[str] = Counter()
        while True:
            key = f"{publisher}-{self._chance.randrange(KEYS)}"
            first = next_number[key]
            numbers = range(first, first + self._chance.choice([1, 1, 2, 4]))
            next_number[key] = numbers.stop
            data = [b"%s-%d" % (key.encode(), number) for number in numbers]
            with suppress(grpc.aio.AioRpcError):
                await self._client.publish(TOPIC, *data, ordering_key=key, wait=True)
                self.published[key] += numbers
            await asyncio.sleep(0.03)

    async def pull(self, source: Source) -> None:
        while True:
            with suppress(grpc.aio.AioRpcError):
                asked_at = time.monotonic()
                received = await self._client.pull(source.name, 40, wait=True, timeout_s=2.0)
                source.was_received(received, asked_at)
                await self._settle(source, received)

    async def stream(self, source: Source) -> None:
        while True:
            with suppress(grpc.aio.AioRpcError):
                asked_at = time.monotonic()
                stream = await self._client.stream(
                    source.name, wait=True, stream_ack_deadline_seconds=10
                )
                while True:
                    received = (await stream.response(PATIENCE_S)).received_messages
                    source.was_received(received, asked_at)
                    await self._settle(source, received)

    async def _settle(self, source: Source, received: Sequence[pb.ReceivedMessage]) -> None:
        """Acknowledge most, refuse some, forget a few."""
        accepted, refused = [], []
        for each in received:
            chance = self._chance.random()
            if _is_poison(each.message.data) or chance < 0.1:
                refused.append(each)
            elif chance > 0.13:
                accepted.append(each)
        work = [(self._acknowledge, accepted), (self._nack, refused)]
        self._chance.shuffle(work)
        for settle, messages in work:
            if messages:
                await settle(source, messages)

    async def _nack(self, source: Source, received: Sequence[pb.ReceivedMessage]) -> None:
        for each in received:
            source.held_until.pop(each.message.data, None)
        try:
            await self._client.nack(source.name, received)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                raise
            _refused(error)

    async def _acknowledge(self, source: Source, received: Sequence[pb.ReceivedMessage]) -> None:
        try:
            refused = await self._acknowledge_all(source, received)
        except (grpc.aio.AioRpcError, asyncio.CancelledError):  # the server may have done it
            source.perhaps.update(data_of(received))
            raise
        self.refused += len(refused)
        now = time.monotonic()
        for each in received:
            if not source.exactly_once:
                source.perhaps.add(each.message.data)
            elif each.ack_id not in refused:
                source.confirmed[each.message.data] = now

    async def _acknowledge_all(
        self, source: Source, received: Sequence[pb.ReceivedMessage]
    ) -> set[str]:
        """Returns the ack ids that were refused."""
        try:
            await self._client.acknowledge(source.name, received)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                raise
            return _refused(error)
        return set()

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        work = [self.publish(publisher) for publisher in range(PUBLISHERS)]
        for source in self._sources:
            # What is in order is so for one subscriber: two could not tell.
            subscribers = 1 if source.ordered else 2
            subscribe = self.stream if source.streamed else self.pull
            work += [subscribe(source) for _ in range(subscribers)]
        tasks = [asyncio.create_task(each) for each in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            assert isinstance(result, asyncio.CancelledError), f"a client stopped: {result!r}"

    async def drain(self, source: Source) -> None:
        """Take what is left of it, and all its dead letters, until no message is missing.

        Then until nothing has come for longer than any lease lasts.
        """
        quiet_since = time.monotonic()
        give_up_at = quiet_since + 2 * PATIENCE_S
        while (missing := source.missing(self.data)) or (
            time.monotonic() < quiet_since + 2 * LEASE_S
        ):
            assert time.monotonic() < give_up_at, f"{source.id}: lost: {missing}"
            forwarded = await self._take(source.morgue)
            source.dead.update(data_of(forwarded))
            asked_at = time.monotonic()
            received = await self._client.pull(source.name, 100, now=True)
            source.was_received(received, asked_at)
            if received:
                refused = await self._acknowledge_all(source, received)
                source.left.update(e.message.data for e in received if e.ack_id not in refused)
            if forwarded or received:
                quiet_since = time.monotonic()
            else:
                await asyncio.sleep(0.05)

    async def _take(self, subscription: str) -> list[pb.ReceivedMessage]:
        received = await self._client.pull(subscription, now=True)
        if received:
            await self._client.acknowledge(subscription, received)
        return received


async def kill_and_start(server: Server, chance: random.Random) -> None:
    server.kill()
    if chance.random() < 0.15:
        server.launch()
        await asyncio.sleep(chance.uniform(0.0, 1.0))  # while it starts: in any step of it
        server.kill()
    await asyncio.to_thread(server.start)


@pytest.mark.crashes
@pytest.mark.timeout(300)
async def test_keys_acks_and_dead_letters_survive_kill_9(tmp_path: Path, database_url: str) -> None:
    seed = secrets.randbits(32)
    sys.stderr.write(f"{seed=}\n")  # shown if the test fails
    chance = random.Random(seed)
    sources = [
        Source("exact", exactly_once=True),
        Source("keyed", ordered=True, streamed=True),
        Source("keyed-exact", exactly_once=True, ordered=True),
    ]
    with Server(tmp_path, database_url, profile="emulator") as server:
        async with Client(server.endpoint, connections=2) as client:
            await client.create_topic(TOPIC)
            for source in sources:
                await client.create_topic(source.dead_letter_topic)
                await client.create_subscription(source.morgue, source.dead_letter_topic)
                await client.create_subscription(
                    source.name,
                    TOPIC,
                    ack_deadline_seconds=LEASE_S,
                    enable_message_ordering=source.ordered,
                    enable_exactly_once_delivery=source.exactly_once,
                    dead_letter_policy=pb.DeadLetterPolicy(
                        dead_letter_topic=source.dead_letter_topic, max_delivery_attempts=ATTEMPTS
                    ),
                )
            clients = Clients(client, sources, chance)
            async with clients.at_work():
                for _ in range(KILLS):
                    await asyncio.sleep(chance.uniform(0.0, 1.2))  # at a random moment
                    await kill_and_start(server, chance)
                await asyncio.sleep(LEASE_S)
            await kill_and_start(server, chance)
            await asyncio.gather(*(clients.drain(source) for source in sources))

    for source in sources:
        sys.stderr.write(
            f"{source.id}: {len(clients.data)} published, {len(source.confirmed)} confirmed, "
            f"{len(source.perhaps)} perhaps, {len(source.dead)} dead, {len(source.left)} left, "
            f"{clients.refused} refused\n"
        )
        source.check(clients.published)
        # Otherwise this test would have looked at nothing.
        assert len(source.dead) > KILLS
        assert len(source.confirmed if source.exactly_once else source.perhaps) > 10 * KILLS
    assert clients.refused
