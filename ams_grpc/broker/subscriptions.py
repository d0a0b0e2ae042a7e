"""Subscriptions: administration. What they deliver is the business of ``runtimes``."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress

from ams_grpc.broker.catalog import Subscription, SubscriptionConfig
from ams_grpc.broker.endpoints import EndpointRules
from ams_grpc.broker.errors import (
    Aborted,
    FailedPrecondition,
    NotFound,
    already_exists,
    detached,
    invalid_argument,
    not_found,
)
from ams_grpc.broker.names import SubscriptionName, TopicName
from ams_grpc.broker.ports import Catalog, TransformCheck, Workers
from ams_grpc.broker.profiles import Profile
from ams_grpc.broker.rules import check_push, check_subscription
from ams_grpc.broker.runtimes import Runtimes
from ams_grpc.broker.updates import until_unchanged


class Subscriptions:
    """All subscriptions of the service."""

    def __init__(
        self,
        catalog: Catalog,
        runtimes: Runtimes,
        *,
        profile: Profile,
        endpoints: EndpointRules,
        check_transforms: TransformCheck | None = None,
    ) -> None:
        self._catalog = catalog
        self._runtimes = runtimes
        self._profile = profile
        self._endpoints = endpoints
        self._check_transforms = check_transforms
        self.workers: Workers | None = None
        """Whoever delivers what nobody pulls; wants to know of changes."""

    async def create(
        self,
        name: SubscriptionName | None,
        topic: TopicName,
        config: SubscriptionConfig,
        *,
        min_ack_deadline_s: int | None = None,
        registered: bool = False,
    ) -> Subscription:
        """Without a name, one is made up, in the project of the topic.

        ``min_ack_deadline_s`` None: what the profile says. ``registered`` as for ``Topics.create``.
        Raises AlreadyExists, InvalidArgument, OutOfRange, ProjectGone; NotFound for the topic, or
        for the one of its dead letters.
        """
        self._check(config, min_ack_deadline_s=min_ack_deadline_s)
        if config.transforms and self._check_transforms is not None:
            await self._check_transforms(config.transforms)
        await self._check_topic_schema(topic, config)
        if name is None:
            name = SubscriptionName(topic.project, f"sub-{uuid.uuid4().hex}")
        if config.dead_letter is not None:
            with suppress(NotFound):  # what is addressed is checked first
                await self._catalog.subscription(name)
                raise already_exists(name)
            await self._catalog.topic(topic)
            await self._catalog.topic(config.dead_letter.topic)
        created = await self._catalog.create_subscription(
            name, topic, config, registered=registered
        )
        self._runtimes.end(name, not_found(name), unless=created.id)
        self._tell_workers(created)
        return created

    async def get(self, name: SubscriptionName) -> Subscription:
        """Raises NotFound."""
        subscription = await self._catalog.subscription(name)
        self._runtimes.used([subscription.id])
        return subscription

    async def update(
        self,
        name: SubscriptionName,
        change: Callable[[Subscription], SubscriptionConfig],
        *,
        min_ack_deadline_s: int | None = None,
    ) -> Subscription:
        """Replace a subscription's config by what ``change`` makes of it.

        ``min_ack_deadline_s`` None: what the profile says. Raises NotFound (for it, or a new topic of its dead letters), InvalidArgument, OutOfRange
        and what ``change`` raises; it may be called again when the subscription changes meanwhile.
        """

        async def attempt() -> Subscription:
            subscription = await self._catalog.subscription(name)
            config = change(subscription)
            self._check(config, subscription.config, min_ack_deadline_s=min_ack_deadline_s)
            dead_letter = config.dead_letter
            if dead_letter is not None and dead_letter != subscription.config.dead_letter:
                await self._catalog.topic(dead_letter.topic)
            is_new = config.transforms != subscription.config.transforms
            if is_new and self._check_transforms is not None:
                await self._check_transforms(config.transforms)
            if subscription.topic_name is not None and config.export != subscription.config.export:
                await self._check_topic_schema(subscription.topic_name, config)
            return await self._catalog.update_subscription(subscription, config)

        updated = await until_unchanged(name, attempt)
        self._runtimes.changed(updated)
        self._tell_workers(updated)
        self._runtimes.used([updated.id])
        return updated

    async def detach(self, name: SubscriptionName) -> None:
        """Drop its messages, and never deliver any again.

        Raises NotFound; FailedPrecondition if it is detached already.
        """

        async def attempt() -> Subscription:
            subscription = await self._catalog.subscription(name)
            if subscription.detached:
                self._runtimes.end(name, detached(), only=subscription.id)
                raise FailedPrecondition("Subscription already detached.")
            return await self._catalog.detach_subscription(subscription)

        idle = await until_unchanged(name, attempt)
        self._runtimes.end(name, detached())
        self._dismiss_worker(idle)

    async def delete(self, name: SubscriptionName) -> None:
        """Its messages go with it; its streams end. Raises NotFound."""

        async def attempt() -> Subscription:
            subscription = await self._catalog.subscription(name)
            await self._catalog.delete_subscription(subscription)
            return subscription

        try:
            deleted = await until_unchanged(name, attempt)
        except NotFound:  # perhaps by an earlier attempt that was told otherwise
            self._runtimes.end(name, not_found(name))
            raise
        self._runtimes.end(name, not_found(name), only=deleted.id)
        self._dismiss_worker(deleted)

    async def expire(self, unused: Subscription) -> None:
        """Delete it, unless it has been used, changed or deleted meanwhile."""
        if not self._runtimes.is_used(unused):
            with suppress(Aborted):
                await self._catalog.delete_subscription(unused)
                self._runtimes.end(unused.name, not_found(unused.name), only=unused.id)
                self._dismiss_worker(unused)

    async def list(
        self, project: str, after: str, limit: int, among: Collection[str] | None = None
    ) -> Sequence[Subscription]:
        """Subscriptions of a project by name, those after the full name ``after``.

        ``among``: only those with these ids; None: all.
        """
        return await self._catalog.subscriptions(project, after, limit, among)

    async def project_gone(self, project: str, subscription_ids: Iterable[int]) -> None:
        """A project was renamed or deleted: nothing is there under its name any more.

        ``subscription_ids`` are those it had. What others have of it is looked at again.
        """
        for subscription_id in subscription_ids:
            if self.workers is not None:
                self.workers.gone(subscription_id)
        await self._runtimes.project_gone(project)

    async def project_came(self, project: str) -> None:
        """A project has this name now, and its subscriptions with it: workers must know."""
        for subscription in await self._catalog.worked():
            if subscription.name.project == project:
                self._tell_workers(subscription)

    def _check(
        self,
        config: SubscriptionConfig,
        old: SubscriptionConfig | None = None,
        *,
        min_ack_deadline_s: int | None = None,
    ) -> None:
        """Raises InvalidArgument. What was accepted once does not block other changes."""
        if old is not None and config.ack_deadline_s == old.ack_deadline_s:
            min_ack_deadline_s = 0
        check_subscription(config, self._profile, min_ack_deadline_s)
        if config.push is not None and (old is None or config.push != old.push):
            check_push(config.push, self._endpoints)

    def _tell_workers(self, subscription: Subscription) -> None:
        if self.workers is not None:
            self.workers.changed(subscription)

    def _dismiss_worker(self, subscription: Subscription) -> None:
        if self.workers is not None:
            self.workers.gone(subscription.id)

    async def _check_topic_schema(self, topic: TopicName, config: SubscriptionConfig) -> None:
        """Pub/Sub: an export can only use the schema of a topic that has one."""
        export = config.export
        if export is None or export.avro is None or not export.avro.use_topic_schema:
            return
        if (await self._catalog.topic(topic)).config.schema_settings is None:
            path = "cloud_storage_config.avro_config.use_topic_schema"
            raise invalid_argument(f"{path}: the topic has no schema", field=path)
