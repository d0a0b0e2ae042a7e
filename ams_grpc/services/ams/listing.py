"""AMS's pages: newest first, from the item that the token names."""

from __future__ import annotations

import base64
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from ams_grpc.broker.errors import InvalidArgument

_LARGEST: Final = (1 << 63) - 1


def page_start(token: str) -> int | None:
    """The position that a token stands for; None without one. Raises InvalidArgument."""
    if not token:
        return None
    try:
        start = int(base64.b64decode(token, validate=True).decode("ascii"))
    except ValueError:
        raise InvalidArgument("Invalid page token") from None
    if not 0 <= start <= _LARGEST:
        raise InvalidArgument("Invalid page token")
    return start


def page_token(start: int | None) -> str:
    """AMS: standard base64 of the id of the next page's first item; empty on the last page."""
    return "" if start is None else base64.b64encode(f"{start:024d}".encode()).decode()


def page_limit(page_size: int) -> int | None:
    """How many items a page has at most; None: all. AMS: what is less than 1 is all."""
    return page_size if page_size > 0 else None


def seconds_pb(moment_us: int) -> Any:
    """A moment as AMS shows most of them: whole seconds."""
    return Timestamp(seconds=moment_us // 1_000_000)
