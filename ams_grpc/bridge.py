"""The HTTP bridge as a part of the server: its calls stay in the process."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import grpc
from google.protobuf.message import Message

from ams_grpc.config import Config
from ams_grpc.services.frame import Calls, Context, LocalUnary, Served, local_calls
from ams_grpc.services.status import status_of
from http_bridge.addresses import is_loopback
from http_bridge.ams.app import AmsRest
from http_bridge.arrival import PEER
from http_bridge.caller import Method, RpcFailure
from http_bridge.google.app import GoogleRest
from http_bridge.limits import Limits
from http_bridge.serving import Handler


class LocalContext:
    """What a method may ask of its call."""

    def __init__(self, metadata: Sequence[tuple[str, str]], deadline: float) -> None:
        self._metadata = tuple(metadata)
        self._deadline = deadline

    def time_remaining(self) -> float:
        """Seconds until the caller gives up."""
        return max(0.0, self._deadline - asyncio.get_running_loop().time())

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        """What came with the call."""
        return self._metadata

    def peer(self) -> str:
        """The other machine, in the form that gRPC gives it."""
        return f"http:{dict(self._metadata).get(PEER, '')}:0"


class Deadlines:
    """Ends tasks that take too long, with one timer for all of them.

    A timer for each call would cost more than all else that is done here for it.
    """

    def __init__(self) -> None:
        self._running: dict[asyncio.Task[Any], float] = {}
        self._due = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, loop: asyncio.AbstractEventLoop, deadline: float) -> asyncio.Task[Any]:
        """Cancel the task that runs now, which is returned, at a moment of the loop's clock."""
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("there is no task to end")
        self._running[task] = deadline
        if deadline < self._due:
            self._look_at(deadline)
        return task

    def have_ended(self, task: asyncio.Task[Any]) -> bool:
        """Whether it is for its deadline, and for nothing else, that a task was cancelled."""
        return task not in self._running and task.uncancel() == 0

    def end(self, task: asyncio.Task[Any]) -> None:
        """What the task had to do is done."""
        self._running.pop(task, None)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        for task in [task for task, end in self._running.items() if end <= loop.time()]:
            del self._running[task]
            task.cancel()
        self._look_at(min(self._running.values(), default=math.inf))

    def _look_at(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        loop = asyncio.get_running_loop()
        self._timer = None if due == math.inf else loop.call_at(due, self._look)


class LocalCaller:
    """Implements ``http_bridge.caller.Caller``."""

    def __init__(self, methods: Mapping[str, LocalUnary]) -> None:
        self._methods = methods
        self._deadlines = Deadlines()

    async def __call__(
        self,
        method: Method,
        request: Message,
        *,
        metadata: Sequence[tuple[str, str]],
        timeout_s: float,
    ) -> Any:
        """Raises RpcFailure."""
        call = self._methods.get(method.path)
        if call is None:
            raise RpcFailure(grpc.StatusCode.UNIMPLEMENTED, f"Method not found: {method.path}")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        context = LocalContext(metadata, deadline)
        task = self._deadlines.begin(loop, deadline)
        try:
            return await call(request, cast("Context", context))
        except asyncio.CancelledError:
            if not self._deadlines.have_ended(task):
                raise
            raise RpcFailure(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline exceeded.") from None
        except Exception as error:
            code, text, details = status_of(error)
            raise RpcFailure(code, text, details[0][1] if details else b"") from error
        finally:
            self._deadlines.end(task)


def local_caller(services: Iterable[Served], calls: Calls) -> LocalCaller:
    """Calls the unary methods of these services."""
    methods: dict[str, LocalUnary] = {}
    for service, servicer, guard in services:
        methods |= local_calls(service, servicer, calls, guard)
    return LocalCaller(methods)


def google_rest(config: Config, services: Sequence[Served], calls: Calls, host: str) -> Handler:
    """Google's REST dialect of these services, for those who reach it at ``host``."""
    return GoogleRest(
        local_caller(services, calls),
        [each.service for each in services],
        on_loopback=is_loopback(host),
        asks_first=config.auth,
        limits=_limits(config),
        cors_origins=config.cors_origins,
    ).handler


def ams_rest(config: Config, services: Sequence[Served], calls: Calls) -> Handler:
    """AMS's REST dialect of these services."""
    return AmsRest(
        local_caller(services, calls),
        [each.service for each in services],
        limits=_limits(config),
        cors_origins=config.cors_origins,
    ).handler


def _limits(config: Config) -> Limits:
    return Limits(config.rest_max_bytes, config.rest_timeout_s)
