"""What time does to stored things: implements ``broker.ports.Upkeep``, and counts backlogs.

The broker decides when; here is how. Writes go through the group commit in small bites, so that
publishers wait for none of it for long.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

from sqlalchemy import delete, select, tuple_

from ams_grpc.broker.catalog import Subscription
from ams_grpc.broker.names import SubscriptionName
from ams_grpc.storage import activity, backlogs, expiry, purging
from ams_grpc.storage.backlogs import Backlog
from ams_grpc.storage.commit import GroupCommit
from ams_grpc.storage.expiry import ExpiredFloor
from ams_grpc.storage.paging import by_page
from ams_grpc.storage.reading import Readers
from ams_grpc.storage.segment_rows import free
from ams_grpc.storage.segments import Segments
from ams_grpc.storage.tables import onces, snapshots, subscriptions, topics

FORGET_ROWS: Final = 5_000
"""The most answers that one bite forgets."""


class Upkeep:
    def __init__(
        self, readers: Readers, commits: GroupCommit, segments: Segments | None = None
    ) -> None:
        self._readers = readers
        self._commits = commits
        self._segments = segments

    # --- retention -------------------------------------------------------------------------------

    async def topics_with_messages(self, now_us: int) -> Sequence[int]:
        """Ids of the topics that store messages which nothing keeps.

        Those are left out of which something still keeps the oldest batch: ``purge_topic`` has
        nothing to do for them.
        """
        return await by_page(self._readers, topics, partial(purging.topics_to_purge, now_us))

    async def purge_topic(self, topic_id: int, now_us: int, max_rows: int = 500) -> int:
        """Delete the oldest batches of a topic that nothing keeps; how many it were.

        At most ``max_rows``, and 16 MiB or one batch: call it again until it returns 0.
        """
        rows, freed = await self._commits.run(
            partial(purging.purge, self._segments, topic_id, now_us, max_rows)
        )
        await self._remove(freed)
        return rows

    async def free_space(self) -> None:
        """Look once more at what earlier purges left: it could not go, or nobody knew if it may."""
        segments = self._segments
        if segments is None:
            return
        for number in segments.suspects:
            await self._remove(await self._commits.run(partial(free, segments, [number])))

    async def _remove(self, freed: Sequence[int]) -> None:
        segments = self._segments
        if segments is not None and freed:
            await self._commits.run(lambda _connection: segments.remove(freed))

    async def forget_deleted_topics(self) -> int:
        """Remove deleted topics that nothing refers to any more; how many it were."""
        query = select(topics.c.id).where(purging.is_forgettable()).limit(1)
        if await self._readers.run(lambda connection: connection.scalar(query)) is None:
            return 0
        forgotten = delete(topics).where(purging.is_forgettable())
        return await self._commits.run(lambda connection: connection.execute(forgotten).rowcount)

    async def delete_expired_snapshots(self, now_us: int) -> int:
        """Remove snapshots whose time has come; how many it were."""
        is_expired = snapshots.c.expire_us <= now_us
        query = select(snapshots.c.id).where(is_expired).limit(1)
        if await self._readers.run(lambda connection: connection.scalar(query)) is None:
            return 0
        expired = delete(snapshots).where(is_expired)
        return await self._commits.run(lambda connection: connection.execute(expired).rowcount)

    async def forget_answers(self, now_us: int) -> int:
        """Forget some publishes that were to be done once, and whose time is over; how many.

        Call it again until it returns 0.
        """
        is_expired = onces.c.expire_us <= now_us
        expired = (
            select(onces.c.topic_id, onces.c.key).where(is_expired).order_by(onces.c.expire_us)
        )
        query = expired.limit(1)
        if not (await self._readers.run(lambda connection: connection.execute(query).all())):
            return 0
        some = tuple_(onces.c.topic_id, onces.c.key).in_(expired.limit(FORGET_ROWS))
        # Another node may use such a key again just now: then it is not expired when it is looked at.
        forgotten = delete(onces).where(some, is_expired)
        return await self._commits.run(lambda connection: connection.execute(forgotten).rowcount)

    async def expired_floors(self, now_us: int) -> Sequence[ExpiredFloor]:
        """Attached subscriptions with unacknowledged messages older than their retention.

        What a snapshot of the topic holds has not expired.
        """
        return await by_page(self._readers, subscriptions, partial(expiry.expired_floors, now_us))

    async def filtered_backlogs(self) -> Sequence[SubscriptionName]:
        """The attached subscriptions with a filter whose floor is not at their topic's end."""
        return await by_page(self._readers, subscriptions, backlogs.filtered_backlogs)

    # --- expiration of subscriptions ---------------------------------------------------------------

    async def touch(self, subscription_ids: Iterable[int], now_us: int) -> None:
        """These subscriptions are in use: their time starts again."""
        parameters = [{"of_id": number} for number in subscription_ids]
        if parameters:
            await self._commits.run(partial(activity.touch, parameters, now_us))

    async def inactive(self, now_us: int) -> Sequence[Subscription]:
        """Subscriptions that nobody used for as long as their expiration allows."""
        return await by_page(self._readers, subscriptions, partial(activity.inactive, now_us))

    async def alive(self, now_us: int) -> None:
        """Remember that the service ran at this moment. See ``resume``."""
        await self._commits.run(partial(activity.write_alive, now_us))

    async def resume(self, now_us: int) -> None:
        """The service starts: the time that it did not run does not count as inactivity."""
        await self._commits.run(partial(activity.resume, now_us))

    # --- metrics ---------------------------------------------------------------------------------

    async def backlogs(self) -> Sequence[Backlog]:
        """For each attached subscription, what it has not acknowledged, as far as written."""
        return await self._readers.run(backlogs.backlogs)
