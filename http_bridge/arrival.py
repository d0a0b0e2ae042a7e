"""What is known of a request before its body is read, and reading it."""

from __future__ import annotations

import asyncio
import zlib
from typing import Final

from aiohttp import HttpVersion11, hdrs, web

from http_bridge.caller import Metadata
from http_bridge.limits import Limits

PEER: Final = "x-peer"
"""Metadata that says which machine an HTTP request came from."""
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_RAW_DEFLATE: Final = -zlib.MAX_WBITS
_FORMATS: Final = {
    "gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS
}  # fmt: skip
"""What bodies may be packed by, as zlib knows it."""


class TooLargeError(Exception):
    """A body of more bytes than the limit."""


class UnreadableError(Exception):
    """A body that broke off, or cannot be unpacked."""


def peer_of(request: web.BaseRequest) -> tuple[str, str]:
    """The machine that sent it, as metadata."""
    return PEER, request.remote or ""


def as_metadata(text: str) -> str:
    """Metadata cannot carry every text: what is no token and no name in any case is ``?`` there."""
    return text if text.isascii() and text.isprintable() else "?"


def idempotency_keys(request: web.BaseRequest) -> Metadata:
    """As metadata; it is for the method to refuse more than one, and what is none.

    Metadata cannot carry every text: what is none in any case is an empty one there.
    """
    keys = request.headers.getall("Idempotency-Key", ())
    if not keys:
        return ()
    return [
        ("x-idempotency-key", key if key.isascii() and key.isprintable() else "") for key in keys
    ]


def has_small_body(request: web.BaseRequest, most: int) -> bool:
    """Whether a body may be taken in before it is known who sends it: it has ``most`` bytes at most."""
    if hdrs.CONTENT_ENCODING in request.headers:  # it grows when it is unpacked
        return False
    if request.content.is_eof():
        return request.content.total_bytes <= most
    length = request.content_length
    return length is not None and length <= most


def body_at_hand(request: web.BaseRequest, most: int) -> bytes | None:
    """A body that is here already, not packed, and of ``most`` bytes at most: so it is with small ones."""
    content = request.content
    is_here = content.is_eof() and content.total_bytes <= most
    if not is_here or hdrs.CONTENT_ENCODING in request.headers:
        return None
    return content.read_nowait()


async def body_of(request: web.BaseRequest, limits: Limits) -> bytes:
    """The body, unpacked. Raises TooLargeError, UnreadableError, TimeoutError, ConnectionError."""
    try:
        sent = await _sent(request, limits)
    except web.RequestPayloadError:
        raise UnreadableError("The body of the request broke off.") from None
    if not sent or hdrs.CONTENT_ENCODING not in request.headers:
        return sent
    encoding = request.headers[hdrs.CONTENT_ENCODING]
    return await asyncio.to_thread(_unpacked, sent, encoding.strip().lower(), limits.max_bytes)


async def _sent(request: web.BaseRequest, limits: Limits) -> bytes:
    content = request.content
    if (request.content_length or 0) > limits.max_bytes:
        raise TooLargeError
    body = bytearray()
    async with asyncio.timeout(limits.timeout_s):
        await _ask_for_body(request)
        while piece := await content.readany():
            body += piece
            if len(body) > limits.max_bytes:
                raise TooLargeError
    return bytes(body)


def _unpacked(sent: bytes, encoding: str, most: int) -> bytes:
    """Not more than ``most`` bytes. Raises TooLargeError, UnreadableError."""
    if encoding == "identity":
        return sent
    if encoding not in _FORMATS:
        raise UnreadableError("The body of the request has a Content-Encoding that is not known.")
    # Some clients leave out the header of deflate, whose first four bits are 8.
    is_raw = encoding == "deflate" and sent[0] & 0x0F != zlib.DEFLATED
    unpacker = zlib.decompressobj(_RAW_DEFLATE if is_raw else _FORMATS[encoding])
    try:
        body = unpacker.decompress(sent, most + 1)
    except zlib.error:
        body = b""
    if len(body) > most:
        raise TooLargeError
    if not unpacker.eof or unpacker.unused_data:
        raise UnreadableError("The body of the request cannot be unpacked.")
    return body


async def _ask_for_body(request: web.BaseRequest) -> None:
    """HTTP: some clients send a body only when they are told that it is wanted.

    Other expectations than that are passed over, as HTTP allows: none is known, and nobody has any.
    """
    expected = request.headers.get(hdrs.EXPECT, "").lower() == "100-continue"
    if expected and not request.content.is_eof() and request.version == HttpVersion11:
        await request.writer.write(_CONTINUE)
        request.writer.output_size = 0  # of the answer, which has not begun
