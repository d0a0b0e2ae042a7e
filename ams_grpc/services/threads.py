"""Threads for work that must not hold up the event loop, and how it is shared out.

Not ``ThreadPoolExecutor``: the interpreter waits for its threads at exit. These are daemons.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final, Generic, TypeVar
from weakref import WeakValueDictionary

from ams_grpc.broker.errors import UNABLE, ShuttingDown

T = TypeVar("T")
Key = TypeVar("Key", bound=Hashable)


class Threads:
    """``count`` threads that take calls in order. They start with the first of these."""

    def __init__(self, name: str, count: int) -> None:
        self._name: Final = name
        self._count: Final = count
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._has_started = self._is_closed = False

    async def run(self, call: Callable[[], T]) -> T:
        """The result of a call, or what it raises. Raises ShuttingDown after ``close``.

        Cancelled, it is not begun any more; a call that runs already is finished for nobody.
        """
        if self._is_closed:
            raise ShuttingDown(UNABLE)
        if not self._has_started:
            self._has_started = True
            for number in range(self._count):
                name = f"{self._name}-{number}"
                Thread(target=_work, args=[self._calls], name=name, daemon=True).start()
        future: Future[T] = Future()
        self._calls.put((future, call))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Begin no other call; those that wait raise ShuttingDown. Does not wait for any."""
        self._is_closed = True
        try:
            while True:
                waiting = self._calls.get_nowait()
                if waiting is not None and waiting[0].set_running_or_notify_cancel():
                    waiting[0].set_exception(ShuttingDown(UNABLE))
        except Empty:
            for _ in range(self._count):
                self._calls.put(None)


def _work(calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]) -> None:
    while (waiting := calls.get()) is not None:
        future, call = waiting
        if not future.set_running_or_notify_cancel():
            continue
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001  # raised where it is awaited
            future.set_exception(error)
        else:
            future.set_result(result)
        del waiting, future, call  # nothing is kept while it waits for more


class Turns(Generic[Key]):
    """One at a time for each key: ``async with turns.of(key)``."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()

    def of(self, key: Key) -> asyncio.Lock:
        """Forgotten when nobody holds it or waits for it."""
        return self._locks.setdefault(key, asyncio.Lock())
