"""A client that is all nerves: asyncio, raw calls, nothing retried, reconnecting at once.

Google's client hides what these tests look for, and costs too much for thousands of streams.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence, Sized
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import grpc
from google.protobuf.message import Message

from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from tests.server import eventually

PATIENCE_S: Final = 30.0
"""How long a test waits for what must come."""

_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 2_000),  # how long an attempt may take, in spite of its name
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # each channel has a connection of its own
)

_StreamCall: TypeAlias = grpc.aio.StreamStreamCall[Message, pb.StreamingPullResponse]


class Client:
    """Calls over `connections` connections, in turn."""

    def __init__(self, endpoint: str, *, connections: int = 1) -> None:
        self.endpoint: Final = endpoint
        self.channels: Final = [
            grpc.aio.insecure_channel(endpoint, options=_OPTIONS) for _ in range(connections)
        ]
        self._turn = itertools.cycle(self.channels)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.gather(*(channel.close() for channel in self.channels))

    # --- calls -----------------------------------------------------------------------------------

    async def raw(
        self, path: str, request: bytes, *, timeout_s: float = PATIENCE_S, wait: bool = False
    ) -> bytes:
        """One unary call, as bytes. With `wait` it is sent once there is a connection."""
        call: Any = next(self._turn).unary_unary(path)
        response: bytes = await call(request, timeout=timeout_s, wait_for_ready=wait)
        return response

    async def call(self, method: str, request: Message, **options: Any) -> bytes:
        """`Publisher.Publish` and the like."""
        path = f"/google.pubsub.v1.{method.replace('.', '/')}"
        return await self.raw(path, request.SerializeToString(), **options)

    async def status(
        self, method: str, request: Message, **options: Any
    ) -> tuple[grpc.StatusCode, str]:
        """How a call ends, with the text of its status."""
        try:
            await self.call(method, request, **options)
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
        return grpc.StatusCode.OK, ""

    async def create_topic(self, name: str) -> str:
        await self.call("Publisher.CreateTopic", pb.Topic(name=name))
        return name

    async def create_subscription(self, name: str, topic: str, **fields: Any) -> str:
        subscription = pb.Subscription(name=name, topic=topic, **fields)
        await self.call("Subscriber.CreateSubscription", subscription)
        return name

    async def publish(
        self, topic: str, *data: bytes, ordering_key: str = "", **options: Any
    ) -> list[str]:
        messages = [pb.PubsubMessage(data=each, ordering_key=ordering_key) for each in data]
        request = pb.PublishRequest(topic=topic, messages=messages)
        reply = pb.PublishResponse.FromString(
            await self.call("Publisher.Publish", request, **options)
        )
        return list(reply.message_ids)

    async def pull(
        self, subscription: str, max_messages: int = 1000, *, now: bool = False, **options: Any
    ) -> list[pb.ReceivedMessage]:
        request = pb.PullRequest(
            subscription=subscription, max_messages=max_messages, return_immediately=now
        )
        reply = pb.PullResponse.FromString(await self.call("Subscriber.Pull", request, **options))
        return list(reply.received_messages)

    async def acknowledge(
        self, subscription: str, received: Sequence[pb.ReceivedMessage], **options: Any
    ) -> None:
        ack_ids = [each.ack_id for each in received]
        request = pb.AcknowledgeRequest(subscription=subscription, ack_ids=ack_ids)
        await self.call("Subscriber.Acknowledge", request, **options)

    async def nack(
        self, subscription: str, received: Sequence[pb.ReceivedMessage], **options: Any
    ) -> None:
        ack_ids = [each.ack_id for each in received]
        request = pb.ModifyAckDeadlineRequest(subscription=subscription, ack_ids=ack_ids)
        await self.call("Subscriber.ModifyAckDeadline", request, **options)

    async def stream(self, subscription: str, *, wait: bool = False, **fields: Any) -> Stream:
        """Open a StreamingPull call; it is accepted when its first response is read."""
        call = next(self._turn).stream_stream(
            "/google.pubsub.v1.Subscriber/StreamingPull",
            request_serializer=pb.StreamingPullRequest.SerializeToString,
            response_deserializer=pb.StreamingPullResponse.FromString,
        )
        stream = Stream(call(wait_for_ready=wait))
        await stream.send(subscription=subscription, **{"stream_ack_deadline_seconds": 10} | fields)
        return stream


class Stream:
    """One StreamingPull call. It reads only when it is asked to."""

    def __init__(self, call: _StreamCall) -> None:
        self._call = call

    async def send(self, **fields: Any) -> None:
        await self._call.write(pb.StreamingPullRequest(**fields))

    async def response(self, timeout_s: float = PATIENCE_S) -> pb.StreamingPullResponse:
        """The next response. Raises grpc.aio.AioRpcError if the call ends."""
        async with asyncio.timeout(timeout_s):
            response = await self._call.read()
        assert isinstance(response, pb.StreamingPullResponse), "the server ended it with OK"
        return response

    async def receive(self, count: int, timeout_s: float = PATIENCE_S) -> list[pb.ReceivedMessage]:
        """At least `count` messages, in however many responses."""
        received: list[pb.ReceivedMessage] = []
        async with asyncio.timeout(timeout_s):
            while len(received) < count:
                received += (await self.response(timeout_s)).received_messages
        return received

    async def code(self, timeout_s: float = PATIENCE_S) -> grpc.StatusCode:
        """How the call ends, whatever comes before."""
        async with asyncio.timeout(timeout_s):
            try:
                while await self._call.read() is not grpc.aio.EOF:
                    pass
            except grpc.aio.AioRpcError:
                pass
            return await self._call.code()

    def cancel(self) -> None:
        self._call.cancel()


async def grows(published: Sized) -> None:
    """Wait until publishers have added 100 to what they have published."""
    enough = len(published) + 100
    await asyncio.to_thread(eventually, lambda: len(published) >= enough, timeout_s=PATIENCE_S)


def data_of(received: Sequence[pb.ReceivedMessage]) -> list[bytes]:
    return [each.message.data for each in received]
