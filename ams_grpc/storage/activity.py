"""Which subscriptions are in use, and which have not been for too long."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, Connection, bindparam, case, insert, select, update

from ams_grpc.broker.catalog import Subscription
from ams_grpc.storage import records
from ams_grpc.storage.catalog import subscription_rows
from ams_grpc.storage.tables import meta, subscriptions


def touch(parameters: Sequence[dict[str, int]], now_us: int, connection: Connection) -> None:
    """Subscriptions (``of_id``) are in use now."""
    connection.execute(
        update(subscriptions)
        .where(subscriptions.c.id == bindparam("of_id"), subscriptions.c.active_at_us < now_us)
        .values(active_at_us=now_us),
        parameters,
    )


def inactive(
    now_us: int, on_page: ColumnElement[bool], connection: Connection
) -> Iterable[Subscription]:
    """Those on a page of the table that nobody used for as long as their expiration allows."""
    query = select(subscriptions.c.id, subscriptions.c.active_at_us, subscriptions.c.config)
    found = [
        number
        for number, active_at_us, config in connection.execute(query.where(on_page))
        if _is_inactive(active_at_us, config, now_us)
    ]
    if not found:
        return []
    rows = connection.execute(
        subscription_rows().where(subscriptions.c.id.in_(found)).order_by(subscriptions.c.id)
    )
    return [
        records.subscription(row)
        for row in rows
        if _is_inactive(row.active_at_us, row.config, now_us)  # it may have changed since
    ]


def _is_inactive(active_at_us: int, config: str, now_us: int) -> bool:
    ttl_us = records.subscription_config(config).expiration_ttl_us
    return ttl_us is not None and active_at_us + ttl_us <= now_us


def write_alive(now_us: int, connection: Connection) -> None:
    """Remember that the service ran at this moment."""
    value = str(now_us).encode()
    change = update(meta).where(meta.c.key == "alive_us").values(value=value)
    if connection.execute(change).rowcount == 0:
        connection.execute(insert(meta), {"key": "alive_us", "value": value})


def resume(now_us: int, connection: Connection) -> None:
    """Move the last use of all subscriptions on by the time that the service did not run."""
    alive = connection.execute(select(meta.c.value).where(meta.c.key == "alive_us")).scalar()
    if alive is not None and (downtime_us := now_us - int(alive)) > 0:
        later = subscriptions.c.active_at_us + downtime_us
        connection.execute(
            update(subscriptions).values(active_at_us=case((later > now_us, now_us), else_=later))
        )
    write_alive(now_us, connection)
