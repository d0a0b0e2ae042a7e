"""Opening a database for the service: all that it offers, in one object."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from ams_grpc.broker.errors import AlreadyExists
from ams_grpc.storage.accounts import SqlAccounts
from ams_grpc.storage.catalog import SqlCatalog
from ams_grpc.storage.clock import WallClock
from ams_grpc.storage.commit import GroupCommit
from ams_grpc.storage.consumption import SqlConsumption
from ams_grpc.storage.engine import connect
from ams_grpc.storage.failures import unavailable
from ams_grpc.storage.figures import SqlFigures
from ams_grpc.storage.iam import SqlPolicies
from ams_grpc.storage.log import SqlLogReader
from ams_grpc.storage.migrate import prepare
from ams_grpc.storage.newest import SqlNewest
from ams_grpc.storage.reading import Readers
from ams_grpc.storage.schemas import SqlSchemas
from ams_grpc.storage.tables import meta
from ams_grpc.storage.threads import Threads
from ams_grpc.storage.upkeep import Upkeep

PING_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Storage:
    """An open database. ``server_secret``: 32 bytes that are the same for ever, and on all nodes."""

    commits: GroupCommit
    catalog: SqlCatalog
    policies: SqlPolicies
    schemas: SqlSchemas
    accounts: SqlAccounts
    newest: SqlNewest
    log: SqlLogReader
    upkeep: Upkeep
    figures: SqlFigures
    consumption: SqlConsumption
    server_secret: bytes = field(repr=False)
    readers: Readers

    async def ping(self) -> None:
        """Is the database ready to be read and written? Raises StorageUnavailable."""
        await self.readers.run(_server_secret, PING_TIMEOUT_S)
        if not self.commits.is_available:
            raise unavailable()

    async def secret(self, name: str, make: Callable[[], bytes]) -> bytes:
        """A secret of the service: made at its first use, then the same for ever, on all nodes.

        ``make`` runs on a thread. Raises StorageUnavailable.
        """
        found = await self.readers.run(partial(_value, name))
        if found is None:
            made = await asyncio.to_thread(make)
            with suppress(AlreadyExists):  # another node was faster
                await self.commits.run(partial(_put, name, made))
            found = await self.readers.run(partial(_value, name))
        if found is None:
            raise unavailable()
        return found


@asynccontextmanager
async def open_storage(address: str, clock: WallClock, **options: Any) -> AsyncIterator[Storage]:
    """Open a database, and close it in the end when all that is queued is written.

    ``options`` are those of ``GroupCommit``. Raises DatabaseError when the database cannot be
    used: in use, not upgraded, of a later version, unknown, unreachable.
    """
    async with AsyncExitStack() as parts:
        opener = Threads("storage-open", 1)
        parts.callback(opener.stop)
        database = await opener.run(lambda: connect(address))
        parts.callback(database.close)
        await opener.run(lambda: prepare(database))
        readers = await parts.enter_async_context(Readers(database))
        commits = await parts.enter_async_context(GroupCommit(database, clock, **options))
        yield Storage(
            commits=commits,
            catalog=SqlCatalog(readers, commits, clock),
            policies=SqlPolicies(readers, commits),
            schemas=SqlSchemas(readers, commits, clock),
            log=SqlLogReader(readers, clock, database.segments),
            upkeep=Upkeep(readers, commits, database.segments),
            accounts=SqlAccounts(readers, commits),
            figures=SqlFigures(readers, commits),
            consumption=SqlConsumption(readers, commits),
            newest=SqlNewest(readers),
            server_secret=await readers.run(_server_secret),
            readers=readers,
        )


def _server_secret(connection: Connection) -> bytes:
    query = select(meta.c.value).where(meta.c.key == "server_secret")
    return bytes(connection.execute(query).scalar_one())


def _value(key: str, connection: Connection) -> bytes | None:
    found = connection.execute(select(meta.c.value).where(meta.c.key == key)).scalar()
    return None if found is None else bytes(found)


def _put(key: str, value: bytes, connection: Connection) -> None:
    """Raises AlreadyExists."""
    try:
        connection.execute(insert(meta), {"key": key, "value": value})
    except IntegrityError:
        raise AlreadyExists(key) from None
