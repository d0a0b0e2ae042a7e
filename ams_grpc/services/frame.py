"""The frame around every RPC: bytes in, bytes out, errors rendered in one place.

Servicers are plain classes whose methods carry the names of the RPCs. A method takes a parsed
request and returns a message, or what can be serialized like one; one marked ``raw`` takes what a
reader of its own makes of the bytes, and returns bytes, where parsing or building by hand pays. What
a method does is brought to its end even if its caller goes away, unless it is marked ``raw`` or
``brief``. A streaming method takes the call's context. None of them answers errors: they raise, and
the frame translates (``status``).

With a ``Guard``, each call is asked first who makes it, and then whether they may; it is the frame
that asks, so no servicer can forget to.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from ams_grpc.broker.errors import UNABLE, BrokerError, InvalidArgument, ShuttingDown
from ams_grpc.services.status import Metadata, status_of
from ams_grpc.services.wire import check_parts

Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]
Method = TypeVar("Method", bound=Callable[..., Any])
Reply = TypeVar("Reply")
Unary: TypeAlias = Callable[[bytes, Context], Awaitable[bytes]]
LocalUnary: TypeAlias = Callable[[Message, Context], Awaitable["Answer"]]
"""A call from this process, where messages need not become bytes on the way."""

Reader: TypeAlias = Callable[[bytes], Any]

_BRIEF: Final = "_brief"
_READER: Final = "_reader"
_CANCELLED: Final = "CANCELLED"
_log = logging.getLogger(__name__)


class Answer(Protocol):
    """A message, or what can be serialized like one."""

    def SerializeToString(self) -> bytes: ...


class Guard(Protocol):
    """Lets calls in. Handed to the frame when callers are to be known."""

    async def identify(self, context: Context, size: int) -> Any:
        """What is known of a caller before a request of ``size`` bytes is parsed, for ``admit``.

        Raises Unauthenticated, TooManyAttempts: at the latest here if the request is large, so that
        strangers get nothing parsed that costs anything.
        """
        ...

    async def admit(self, caller: Any, method: MethodDescriptor, request: Any) -> Settle | None:
        """Raises what ``identify`` does, unless that did, and PermissionDenied, InvalidArgument.

        What is returned is called in the end.
        """
        ...

    def stream(self, method: MethodDescriptor, context: Context) -> Context:
        """The context of a streaming call, which asks when its first request comes."""
        ...


class Served(NamedTuple):
    """A service, the object that has its methods, and who lets calls in; None: everybody may call."""

    service: ServiceDescriptor
    servicer: object
    guard: Guard | None = None


Settle: TypeAlias = Callable[[bool], None]
"""Told of a call whether it has succeeded."""


class Calls:
    """The calls of a server: how many run, and how those ended that did."""

    def __init__(self) -> None:
        self.handled: Counter[tuple[str, str]] = Counter()
        """How many calls of a method (``google.pubsub.v1.Publisher/Publish``) ended with a code."""
        self.running = 0
        self.draining = False
        self._finished = asyncio.Event()
        self._tasks: set[asyncio.Task[Answer]] = set()

    def begin(self) -> None:
        self.running += 1

    def admit(self) -> None:
        """Raises ShuttingDown once the server drains."""
        if self.draining:
            raise ShuttingDown(UNABLE)

    def end(self, label: str, code: str) -> None:
        self.handled[label, code] += 1
        self.running -= 1
        if self.running == 0:
            self._finished.set()

    async def finished(self) -> None:
        """Wait until no call runs."""
        while self.running:
            self._finished.clear()
            await self._finished.wait()

    async def complete(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """Do it to the end, even if the caller goes away in the middle.

        What is committed must also be done in memory.
        """
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: asyncio.Task[Answer]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever is still there gets it; it counts as seen


def brief(method: Method) -> Method:
    """Mark a servicer's method: it may end in the middle, when its caller goes away."""
    setattr(method, _BRIEF, True)
    return method


def raw(reader: Reader) -> Callable[[Method], Method]:
    """Mark a servicer's method: it takes what ``reader`` makes of the bytes, and returns bytes.

    It is ``brief``, too.
    """

    def mark(method: Method) -> Method:
        setattr(method, _READER, reader)
        return method

    return mark


def parse(message_class: type[Message], serialized: bytes) -> Any:
    """Parse a request. Raises InvalidArgument, also for too much in it (``wire.MAX_PARTS``)."""
    check_parts(message_class, serialized)
    try:
        return message_class.FromString(serialized)
    except DecodeError:
        name = message_class.DESCRIPTOR.full_name
        raise InvalidArgument(f"The request is not a valid {name}.") from None


async def receive(context: Context) -> bytes | None:
    """The next message of a client's stream; None after its last."""
    message: object = await context.read()
    return message if isinstance(message, bytes) else None


def handlers(
    service: ServiceDescriptor, servicer: object, calls: Calls, guard: Guard | None = None
) -> grpc.GenericRpcHandler:
    """What a server needs to route a service's calls; RPCs without a method are UNIMPLEMENTED."""
    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
    for method in service.methods:
        implementation = getattr(servicer, method.name, None)
        if implementation is None:
            continue
        label = f"{service.full_name}/{method.name}"
        if method.client_streaming or method.server_streaming:
            stream = implementation if guard is None else _guarded(method, implementation, guard)
            methods[method.name] = grpc.stream_stream_rpc_method_handler(
                _streaming(label, stream, calls)
            )
        else:
            call = _on_bytes(method, implementation, calls, guard)
            methods[method.name] = grpc.unary_unary_rpc_method_handler(_unary(label, call, calls))
    return grpc.method_handlers_generic_handler(service.full_name, methods)


