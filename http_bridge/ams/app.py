"""AMS's REST dialect: a request in, one gRPC call, its reply out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import quote, unquote

from aiohttp import web
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from http_bridge.access import check_access
from http_bridge.ams import errors, messages
from http_bridge.ams.errors import Refusal
from http_bridge.ams.openapi import AMS
from http_bridge.ams.reading import BadRequest, bad_body, named_by, read_body, read_query
from http_bridge.ams.routes import AmsMatch, AmsRouter, cleaned
from http_bridge.ams.writing import dump, reply_json
from http_bridge.answering import Refusals, answered
from http_bridge.arrival import (
    TooLargeError,
    UnreadableError,
    as_metadata,
    body_at_hand,
    body_of,
    has_small_body,
    idempotency_keys,
    peer_of,
)
from http_bridge.caller import Caller, Metadata, RpcFailure
from http_bridge.cors import Cors
from http_bridge.documentation import Documentation
from http_bridge.limits import LARGE_BODY_BYTES, SMALL_BODY_BYTES, Limits
from http_bridge.openapi import document
from http_bridge.ready import ReadyJson
from http_bridge.routes import routes_of
from http_bridge.serving import Handler

_USUAL_LIMITS: Final = Limits()


class AmsRest:
    """AMS's REST dialect, on the services of ams.v1 among those it is given."""

    def __init__(
        self,
        caller: Caller,
        services: Iterable[ServiceDescriptor],
        *,
        limits: Limits = _USUAL_LIMITS,
        cors_origins: Iterable[str] = (),
    ) -> None:
        own = [each for each in services if each.full_name.startswith("ams.v1.")]
        self._caller = caller
        self._limits = limits
        self._at_once_bytes = min(LARGE_BODY_BYTES, limits.max_bytes)
        self._router = AmsRouter(own)
        self._documentation = Documentation(lambda: document(routes_of(own), AMS))
        self.handler: Handler = Cors(cors_origins).around(answered(self._handle, _REFUSALS))

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path, query = _target_of(request)
        match = self._router.find(request.method, path)
        if match is None:
            return self._documentation.answer(request) or _no_route(unquote(path), query)
        metadata, message = _metadata_of(request), named_by(match)
        body = body_at_hand(request, self._at_once_bytes)
        if body is None:
            asks_first = not has_small_body(request, SMALL_BODY_BYTES)
        else:
            asks_first = len(body) > SMALL_BODY_BYTES
        if asks_first:
            await self._check(match, message, metadata)
        try:
            if request.method == "GET":
                read_query(message, match, request.query)
            elif body is None:
                await self._read(message, match, request)
            else:
                _read_body(message, match, body)
        except (BadRequest, TimeoutError, TooLargeError):
            if not asks_first:
                await self._check(match, message, metadata)
            raise
        reply = await self._caller(
            match.route, message, metadata=metadata, timeout_s=self._limits.timeout_s
        )
        return _answer(match, reply)

    async def _read(self, message: Message, match: AmsMatch, request: web.BaseRequest) -> None:
        """Raises BadRequest, TimeoutError, TooLargeError, ConnectionError."""
        try:
            body = await body_of(request, self._limits)
        except UnreadableError:
            raise bad_body(match.route) from None
        if len(body) <= LARGE_BODY_BYTES:
            _read_body(message, match, body)
        else:
            await asyncio.to_thread(_read_body, message, match, body)

    async def _check(self, match: AmsMatch, request: Message, metadata: Metadata) -> None:
        """Refuse for what comes before the rest of the request is read. Raises RpcFailure."""
        await check_access(
            self._caller,
            match.route.method,
            request,
            metadata=metadata,
            timeout_s=self._limits.timeout_s,
        )


def _target_of(request: web.BaseRequest) -> tuple[str, str]:
    """The path, as it was sent, and the query with its ``?``."""
    target = request.raw_path
    if not target.startswith("/"):  # HTTP: a request may have the whole URL there
        target = "/" + target.partition("://")[2].partition("/")[2]
    path, mark, query = target.partition("?")
    return path, mark + query


def _metadata_of(request: web.BaseRequest) -> Metadata:
    """Who calls, for the method to find out: by header, or else by the query."""
    metadata = [peer_of(request), *idempotency_keys(request)]
    token = request.headers.get("x-api-key") or request.query.get("key", "")
    if token:
        metadata.append(("x-api-key", as_metadata(token)))
    return metadata


def _read_body(message: Message, match: AmsMatch, body: bytes) -> None:
    fast = _FAST_READERS.get(match.route.path)
    if fast is None:
        read_body(message, match, body)
        return
    try:
        fast(message, body)
    except (ValueError, RecursionError):
        raise bad_body(match.route) from None


_FAST_READERS: Final[dict[str, Callable[[Any, bytes], None]]] = {
    "/ams.v1.Topics/Publish": messages.read_publish,
    "/ams.v1.Subscriptions/Pull": messages.read_pull,
}
_FAST_WRITERS: Final[dict[str, Callable[[Any], bytes]]] = {
    "/ams.v1.Topics/Publish": messages.publish_json,
    "/ams.v1.Subscriptions/Pull": messages.pull_json,
}


def _answer(match: AmsMatch, reply: Any) -> web.StreamResponse:
    fast = _FAST_WRITERS.get(match.route.path)
    if fast is not None:
        return ReadyJson(fast(reply))
    shown = reply_json(reply)
    if not shown:
        return ReadyJson(b"{}" if match.route.options.braces else b"")
    return ReadyJson(dump(shown))


def _refused(refusal: Refusal) -> web.Response:
    return web.Response(
        status=refusal.http,
        body=dump(refusal.body),
        headers={"Content-Type": "application/json; charset=utf-8"},
    )


_REFUSALS: Final[Refusals] = {
    RpcFailure: lambda failure: _refused(errors.of_call(failure)),
    BadRequest: lambda fault: _refused(errors.bad_request(fault.message)),
    TooLargeError: lambda _: _refused(errors.TOO_LARGE),
    TimeoutError: lambda _: _refused(errors.TOO_SLOW),
    Exception: lambda _: _refused(errors.INTERNAL),
}


def _no_route(path: str, query: str) -> web.Response:
    """AMS: the only answers that are no JSON."""
    if cleaned(path) != path:
        return web.Response(status=301, headers={"Location": quote(cleaned(path)) + query})
    if path == "/v1/version":
        return web.Response(status=405)
    return web.Response(
        status=404,
        text="404 page not found\n",
        headers={
            "Content-Type": "text/plain; charset=utf-8",
            "X-Content-Type-Options": "nosniff",
        },
    )
