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


def document_at(application: web.Application, document: Callable[[], dict[str, Any]]) -> None:
    """Serve an OpenAPI document and its page. ``document`` is asked once, when it is needed."""

    @cache
    def written() -> bytes:
        return orjson.dumps(document())

    async def show_document(_request: web.Request) -> web.Response:
        return _answer(written(), "application/json")

    async def show_file(request: web.Request) -> web.Response:
        name, content_type = _FILES[request.path]
        return _answer(_content(name), content_type)

    application.router.add_get(OPENAPI, show_document)
    for path in _FILES:
        application.router.add_get(path, show_file)


@cache
def _content(name: str) -> bytes:
    return files("http_bridge").joinpath("explorer", name).read_bytes()


def _answer(body: bytes, content_type: str) -> web.Response:
    return web.Response(body=body, content_type=content_type, charset="utf-8", headers=_HEADERS)
