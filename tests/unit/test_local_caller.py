"""Calls that stay in the process, and when they end."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import grpc
import pytest
from google.protobuf.message import Message

from ams_grpc.bridge import LocalCaller
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.services.frame import Context
from http_bridge.caller import RpcFailure


class Called(NamedTuple):
    """A method as callers name it."""

    path: str
    reply_class: type[Message] = pb.Topic


async def never(_request: Message, _context: Context) -> Message:
    await asyncio.Event().wait()
    return pb.Topic()


async def at_once(request: Message, _context: Context) -> Message:
    return request


METHODS = {"/never": never, "/at_once": at_once}


async def test_a_call_that_takes_too_long_is_ended() -> None:
    caller = LocalCaller(METHODS)
    request = pb.Topic(name="orders")

    with pytest.raises(RpcFailure) as failure:
        await caller(Called("/never"), request, metadata=(), timeout_s=0.01)

    assert failure.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert await caller(Called("/at_once"), request, metadata=(), timeout_s=0.01) == request


async def test_each_call_has_its_own_deadline() -> None:
    caller = LocalCaller(METHODS)
    late, early = (
        asyncio.create_task(caller(Called("/never"), pb.Topic(), metadata=(), timeout_s=seconds))
        for seconds in (3600.0, 0.01)
    )

    with pytest.raises(RpcFailure):
        await early

    assert not late.done()
    late.cancel()
    with pytest.raises(asyncio.CancelledError):
        await late


async def test_a_deadline_is_forgotten_once_there_is_a_reply() -> None:
    caller, replied, go_on = LocalCaller(METHODS), asyncio.Event(), asyncio.Event()

    async def call_and_go_on() -> None:
        await caller(Called("/at_once"), pb.Topic(), metadata=(), timeout_s=0.01)
        replied.set()
        await go_on.wait()

    first = asyncio.create_task(call_and_go_on())
    await replied.wait()
    with pytest.raises(RpcFailure):  # by then the first deadline has passed, too
        await caller(Called("/never"), pb.Topic(), metadata=(), timeout_s=0.02)
    go_on.set()

    await first


async def test_one_that_is_cancelled_by_others_is_no_timeout() -> None:
    call = LocalCaller(METHODS)(Called("/never"), pb.Topic(), metadata=(), timeout_s=3600)
    task = asyncio.create_task(call)
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_method_that_is_not_there_is_said_to_be_not_there() -> None:
    with pytest.raises(RpcFailure) as failure:
        await LocalCaller({})(Called("/gone"), pb.Topic(), metadata=(), timeout_s=1)

    assert failure.value.code is grpc.StatusCode.UNIMPLEMENTED
