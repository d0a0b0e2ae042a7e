"""Topics, subscriptions and snapshots: implements ``broker.ports.Catalog``.

Reads go to the readers, writes through the group commit. A change names the version that it is
based on; when that is not the stored one, it changes nothing and is Aborted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy import Connection, Delete, Select, Table, Update, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from ams_grpc.broker import errors
from ams_grpc.broker.catalog import (
    Snapshot,
    Subscription,
    SubscriptionConfig,
    Topic,
    TopicConfig,
)
from ams_grpc.broker.names import ResourceName, SnapshotName, SubscriptionName, TopicName
from ams_grpc.broker.ports import Appended, CursorState, Deliveries, Once, StoredLease
from ams_grpc.storage import days, houses, records
from ams_grpc.storage.among import has_id_among
from ams_grpc.storage.clock import WallClock
from ams_grpc.storage.commit import GroupCommit
from ams_grpc.storage.onces import first_answer
from ams_grpc.storage.reading import Readers
from ams_grpc.storage.schemas import hold_schema, schema_of
from ams_grpc.storage.statements import ANSWER
from ams_grpc.storage.tables import (
    ack_chunks,
    cursors,
    failures,
    leases,
    onces,
    snapshot_chunks,
    snapshots,
    subscriptions,
    topics,
    windows,
)


class SqlCatalog:
    def __init__(self, readers: Readers, commits: GroupCommit, clock: WallClock) -> None:
        self._readers = readers
        self._commits = commits
        self._clock = clock

    # --- topics ----------------------------------------------------------------------------------

    async def topic(self, name: TopicName) -> Topic:
        return await self._readers.run(partial(_topic, name))

    async def published(self, topic: Topic, once: Once) -> Appended | None:
        row = await self._readers.run(partial(_published, topic, once, self._clock.now_us()))
        return None if row is None else first_answer(once, row)

    async def create_topic(
        self, name: TopicName, config: TopicConfig, *, registered: bool = False
    ) -> Topic:
        row = {
            "name": str(name),
            "project": name.project,
            "version": 1,
            "config": records.topic_config_text(config),
            "schema_id": schema_of(config),
            "created_us": self._clock.now_us(),
        }

        def create(connection: Connection) -> Topic:
            if registered:
                houses.hold(name.project, connection)
            hold_schema(config, connection)
            return Topic(_insert(connection, topics, row, name), name, 1, config)

        first = houses.first(name.project, registered=registered)
        return await self._commits.run(create, first=first)

    async def update_topic(self, topic: Topic, config: TopicConfig) -> Topic:
        changed = Topic(topic.id, topic.name, topic.version + 1, config)
        change = (
            update(topics)
            .where(*_is_version(topics, topic), topics.c.name.is_not(None))
            .values(
                version=changed.version,
                config=records.topic_config_text(config),
                schema_id=schema_of(config),
            )
        )

        def apply(connection: Connection) -> Topic:
            hold_schema(config, connection)
            _change_one(change, connection)
            return changed

        return await self._commits.run(apply)

    async def delete_topic(self, topic: Topic) -> None:
        """The row stays while subscriptions, snapshots or messages need it; upkeep removes it."""
        change = (
            update(topics)
            .where(*_is_version(topics, topic), topics.c.name.is_not(None))
            .values(version=topic.version + 1, name=None)
        )

        def apply(connection: Connection) -> None:
            _change_one(change, connection)
            days.count(topic.id, topic.name.id, topic.name.project, connection)

        await self._commits.run(apply)

    async def topics(
        self, project: str, after: str, limit: int, among: Collection[str] | None = None
    ) -> Sequence[Topic]:
        query = _page(select(topics), topics, after, limit).where(
            topics.c.project == project, has_id_among(topics.c.name, TopicName, project, among)
        )
        return [records.topic(row) for row in await self._all(query)]

    async def topic_subscriptions(
        self, topic: Topic, after: str, limit: int
    ) -> Sequence[SubscriptionName]:
        query = _page(select(subscriptions.c.name), subscriptions, after, limit).where(
            subscriptions.c.topic_id == topic.id, subscriptions.c.detached.is_(False)
        )
        return [records.stored_name(SubscriptionName, row.name) for row in await self._all(query)]

    async def topic_snapshots(self, topic: Topic, after: str, limit: int) -> Sequence[SnapshotName]:
        query = _page(select(snapshots.c.name), snapshots, after, limit).where(
            snapshots.c.topic_id == topic.id, snapshots.c.expire_us > self._clock.now_us()
        )
        return [records.stored_name(SnapshotName, row.name) for row in await self._all(query)]

    # --- subscriptions ---------------------------------------------------------------------------

    async def subscription(self, name: SubscriptionName) -> Subscription:
        query = subscription_rows().where(subscriptions.c.name == str(name))
        return records.subscription(await self._one(query, name))

    async def create_subscription(
        self,
        name: SubscriptionName,
        topic: TopicName,
        config: SubscriptionConfig,
        *,
        registered: bool = False,
    ) -> Subscription:
        now_us = self._clock.now_us()
        row = {
            "name": str(name),
            "project": name.project,
            "version": 1,
            "detached": False,
            "config": records.subscription_config_text(config),
            "worker": config.worker,
            "active_at_us": now_us,
            "created_us": now_us,
        }

        def create(connection: Connection) -> Subscription:
            if registered:
                houses.hold(name.project, connection)
            # The lock holds up publishers on other nodes until this is committed: else their
            # messages could be purged, or be missing, in between.
            of_topic = connection.execute(
                select(topics).where(topics.c.name == str(topic)).with_for_update()
            ).one_or_none()
            if of_topic is None:
                existing = select(subscriptions.c.id).where(subscriptions.c.name == str(name))
                if connection.scalar(existing) is not None:
                    raise errors.already_exists(name)  # what is addressed is checked first
                raise errors.not_found(topic)
            start = {"topic_id": of_topic.id, "start_seq": of_topic.next_seq}
            subscription_id = _insert(connection, subscriptions, row | start, name)
            connection.execute(
                insert(cursors),
                {"subscription_id": subscription_id, "floor": of_topic.next_seq, "epoch": 0},
            )
            return _subscription(subscription_id, connection)

        first = houses.first(name.project, registered=registered)
        return await self._commits.run(create, first=first)

    async def update_subscription(
        self, subscription: Subscription, config: SubscriptionConfig
    ) -> Subscription:
        change = (
            update(subscriptions)
            .where(*_is_version(subscriptions, subscription))
            .values(
                version=subscription.version + 1,
                config=records.subscription_config_text(config),
                worker=config.worker,
                resource_error=None,  # what is wrong with the new one will be seen
            )
        )

        def apply(connection: Connection) -> Subscription:
            _change_one(change, connection)
            for table, is_kept in (
                (leases, config.exactly_once),
                (failures, config.dead_letter is not None),
            ):
                if not is_kept:
                    connection.execute(
                        delete(table).where(table.c.subscription_id == subscription.id)
                    )
            return _subscription(subscription.id, connection)

        return await self._commits.run(apply)

    async def detach_subscription(self, subscription: Subscription) -> Subscription:
        """It keeps nothing from now on: its cursor goes to the topic's end."""
        change = (
            update(subscriptions)
            .where(*_is_version(subscriptions, subscription))
            .values(version=subscription.version + 1, detached=True)
        )
        end = (
            select(topics.c.next_seq).where(topics.c.id == subscription.topic_id).scalar_subquery()
        )

        def detach(connection: Connection) -> Subscription:
            _change_one(change, connection)
            for table in (ack_chunks, failures, leases):
                connection.execute(delete(table).where(table.c.subscription_id == subscription.id))
            connection.execute(
                update(cursors)
                .where(cursors.c.subscription_id == subscription.id)
                .values(floor=end, acked_above_floor=0)
            )
            return _subscription(subscription.id, connection)

        return await self._commits.run(detach)

    async def deliveries(self, subscription: Subscription) -> Deliveries:
        return await self._readers.run(partial(_deliveries, subscription.id))

    async def delete_subscription(self, subscription: Subscription) -> None:
        """Its cursor goes with it. Snapshots made from it stay."""
        change = delete(subscriptions).where(*_is_version(subscriptions, subscription))
        await self._commits.run(partial(_change_one, change))

    async def subscriptions(
        self, project: str, after: str, limit: int, among: Collection[str] | None = None
    ) -> Sequence[Subscription]:
        query = _page(subscription_rows(), subscriptions, after, limit).where(
            subscriptions.c.project == project,
            has_id_among(subscriptions.c.name, SubscriptionName, project, among),
        )
        return [records.subscription(row) for row in await self._all(query)]

    async def worked(self) -> Sequence[Subscription]:
        query = subscription_rows().where(
            subscriptions.c.worker.is_not(None), subscriptions.c.detached.is_(False)
        )
        return [records.subscription(row) for row in await self._all(query)]

    async def set_resource_error(self, subscription: Subscription, error: str) -> None:
        change = (
            update(subscriptions)
            .where(*_is_version(subscriptions, subscription))
            .values(resource_error=error or None)
        )
        await self._commits.run(lambda connection: connection.execute(change))

    async def cursor(self, subscription: Subscription) -> CursorState:
        is_its_window = windows.c.subscription_id == cursors.c.subscription_id
        query = (
            select(
                cursors.c.floor, cursors.c.epoch, ack_chunks.c.chunk_no, ack_chunks.c.bits, windows
            )
            .select_from(cursors.outerjoin(ack_chunks).outerjoin(windows, is_its_window))
            .where(cursors.c.subscription_id == subscription.id)
        )
        rows = await self._all(query)  # one query, so that floor and chunks fit together
        if not rows:
            raise errors.not_found(subscription.name)
        return CursorState(rows[0].floor, rows[0].epoch, _chunks(rows), records.window(rows[0]))

    # --- snapshots -------------------------------------------------------------------------------

    async def snapshot(self, name: SnapshotName) -> Snapshot:
        query = self._snapshot_rows().where(snapshots.c.name == str(name))
        return records.snapshot(await self._one(query, name))

    async def create_snapshot(
        self,
        name: SnapshotName,
        subscription: Subscription,
        state: CursorState,
        expire_us: int,
        labels: Mapping[str, str],
        *,
        registered: bool = False,
    ) -> Snapshot:
        """``state`` is to be taken right before this call: a later purge respects it."""
        now_us = self._clock.now_us()
        row = {
            "name": str(name),
            "project": name.project,
            "topic_id": subscription.topic_id,
            "created_us": now_us,
            "expire_us": expire_us,
            "labels": records.dump(labels),
            "floor": state.floor,
            "ordered": subscription.config.ordered,
        }

        def create(connection: Connection) -> Snapshot:
            if registered:
                houses.hold(name.project, connection)
            # The lock keeps a purge on another node from missing the new snapshot.
            connection.execute(
                select(topics.c.id).where(topics.c.id == subscription.topic_id).with_for_update()
            )
            of_topic = connection.execute(
                subscription_rows().where(subscriptions.c.id == subscription.id)
            ).one_or_none()
            if of_topic is None:
                raise errors.not_found(subscription.name)
            connection.execute(
                delete(snapshots).where(
                    snapshots.c.name == str(name), snapshots.c.expire_us <= now_us
                )
            )
            snapshot_id = _insert(connection, snapshots, row, name)
            chunks = [
                {"snapshot_id": snapshot_id, "chunk_no": no, "bits": bits}
                for no, bits in state.chunks.items()
            ]
            if chunks:
                connection.execute(insert(snapshot_chunks), chunks)
            topic_name = records.topic_name(of_topic.topic_name)
            return Snapshot(
                id=snapshot_id,
                name=name,
                topic_id=subscription.topic_id,
                topic_name=topic_name,
                created_us=now_us,
                expire_us=expire_us,
                labels=labels,
                ordered=subscription.config.ordered,
            )

        first = houses.first(name.project, registered=registered)
        return await self._commits.run(create, first=first)

    async def update_snapshot(
        self, snapshot: Snapshot, expire_us: int, labels: Mapping[str, str]
    ) -> Snapshot:
        # Snapshots have no version: what was read is compared.
        change = (
            update(snapshots)
            .where(*_is_snapshot(snapshot))
            .values(expire_us=expire_us, labels=records.dump(labels))
        )
        await self._commits.run(partial(_change_one, change))
        return replace(snapshot, expire_us=expire_us, labels=labels)

    async def delete_snapshot(self, snapshot: Snapshot) -> None:
        change = delete(snapshots).where(*_is_snapshot(snapshot))
        await self._commits.run(partial(_change_one, change))

    async def snapshots(self, project: str, after: str, limit: int) -> Sequence[Snapshot]:
        query = _page(self._snapshot_rows(), snapshots, after, limit).where(
            snapshots.c.project == project
        )
        return [records.snapshot(row) for row in await self._all(query)]

    async def snapshot_cursor(self, snapshot: Snapshot) -> CursorState:
        query = (
            select(snapshots.c.floor, snapshot_chunks.c.chunk_no, snapshot_chunks.c.bits)
            .select_from(snapshots.outerjoin(snapshot_chunks))
            .where(snapshots.c.id == snapshot.id)
        )
        rows = await self._all(query)
        if not rows:
            raise errors.not_found(snapshot.name)
        return CursorState(rows[0].floor, 0, _chunks(rows))

    def _snapshot_rows(self) -> Select[Any]:
        """Snapshots with their topics' names; those that have expired do not exist."""
        return (
            select(snapshots, topics.c.name.label("topic_name"))
            .select_from(snapshots.join(topics))
            .where(snapshots.c.expire_us > self._clock.now_us())
        )

    # --- reading ---------------------------------------------------------------------------------

    async def _all(self, query: Select[Any]) -> Sequence[Any]:
        return await self._readers.run(lambda connection: connection.execute(query).all())

    async def _one(self, query: Select[Any], name: ResourceName) -> Any:
        rows = await self._all(query)
        if not rows:
            raise errors.not_found(name)
        return rows[0]


