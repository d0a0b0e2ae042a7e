"""An answer that is there as a whole, and leaves in one piece."""

from __future__ import annotations

from email.utils import formatdate
from functools import lru_cache
from time import time
from typing import Final

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n"


class ReadyJson(web.StreamResponse):
    """200 and JSON, to anything but HEAD.

    Not a ``web.Response``: what that can do besides costs as much as all that a publish of one message
    costs in the bridge.
    """

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self._whole = body
        self._writer: AbstractStreamWriter
        self._stays = True

    @property
    def keep_alive(self) -> bool:
        """Whether the connection stays open, once it is known which one it is."""
        return self._stays

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Everything is written at the end."""
        self._writer = request.writer
        self._stays = request.keep_alive and super().keep_alive is not False
        if not self._stays:
            self.headers["Connection"] = "close"
        elif request.version < HttpVersion11:
            self.headers["Connection"] = "keep-alive"
        return self._writer

    async def write_eof(self, _data: bytes = b"") -> None:
        """Write all of it. Raises ConnectionError."""
        others = "".join([f"{name}: {value}\r\n" for name, value in self.headers.items()])
        await self._writer.write_eof(
            b"%bDate: %b\r\n%bContent-Length: %d\r\n\r\n%b"
            % (_HEAD, _date(int(time())), others.encode(), len(self._whole), self._whole)
        )


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()
