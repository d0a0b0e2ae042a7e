"""Pages of lists: how long, and how a token says where the next one starts.

A token holds the last name of its page, so it stays good when that resource is deleted. It is
opaque to callers and bound to its list by a checksum: a guess, or a token of another list, is
refused. It grants nothing, so the checksum needs no secret, and every node reads every token.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final, Self, TypeVar

from ams_grpc.broker.errors import InvalidArgument, out_of_bounds

MAX_PAGE_SIZE: Final = 1000

_VERSION: Final = b"\x01"
_CHECKSUM_SIZE: Final = 8

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list: at most ``size`` items whose names come after ``after``.

    ``kind`` and ``parent`` say of which list, such as ``topics`` of ``projects/p``.
    """

    kind: str
    parent: str
    size: int
    after: str

    @classmethod
    def asked_for(cls, kind: str, parent: str, page_size: int, page_token: str) -> Self:
        """Pub/Sub: ``page_size`` 0 to 1000, where 0 means 1000. Raises InvalidArgument."""
        if not 0 <= page_size <= MAX_PAGE_SIZE:
            raise out_of_bounds("page_size", page_size, 0, MAX_PAGE_SIZE)
        after = _read_token(kind, parent, page_token) if page_token else ""
        return cls(kind, parent, page_size or MAX_PAGE_SIZE, after)

    def at_most(self, size: int) -> Self:
        """The same page, or a shorter one."""
        return replace(self, size=min(self.size, size))

    @property
    def limit(self) -> int:
        """How many items to fetch: one more than are shown, to know whether another page follows."""
        return self.size + 1

    def cut(
        self, items: Sequence[Item], name: Callable[[Item], object] = str
    ) -> tuple[Sequence[Item], str]:
        """From up to ``limit`` items: those to show, and ``next_page_token``.

        Pub/Sub: the last page has no token, also when it is full.
        """
        if len(items) <= self.size:
            return items, ""
        shown = items[: self.size]
        return shown, _token(self.kind, self.parent, str(name(shown[-1])))


def _token(kind: str, parent: str, after: str) -> str:
    content = _VERSION + _checksum(kind, parent, after) + after.encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _read_token(kind: str, parent: str, token: str) -> str:
    try:
        content = base64.urlsafe_b64decode(f"{token}==")
        after = content[len(_VERSION) + _CHECKSUM_SIZE :].decode()
        if token == _token(kind, parent, after):
            return after
    except ValueError:
        pass  # Neither base64 nor text.
    raise InvalidArgument(f"Invalid page token given (token={token}).", field="page_token")


def _checksum(*parts: str) -> bytes:
    # repr() keeps the parts apart, whatever characters they hold.
    text = repr(parts).encode()
    return blake2b(text, digest_size=_CHECKSUM_SIZE, person=b"page token").digest()
