"""The frame around calls: what is begun is finished, and nothing new is begun while draining."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.empty_pb2 import Empty

from ams_grpc.broker.errors import ShuttingDown
from ams_grpc.services.frame import Calls


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
