"""Whether a column has one of many values: in a list of them, each is a parameter of its own.

SQLite takes 32,766 parameters, PostgreSQL 65,535.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

from sqlalchemy import JSON, Column, ColumnElement, bindparam, cast, func, select, true

from ams_grpc.broker.names import SubscriptionName, TopicName

_FEW: Final = 500


def is_among(column: Column[Any], values: Iterable[str] | Iterable[int]) -> ColumnElement[bool]:
    """Whether a column has one of these values, of which there may be any number.

    Many are one parameter: the keys of a JSON object, which both databases read by the same words.
    SQLite ends a key at NUL: texts must have none. With few, PostgreSQL knows what an index is worth.
    """
    found = dict.fromkeys(values)
    if len(found) <= _FEW:
        return column.in_(found)
    keys = bindparam(None, found, JSON)
    key = func.json_each(keys).table_valued("key").c.key
    return column.in_(select(cast(key, column.type)))


def has_id_among(
    name: Column[Any],
    kind: type[TopicName | SubscriptionName],
    project: str,
    ids: Collection[str] | None,
) -> ColumnElement[bool]:
    """Whether a full name is that of one of these ids in a project; None: any."""
    return true() if ids is None else is_among(name, [str(kind(project, each)) for each in ids])
