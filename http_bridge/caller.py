"""Calling a gRPC method, wherever it is: in this process, or behind a channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import grpc
from google.protobuf.message import Message

Metadata: TypeAlias = Sequence[tuple[str, str]]


class RpcFailure(Exception):
    """A call that did not end with OK.

    ``details`` is the serialized google.rpc.Status of the call, if it has one.
    """

    def __init__(self, code: grpc.StatusCode, message: str, details: bytes = b"") -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message
        self.details = details


class Method(Protocol):
    """What is called."""

    @property
    def path(self) -> str:
        """As gRPC calls it: ``/package.Service/Method``."""
        ...

    @property
    def reply_class(self) -> type[Message]: ...


class Caller(Protocol):
    """Whoever can call unary methods."""

    async def __call__(
        self, method: Method, request: Message, *, metadata: Metadata, timeout_s: float
    ) -> Any:
        """Call a method; its request in, its reply out.

        Whoever is called may do with the request what they want. Raises RpcFailure, also when there is
        no answer within ``timeout_s`` seconds.
        """
        ...


class ChannelCaller:
    """Calls over a gRPC channel: for a bridge that runs on its own."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._methods: dict[str, grpc.aio.UnaryUnaryMultiCallable[Message, Message]] = {}

    async def __call__(
        self, method: Method, request: Message, *, metadata: Metadata, timeout_s: float
    ) -> Any:
        """See ``Caller``."""
        call = self._methods.get(method.path)
        if call is None:
            call = self._methods[method.path] = self._channel.unary_unary(
                method.path,
                request_serializer=type(request).SerializeToString,
                response_deserializer=method.reply_class.FromString,
            )
        try:
            return await call(request, metadata=tuple(metadata), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            trailer = dict(error.trailing_metadata() or ())
            details = trailer.get("grpc-status-details-bin", b"")
            raise RpcFailure(
                error.code(),
                error.details() or "",
                details if isinstance(details, bytes) else b"",
            ) from None
