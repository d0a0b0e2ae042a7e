"""An answer that is there as a whole, and leaves in one piece."""

from __future__ import annotations

from email.utils import formatdate
from functools import lru_cache
from time import time

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter


class ReadyJson(web.StreamResponse):
    """200 and JSON, to anything but HEAD; other headers may be added that have no control characters.

    Not a ``web.Response``: what that can do besides costs each answer some 5 µs.
    """

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self._whole = body
        self._writer: AbstractStreamWriter
        self._version = HttpVersion11
        self._stays = True

    @property
    def keep_alive(self) -> bool:
        """Whether the connection stays open, once it is known which one it is."""
        return self._stays

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Everything is written at the end."""
        self._writer, self._version = request.writer, request.version
        self._stays = request.keep_alive and super().keep_alive is not False
        if self._version >= HttpVersion11:
            if not self._stays:
                self.headers["Connection"] = "close"
        elif self._stays:
            self.headers["Connection"] = "keep-alive"
        return self._writer

    async def write_eof(self, _data: bytes = b"") -> None:
        """Write all of it. Raises ConnectionError."""
        body, self._whole = self._whole, b""  # or an idle connection would keep it
        others = "".join([f"{name}: {value}\r\n" for name, value in self.headers.items()])
        await self._writer.write_eof(
            b"HTTP/%d.%d 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nDate: %b\r\n"
            b"%bContent-Length: %d\r\n\r\n%b"
            % (*self._version, _date(int(time())), others.encode(), len(body), body)
        )


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()
