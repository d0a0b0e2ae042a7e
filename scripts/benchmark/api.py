"""The few unary calls that set a trial up and clear it away."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Final, Self

import grpc

from scripts.benchmark import wire
from scripts.benchmark.wire import pb

_CALL_LIMIT_S: Final = 30.0
_CALLS_AT_ONCE: Final = 32
_ACK_DEADLINE_S: Final = 60


class Api:
    """Unary Pub/Sub calls with raw bytes on one channel. Errors surface as grpc.RpcError."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=wire.CHANNEL_OPTIONS)
        self._gate = asyncio.Semaphore(_CALLS_AT_ONCE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._channel.close()

    async def call(self, method: str, request: bytes) -> bytes:
        """One unary call, at most 32 at once."""
        async with self._gate:
            call: Any = self._channel.unary_unary(method)
            answer: bytes = await call(request, timeout=_CALL_LIMIT_S)
            return answer

    async def create(self, topic: str, subscriptions: Sequence[str]) -> None:
        """Create a topic and its subscriptions, all by full resource name."""
        await self.call(wire.CREATE_TOPIC, pb.Topic(name=topic).SerializeToString())
        for name in subscriptions:
            await self.create_subscription(name, topic)

    async def create_subscription(self, name: str, topic: str, **fields: Any) -> None:
        """Create one more subscription, with ``fields`` beyond the usual; the caller deletes it."""
        request = pb.Subscription(
            name=name, topic=topic, ack_deadline_seconds=_ACK_DEADLINE_S, **fields
        )
        await self.call(wire.CREATE_SUBSCRIPTION, request.SerializeToString())

    async def delete(self, topic: str, subscriptions: Sequence[str]) -> None:
        """Delete subscriptions and their topic; one that is gone already does no harm."""
        for name in subscriptions:
            with suppress(grpc.RpcError):
                gone = pb.DeleteSubscriptionRequest(subscription=name)
                await self.call(wire.DELETE_SUBSCRIPTION, gone.SerializeToString())
        with suppress(grpc.RpcError):
            request = pb.DeleteTopicRequest(topic=topic)
            await self.call(wire.DELETE_TOPIC, request.SerializeToString())


@asynccontextmanager
async def resources(address: str, topic: str, subscriptions: Sequence[str]) -> AsyncIterator[Api]:
    """A topic with subscriptions for the length of the block."""
    async with Api(address) as api:
        await api.create(topic, subscriptions)
        try:
            yield api
        finally:
            await api.delete(topic, subscriptions)
