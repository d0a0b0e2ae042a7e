"""The frame around every RPC: bytes in, bytes out, errors rendered in one place.

Servicers are plain classes whose methods carry the names of the RPCs. A method takes a parsed
request and returns a message; one marked ``raw`` takes and returns bytes, where parsing or
building by hand pays. A streaming method takes the call's context. None of them answers errors:
they raise, and the frame translates (``status``).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, TypeAlias, TypeVar

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from ams_grpc.broker.errors import BrokerError, InvalidArgument
from ams_grpc.services.status import status_of

Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]
Method = TypeVar("Method", bound=Callable[..., Any])
Unary: TypeAlias = Callable[[bytes, Context], Awaitable[bytes]]

_RAW: Final = "_takes_bytes"
_log = logging.getLogger(__name__)

handled: Final[Counter[tuple[str, str]]] = Counter()
"""How many calls of a method (``Publisher/Publish``) ended with a status code (``OK``)."""


def raw(method: Method) -> Method:
    """Mark a servicer's method: it takes the serialized request and returns a serialized reply."""
    setattr(method, _RAW, True)
    return method


def parse(message_class: type[Message], serialized: bytes) -> Any:
    """Parse a request. Raises InvalidArgument."""
    try:
        return message_class.FromString(serialized)
    except DecodeError:
        name = message_class.DESCRIPTOR.full_name
        raise InvalidArgument(f"The request is not a valid {name}.") from None


async def receive(context: Context) -> bytes | None:
    """The next message of a client's stream; None after its last."""
    message: object = await context.read()
    return message if isinstance(message, bytes) else None


def handlers(service: ServiceDescriptor, servicer: object) -> grpc.GenericRpcHandler:
    """What a server needs to route a service's calls; RPCs without a method are UNIMPLEMENTED."""
    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
    for method in service.methods:
        implementation = getattr(servicer, method.name, None)
        if implementation is None:
            continue
        label = f"{service.name}/{method.name}"
        if method.client_streaming or method.server_streaming:
            methods[method.name] = grpc.stream_stream_rpc_method_handler(
                _streaming(label, implementation)
            )
        else:
            methods[method.name] = grpc.unary_unary_rpc_method_handler(
                _unary(label, _on_bytes(method, implementation))
            )
    return grpc.method_handlers_generic_handler(service.full_name, methods)


def _on_bytes(method: MethodDescriptor, implementation: Callable[..., Any]) -> Unary:
    if getattr(implementation, _RAW, False):
        return implementation
    request_class = GetMessageClass(method.input_type)

    async def on_bytes(serialized: bytes, context: Context) -> bytes:
        reply: Message = await implementation(parse(request_class, serialized), context)
        return reply.SerializeToString()

    return on_bytes


def _unary(label: str, call: Unary) -> Unary:
    ok = (label, "OK")

    async def handler(serialized: bytes, context: Context) -> bytes:
        try:
            reply = await call(serialized, context)
        except Exception as error:
            await _fail(label, error, context)
            raise
        handled[ok] += 1
        return reply

    return handler


def _streaming(
    label: str, call: Callable[[Context], Awaitable[None]]
) -> Callable[[AsyncIterator[bytes], Context], Awaitable[None]]:
    async def handler(_requests: AsyncIterator[bytes], context: Context) -> None:
        try:
            await call(context)
        except Exception as error:
            await _fail(label, error, context)
            raise
        handled[label, "OK"] += 1

    return handler


async def _fail(label: str, error: Exception, context: Context) -> None:
    """End a call with the status of an error."""
    code, text, metadata = status_of(error)
    handled[label, code.name] += 1
    if not isinstance(error, BrokerError):
        _log.error("unforeseen error", extra={"method": label}, exc_info=error)
    await context.abort(code, text, metadata or ())
