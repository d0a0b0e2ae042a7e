"""Threads for blocking calls.

Not ``ThreadPoolExecutor``: the interpreter waits for its threads at exit, for ever if one hangs in
a database that does not answer. These are daemons.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


class Threads:
    """``count`` threads that take calls in order."""

    def __init__(self, name: str, count: int) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = [
            Thread(target=self._work, name=f"{name}-{number}", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, call: Callable[[], None]) -> None:
        """Have a thread make a call, which must not raise."""
        self._calls.put(call)

    async def run(self, call: Callable[[], T]) -> T:
        """The result of a call that blocks. Cancelling leaves the thread to finish it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def work() -> None:
            if future.cancelled():
                return
            try:
                result = call()
            except BaseException as error:  # noqa: BLE001  # raised where it is awaited
                later(loop, _set_exception, future, error)
            else:
                later(loop, _set_result, future, result)

        self._calls.put(work)
        return await future

    def stop(self) -> None:
        """Let the threads end once they have nothing left to do. Does not wait."""
        for _ in self._threads:
            self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


def later(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *arguments: object) -> None:
    """``call_soon_threadsafe``, for a thread that may outlive the loop."""
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(call, *arguments)


def _set_result(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _set_exception(future: asyncio.Future[T], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
