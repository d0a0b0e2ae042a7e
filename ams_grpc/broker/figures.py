"""What there is to count: of topics, subscriptions, projects and nodes.

Nothing is counted while messages pass. A topic's log counts itself: seqs have no gaps, so how many
messages came between two moments is the distance of two seqs. ``storage`` implements ``Figures``.

Days are numbered from 1970-01-01, in UTC. Moments are microseconds since 1970 UTC.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from ams_grpc.broker.catalog import Subscription, Topic
from ams_grpc.broker.names import TopicName
from ams_grpc.broker.policies import SECOND_US

DAY_US: Final = 86_400 * SECOND_US


@dataclass(frozen=True, slots=True)
class Event:
    """The last time that messages came or went: ``count`` of them, at ``at_us``.

    ``before_us`` is when that happened the last time before; 0: never, as far as is known.
    """

    at_us: int
    count: int
    before_us: int = 0

    @property
    def per_second(self) -> float:
        """AMS: messages of this event, by the seconds since the one before; the first by one."""
        if not self.before_us:
            return float(self.count)
        return self.count * SECOND_US / max(1, self.at_us - self.before_us)


@dataclass(frozen=True, slots=True)
class Consumption:
    """What was delivered of a subscription, redeliveries included. ``last`` None: nothing yet.

    ``byte_size``: of the messages as they are sent to subscribers.
    """

    messages: int = 0
    byte_size: int = 0
    last: Event | None = None

    def plus(self, more: Delivered) -> Consumption:
        """With what was delivered since, which counts as one event."""
        if not more.messages:
            return self
        before_us = 0 if self.last is None else self.last.at_us
        return Consumption(
            self.messages + more.messages,
            self.byte_size + more.byte_size,
            Event(max(more.at_us, before_us), more.messages, before_us),
        )


@dataclass(frozen=True, slots=True)
class Delivered:
    """What was delivered of a subscription since somebody last asked, the last of it at ``at_us``."""

    messages: int = 0
    byte_size: int = 0
    at_us: int = 0

    def plus(self, other: Delivered) -> Delivered:
        return Delivered(
            self.messages + other.messages,
            self.byte_size + other.byte_size,
            max(self.at_us, other.at_us),
        )


@dataclass(frozen=True, slots=True)
class TopicFigures:
    """``messages`` and ``byte_size``: of all that was ever published, as it is stored."""

    messages: int
    byte_size: int
    subscriptions: int
    last: Event | None


@dataclass(frozen=True, slots=True)
class TopicTotals:
    """As ``TopicFigures``; ``stored``: messages that are not deleted yet."""

    name: TopicName
    messages: int
    byte_size: int
    stored: int


@dataclass(frozen=True, slots=True)
class ProjectFigures:
    """What is in a project now."""

    topics: int
    subscriptions: int


@dataclass(frozen=True, slots=True)
class ProjectPeriod:
    """A project in a period: messages published in it; and what there is that was made in it.

    ``users``: members of the project who were made in the period.
    """

    project: str
    messages: int
    topics: int
    subscriptions: int
    users: int


@dataclass(frozen=True, slots=True)
class NodeUsage:
    """How busy a node is, in percent of a processor, and of its memory."""

    host: str
    cpu: float
    memory: float


class ConsumptionReader(Protocol):
    async def consumption(self, subscription: Subscription) -> Consumption:
        """Raises StorageUnavailable."""
        ...


class Figures(Protocol):
    """Every method raises StorageUnavailable when the database does not answer."""

    async def topic(self, topic: Topic) -> TopicFigures:
        """Raises NotFound when it is gone."""
        ...

    async def project(self, project: str) -> ProjectFigures: ...

    async def days_of_topic(self, topic: Topic, limit: int) -> Sequence[tuple[int, int]]:
        """Days on which something was published, newest first, and how many messages it were.

        Under this name: topics of the same name that are deleted count, too.
        """
        ...

    async def days_of_project(self, project: str, limit: int) -> Sequence[tuple[int, int]]:
        """As ``days_of_topic``, for all topics that the project has or had."""
        ...

    async def period(
        self, projects: Collection[str] | None, first_day: int, last_day: int
    ) -> Sequence[ProjectPeriod]:
        """Those of these projects in which something was published from one day to the other.

        None: of all. Only projects that accounts know; ordered by name.
        """
        ...

    async def note_node(self, usage: NodeUsage, now_us: int) -> None:
        """This is how busy a node is. What was noted of it before is forgotten."""
        ...

    async def nodes(self) -> Sequence[NodeUsage]:
        """What was last noted of each node, by name."""
        ...


class Consumptions:
    """Adds up what several readers know: each counts deliveries that the others do not see."""

    def __init__(self, *readers: ConsumptionReader) -> None:
        self._readers = readers

    async def consumption(self, subscription: Subscription) -> Consumption:
        found = [await each.consumption(subscription) for each in self._readers]
        events = [each.last for each in found if each.last is not None]
        return Consumption(
            sum(each.messages for each in found),
            sum(each.byte_size for each in found),
            max(events, key=lambda event: event.at_us, default=None),
        )
