"""The broker: its parts put together, and what runs in the background.

The way of a message: ``Topics.publish`` -> the group commit -> ``Broker.appended`` ->
``SubscriptionRuntime.dispatch`` -> a consumer; back: ``Pulls.acknowledge`` ->
``Cursor`` -> the group commit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from ams_grpc.broker.catalog import Subscription
from ams_grpc.broker.clock import Clock
from ams_grpc.broker.consumption import ConsumptionStore, Ledger
from ams_grpc.broker.dead_letters import DeadLetters
from ams_grpc.broker.endpoints import EndpointRules
from ams_grpc.broker.errors import UNABLE, ShuttingDown, StorageUnavailable
from ams_grpc.broker.filters import AttributesOf
from ams_grpc.broker.log import Log
from ams_grpc.broker.ports import (
    Catalog,
    Commits,
    Decoder,
    Gate,
    LogReader,
    StoredBatch,
    TransformCheck,
    Upkeep,
)
from ams_grpc.broker.profiles import Profile
from ams_grpc.broker.pulls import Pulls
from ams_grpc.broker.retention import Retention
from ams_grpc.broker.runtimes import Runtimes
from ams_grpc.broker.schemas import SchemaCatalog
from ams_grpc.broker.sifting import Sifting
from ams_grpc.broker.snapshots import Snapshots
from ams_grpc.broker.subscriptions import Subscriptions
from ams_grpc.broker.topics import Topics
from ams_grpc.broker.views import PlainView, View
from ams_grpc.broker.windowed import WindowedPulls

_RETRY_S: Final = 0.5
_LAST_WRITE_S: Final = 2.0
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """Sizes in bytes, intervals in seconds."""

    profile: Profile
    cache_bytes: int = 32 * 1024 * 1024
    read_bytes: int = 1024 * 1024
    retention_interval_s: float = 30.0
    max_outstanding: int = 100_000
    endpoints: EndpointRules = field(default_factory=EndpointRules)


def _plain_view(log: Log, subscription: Subscription) -> View:
    return PlainView(log, subscription.topic_id)


class Broker:
    """Topics, subscriptions and snapshots of one service."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        reader: LogReader,
        commits: Commits,
        upkeep: Upkeep,
        consumption: ConsumptionStore,
        decode: Decoder,
        read_key: Callable[[bytes], str],
        annotate: Callable[[bytes, Mapping[str, str]], bytes],
        clock: Clock,
        secret: bytes,
        settings: BrokerSettings,
        gate: Gate | None = None,
        schemas: SchemaCatalog | None = None,
        view_of: Callable[[Log, Subscription], View] = _plain_view,
        check_transforms: TransformCheck | None = None,
        attributes_of: AttributesOf | None = None,
    ) -> None:
        self.clock = clock
        self.ledger = Ledger(consumption, clock)
        self.log = Log(
            reader, decode, cache_bytes=settings.cache_bytes, read_bytes=settings.read_bytes
        )
        self.runtimes = Runtimes(
            catalog,
            reader,
            self.log,
            commits,
            clock,
            secret=secret,
            max_outstanding=settings.max_outstanding,
            view_of=view_of,
            read_key=read_key,
            ledger=self.ledger,
        )
        self.subscriptions = Subscriptions(
            catalog,
            self.runtimes,
            profile=settings.profile,
            endpoints=settings.endpoints,
            check_transforms=check_transforms,
        )
        self.pulls = Pulls(self.runtimes, commits, settings.profile)
        self.topics = Topics(catalog, commits, self.runtimes, gate, check_transforms, schemas)
        self.runtimes.forwarding = DeadLetters(self.log, self.topics.publish, annotate)
        self.snapshots = Snapshots(catalog, reader, commits, self.runtimes, clock)
        self.windowed = WindowedPulls(self.runtimes, catalog, reader, commits, clock)
        self.retention = Retention(
            upkeep,
            self.subscriptions,
            self.runtimes,
            self.ledger,
            clock,
            interval_s=settings.retention_interval_s,
        )
        self._sifting = (
            None
            if attributes_of is None
            else Sifting(
                upkeep,
                self.runtimes,
                reader,
                decode=decode,
                attributes_of=attributes_of,
                interval_s=settings.retention_interval_s,
            )
        )
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._start(self.retention.run())
        if self._sifting is not None:
            self._start(self._sifting.run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(StorageUnavailable, TimeoutError):  # figures are not worth a longer wait
            async with asyncio.timeout(_LAST_WRITE_S):
                await self.ledger.write()

    def drain(self) -> None:
        """End all streams and waiting pulls, so that clients turn elsewhere. Idempotent."""
        self.runtimes.close(ShuttingDown(UNABLE))

    def appended(self, batch: StoredBatch) -> None:
        """The group commit has committed a batch."""
        self.runtimes.appended(batch)

    def uncertain(self, topic_ids: Collection[int]) -> None:
        """The group commit does not know whether batches of these topics were committed."""
        self._start(self._catch_up(set(topic_ids)))

    async def moved(self, old: str, new: str, subscription_ids: Sequence[int]) -> None:
        """A project was renamed, with all that is in it."""
        await self.removed(old, subscription_ids)
        await self.subscriptions.project_came(new)

    async def removed(self, project: str, subscription_ids: Sequence[int]) -> None:
        """A project was deleted, with all that was in it; ``subscription_ids`` are those it had."""
        self.topics.project_gone(project)
        await self.subscriptions.project_gone(project, subscription_ids)

    async def _catch_up(self, topic_ids: set[int]) -> None:
        while True:
            try:
                await self.runtimes.catch_up(topic_ids)
            except StorageUnavailable:
                pass  # the storage has said so in the log; it is tried again
            except Exception:
                _logger.exception("cannot look for messages that were appended")
            else:
                return
            await asyncio.sleep(_RETRY_S)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
