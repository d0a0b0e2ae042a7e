"""What was delivered of subscriptions: implements ``broker.consumption.ConsumptionStore``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from ams_grpc.broker.catalog import Subscription
from ams_grpc.broker.figures import Consumption, Delivered, Event
from ams_grpc.storage.commit import GroupCommit
from ams_grpc.storage.reading import Readers
from ams_grpc.storage.tables import consumption, subscriptions


class SqlConsumption:
    def __init__(self, readers: Readers, commits: GroupCommit) -> None:
        self._readers = readers
        self._commits = commits

    async def consumption(self, subscription: Subscription) -> Consumption:
        query = select(consumption).where(consumption.c.subscription_id == subscription.id)
        row = await self._readers.run(lambda connection: connection.execute(query).one_or_none())
        return Consumption() if row is None else _consumption(row)

    async def add(self, delivered: Mapping[int, Delivered]) -> None:
        await self._commits.run(partial(_add, delivered))


def _add(delivered: Mapping[int, Delivered], connection: Connection) -> None:
    # The lock keeps the subscriptions until this is committed, and other nodes from adding, too.
    query = (
        select(subscriptions.c.id, consumption)
        .select_from(subscriptions.outerjoin(consumption))
        .where(subscriptions.c.id.in_(delivered))
        .order_by(subscriptions.c.id)
        .with_for_update(of=subscriptions)
    )
    new: list[dict[str, int]] = []
    changed: list[dict[str, int]] = []
    for row in connection.execute(query).all():
        is_new = row.subscription_id is None
        before = Consumption() if is_new else _consumption(row)
        values = _row(before.plus(delivered[row.id])) | {"of_id": row.id}
        (new if is_new else changed).append(values)
    if new:
        made = insert(consumption).values(subscription_id=bindparam("of_id"))
        connection.execute(made, new)
    if changed:
        of_id = consumption.c.subscription_id == bindparam("of_id")
        connection.execute(update(consumption).where(of_id), changed)


def _consumption(row: Any) -> Consumption:
    last = Event(row.last_us, row.last_count, row.before_us)
    return Consumption(row.messages, row.byte_size, last)


def _row(consumed: Consumption) -> dict[str, int]:
    last = consumed.last or Event(0, 0)
    return {
        "messages": consumed.messages,
        "byte_size": consumed.byte_size,
        "last_us": last.at_us,
        "last_count": last.count,
        "before_us": last.before_us,
    }
