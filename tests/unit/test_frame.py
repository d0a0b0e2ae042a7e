"""The frame around calls: what is begun is finished, and nothing new is begun while draining."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.empty_pb2 import Empty

from ams_grpc.broker.errors import PermissionDenied, ShuttingDown, Unauthenticated
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.services.frame import Calls, Context, Settle, local_calls, raw


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

    async def identify(self, _context: Context, _serialized: bytes) -> str:
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


class Service:
    """A servicer that remembers what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    @raw(Read)
    async def Publish(self, read: Read, _context: Context) -> bytes:  # noqa: N802
        self.asked.append(read)
        return b"published"

    async def DeleteTopic(self, request: pb.DeleteTopicRequest, _context: Context) -> Empty:  # noqa: N802
        self.asked.append(request)
        if request.topic == "broken":
            raise LookupError
        return Empty()


class Guarded:
    """A service behind a doorman."""

    def __init__(self) -> None:
        self.doorman, self.service = Doorman(), Service()
        descriptor = pb.DESCRIPTOR.services_by_name["Publisher"]
        self._calls = local_calls(descriptor, self.service, Calls(), self.doorman)

    async def call(self, method: str, serialized: bytes) -> bytes:
        call = self._calls[f"/google.pubsub.v1.Publisher/{method}"]
        return await call(serialized, cast("Context", None))


async def test_the_guard_sees_the_very_request_that_the_servicer_gets() -> None:
    guarded = Guarded()
    serialized = pb.DeleteTopicRequest(topic="orders").SerializeToString()

    assert await guarded.call("Publish", b"some") == b"published"
    assert await guarded.call("DeleteTopic", serialized) == b""

    for (_, shown), asked in zip(guarded.doorman.shown, guarded.service.asked, strict=True):
        assert shown is asked


async def test_strangers_get_nothing_read_and_others_nothing_done_that_they_may_not() -> None:
    guarded = Guarded()
    guarded.doorman.error_of_admit = PermissionDenied("no")
    for method in ("Publish", "DeleteTopic"):
        with pytest.raises(PermissionDenied):
            await guarded.call(method, b"")
    assert len(guarded.doorman.shown) == 2

    guarded.doorman.error_of_identify = Unauthenticated("who?")
    for method in ("Publish", "DeleteTopic"):
        with pytest.raises(Unauthenticated):
            await guarded.call(method, b"\xff no protobuf")
    assert len(guarded.doorman.shown) == 2
    assert guarded.service.asked == []


async def test_the_guard_hears_how_a_change_ended() -> None:
    guarded = Guarded()
    await guarded.call("DeleteTopic", b"")
    with pytest.raises(LookupError):
        await guarded.call("DeleteTopic", pb.DeleteTopicRequest(topic="broken").SerializeToString())
    assert guarded.doorman.settled == [True, False]
