"""Cross-origin requests: which pages of other sites may call.

AMS 1.1: without ``Origin`` a preflight is answered with 200 and nothing; without
``Access-Control-Request-Method`` 400; a method that is not allowed 405; a header that is not 403.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

METHODS: Final = ("OPTIONS", "POST", "GET", "PUT", "DELETE", "HEAD", "PATCH")
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

    def apply(self, application: web.Application) -> None:
        """Answer preflights, and mark every answer, errors too."""
        if self._origins:
            application.middlewares.append(self._preflight)
            application.on_response_prepare.append(self._mark)

    @web.middleware
    async def _preflight(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method != "OPTIONS":
            return await handler(request)
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

    async def _mark(self, request: web.Request, response: web.StreamResponse) -> None:
        if ANY not in self._origins:
            response.headers.add("Vary", "Origin")
        origin = request.headers.get("Origin", "")
        if origin in self:
            response.headers["Access-Control-Allow-Origin"] = (
                ANY if ANY in self._origins else origin
            )
