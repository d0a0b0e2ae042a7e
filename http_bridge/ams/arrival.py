"""What is known of a request before its body is read: where it goes, who calls, how much is to come."""

from __future__ import annotations

from urllib.parse import unquote

from aiohttp import hdrs, web

from http_bridge.app import PEER, as_metadata, idempotency_keys
from http_bridge.caller import Metadata
from http_bridge.limits import LARGE_BODY_BYTES


def target_of(request: web.Request) -> tuple[str, str]:
    """The path, percent-decoded, and the query with its ``?``."""
    target = request.raw_path
    if not target.startswith("/"):  # HTTP: a request may have the whole URL there
        target = "/" + target.partition("://")[2].partition("/")[2]
    path, mark, query = target.partition("?")
    return unquote(path), mark + query


def has_small_body(request: web.Request) -> bool:
    """Whether a body may be taken in before it is known who sends it."""
    if request.content.is_eof():
        return request.content.total_bytes <= LARGE_BODY_BYTES
    if hdrs.CONTENT_ENCODING in request.headers:  # it grows when it is unpacked
        return False
    length = request.content_length
    return length is not None and length <= LARGE_BODY_BYTES


def metadata_of(request: web.Request) -> Metadata:
    """Who calls, for the method to find out: by header, or else by the query."""
    metadata = [(PEER, request.remote or ""), *idempotency_keys(request)]
    token = request.headers.get("x-api-key") or request.query.get("key", "")
    if token:
        metadata.append(("x-api-key", as_metadata(token)))
    return metadata
