"""Snapshots: what a subscription had not acknowledged at one moment; and going back, to one or to a time."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from ams_grpc.broker.catalog import Snapshot
from ams_grpc.broker.clock import Clock
from ams_grpc.broker.errors import (
    FailedPrecondition,
    NotFound,
    already_exists,
    invalid_argument,
)
from ams_grpc.broker.names import DELETED_TOPIC, SnapshotName, SubscriptionName
from ams_grpc.broker.policies import DAY_US, HOUR_US
from ams_grpc.broker.ports import Catalog, Commits, LogReader
from ams_grpc.broker.rules import check_labels
from ams_grpc.broker.runtimes import Runtimes
from ams_grpc.broker.updates import until_unchanged

LIFETIME_US: Final = 7 * DAY_US
_SHORTEST_US: Final = HOUR_US
_MILLISECOND_US: Final = 1000


class Snapshots:
    """All snapshots of the service."""

    def __init__(
        self,
        catalog: Catalog,
        reader: LogReader,
        commits: Commits,
        runtimes: Runtimes,
        clock: Clock,
    ) -> None:
        self._catalog = catalog
        self._reader = reader
        self._commits = commits
        self._runtimes = runtimes
        self._clock = clock

    async def create(
        self,
        name: SnapshotName | None,
        source: SubscriptionName,
        labels: Mapping[str, str],
        *,
        registered: bool = False,
    ) -> Snapshot:
        """Hold what ``source`` has not acknowledged, what is outstanding included.

        It lives 7 days less the age of the oldest message it holds. Without a name, one is made
        up in the project of the subscription. ``registered`` as for ``Topics.create``. Raises
        AlreadyExists; NotFound; ProjectGone; FailedPrecondition when it would live less than an
        hour, or ``source`` is detached.

        Pub/Sub: CreateSnapshot, Snapshot.expire_time.
        """
        check_labels(labels)
        runtime = await self._runtimes.runtime(source)
        if name is None:
            name = SnapshotName(source.project, f"snapshot-{uuid.uuid4().hex}")
        with suppress(NotFound):
            await self._catalog.snapshot(name)
            raise already_exists(name)
        now_us = self._clock.now_us()
        oldest_us = await self._reader.publish_time_us(runtime.subscription.topic_id, runtime.floor)
        age_us = max(0, now_us - oldest_us) if oldest_us is not None else 0
        life_us = LIFETIME_US - age_us
        if life_us < _SHORTEST_US:
            raise FailedPrecondition(
                "The operation could not be completed because the requested source "
                "subscription's backlog is too old."
            )
        expire_us = (now_us + life_us) // _MILLISECOND_US * _MILLISECOND_US
        snapshot = await self._catalog.create_snapshot(
            name,
            runtime.subscription,
            runtime.cursor_state(),
            expire_us,
            labels,
            registered=registered,
        )
        await self._runtimes.snapshots_changed(snapshot.topic_id)
        return snapshot

    async def get(self, name: SnapshotName) -> Snapshot:
        """Raises NotFound."""
        return await self._catalog.snapshot(name)

    async def update(
        self,
        name: SnapshotName,
        change: Callable[[Snapshot], tuple[int, Mapping[str, str]]],
    ) -> Snapshot:
        """Give it the expire time (microseconds) and labels that ``change`` returns.

        Raises NotFound; InvalidArgument when the time is past, or more than 7 days after the
        creation; and what ``change`` raises.
        """

        async def attempt() -> Snapshot:
            snapshot = await self._catalog.snapshot(name)
            expire_us, labels = change(snapshot)
            check_labels(labels)
            last_us = snapshot.created_us + LIFETIME_US
            if expire_us != snapshot.expire_us and not (
                self._clock.now_us() < expire_us <= last_us
            ):
                raise invalid_argument(
                    "expire_time must lie in the future, at most 7 days after the creation",
                    field="snapshot.expire_time",
                )
            return await self._catalog.update_snapshot(snapshot, expire_us, labels)

        return await until_unchanged(name, attempt)

    async def delete(self, name: SnapshotName) -> None:
        """What only it held goes with it. Raises NotFound."""

        async def attempt() -> Snapshot:
            snapshot = await self._catalog.snapshot(name)
            await self._catalog.delete_snapshot(snapshot)
            return snapshot

        deleted = await until_unchanged(name, attempt)
        await self._runtimes.snapshots_changed(deleted.topic_id)

    async def list(self, project: str, after: str, limit: int) -> Sequence[Snapshot]:
        """Snapshots of a project by name, those after the full name ``after``."""
        return await self._catalog.snapshots(project, after, limit)

    async def seek(self, subscription: SubscriptionName, name: SnapshotName) -> None:
        """What the snapshot holds, and all published since, is unacknowledged; all else is done.

        Raises NotFound; FailedPrecondition when it belongs to another topic, or another
        incarnation of the topic. Pub/Sub: Seek.
        """
        runtime = await self._runtimes.runtime(subscription)
        snapshot = await self._catalog.snapshot(name)
        if snapshot.topic_id != runtime.subscription.topic_id:
            raise FailedPrecondition(
                f"The subscription's topic {runtime.subscription.topic_name or DELETED_TOPIC} is "
                f"different from that of the snapshot {snapshot.topic_name or DELETED_TOPIC}; "
                "they must match in order for Seek work. Note that if a topic is deleted and then "
                "re-created with the same name, it is considered a distinct topic for these "
                "purposes."
            )
        if runtime.subscription.config.ordered and not snapshot.ordered:
            raise FailedPrecondition(
                "Subscriptions with ordering keys enabled cannot be seeked to snapshots of "
                "subscriptions without ordering keys enabled, as it may cause out-of-order "
                "redelivery."
            )
        runtime.seek_to_snapshot(await self._catalog.snapshot_cursor(snapshot))
        await self._commits.flushed()

    async def seek_to_time(self, subscription: SubscriptionName, time_us: int) -> None:
        """All published before ``time_us`` is acknowledged, all from then on is not.

        Of what was acknowledged only that comes back which is retained. Raises NotFound,
        FailedPrecondition, StorageUnavailable.

        Pub/Sub: Seek.
        """
        runtime = await self._runtimes.runtime(subscription)
        of, topic_id = runtime.subscription, runtime.subscription.topic_id
        now_us = self._clock.now_us()
        start = await self._reader.first_seq_at(topic_id, time_us)
        retained = [await self._reader.next_seq(topic_id)]
        if of.config.retain_acked_messages:
            since_us = now_us - of.config.message_retention_us
            first = await self._reader.first_seq_at(topic_id, since_us)
            retained.append(max(first, of.start_seq))
        if of.topic_retention_us is not None:
            since_us = now_us - of.topic_retention_us
            retained.append(await self._reader.first_seq_at(topic_id, since_us))
        runtime.seek(start, min(retained))
        await self._commits.flushed()
