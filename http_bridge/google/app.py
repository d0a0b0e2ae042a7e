"""Google's REST dialect: a request in, one gRPC call, its reply out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlsplit

import grpc
from aiohttp import web
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from http_bridge.access import check_access
from http_bridge.addresses import is_loopback
from http_bridge.answering import Refusals, answered
from http_bridge.arrival import (
    TooLargeError,
    UnreadableError,
    as_metadata,
    body_of,
    has_small_body,
    idempotency_keys,
    peer_of,
)
from http_bridge.caller import Caller, Metadata, RpcFailure
from http_bridge.cors import METHODS, Cors
from http_bridge.documentation import Documentation
from http_bridge.google import errors
from http_bridge.google.openapi import GOOGLE
from http_bridge.google.transcode import BadJson, dump, reply_json, request_of
from http_bridge.limits import Limits
from http_bridge.openapi import document
from http_bridge.routes import Match, Route, Router, routes_of
from http_bridge.serving import Handler

_FORWARDED_HEADERS: Final = ("authorization", "x-api-key", "x-goog-user-project")
_CONTENT_TYPE: Final = "application/json; charset=UTF-8"
_LARGE_BODY_BYTES: Final = 4 * 1024
"""As those of ``limits``; a message of two bytes takes json_format eight microseconds."""
_COMPRESSED_FROM: Final = 1024
_OVERRIDE: Final = "X-HTTP-Method-Override"
_UNDECIDED: Final = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED}
"""What is asked for needs more than the path says; or the server does not know the question."""
_USUAL_LIMITS: Final = Limits()


class GoogleRest:
    """Google's REST dialect of Pub/Sub v1, on whatever services it is given.

    A browser may stand between: what a page of another site sends is refused, and ``on_loopback`` so is
    what was sent to another name than this machine's own (such a name was bound to it to get here).

    ``asks_first``: the services may want to know who calls, so a large body is read only after they
    have been asked whether the call may be made.
    """

    def __init__(
        self,
        caller: Caller,
        services: Iterable[ServiceDescriptor],
        *,
        on_loopback: bool,
        asks_first: bool = True,
        limits: Limits = _USUAL_LIMITS,
        cors_origins: Iterable[str] = (),
    ) -> None:
        self._caller = caller
        self._on_loopback = on_loopback
        self._asks_first = asks_first
        self._limits = limits
        self._cors = Cors(cors_origins, methods=(*METHODS, "PATCH"))
        self._router = Router([*_policy_routes(services := list(services)), *routes_of(services)])
        self._documentation = Documentation(lambda: document(self._router.routes, GOOGLE))
        self.handler: Handler = self._cors.around(answered(self._handle, _refusals(limits)))

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if self._is_foreign(request):
            return _json(*errors.foreign())
        if request.method == "GET" and request.path == "/":
            return web.Response(text="Ok\n")
        method = request.headers.get(_OVERRIDE, request.method)
        match = self._router.find(method.upper(), request.rel_url.raw_path)
        if match is None:
            return self._documentation.answer(request) or _json(*errors.no_route())
        return await self._serve(match, request)

    async def _serve(self, match: Match, request: web.BaseRequest) -> web.Response:
        metadata = _metadata(request)
        if self._asks_first and not has_small_body(request, _LARGE_BODY_BYTES):
            await self._check(match, metadata)
        message = await self._read(match, request)
        reply = await self._caller(
            match.route, message, metadata=metadata, timeout_s=self._limits.timeout_s
        )
        text = reply_json(
            reply,
            pretty=request.query.get("prettyPrint") != "false",
            enums_as_numbers="enum-encoding=int" in request.query.get("$alt", ""),
        )
        response = web.Response(body=text, headers={"Content-Type": _CONTENT_TYPE})
        if len(text) >= _COMPRESSED_FROM:
            response.enable_compression()
        return response

    async def _check(self, match: Match, metadata: Metadata) -> None:
        """Refuse for what can be told before the body is read. Raises BadJson, RpcFailure."""
        try:
            await check_access(
                self._caller,
                match.route.method,
                request_of(match, (), b""),
                metadata=metadata,
                timeout_s=self._limits.timeout_s,
            )
        except RpcFailure as failure:
            if failure.code not in _UNDECIDED:
                raise

    async def _read(self, match: Match, request: web.BaseRequest) -> Message:
        """Raises BadJson, TooLargeError, TimeoutError, ConnectionError."""
        try:
            body = await body_of(request, self._limits)
        except UnreadableError as fault:
            raise BadJson(str(fault)) from None
        query = list(request.query.items())
        if len(body) <= _LARGE_BODY_BYTES:
            return request_of(match, query, body)
        return await asyncio.to_thread(request_of, match, query, body)

    def _is_foreign(self, request: web.BaseRequest) -> bool:
        origin, host = request.headers.get("Origin"), request.host
        try:
            if origin is not None and urlsplit(origin).netloc != host:
                return origin not in self._cors
            return self._on_loopback and not is_loopback(urlsplit(f"//{host}").hostname or "")
        except ValueError:  # it is no URL
            return True


def _refusals(limits: Limits) -> Refusals:
    return {
        BadJson: lambda fault: _json(*errors.of_request(fault)),
        RpcFailure: lambda failure: _json(*errors.of_call(failure)),
        TooLargeError: lambda _: _json(*errors.too_large(limits.max_bytes)),
        TimeoutError: lambda _: _json(*errors.too_slow()),
        Exception: lambda _: _json(*errors.internal()),
    }


def _policy_routes(services: Iterable[ServiceDescriptor]) -> list[Route]:
    """Pub/Sub: GetIamPolicy is a GET, unlike what IAM's own annotations say."""
    return [
        Route("GET", route.template, "", route.method)
        for route in routes_of(services)
        if route.method.name == "GetIamPolicy"
    ]


def _metadata(request: web.BaseRequest) -> Metadata:
    """Who calls, and what else the method is to know."""
    headers = request.headers
    given = [(name, as_metadata(headers[name])) for name in _FORWARDED_HEADERS if name in headers]
    return [*given, *idempotency_keys(request), peer_of(request)]


def _json(status: int, body: dict[str, Any]) -> web.Response:
    return web.Response(status=status, body=dump(body), headers={"Content-Type": _CONTENT_TYPE})
