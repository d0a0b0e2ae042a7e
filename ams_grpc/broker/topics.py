"""Topics: administration, and publishing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial

from ams_grpc.broker.catalog import Topic, TopicConfig
from ams_grpc.broker.errors import Aborted, InvalidArgument, NotFound, already_exists
from ams_grpc.broker.names import SnapshotName, SubscriptionName, TopicName
from ams_grpc.broker.ports import (
    Admitted,
    Appended,
    Catalog,
    Commits,
    Gate,
    Once,
    Settled,
    TransformCheck,
)
from ams_grpc.broker.rules import check_topic
from ams_grpc.broker.runtimes import Runtimes
from ams_grpc.broker.schemas import SchemaCatalog, look_up
from ams_grpc.broker.updates import until_unchanged


class Topics:
    """All topics of the service."""

    def __init__(
        self,
        catalog: Catalog,
        commits: Commits,
        runtimes: Runtimes,
        gate: Gate | None = None,
        check_transforms: TransformCheck | None = None,
        schemas: SchemaCatalog | None = None,
    ) -> None:
        self._catalog = catalog
        self._commits = commits
        self._runtimes = runtimes
        self._gate = gate
        self._check_transforms = check_transforms
        self._schemas = schemas
        # What publishers need to know of a topic. A stale one is found out by the commit.
        self._known: dict[TopicName, Topic] = {}

    async def create(
        self, name: TopicName, config: TopicConfig, *, registered: bool = False
    ) -> Topic:
        """``registered``: only in a project that is registered.

        Raises AlreadyExists, InvalidArgument, ProjectGone; NotFound for its schema.
        """
        check_topic(config)
        if config.transforms and self._check_transforms is not None:
            await self._check_transforms(config.transforms)
        try:
            config = await self._with_schema(config)
        except NotFound:
            await self._refuse_existing(name)  # what is addressed is checked first
            raise
        return await self._catalog.create_topic(name, config, registered=registered)

    async def get(self, name: TopicName) -> Topic:
        """Raises NotFound."""
        return await self._catalog.topic(name)

    async def update(self, name: TopicName, change: Callable[[Topic], TopicConfig]) -> Topic:
        """Replace a topic's config by what ``change`` makes of it.

        Raises NotFound (also for a new schema) and what ``change`` raises; it may be called again
        when the topic changes meanwhile.
        """

        async def attempt() -> Topic:
            topic = await self._catalog.topic(name)
            config = change(topic)
            check_topic(config)
            if config.transforms != topic.config.transforms and self._check_transforms is not None:
                await self._check_transforms(config.transforms)
            config = await self._with_schema(config, topic.config)
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

    async def list(
        self, project: str, after: str, limit: int, among: Collection[str] | None = None
    ) -> Sequence[Topic]:
        """Topics of a project by name, those after the full name ``after``.

        ``among``: only those with these ids; None: all.
        """
        return await self._catalog.topics(project, after, limit, among)

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

    async def look_up(self, name: TopicName) -> Topic:
        """As ``get``, perhaps as it was a moment ago: for publishers. Raises NotFound."""
        topic = self._known.get(name)
        if topic is None:
            topic = self._known[name] = await self._catalog.topic(name)
        return topic

    async def publish(
        self,
        name: TopicName,
        payload: bytes,
        count: int,
        settled: Settled | None = None,
        once: Once | None = None,
    ) -> Appended:
        """Append ``count`` valid serialized messages; when this returns they are on disk.

        With it ``settled`` is done, in one transaction. With ``once``, what was published before
        is not published again, and has the same answer.

        A topic's transforms may leave some out: see ``Appended.places``. Raises NotFound,
        InvalidArgument (the topic's schema or transforms; ``once``), StorageUnavailable (nothing
        was acknowledged; safe to retry).
        """
        topic = self._known.get(name)
        if topic is not None and not topic.config.is_gated:  # as it is nearly always
            try:
                return await self._commits.append(topic, payload, count, settled, once=once)
            except Aborted:  # changed or deleted since we looked
                self._known.pop(name, None)
        attempt = partial(self._publish, name, payload, count, settled, once)
        return await until_unchanged(name, attempt)

    async def _publish(
        self,
        name: TopicName,
        payload: bytes,
        count: int,
        settled: Settled | None,
        once: Once | None,
    ) -> Appended:
        """One attempt. Raises Aborted."""
        topic = await self.look_up(name)
        admitted = Admitted(payload, count)
        if topic.config.is_gated and self._gate is not None:
            if once is not None and settled is None:
                # What was taken once may be refused by now.
                first = await self._catalog.published(topic, once)
                if first is not None:
                    return first
            try:
                admitted = await self._gate.admit(topic, payload, count)
            except (InvalidArgument, NotFound):
                await self._raise_if_stale(topic)
                raise
            if not admitted.count and once is None:
                if settled is not None:
                    settled.then()
                return Appended(0, 0, admitted.places)
        try:
            return await self._commits.append(
                topic, admitted.payload, admitted.count, settled, once=once, places=admitted.places
            )
        except Aborted:  # changed or deleted since we looked
            self._known.pop(name, None)
            raise

    def project_gone(self, project: str) -> None:
        """A project was renamed or deleted: its topics are not known by these names any more."""
        for name in [name for name in self._known if name.project == project]:
            del self._known[name]

    async def _raise_if_stale(self, topic: Topic) -> None:
        """Raises Aborted if a topic has changed: a refusal that rests on the old one is none."""
        current = await self._catalog.topic(topic.name)
        if current != topic:
            self._known[topic.name] = current
            raise Aborted("The topic has changed; try again.")

    async def _refuse_existing(self, name: TopicName) -> None:
        try:
            await self._catalog.topic(name)
        except NotFound:
            return
        raise already_exists(name)

    async def _with_schema(
        self, config: TopicConfig, stored: TopicConfig | None = None
    ) -> TopicConfig:
        """The config with its schema looked up, unless it stays as it was ``stored``."""
        settings = config.schema_settings
        if settings is None:
            return config
        before = stored.schema_settings if stored is not None else None
        if before is not None and settings == before.asked_for:
            return replace(config, schema_settings=before)
        return replace(config, schema_settings=await look_up(self._schemas, settings))

    async def _changed(self, topic: Topic) -> None:
        self._known.pop(topic.name, None)
        await self._runtimes.topic_changed(topic.id)
