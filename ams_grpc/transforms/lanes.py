"""Where transforms run: threads beside the event loop, each with a JavaScript process of its own.

What turns out to take long goes to a lane of its own for a while, also what waits for its turn already.
So a topic or subscription that is slow costs the others one turn of each quick thread a minute. Who has
many of them costs as many turns: this is fair to resources, and not to those who own them.

Code that is looked at before anything has it runs in a third lane: nobody knows yet how slow it is.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

from ams_grpc.transforms.worker import Worker

Result = TypeVar("Result")

_QUICK_THREADS: Final = 2
_SLOW_THREADS: Final = 1
_CHECK_THREADS: Final = 1
_SLOW_S: Final = 0.4  # a turn that took so long is slow
_SLOW_FOR_S: Final = 60.0
_MAX_REMEMBERED: Final = 1_000
_LOOK_EVERY_S: Final = 5.0


class _TurnedAwayError(Exception):
    """What was to be done in the quick lane is slow, as is known by now."""


class Lanes:
    """Threads for work that must not hold up the event loop. They start with the first of it."""

    def __init__(self) -> None:
        self._quick = ThreadPoolExecutor(_QUICK_THREADS, "transforms")
        self._slow = ThreadPoolExecutor(_SLOW_THREADS, "slow-transforms")
        self._checks = ThreadPoolExecutor(_CHECK_THREADS, "check-transforms")
        self._slow_until: dict[Hashable, float] = {}  # the oldest first
        self._noting = threading.Lock()
        self._of_thread = threading.local()
        self._workers: list[Worker] = []
        self._awaited = 0
        self._look: asyncio.TimerHandle | None = None

    async def run(self, whose: Hashable, work: Callable[[Worker], Result]) -> Result:
        """What ``work`` returns or raises, which is done in a thread.

        It is to take about a tenth of a second, or else to be cut in turns. ``whose`` says on
        whose behalf it is done: if that was slow before, it waits in the slow lane.
        """
        if not self._is_slow(whose):
            try:
                return await self._in(self._quick, partial(self._quick_turn, whose, work))
            except _TurnedAwayError:
                pass
        return await self._in(self._slow, partial(self._turn, whose, work))

    async def check(self, work: Callable[[Worker], Result]) -> Result:
        """The same, for work on code that no topic or subscription has yet."""
        return await self._in(self._checks, lambda: work(self._worker()))

    def close(self) -> None:
        """End the processes and the threads. What waits is cancelled."""
        if self._look is not None:
            self._look.cancel()
        lanes = (self._quick, self._slow, self._checks)
        for lane in lanes:
            lane.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.kill()  # so that its thread has nothing to wait for
        for lane in lanes:
            lane.shutdown()
        for worker in self._workers:
            worker.close()

    async def _in(self, lane: ThreadPoolExecutor, turn: Callable[[], Result]) -> Result:
        loop = asyncio.get_running_loop()
        if self._look is None:
            self._look = loop.call_later(_LOOK_EVERY_S, self._look_after_workers, loop)
        self._awaited += 1
        try:
            return await loop.run_in_executor(lane, turn)
        finally:
            self._awaited -= 1

    def _look_after_workers(self, loop: asyncio.AbstractEventLoop) -> None:
        """End those that are stuck, as long as anything is to be done."""
        self._look = None
        for worker in self._workers:
            worker.kill_if_stuck()
        if self._awaited or any(worker.is_busy for worker in self._workers):
            self._look = loop.call_later(_LOOK_EVERY_S, self._look_after_workers, loop)

    # --- in the threads ----------------------------------------------------------------------

    def _quick_turn(self, whose: Hashable, work: Callable[[Worker], Result]) -> Result:
        if self._is_slow(whose):
            raise _TurnedAwayError
        return self._turn(whose, work)

    def _turn(self, whose: Hashable, work: Callable[[Worker], Result]) -> Result:
        worker = self._worker()
        started = time.monotonic()
        try:
            return work(worker)
        finally:
            ended = time.monotonic()
            if ended - started > _SLOW_S:
                self._note_slow(whose, ended + _SLOW_FOR_S)

    def _worker(self) -> Worker:
        """This thread's."""
        worker: Worker | None = getattr(self._of_thread, "worker", None)
        if worker is None:
            worker = self._of_thread.worker = Worker()
            self._workers.append(worker)
        return worker

    def _is_slow(self, whose: Hashable) -> bool:
        return self._slow_until.get(whose, 0.0) > time.monotonic()

    def _note_slow(self, whose: Hashable, until: float) -> None:
        with self._noting:
            self._slow_until.pop(whose, None)
            self._slow_until[whose] = until
            if len(self._slow_until) > _MAX_REMEMBERED:
                del self._slow_until[next(iter(self._slow_until))]
