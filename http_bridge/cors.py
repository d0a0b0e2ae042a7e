"""Cross-origin requests: which pages of other sites may call.

AMS 1.1: without ``Origin`` a preflight is answered with 200 and nothing; without
``Access-Control-Request-Method`` 400; a method that is not allowed 405; a header that is not 403.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from aiohttp import web

from http_bridge.serving import Handler

METHODS: Final = ("OPTIONS", "POST", "GET", "PUT", "DELETE", "HEAD")
"""AMS 1.1."""
HEADERS: Final = (
    "X-Requested-With", "Content-Type", "x-api-key", "Authorization", "Idempotency-Key",
    "x-goog-user-project",
)  # fmt: skip
_SIMPLE_METHODS: Final = ("GET", "HEAD", "POST")
_SIMPLE_HEADERS: Final = ("accept", "accept-language", "content-language")
ANY: Final = "*"


class Cors:
    """Lets pages of some origins call an application.

    An origin is ``https://ui.example.org``; ``*`` is any. Without origins nothing is different.
    """

    def __init__(
        self,
        origins: Iterable[str] = (),
        *,
        methods: Iterable[str] = METHODS,
        headers: Iterable[str] = HEADERS,
    ) -> None:
        self._origins = frozenset(origins)
        self._methods = frozenset(methods)
        self._headers = frozenset(map(str.lower, (*headers, *_SIMPLE_HEADERS)))

    def __contains__(self, origin: str) -> bool:
        """Whether pages of an origin may call."""
        return bool(origin) and (ANY in self._origins or origin in self._origins)

    def around(self, handler: Handler) -> Handler:
        """The same, but preflights are answered, and every answer is marked, errors too."""
        if not self._origins:
            return handler

        async def marked(request: web.BaseRequest) -> web.StreamResponse:
            if request.method == "OPTIONS":
                answer: web.StreamResponse = self._preflight(request)
            else:
                answer = await handler(request)
            self._mark(request, answer)
            return answer

        return marked

    def _preflight(self, request: web.BaseRequest) -> web.Response:
        if request.headers.get("Origin", "") not in self:
            return web.Response()
        method = request.headers.get("Access-Control-Request-Method", "")
        if not method:
            return web.Response(status=400)
        if method not in self._methods:
            return web.Response(status=405)
        asked = request.headers.get("Access-Control-Request-Headers", "").split(",")
        names = [name for header in asked if (name := header.strip())]
        if any(name.lower() not in self._headers for name in names):
            return web.Response(status=403)
        answer = web.Response()
        if method not in _SIMPLE_METHODS:
            answer.headers["Access-Control-Allow-Methods"] = method
        if wanted := [name for name in names if name.lower() not in _SIMPLE_HEADERS]:
            answer.headers["Access-Control-Allow-Headers"] = ",".join(wanted)
        return answer

    def _mark(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        if ANY not in self._origins:
            response.headers.add("Vary", "Origin")
        origin = request.headers.get("Origin", "")
        if origin in self:
            response.headers["Access-Control-Allow-Origin"] = (
                ANY if ANY in self._origins else origin
            )