def subscription_rows() -> Select[Any]:
    """Subscriptions with what ``records.subscription`` needs of their topics."""
    return select(
        subscriptions,
        topics.c.name.label("topic_name"),
        topics.c.config.label("topic_config"),
    ).select_from(subscriptions.join(topics))


def _published(
    topic: Topic, once: Once, now_us: int, connection: Connection
) -> Sequence[Any] | None:
    """As ``HotStatements.find_once``, of a topic that is not deleted."""
    return connection.execute(
        select(*ANSWER)
        .join_from(onces, topics, topics.c.id == onces.c.topic_id)
        .where(
            onces.c.topic_id == topic.id,
            onces.c.key == once.key,
            onces.c.expire_us > now_us,
            topics.c.name.is_not(None),
        )
    ).one_or_none()


def _topic(name: TopicName, connection: Connection) -> Topic:
    row = connection.execute(select(topics).where(topics.c.name == str(name))).one_or_none()
    if row is None:
        raise errors.not_found(name)
    return records.topic(row)


def _subscription(subscription_id: int, connection: Connection) -> Subscription:
    query = subscription_rows().where(subscriptions.c.id == subscription_id)
    return records.subscription(connection.execute(query).one())


def _deliveries(subscription_id: int, connection: Connection) -> Deliveries:
    failed = select(failures).where(failures.c.subscription_id == subscription_id)
    leased = select(leases).where(leases.c.subscription_id == subscription_id)
    return Deliveries(
        {seq: count for _, seq, count in connection.execute(failed)},
        {
            row.grant_no: StoredLease(row.deadline_us, records.seqs(row.seqs))
            for row in connection.execute(leased)
        },
    )


def _insert(
    connection: Connection, table: Table, row: Mapping[str, Any], name: ResourceName
) -> int:
    """The id of a new row. Raises AlreadyExists."""
    try:
        return int(connection.execute(insert(table).returning(table.c.id), row).scalar_one())
    except IntegrityError:
        raise errors.already_exists(name) from None


def _change_one(change: Update | Delete, connection: Connection) -> None:
    if connection.execute(change).rowcount != 1:
        raise errors.Aborted("The resource has changed; read it again and retry.")


def _is_version(table: Table, record: Topic | Subscription) -> tuple[Any, Any]:
    return table.c.id == record.id, table.c.version == record.version


def _is_snapshot(snapshot: Snapshot) -> tuple[Any, Any, Any]:
    return (
        snapshots.c.id == snapshot.id,
        snapshots.c.expire_us == snapshot.expire_us,
        snapshots.c.labels == records.dump(snapshot.labels),
    )


def _page(query: Select[Any], table: Table, after: str, limit: int) -> Select[Any]:
    return query.where(table.c.name > after).order_by(table.c.name).limit(limit)


def _chunks(rows: Sequence[Any]) -> dict[int, bytes]:
    return {row.chunk_no: row.bits for row in rows if row.chunk_no is not None}
