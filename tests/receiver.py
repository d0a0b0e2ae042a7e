"""An HTTP server that push subscriptions push to, on a thread of the test's process.

with Receiver() as receiver:
    ... a subscription with push_endpoint=receiver.url("/push") ...
    receiver.wait_for_count(3)
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import subprocess
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from aiohttp import web

from tests.server import free_port

PATIENCE_S: Final = 30.0


@dataclass(frozen=True)
class Push:
    """One request, as it came."""

    path: str
    headers: dict[str, str]
    """With names in lower case."""
    body: bytes
    method: str = "POST"

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> bytes:
        """The data of a wrapped message."""
        return base64.b64decode(self.json["message"].get("data", ""))

    @property
    def message_id(self) -> str:
        return str(self.json["message"]["messageId"])


Answer: TypeAlias = Callable[[Push], int | web.Response | Awaitable[int]]


class Receiver:
    """Answers each request with the status that ``answer`` gives for it, or more, and keeps it.

    It can be stopped and started again at the same address.
    """

    def __init__(self, answer: Answer = lambda _: 200, tls: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        self.port: Final = free_port()
        self._tls = tls
        self._arrived = threading.Condition()
        self._pushes: list[Push] = []
        self._answered: list[Push] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event | None = None
        self.running = 0
        self.most_running = 0
        """Requests at once, at most."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; returns when it does."""
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True)
        self._thread.start()
        assert ready.wait(PATIENCE_S)

    def stop(self) -> None:
        """Listen no more, and drop what is running. More than once is harmless."""
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._loop = None
        if self._thread is not None:
            self._thread.join(PATIENCE_S)

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{path}"

    @property
    def pushes(self) -> list[Push]:
        """All requests so far."""
        with self._arrived:
            return list(self._pushes)

    @property
    def accepted(self) -> list[bytes]:
        """The data of what was answered with success, in the order of the answers."""
        with self._arrived:
            return [push.data for push in self._answered]

    @property
    def data(self) -> list[bytes]:
        return [push.data for push in self.pushes]

    def forget(self) -> None:
        """As if nothing had come so far."""
        with self._arrived:
            self._pushes.clear()
            self._answered.clear()

    def wait_for(
        self, enough: Callable[[list[Push]], object], timeout_s: float = PATIENCE_S
    ) -> None:
        with self._arrived:
            if not self._arrived.wait_for(lambda: enough(self._pushes), timeout_s):
                raise AssertionError(f"only {len(self._pushes)} requests came: {self._pushes[:9]}")

    def wait_for_count(self, count: int, timeout_s: float = PATIENCE_S) -> list[Push]:
        self.wait_for(lambda pushes: len(pushes) >= count, timeout_s)
        return self.pushes

    def wait_until_accepted(self, data: Sequence[bytes], timeout_s: float = PATIENCE_S) -> None:
        wanted = set(data)
        self.wait_for(lambda _: wanted <= {push.data for push in self._answered}, timeout_s)

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        stop = self._stop
        app = web.Application(client_max_size=1 << 28)
        app.router.add_route("*", "/{rest:.*}", self._take)
        runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True
        )
        await runner.setup()
        site = web.TCPSite(
            runner, "127.0.0.1", self.port, ssl_context=self._tls, reuse_address=True
        )
        await site.start()
        ready.set()
        await stop.wait()
        await runner.cleanup()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        push = Push(
            request.raw_path,
            {name.lower(): value for name, value in request.headers.items()},
            await request.read(),
            request.method,
        )
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            with self._arrived:
                self._pushes.append(push)
                self._arrived.notify_all()
            answer = self.answer(push)
            if isinstance(answer, web.Response):
                return answer
            status = answer if isinstance(answer, int) else await answer
        finally:
            self.running -= 1
        if 200 <= status < 300:
            with self._arrived:
                self._answered.append(push)
                self._arrived.notify_all()
        headers = {"Location": "/elsewhere"} if 300 <= status < 400 else None
        if status == 102:  # as the last answer, which aiohttp would not send so
            assert request.transport is not None
            request.transport.write(b"HTTP/1.1 102 Processing\r\nContent-Length: 0\r\n\r\n")
            request.transport.close()
        return web.Response(status=status, headers=headers)


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost, signed by itself, and its key."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


def tls_with(certificate: Path, key: Path) -> ssl.SSLContext:
    """For a receiver with this certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context
