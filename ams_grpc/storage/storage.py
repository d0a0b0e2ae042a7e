"""Opening a database for the service: all that it offers, in one object."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, select

from ams_grpc.storage.accounts import SqlAccounts
from ams_grpc.storage.catalog import SqlCatalog
from ams_grpc.storage.clock import WallClock
from ams_grpc.storage.commit import GroupCommit
from ams_grpc.storage.engine import connect
from ams_grpc.storage.failures import unavailable
from ams_grpc.storage.iam import SqlPolicies
from ams_grpc.storage.log import SqlLogReader
from ams_grpc.storage.migrate import prepare
from ams_grpc.storage.reading import Readers
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
    accounts: SqlAccounts
    log: SqlLogReader
    upkeep: Upkeep
    server_secret: bytes = field(repr=False)
    readers: Readers

    async def ping(self) -> None:
        """Is the database ready to be read and written? Raises StorageUnavailable."""
        await self.readers.run(_server_secret, PING_TIMEOUT_S)
        if not self.commits.is_available:
            raise unavailable()


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
            accounts=SqlAccounts(readers, commits),
            log=SqlLogReader(readers, clock),
            upkeep=Upkeep(readers, commits),
            server_secret=await readers.run(_server_secret),
            readers=readers,
        )


def _server_secret(connection: Connection) -> bytes:
    query = select(meta.c.value).where(meta.c.key == "server_secret")
    return bytes(connection.execute(query).scalar_one())
