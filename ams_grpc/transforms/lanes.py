"""Where transforms run: threads beside the event loop, each with a JavaScript process of its own.

What turns out to take long goes to a lane of its own for a while. So it costs others one turn at
most, and after that only those wait for it who are slow themselves.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from ams_grpc.transforms.worker import Worker

Result = TypeVar("Result")

_QUICK_THREADS: Final = 2
_SLOW_THREADS: Final = 1
_SLOW_S: Final = 0.4  # a turn that took so long is slow
_SLOW_FOR_S: Final = 60.0
_MAX_REMEMBERED: Final = 1_000


class Lanes:
    """Threads for work that must not hold up the event loop. They start with the first of it."""

    def __init__(self) -> None:
        self._quick = ThreadPoolExecutor(_QUICK_THREADS, "transforms")
        self._slow = ThreadPoolExecutor(_SLOW_THREADS, "slow-transforms")
        self._slow_until: dict[Hashable, float] = {}
        self._of_thread = threading.local()
        self._workers: list[Worker] = []

    async def run(self, whose: Hashable, work: Callable[[Worker], Result]) -> Result:
        """What ``work`` returns or raises, which is done in a thread.

        It is to take about a tenth of a second, or else to be cut in turns. ``whose`` says on
        whose behalf it is done: if that was slow before, it waits in the slow lane.
        """
        is_slow = self._slow_until.get(whose, 0.0) > time.monotonic()
        lane = self._slow if is_slow else self._quick
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(lane, self._turn, whose, work)

    def close(self) -> None:
        """End the processes and the threads. What waits is cancelled."""
        for lane in (self._quick, self._slow):
            lane.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.kill()  # so that its thread has nothing to wait for
        for lane in (self._quick, self._slow):
            lane.shutdown()
        for worker in self._workers:
            worker.close()

    def _turn(self, whose: Hashable, work: Callable[[Worker], Result]) -> Result:
        worker: Worker | None = getattr(self._of_thread, "worker", None)
        if worker is None:
            worker = self._of_thread.worker = Worker()
            self._workers.append(worker)
        started = time.monotonic()
        try:
            return work(worker)
        finally:
            ended = time.monotonic()
            if ended - started > _SLOW_S:
                if len(self._slow_until) >= _MAX_REMEMBERED:
                    self._slow_until.clear()
                self._slow_until[whose] = ended + _SLOW_FOR_S