def local_calls(
    service: ServiceDescriptor, servicer: object, calls: Calls, guard: Guard | None = None
) -> dict[str, LocalUnary]:
    """A service's unary methods by path, for callers in this process: they raise what happens."""
    methods: dict[str, LocalUnary] = {}
    for method in service.methods:
        implementation = getattr(servicer, method.name, None)
        if implementation is None or method.client_streaming or method.server_streaming:
            continue
        label = f"{service.full_name}/{method.name}"
        call = _on_messages(method, implementation, calls, guard)
        methods[f"/{label}"] = _local(label, call, calls)
    return methods


def _local(label: str, call: LocalUnary, calls: Calls) -> LocalUnary:
    async def counted(request: Message, context: Context) -> Answer:
        calls.begin()
        code = _CANCELLED
        try:
            calls.admit()
            reply = await call(request, context)
            code = "OK"
        except Exception as error:
            code = _status(label, error)[0].name
            raise
        finally:
            calls.end(label, code)
        return reply

    return counted


def _on_bytes(
    method: MethodDescriptor,
    implementation: Callable[..., Any],
    calls: Calls,
    guard: Guard | None,
) -> Unary:
    reader: Reader | None = getattr(implementation, _READER, None)
    if reader is not None:
        return _asking(method, guard, reader, implementation, len)
    answer = _answering(implementation, calls)

    async def serialized(*asked: Any) -> bytes:
        return (await answer(*asked)).SerializeToString()

    return _asking(
        method, guard, partial(parse, GetMessageClass(method.input_type)), serialized, len
    )


def _on_messages(
    method: MethodDescriptor,
    implementation: Callable[..., Any],
    calls: Calls,
    guard: Guard | None,
) -> LocalUnary:
    reader: Reader | None = getattr(implementation, _READER, None)
    if reader is None:
        return _asking(
            method, guard, _as_it_is, _answering(implementation, calls), _nothing_to_parse
        )
    reply_class = GetMessageClass(method.output_type)

    async def parsed(*asked: Any) -> Message:
        return reply_class.FromString(await implementation(*asked))

    return _asking(
        method,
        guard,
        lambda request: reader(request.SerializeToString()),
        parsed,
        _nothing_to_parse,
    )


def _answering(
    implementation: Callable[..., Any], calls: Calls
) -> Callable[..., Awaitable[Answer]]:
    """Calls a method that does not return bytes."""
    is_brief = hasattr(implementation, _BRIEF)

    def answer(request: Any, context: Context, settle: Settle | None = None) -> Awaitable[Answer]:
        work = implementation(request, context)
        if settle is not None:
            work = _settled(work, settle)
        return work if is_brief else calls.complete(work)

    return answer


def _as_it_is(request: Message) -> Message:
    return request


def _nothing_to_parse(_request: Message) -> int:
    """How many bytes a request has that comes from this process."""
    return 0


async def _settled(work: Awaitable[Answer], settle: Settle) -> Answer:
    try:
        reply = await work
    except BaseException:
        settle(False)
        raise
    settle(True)
    return reply


def _asking(
    method: MethodDescriptor,
    guard: Guard | None,
    read: Callable[[Any], Any],
    answer: Callable[..., Awaitable[Reply]],
    size: Callable[[Any], int],
) -> Callable[[Any, Context], Awaitable[Reply]]:
    """Calls a method if the guard lets it: what was ``sent`` is read, and answered."""
    if guard is None:
        return lambda sent, context: answer(read(sent), context)

    async def call(sent: Any, context: Context) -> Reply:
        caller = await guard.identify(context, size(sent))
        request = read(sent)
        settle = await guard.admit(caller, method, request)
        if settle is None:
            return await answer(request, context)
        return await answer(request, context, settle)

    return call


def _guarded(
    method: MethodDescriptor, call: Callable[[Context], Awaitable[None]], guard: Guard
) -> Callable[[Context], Awaitable[None]]:
    async def guarded(context: Context) -> None:
        await guard.identify(context, 0)
        await call(guard.stream(method, context))

    return guarded


def _unary(label: str, call: Unary, calls: Calls) -> Callable[[bytes, Context], Awaitable[bytes]]:
    async def handler(serialized: bytes, context: Context) -> bytes:
        calls.begin()
        code = _CANCELLED
        try:
            calls.admit()
            reply = await call(serialized, context)
            code = "OK"
        except Exception as error:
            status, text, metadata = _status(label, error)
            code = status.name
            # gRPC keeps what abort raises in a cycle with the call; the request must not stay with
            # it until the garbage collector comes round.
            del serialized
            error.__traceback__ = None
            await context.abort(status, text, metadata)
            raise
        finally:
            calls.end(label, code)
        return reply

    return handler


def _streaming(
    label: str, call: Callable[[Context], Awaitable[None]], calls: Calls
) -> Callable[[AsyncIterator[bytes], Context], Awaitable[None]]:
    async def handler(_requests: AsyncIterator[bytes], context: Context) -> None:
        calls.begin()
        code = _CANCELLED
        try:
            calls.admit()
            await call(context)
            code = "OK"
        except grpc.aio.BaseError:
            return  # the client is gone; there is nobody to tell
        except Exception as error:
            status, text, metadata = _status(label, error)
            code = status.name
            await context.abort(status, text, metadata)
            raise
        finally:
            calls.end(label, code)

    return handler


def _status(label: str, error: Exception) -> tuple[grpc.StatusCode, str, Metadata]:
    """What a call that failed ends with."""
    if not isinstance(error, BrokerError):
        _log.error("unforeseen error in %s", label, exc_info=error)
    return status_of(error)
