"""What speaks HTTP: how it goes about names, and about answers that aiohttp takes for none."""

from __future__ import annotations

import asyncio
import inspect
import socket
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler

from ams_grpc.broker.endpoints import EndpointRules
from ams_grpc.push.outcome import Outcome
from ams_grpc.push.requests import Request
from ams_grpc.push.sender import Sender

RULES = EndpointRules(http=True, loopback=True)
REQUEST = Request(b"body", {})
CHANGED = (
    f"aiohttp {aiohttp.__version__} reads answers in another way than push/sender.py thinks: "
    "see _Response there, and the bounds of aiohttp in pyproject.toml"
)


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    async with Sender(RULES, ca_file=None, verify_tls=True) as sender:
        yield sender


class Answering:
    """A server that answers each request with these bytes, and keeps the connection."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self.connections = 0

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while await reader.readuntil(b"\r\n\r\n"):
            await reader.readexactly(len(REQUEST.body))
            writer.write(self._answer)


# --- answers with 102 ---------------------------------------------------------------------------------


async def test_an_answer_may_end_with_102(sender: Sender) -> None:
    async with Answering(b"HTTP/1.1 102 Processing\r\nContent-Length: 0\r\n\r\n") as url:
        outcome = await sender.send(url, REQUEST, None, 30)

    assert outcome == Outcome(True, "ack"), CHANGED


async def test_after_an_interim_102_comes_the_answer(sender: Sender) -> None:
    answer = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"
    async with Answering(answer) as url:
        outcome = await sender.send(url, REQUEST, None, 30)

    assert outcome == Outcome(False, "status_5xx", "status 503"), CHANGED


async def test_a_connection_is_as_ever_after_an_answer(sender: Sender) -> None:
    """What was changed for one answer is not there for the next one."""
    answering = Answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    async with answering as url:
        for _ in range(3):
            assert (await sender.send(url, REQUEST, None, 30)).accepted
        [[(protocol, _)]] = sender._checked.connector._conns.values()  # type: ignore[union-attr]

    assert answering.connections == 1
    assert "read" not in vars(protocol), CHANGED


async def test_what_is_changed_of_aiohttp_is_there() -> None:
    protocol = ResponseHandler(asyncio.get_running_loop())

    assert inspect.iscoroutinefunction(protocol.read), CHANGED
    assert hasattr(protocol, "__dict__"), CHANGED
    assert "protocol.read()" in inspect.getsource(aiohttp.ClientResponse.start), CHANGED


# --- names --------------------------------------------------------------------------------------------


async def test_names_that_take_long_to_look_up_keep_nobody_else_waiting(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()
    asked, loop = asyncio.Event(), asyncio.get_running_loop()

    def slow(*_: Any, **__: Any) -> Any:
        loop.call_soon_threadsafe(asked.set)
        let_go.wait(30)
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    only_thread = ThreadPoolExecutor(1)
    loop.set_default_executor(only_thread)
    sending = [
        asyncio.ensure_future(sender.send(f"http://slow-{number}.example/", REQUEST, None, 60))
        for number in range(3)
    ]
    try:
        async with asyncio.timeout(20):
            await asked.wait()
            assert await asyncio.to_thread(lambda: "done") == "done"
    finally:
        let_go.set()

    for outcome in await asyncio.gather(*sending):
        assert outcome == Outcome(False, "unreachable", "the host name cannot be resolved")


async def test_a_name_is_looked_up(sender: Sender) -> None:
    async with Answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as url:
        named = url.replace("127.0.0.1", "localhost")
        assert (await sender.send(named, REQUEST, None, 30)).accepted
