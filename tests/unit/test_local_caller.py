"""Calls that stay in the process, and when they end."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from ams_grpc.bridge import Deadlines, LocalCaller
from ams_grpc.services.frame import Context
from http_bridge.caller import RpcFailure


async def never(_request: bytes = b"", _context: Context | None = None) -> bytes:
    await asyncio.Event().wait()
    return b""


async def at_once(request: bytes, _context: Context) -> bytes:
    return request


async def test_a_call_that_takes_too_long_is_ended() -> None:
    caller = LocalCaller({"/a": never, "/b": at_once})

    with pytest.raises(RpcFailure) as failure:
        await caller("/a", b"", metadata=(), timeout_s=0.01)

    assert failure.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert await caller("/b", b"reply", metadata=(), timeout_s=0.01) == b"reply"


async def test_each_call_has_its_own_deadline() -> None:
    deadlines, now = Deadlines(), asyncio.get_running_loop().time()
    late = asyncio.create_task(deadlines.within(now + 3600, never()))
    early = asyncio.create_task(deadlines.within(now + 0.01, never()))

    with pytest.raises(TimeoutError):
        await early

    assert not late.done()
    late.cancel()
    with pytest.raises(asyncio.CancelledError):
        await late


async def test_one_that_is_cancelled_by_others_is_no_timeout() -> None:
    deadlines, now = Deadlines(), asyncio.get_running_loop().time()
    task = asyncio.create_task(deadlines.within(now + 3600, never()))
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
