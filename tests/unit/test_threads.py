"""Threads for what must not hold up the event loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import Final

import pytest

from ams_grpc.broker.errors import ShuttingDown
from ams_grpc.services.threads import Threads, Turns

PATIENCE_S: Final = 30.0


async def test_a_call_returns_or_raises_what_it_does_in_a_thread() -> None:
    threads = Threads("workers", 2)

    def fail() -> None:
        raise LookupError("nothing there")

    name = await threads.run(lambda: threading.current_thread().name)
    with pytest.raises(LookupError, match="nothing there"):
        await threads.run(fail)

    assert name.startswith("workers-")
    assert name != threading.current_thread().name


async def test_what_is_cancelled_before_its_turn_is_not_done() -> None:
    threads = Threads("workers", 1)
    go_on = threading.Event()
    done: list[str] = []
    first = asyncio.create_task(threads.run(lambda: go_on.wait(PATIENCE_S)))
    second = asyncio.create_task(threads.run(lambda: done.append("second")))
    await asyncio.sleep(0)

    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    go_on.set()
    await first
    await threads.run(lambda: done.append("third"))

    assert done == ["third"]


async def test_closed_they_finish_what_they_are_at_and_refuse_the_rest() -> None:
    threads = Threads("workers", 1)
    begun, go_on = threading.Event(), threading.Event()

    def work() -> str:
        begun.set()
        assert go_on.wait(PATIENCE_S)
        return "done"

    running = asyncio.create_task(threads.run(work))
    waiting = asyncio.create_task(threads.run(work))
    await asyncio.to_thread(begun.wait, PATIENCE_S)

    threads.close()

    with pytest.raises(ShuttingDown):
        await waiting
    with pytest.raises(ShuttingDown):
        await threads.run(work)
    go_on.set()
    assert await running == "done"


def test_closed_they_end() -> None:
    threads = Threads("that-end", 2)
    asyncio.run(threads.run(lambda: None))
    mine = [each for each in threading.enumerate() if each.name.startswith("that-end")]

    threads.close()

    for thread in mine:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert len(mine) == 2


STUCK: Final = """
import asyncio, threading
from ams_grpc.broker.schemas import Definition, SchemaType
from ams_grpc.services import definitions
from ams_grpc.services.gate import SchemaGate

begun = threading.Semaphore(0)

def stuck(*_):
    begun.release()
    threading.Event().wait()

definitions._checked = definitions._compile = stuck

async def main():
    known = definitions.CompiledDefinitions()
    gate = SchemaGate(None, known)

    async def load(number):
        return Definition(SchemaType.AVRO, "x")

    tasks = [
        asyncio.ensure_future(known.check(Definition(SchemaType.AVRO, "x"))),
        asyncio.ensure_future(known.revision(1, load)),
        asyncio.ensure_future(gate._threads.run(stuck)),
    ]
    for _ in tasks:
        await asyncio.to_thread(begun.acquire)
    known.close()
    gate.close()
    print("closed")

asyncio.run(main())
"""


def test_a_process_ends_though_a_check_does_not() -> None:
    process = subprocess.run(
        [sys.executable, "-c", STUCK],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )

    assert (process.stdout, process.stderr) == ("closed\n", "")


async def test_only_those_of_one_key_wait_for_each_other() -> None:
    turns: Turns[str] = Turns()

    async with turns.of("a"):
        assert turns.of("a").locked()
        async with turns.of("b"):
            pass

    assert not turns.of("a").locked()
