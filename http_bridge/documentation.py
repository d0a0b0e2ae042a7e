"""``/openapi.json``, and ``/docs``: a page that shows it, and lets one try calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any, Final

import orjson
from aiohttp import web

OPENAPI: Final = "/openapi.json"
PAGE: Final = "/docs"
_FILES: Final = {
    PAGE: ("explorer.html", "text/html"),
    f"{PAGE}/explorer.css": ("explorer.css", "text/css"),
    f"{PAGE}/explorer.js": ("explorer.js", "text/javascript"),
}
_HEADERS: Final = {
    # The page calls the service that it came from, and nothing else; no other page may frame it, since
    # a click on it may change something.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class Documentation:
    """An OpenAPI document and its page. ``document`` is asked once, when it is needed."""

    def __init__(self, document: Callable[[], dict[str, Any]]) -> None:
        self._written = cache(lambda: orjson.dumps(document()))

    def answer(self, request: web.BaseRequest) -> web.Response | None:
        """To a request for one of them; None to all others."""
        if request.method not in {"GET", "HEAD"}:
            return None
        if request.path == OPENAPI:
            return _answer(self._written(), "application/json")
        found = _FILES.get(request.path)
        return _answer(_content(found[0]), found[1]) if found is not None else None


@cache
def _content(name: str) -> bytes:
    return files("http_bridge").joinpath("explorer", name).read_bytes()


def _answer(body: bytes, content_type: str) -> web.Response:
    return web.Response(body=body, content_type=content_type, charset="utf-8", headers=_HEADERS)
