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
        (b"GET / HTTP/1.0\r\n", False, None, False),
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
        assert head[:9] == request_head[6:14] + b" "
        assert await reader.readexactly(2) == b"{}"
        if stays:
            writer.write(request_head + b"\r\n")
            assert await reader.read(5) == b"HTTP/"
        else:
            assert await reader.read() == b""

    assert (b"\r\nConnection: " in head) is (connection is not None)
    if connection is not None:
        assert b"\r\nConnection: %b\r\n" % connection in head


async def test_it_is_over_only_when_a_slow_client_has_taken_it() -> None:
    body = b'"%b"' % (b"x" * (32 << 20))  # more than the system takes in advance
    ended = asyncio.Event()

    class Observed(ReadyJson):
        async def write_eof(self, data: bytes = b"") -> None:
            await super().write_eof(data)
            ended.set()

    async with connected(Observed(body)) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        assert not ended.is_set()
        assert await reader.readexactly(len(body)) == body
        await ended.wait()


async def test_it_keeps_nothing_for_a_connection_that_stays() -> None:
    answer = ReadyJson(b'"%b"' % (b"x" * 1000))
    async with connected(answer) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b'"')
        await reader.readuntil(b'"')
    assert not any(isinstance(each, bytes) and len(each) > 99 for each in vars(answer).values())
