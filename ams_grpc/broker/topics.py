"""Topics: administration, and publishing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ams_grpc.broker.catalog import Topic, TopicConfig
from ams_grpc.broker.errors import Aborted
from ams_grpc.broker.names import SnapshotName, SubscriptionName, TopicName
from ams_grpc.broker.ports import Admitted, Appended, Catalog, Commits, Gate, Settled
from ams_grpc.broker.rules import check_topic
from ams_grpc.broker.subscriptions import Subscriptions
from ams_grpc.broker.updates import until_unchanged


class Topics:
    """All topics of the service."""

    def __init__(
        self,
        catalog: Catalog,
        commits: Commits,
        subscriptions: Subscriptions,
        gate: Gate | None = None,
    ) -> None:
        self._catalog = catalog
        self._commits = commits
        self._subscriptions = subscriptions
        self._gate = gate
        # What publishers need to know of a topic. A stale one is found out by the commit.
        self._known: dict[TopicName, Topic] = {}

    async def create(self, name: TopicName, config: TopicConfig) -> Topic:
        """Raises AlreadyExists, InvalidArgument."""
        check_topic(config)
        return await self._catalog.create_topic(name, config)

    async def get(self, name: TopicName) -> Topic:
        """Raises NotFound."""
        return await self._catalog.topic(name)

    async def update(self, name: TopicName, change: Callable[[Topic], TopicConfig]) -> Topic:
        """Replace a topic's config by what ``change`` makes of it.

        Raises NotFound and what ``change`` raises; it may be called again when the topic changes
        meanwhile.
        """

        async def attempt() -> Topic:
            topic = await self._catalog.topic(name)
            config = change(topic)
            check_topic(config)
            return await self._catalog.update_topic(topic, config)

        topic = await until_unchanged(name, attempt)
        await self._changed(topic)
        return topic

    async def delete(self, name: TopicName) -> None:
        """Its subscriptions stay, and deliver what they have. Raises NotFound."""

        async def attempt() -> Topic:
            topic = await self._catalog.topic(name)
            await self._catalog.delete_topic(topic)
            return topic

        await self._changed(await until_unchanged(name, attempt))

    async def list(self, project: str, after: str, limit: int) -> Sequence[Topic]:
        """Topics of a project by name, those after the full name ``after``."""
        return await self._catalog.topics(project, after, limit)

    async def subscriptions(
        self, name: TopicName, after: str, limit: int
    ) -> Sequence[SubscriptionName]:
        """Attached subscriptions, by name. Raises NotFound."""
        topic = await self._catalog.topic(name)
        return await self._catalog.topic_subscriptions(topic, after, limit)

    async def snapshots(self, name: TopicName, after: str, limit: int) -> Sequence[SnapshotName]:
        """Snapshots of a topic's subscriptions, by name. Raises NotFound."""
        topic = await self._catalog.topic(name)
        return await self._catalog.topic_snapshots(topic, after, limit)

    async def publish(
        self, name: TopicName, payload: bytes, count: int, settled: Settled | None = None
    ) -> Appended:
        """Append ``count`` valid serialized messages; when this returns they are on disk.

        With it ``settled`` is done, in one transaction.

        A topic's transforms may leave some out: see ``Appended.places``. Raises NotFound,
        InvalidArgument (the topic's schema or transforms), StorageUnavailable (nothing was
        acknowledged; safe to retry).
        """

        async def attempt() -> Appended:
            topic = self._known.get(name)
            if topic is None:
                topic = self._known[name] = await self._catalog.topic(name)
            admitted = Admitted(payload, count)
            if topic.config.is_gated and self._gate is not None:
                admitted = await self._gate.admit(topic, payload, count)
                if not admitted.count:
                    if settled is not None:
                        settled.then()
                    return Appended(0, 0, admitted.places)
            try:
                appended = await self._commits.append(
                    topic, admitted.payload, admitted.count, settled
                )
                if admitted.places is None:
                    return appended
                return replace(appended, places=admitted.places)
            except Aborted:  # changed or deleted since we looked
                self._known.pop(name, None)
                raise

        return await until_unchanged(name, attempt)

    def project_gone(self, project: str) -> None:
        """A project was renamed or deleted: its topics are not known by these names any more."""
        for name in [name for name in self._known if name.project == project]:
            del self._known[name]

    async def _changed(self, topic: Topic) -> None:
        self._known.pop(topic.name, None)
        await self._subscriptions.topic_changed(topic.id)
