"""How one subscription reads its topic's log: with patience, and what retention leaves of it."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from ams_grpc.broker.clock import Clock
from ams_grpc.broker.errors import StorageUnavailable, UnreadableMessages
from ams_grpc.broker.places import Places
from ams_grpc.broker.views import View, Window

_RETRY_S: Final = 0.25
_LONGEST_RETRY_S: Final = 60.0
_logger = logging.getLogger(__name__)


class Reading:
    """Reads what ``places`` are of, through a ``view`` that may be exchanged."""

    def __init__(self, view: View, places: Places, clock: Clock) -> None:
        self.view = view
        self.kept_from: int | None = None
        """The lowest floor of the topic's snapshots: from there on nothing expires."""
        self._places = places
        self._clock = clock

    def find(self, seq: int) -> Window | None:
        """The window that holds ``seq``, if it is in memory."""
        return self.view.find(seq)

    async def load(self, seq: int) -> int | None:
        """See ``View.load``; this one tries until the storage answers.

        Gives up, with ``seq``, when a seek or its retention has passed over it.
        """
        retry_s = _RETRY_S
        while True:
            try:
                return await self.view.load(seq)
            except StorageUnavailable:
                retry_s = _RETRY_S  # the storage has said so in the log, and will be back
            except UnreadableMessages:
                pass  # the storage has said so in the log; what is damaged tends to stay so
            except Exception:
                topic_id = self._places.subscription.topic_id
                _logger.exception("cannot read the log of topic %d", topic_id)
            await asyncio.sleep(retry_s)
            if seq < self._places.cursor.floor:
                return seq
            retry_s = min(2 * retry_s, _LONGEST_RETRY_S)

    def has_expired(self, window: Window) -> bool:
        """Pub/Sub: retention counts from the publish time; a snapshot outlasts it."""
        retention_us = self._places.subscription.retention_us
        if window.publish_time_us + retention_us > self._clock.now_us():
            return False
        return self.kept_from is None or window.end_seq <= self.kept_from
