"""The frame around calls: what is begun is finished, and nothing new is begun while draining."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from ams_grpc.broker.errors import PermissionDenied, ShuttingDown, Unauthenticated
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.services.frame import Calls, Context, Settle, brief, handlers, local_calls, raw
from ams_grpc.services.status import code_of


async def test_work_goes_on_when_its_caller_goes_away() -> None:
    calls = Calls()
    committed, done = asyncio.Event(), asyncio.Event()

    async def delete() -> Empty:
        await committed.wait()
        done.set()
        return Empty()

    caller = asyncio.ensure_future(calls.complete(delete()))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert not done.is_set()

    committed.set()

    await done.wait()


async def test_a_draining_server_waits_for_its_calls_and_takes_no_new_ones() -> None:
    calls = Calls()
    calls.begin()
    calls.admit()
    calls.draining = True
    finished = asyncio.ensure_future(calls.finished())
    with pytest.raises(ShuttingDown):
        calls.admit()
    await asyncio.sleep(0)
    assert not finished.done()

    calls.end("Publisher/Publish", "OK")

    await finished
    assert calls.handled["Publisher/Publish", "OK"] == 1


# --- a guard ------------------------------------------------------------------------------------


class Doorman:
    """A guard that lets in whom the test says, and remembers what it is shown."""

    def __init__(self) -> None:
        self.error_of_identify: Exception | None = None
        self.error_of_admit: Exception | None = None
        self.shown: list[tuple[str, Any]] = []
        self.settled: list[bool] = []

    async def identify(self, _context: Context, _size: int) -> str:
        if self.error_of_identify is not None:
            raise self.error_of_identify
        return "pat"

    async def admit(self, caller: str, method: MethodDescriptor, request: Any) -> Settle | None:
        assert caller == "pat"
        self.shown.append((method.name, request))
        if self.error_of_admit is not None:
            raise self.error_of_admit
        return None if method.name == "Publish" else self.settled.append

    def stream(self, _method: MethodDescriptor, context: Context) -> Context:
        return context


class Read:
    """What a reader of its own makes of the bytes."""

    def __init__(self, serialized: bytes) -> None:
        self.serialized = serialized


PUBLISHED = pb.PublishResponse(message_ids=["1"])


class Service:
    """A servicer that remembers what it is asked. Two of its methods have to wait."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.both_wait, self.go_on, self.one_is_done = (asyncio.Event() for _ in range(3))
        self.waiting = 0
        self.done: list[str] = []

    @raw(Read)
    async def Publish(self, read: Read, _context: Context) -> bytes:  # noqa: N802
        self.asked.append(read)
        return PUBLISHED.SerializeToString()

    async def DeleteTopic(self, request: pb.DeleteTopicRequest, _context: Context) -> Empty:  # noqa: N802
        self.asked.append(request)
        if request.topic == "broken":
            raise LookupError
        return Empty()

    async def CreateTopic(self, request: pb.Topic, _context: Context) -> pb.Topic:  # noqa: N802
        await self._wait("CreateTopic")
        return request

    @brief
    async def GetTopic(self, _request: pb.GetTopicRequest, _context: Context) -> pb.Topic:  # noqa: N802
        await self._wait("GetTopic")
        return pb.Topic()

    async def _wait(self, method: str) -> None:
        self.waiting += 1
        if self.waiting == 2:
            self.both_wait.set()
        await self.go_on.wait()
        self.done.append(method)
        self.one_is_done.set()


class Ended(Exception):
    """A call ended with this status."""

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__(code)
        self.code = code


class Call:
    """The context of a call over gRPC."""

    async def abort(self, code: grpc.StatusCode, _text: str, _metadata: object) -> None:
        raise Ended(code)


