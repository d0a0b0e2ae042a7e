"""Reading a whole table, page after page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, TypeVar

from sqlalchemy import ColumnElement, Connection, Table, select

from ams_grpc.storage.reading import Readers

T = TypeVar("T")


PAGE_ROWS: Final = 2_000
"""Topics or subscriptions that one reading looks at: each ends soon, however many there are."""


async def by_page(
    readers: Readers,
    table: Table,
    read: Callable[[ColumnElement[bool], Connection], Iterable[T]],
) -> list[T]:
    """What ``read`` finds in a whole table. It gets the condition that a row is on the page."""
    found: list[T] = []
    last: int | None = 0
    while last is not None:
        last, part = await readers.run(partial(_page, table, last, read))
        found += part
    return found


def _page(
    table: Table,
    after: int,
    read: Callable[[ColumnElement[bool], Connection], Iterable[T]],
    connection: Connection,
) -> tuple[int | None, Iterable[T]]:
    """The last id of the page that follows ``after``, None if it is the last page; what is on it."""
    query = select(table.c.id).where(table.c.id > after).order_by(table.c.id)
    last = connection.scalar(query.offset(PAGE_ROWS - 1).limit(1))
    on_page = table.c.id > after if last is None else table.c.id.between(after + 1, last)
    return last, read(on_page, connection)
