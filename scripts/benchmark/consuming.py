"""Consume load: streams that read as fast as they can and acknowledge what they read.

While the clock runs, the client parses each response once and touches only the ack ids; which
messages came, and whether all different ones did, is looked up afterwards.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import grpc

from scripts.benchmark import wire
from scripts.benchmark.wire import pb

MAX_OUTSTANDING_MESSAGES: Final = 10_000
ACK_IDS_PER_CALL: Final = 1000
_FLUSH_EVERY_S: Final = 0.05
_CALL_LIMIT_S: Final = 30.0


class Acks(Enum):
    """How messages are acknowledged: Acknowledge calls, as the official clients do, or in-stream."""

    UNARY = "unary"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Order:
    """What to consume from one subscription.

    ``messages``: stop after this many, all different if ``distinct``. ``time_limit_s`` ends it
    earlier. ``max_outstanding`` is the flow control of each stream, in messages. ``byte_size`` is
    what the floor puts in a message.
    """

    subscription: str
    messages: int
    streams: int = 1
    acks: Acks = Acks.UNARY
    max_outstanding: int = MAX_OUTSTANDING_MESSAGES
    byte_size: int = 100
    time_limit_s: float = 60.0
    distinct: bool = True


@dataclass(frozen=True, slots=True)
class Consumed:
    """What came: deliveries, different messages among them, and responses that carried them.

    ``seconds`` from opening the first stream to the answer to the last acknowledgement; or, if
    not ``complete``, to the time limit.
    """

    received: int
    distinct: int
    responses: int
    seconds: float
    complete: bool


async def consume(address: str, orders: Sequence[Order]) -> list[Consumed]:
    """Carry out all ``orders`` at once and return when each is complete or out of time.

    Raises grpc.RpcError if a server ends a stream or refuses an acknowledgement.
    """
    consumers = [_Consumer(address, order) for order in orders]
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(consumer.run()) for consumer in consumers]
    return [task.result() for task in running]


@dataclass(slots=True)
class _Consumer:
    """One subscription's streams, which share a list of ack ids to send."""

    address: str
    order: Order
    responses: list[Any] = field(default_factory=list)
    received: int = 0
    distinct: int = 0
    started_at: float = 0.0
    seconds: float = 0.0
    ack_ids: list[str] = field(default_factory=list)
    acking: set[asyncio.Task[None]] = field(default_factory=set)
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    failure: BaseException | None = None

    async def run(self) -> Consumed:
        channels = [
            grpc.aio.insecure_channel(self.address, options=wire.CHANNEL_OPTIONS)
            for _ in range(self.order.streams)
        ]
        self.started_at = time.perf_counter()
        calls: list[Any] = [channel.stream_stream(wire.STREAMING_PULL)() for channel in channels]
        tasks = [
            asyncio.create_task(work)
            for channel, call in zip(channels, calls, strict=True)
            for work in (self._read(channel, call), self._flush(channel, call))
        ]
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.over.wait(), self.order.time_limit_s)
            complete = self.over.is_set()
            if not complete:
                await self._settle(channels[0], calls[0])
            if self.failure is not None:
                raise self.failure
        finally:
            for call in calls:
                call.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for channel in channels:
                await channel.close()
        self._count_distinct()
        return Consumed(self.received, self.distinct, len(self.responses), self.seconds, complete)

    async def _read(self, channel: Any, call: Any) -> None:
        """Read one stream and acknowledge along the way, until the order is complete."""
        parse = pb.StreamingPullResponse.FromString
        try:
            await call.write(
                wire.stream_opening(
                    self.order.subscription,
                    max_outstanding_messages=self.order.max_outstanding,
                    messages=self.order.messages // self.order.streams,
                    byte_size=self.order.byte_size,
                )
            )
            while not self.over.is_set():
                data = await call.read()
                if data is grpc.aio.EOF:
                    raise RuntimeError(f"the server ended a stream: {await call.details()}")
                messages = parse(data).received_messages
                if messages:  # the first response may only describe the subscription
                    self.responses.append(messages)
                self.received += len(messages)
                self.ack_ids += [message.ack_id for message in messages]
                if self.received >= self.order.messages:
                    await self._settle(channel, call)
                    if self._is_complete():
                        self.over.set()
                while len(self.ack_ids) >= ACK_IDS_PER_CALL:
                    self._acknowledge(channel, call)
        except (grpc.RpcError, RuntimeError) as error:
            self._fail(error)

    async def _flush(self, channel: Any, call: Any) -> None:
        """Acknowledge what is left over when messages come slowly."""
        while True:
            await asyncio.sleep(_FLUSH_EVERY_S)
            if self.ack_ids:
                self._acknowledge(channel, call)

    async def _settle(self, channel: Any, call: Any) -> None:
        """Acknowledge all that came, wait for the answers, and stop the clock."""
        while self.ack_ids:
            self._acknowledge(channel, call)
        await asyncio.gather(*self.acking)
        self.seconds = time.perf_counter() - self.started_at

    def _acknowledge(self, channel: Any, call: Any) -> None:
        """Begin to acknowledge up to 1,000 of the messages that came."""
        ids, self.ack_ids = self.ack_ids[:ACK_IDS_PER_CALL], self.ack_ids[ACK_IDS_PER_CALL:]
        task = asyncio.create_task(self._send(ids, channel, call))
        self.acking.add(task)
        task.add_done_callback(self.acking.discard)

    async def _send(self, ids: list[str], channel: Any, call: Any) -> None:
        name = self.order.subscription
        try:
            if self.order.acks is Acks.STREAM:
                request = pb.StreamingPullRequest(ack_ids=ids).SerializeToString()
                async with self.writing:  # a call takes one write at a time
                    await call.write(request)
            else:
                request = pb.AcknowledgeRequest(subscription=name, ack_ids=ids).SerializeToString()
                await channel.unary_unary(wire.ACKNOWLEDGE)(request, timeout=_CALL_LIMIT_S)
        except grpc.RpcError as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self.failure = self.failure or error
        self.over.set()

    def _is_complete(self) -> bool:
        if self.order.distinct:
            self._count_distinct()
            return self.distinct >= self.order.messages
        return True

    def _count_distinct(self) -> None:
        ids = {received.message.message_id for part in self.responses for received in part}
        self.distinct = len(ids)
