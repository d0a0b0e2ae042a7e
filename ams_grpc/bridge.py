"""The HTTP bridge as a part of the server: its calls stay in the process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import cast

import grpc
from aiohttp import web

from ams_grpc.config import Config
from ams_grpc.services.frame import Calls, Context, Served, local_calls
from ams_grpc.services.status import status_of
from http_bridge.ams.app import AmsRest
from http_bridge.app import PEER, GoogleRest, is_loopback
from http_bridge.caller import RpcFailure
from http_bridge.cors import Cors
from http_bridge.limits import Limits


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


class LocalCaller:
    """Implements ``http_bridge.caller.Caller``."""

    def __init__(self, methods: Mapping[str, Callable[[bytes, Context], Awaitable[bytes]]]) -> None:
        self._methods = methods

    async def __call__(
        self,
        method: str,
        request: bytes,
        *,
        metadata: Sequence[tuple[str, str]],
        timeout_s: float,
    ) -> bytes:
        """Raises RpcFailure."""
        call = self._methods.get(method)
        if call is None:
            raise RpcFailure(grpc.StatusCode.UNIMPLEMENTED, f"Method not found: {method}")
        context = LocalContext(metadata, asyncio.get_running_loop().time() + timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                return await call(request, cast("Context", context))
        except TimeoutError:
            raise RpcFailure(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline exceeded.") from None
        except Exception as error:
            code, text, details = status_of(error)
            raise RpcFailure(code, text, details[0][1] if details else b"") from error


def local_caller(services: Iterable[Served], calls: Calls) -> LocalCaller:
    """Calls the unary methods of these services."""
    methods: dict[str, Callable[[bytes, Context], Awaitable[bytes]]] = {}
    for service, servicer, guard in services:
        methods |= local_calls(service, servicer, calls, guard)
    return LocalCaller(methods)


def google_rest(
    config: Config, services: Sequence[Served], calls: Calls, host: str
) -> web.Application:
    """Google's REST dialect of these services, for those who reach it at ``host``."""
    return GoogleRest(
        local_caller(services, calls),
        [each.service for each in services],
        on_loopback=is_loopback(host),
        limits=_limits(config),
        cors=Cors(config.cors_origins),
    ).application()


def ams_rest(config: Config, services: Sequence[Served], calls: Calls) -> web.Application:
    """AMS's REST dialect of these services."""
    return AmsRest(
        local_caller(services, calls),
        [each.service for each in services],
        limits=_limits(config),
        cors=Cors(config.cors_origins),
    ).application()


def _limits(config: Config) -> Limits:
    return Limits(config.rest_max_bytes, config.rest_timeout_s)
