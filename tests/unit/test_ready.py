"""Answers that leave in one piece: what is on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from time import time

import pytest
from aiohttp import web

from http_bridge.ready import ReadyJson
from http_bridge.serving import serving

HOST = "127.0.0.1"


@asynccontextmanager
async def connected(
    answer: ReadyJson,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a server that answers every request with it."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return answer

    async with asyncio.timeout(30), serving(handler, HOST, 0) as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            yield reader, writer
        finally:
            writer.close()


async def test_it_has_what_http_wants() -> None:
    async with connected(ReadyJson(b'{"a":1}')) as (reader, writer):
        writer.write(b"POST /v1 HTTP/1.1\r\nHost: x\r\n\r\n")
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        assert await reader.readexactly(7) == b'{"a":1}'

    assert head[0] == "HTTP/1.1 200 OK"
    headers = dict(line.split(": ", 1) for line in head[1:-1])
    sent = parsedate_to_datetime(headers.pop("Date")).timestamp()
    assert abs(sent - time()) < 60
    assert headers == {"Content-Type": "application/json; charset=utf-8", "Content-Length": "7"}


async def test_headers_that_are_added_are_sent() -> None:
    answer = ReadyJson(b"")
    answer.headers["Vary"] = "Origin"
    async with connected(answer) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")

    assert b"\r\nVary: Origin\r\n" in head
    assert b"\r\nContent-Length: 0\r\n" in head


@pytest.mark.parametrize(
    "request_head, forced, connection, stays",
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n", False, None, True),
        (b"GET / HTTP/1.1\r\nHost: x\r\n", True, b"close", False),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n", False, b"close", False),
        (b"GET / HTTP/1.0\r\n", False, b"close", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n", False, b"keep-alive", True),
    ],
)
async def test_the_connection_stays_if_both_sides_want_it(
    request_head: bytes, forced: bool, connection: bytes | None, stays: bool
) -> None:
    answer = ReadyJson(b"{}")
    if forced:
        answer.force_close()
    async with connected(answer) as (reader, writer):
        writer.write(request_head + b"\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(2) == b"{}"
        if stays:
            writer.write(request_head + b"\r\n")
            assert await reader.read(9) == b"HTTP/1.1 "
        else:
            assert await reader.read() == b""

    assert (b"\r\nConnection: " in head) is (connection is not None)
    if connection is not None:
        assert b"\r\nConnection: %b\r\n" % connection in head


async def test_a_slow_client_gets_all_of_a_large_one() -> None:
    body = b'"%b"' % (b"x" * (8 << 20))
    async with connected(ReadyJson(body)) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        got = bytearray()
        while len(got) < len(body):
            got += await reader.read(4096)

    assert got == body
