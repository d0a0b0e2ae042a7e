"""A server on a new SQLite database, and calls to it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from tempfile import TemporaryDirectory
from typing import Any, Final

import grpc
from google.iam.v1 import iam_policy_pb2  # type: ignore[import-untyped]
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2, schema_pb2

SERVICES: Final[tuple[ServiceDescriptor, ...]] = (
    pubsub_pb2.DESCRIPTOR.services_by_name["Publisher"],
    pubsub_pb2.DESCRIPTOR.services_by_name["Subscriber"],
    schema_pb2.DESCRIPTOR.services_by_name["SchemaService"],
    iam_policy_pb2.DESCRIPTOR.services_by_name["IAMPolicy"],
)
METHODS: Final[Mapping[str, MethodDescriptor]] = {
    method.name: method for service in SERVICES for method in service.methods
}
_PATIENCE_S: Final = 20.0


class Service:
    """Makes calls by the name of their method; they raise grpc.aio.AioRpcError."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def call(self, name: str, request: Message) -> Any:
        method = METHODS[name]
        path = f"/{method.containing_service.full_name}/{name}"
        reply_class = GetMessageClass(method.output_type)
        if method.client_streaming:
            return await self._first_reply(path, request, reply_class)
        call: Any = self._channel.unary_unary(
            path, type(request).SerializeToString, reply_class.FromString
        )
        return await call(request, timeout=_PATIENCE_S)

    async def _first_reply(self, path: str, request: Message, reply_class: type[Message]) -> Any:
        """Of two requests on a stream, since a wrong one may be noticed only by the second reply."""
        open_stream: Any = self._channel.stream_stream(
            path, type(request).SerializeToString, reply_class.FromString
        )
        stream = open_stream(timeout=_PATIENCE_S)
        try:
            await stream.write(request)
            reply = await stream.read()
            if not isinstance(reply, Message):
                await stream.code()  # it has ended
                raise grpc.aio.AioRpcError(
                    await stream.code(),
                    grpc.aio.Metadata(),
                    grpc.aio.Metadata(),
                    details=await stream.details(),
                )
            return reply
        finally:
            stream.cancel()


@asynccontextmanager
async def service() -> AsyncIterator[Service]:
    """A server of the profile ``strict`` as long as the context lasts."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith("AMS_")}
    with TemporaryDirectory() as data:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ams_grpc", "serve", "--profile", "strict"),
            *("--grpc-address", "127.0.0.1:0", "--data", data, "--log-level", "error"),
            stdout=asyncio.subprocess.PIPE,
            env=settings,
        )
        try:
            async with grpc.aio.insecure_channel(await _address(process)) as channel:
                yield Service(channel)
        finally:
            process.kill()
            await process.wait()


async def _address(process: asyncio.subprocess.Process) -> str:
    """Where a server listens; it says so when it is ready."""
    line = await process.stdout.readline() if process.stdout else b""
    word, *facts = line.decode().split() or [""]
    if word != "ready":
        raise RuntimeError("the server does not start; see above")
    return dict(fact.split("=", 1) for fact in facts)["grpc"]


def is_unimplemented(error: grpc.aio.AioRpcError) -> bool:
    return error.code() is grpc.StatusCode.UNIMPLEMENTED
