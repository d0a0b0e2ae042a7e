"""Lists of topics and subscriptions, newest first, as AMS has them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from ams_grpc.broker.catalog import Subscription, Topic
from ams_grpc.broker.names import SubscriptionName, TopicName

Resource = TypeVar("Resource")


@dataclass(frozen=True, slots=True)
class Dated(Generic[Resource]):
    """A resource, and when it was created (microseconds since 1970 UTC)."""

    resource: Resource
    created_us: int


@dataclass(frozen=True, slots=True)
class NewestPage(Generic[Resource]):
    """``next_start`` None: there are no more. ``total`` of all pages."""

    items: Sequence[Dated[Resource]]
    next_start: int | None
    total: int


class Newest(Protocol):
    """Implemented by ``storage``. Every method raises StorageUnavailable.

    ``among``: only those with these ids; None: all. ``start``: the ``next_start`` of the page
    before. ``limit``: the most that a page has; None: all.
    """

    async def topic(self, name: TopicName) -> Dated[Topic]:
        """Raises NotFound."""
        ...

    async def topics(
        self, project: str, among: Collection[str] | None, start: int | None, limit: int | None
    ) -> NewestPage[Topic]: ...

    async def subscription(self, name: SubscriptionName) -> Dated[Subscription]:
        """Raises NotFound."""
        ...

    async def subscriptions(
        self, project: str, among: Collection[str] | None, start: int | None, limit: int | None
    ) -> NewestPage[Subscription]: ...

    async def subscriptions_of(self, topic: Topic) -> Sequence[SubscriptionName]:
        """Those of a topic, oldest first."""
        ...