class Door:
    """A service behind a doorman, for calls of bytes or of messages."""

    def __init__(self, kind: str) -> None:
        self.doorman, self.service = Doorman(), Service()
        descriptor = pb.DESCRIPTOR.services_by_name["Publisher"]
        served = (descriptor, self.service, Calls(), self.doorman)
        self._remote = handlers(*served) if kind == "bytes" else None
        self._local = local_calls(*served)

    async def call(self, method: str, request: Message) -> Message:
        """Raises Ended."""
        path = f"/google.pubsub.v1.Publisher/{method}"
        if self._remote is not None:
            reply = await self.call_with(method, request.SerializeToString())
            return type(EXPECTED[method]).FromString(reply)
        try:
            answer = await self._local[path](request, cast("Context", None))
            assert isinstance(answer, Message)
            return answer
        except Exception as error:
            raise Ended(code_of(error)) from error

    async def call_with(self, method: str, serialized: bytes) -> bytes:
        """The same, over gRPC. Raises Ended."""
        assert self._remote is not None
        details = SimpleNamespace(method=f"/google.pubsub.v1.Publisher/{method}")
        handler: Any = self._remote.service(details)
        reply: bytes = await handler.unary_unary(serialized, Call())
        return reply


EXPECTED: dict[str, Message] = {
    "Publish": PUBLISHED, "DeleteTopic": Empty(), "CreateTopic": pb.Topic(), "GetTopic": pb.Topic()
}  # fmt: skip


@pytest.fixture(params=["bytes", "messages"])
def door(request: pytest.FixtureRequest) -> Door:
    return Door(request.param)


async def code(call: Awaitable[object]) -> grpc.StatusCode:
    with pytest.raises(Ended) as ended:
        await call
    return ended.value.code


async def test_the_guard_sees_the_very_request_that_the_servicer_gets(door: Door) -> None:
    publish = pb.PublishRequest(topic="orders")
    assert await door.call("Publish", publish) == PUBLISHED
    assert await door.call("DeleteTopic", pb.DeleteTopicRequest(topic="orders")) == Empty()

    for (_, shown), asked in zip(door.doorman.shown, door.service.asked, strict=True):
        assert shown is asked
    assert door.service.asked[0].serialized == publish.SerializeToString()
    assert door.service.asked[1].topic == "orders"


async def test_others_get_nothing_done_that_they_may_not(door: Door) -> None:
    door.doorman.error_of_admit = PermissionDenied("no")
    for method, request in (("Publish", pb.PublishRequest()), ("DeleteTopic", Empty())):
        assert await code(door.call(method, request)) is grpc.StatusCode.PERMISSION_DENIED
    assert len(door.doorman.shown) == 2
    assert door.service.asked == []


async def test_strangers_get_nothing_read() -> None:
    door = Door("bytes")
    door.doorman.error_of_identify = Unauthenticated("who?")
    for method in ("Publish", "DeleteTopic"):
        call = door.call_with(method, b"\xff no protobuf")
        assert await code(call) is grpc.StatusCode.UNAUTHENTICATED
    assert door.doorman.shown == []
    assert door.service.asked == []


async def test_the_guard_hears_how_a_change_ended(door: Door) -> None:
    await door.call("DeleteTopic", pb.DeleteTopicRequest())
    call = door.call("DeleteTopic", pb.DeleteTopicRequest(topic="broken"))
    assert await code(call) is grpc.StatusCode.INTERNAL
    assert door.doorman.settled == [True, False]


async def test_a_method_goes_on_when_its_caller_goes_away_unless_it_is_brief(door: Door) -> None:
    calls = [asyncio.create_task(door.call(each, Empty())) for each in ("CreateTopic", "GetTopic")]
    await door.service.both_wait.wait()
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    assert door.service.done == []
    assert door.doorman.settled == [False]  # of the one that is brief; the other is not over

    door.service.go_on.set()
    await door.service.one_is_done.wait()

    assert door.service.done == ["CreateTopic"]


async def test_the_guard_hears_also_how_a_brief_one_ended(door: Door) -> None:
    door.service.go_on.set()
    await door.call("GetTopic", Empty())
    assert door.doorman.settled == [True]
