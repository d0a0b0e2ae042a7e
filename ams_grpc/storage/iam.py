"""Policies of resources: implements ``broker.ports.PolicyStore``.

A row goes with the row of its resource.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import TypeAdapter
from sqlalchemy import Connection, Table, insert, select, update
from sqlalchemy.exc import IntegrityError

from ams_grpc.broker.errors import Aborted
from ams_grpc.broker.iam import NO_POLICY_ETAG, Binding, Policy
from ams_grpc.storage.commit import GroupCommit
from ams_grpc.storage.reading import Readers
from ams_grpc.storage.tables import (
    schema_policies,
    snapshot_policies,
    subscription_policies,
    topic_policies,
)

_BINDINGS: Final = TypeAdapter(tuple[Binding, ...])
_TABLES: Final[Mapping[str, Table]] = {
    "topics": topic_policies,
    "subscriptions": subscription_policies,
    "snapshots": snapshot_policies,
    "schemas": schema_policies,
}


class SqlPolicies:
    def __init__(self, readers: Readers, commits: GroupCommit) -> None:
        self._readers = readers
        self._commits = commits

    async def policy(self, kind: str, resource_id: int) -> Policy:
        table = _TABLES[kind]
        query = select(table).where(table.c.resource_id == resource_id)
        row = await self._readers.run(lambda connection: connection.execute(query).one_or_none())
        if row is None:
            return Policy()
        return Policy(bindings(row.bindings), bytes(row.etag))

    async def set_policy(
        self, kind: str, resource_id: int, policy: Policy, *, instead_of: bytes
    ) -> None:
        table = _TABLES[kind]
        values = {"etag": policy.etag, "bindings": _BINDINGS.dump_json(policy.bindings).decode()}
        first = insert(table).values(resource_id=resource_id, **values)
        next_one = (
            update(table)
            .where(table.c.resource_id == resource_id, table.c.etag == instead_of)
            .values(values)
        )

        def apply(connection: Connection) -> None:
            if instead_of == NO_POLICY_ETAG:
                try:
                    connection.execute(first)
                except IntegrityError:  # it has one by now, or the resource is gone
                    raise _changed() from None
            elif connection.execute(next_one).rowcount != 1:
                raise _changed()

        await self._commits.run(apply)


def bindings(text: str) -> tuple[Binding, ...]:
    """Bindings as they are stored."""
    return _BINDINGS.validate_json(text)


def _changed() -> Aborted:
    return Aborted("The policy has changed; read it again and retry.")
