"""One subscription's way to its dead-letter topic: whatever is dying is forwarded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Final

from ams_grpc.broker.clock import Clock
from ams_grpc.broker.dead_letters import Forwarding
from ams_grpc.broker.errors import BrokerError, Unavailable
from ams_grpc.broker.places import Places

_AT_ONCE: Final = 100
_RETRY_S: Final = 0.5
_SILENCE_S: Final = 60.0  # between two lines of the log
_logger = logging.getLogger(__name__)


class Forwarder:
    """Works while messages are dying; ``changed`` is called when some are not any more."""

    def __init__(
        self, places: Places, forwarding: Forwarding, clock: Clock, changed: Callable[[], None]
    ) -> None:
        self._places = places
        self._forwarding = forwarding
        self._clock = clock
        self._changed = changed
        self._silent_until = 0.0
        self._work: asyncio.Task[None] | None = None
        self._closed = False
        self._refused = 0
        self._refusal = ""

    def wake(self) -> None:
        """Some may be dying."""
        if self._places.dying and self._work is None and not self._closed:
            self._work = asyncio.get_running_loop().create_task(self._forward_all())

    def close(self) -> None:
        self._closed = True
        if self._work is not None:
            self._work.cancel()

    async def _forward_all(self) -> None:
        """Many at once: they share a commit."""
        try:
            while self._places.dying:
                seqs = list(islice(self._places.dying, _AT_ONCE))
                epoch = self._places.cursor.epoch
                work = [self._forward(seq, epoch) for seq in seqs]
                answered = await asyncio.gather(*work)
                self._say_what_was_refused()
                if not all(answered):
                    await asyncio.sleep(_RETRY_S)
        finally:
            self._work = None

    async def _forward(self, seq: int, epoch: int) -> bool:
        """Forward it, or let it live on. False if that has to wait: the storage is away."""
        places = self._places
        if places.subscription.config.dead_letter is None:  # any more
            self._spare(seq, epoch)
            return True
        try:
            is_stored = await self._forwarding.forward(
                places.subscription,
                seq,
                epoch=epoch,
                attempts=places.attempts.failures(seq),
                reason=places.attempts.reason(seq),
                then=partial(self._forwarded, seq, epoch),
            )
        except Unavailable:
            return False
        except Exception as error:
            name = places.subscription.name
            if isinstance(error, BrokerError):
                self._refused += 1
                self._refusal = error.message
            else:
                _logger.exception("%s: cannot forward to the dead-letter topic", name)
            self._spare(seq, epoch)
        else:
            if not is_stored:
                self._forwarded(seq, epoch)
        return True

    def _say_what_was_refused(self) -> None:
        """One line for all, and now and then: a topic that is missing refuses many."""
        now = self._clock.monotonic()
        if self._refused and now >= self._silent_until:
            self._silent_until = now + _SILENCE_S
            _logger.warning(
                "%s: the dead-letter topic did not take %d messages: %s",
                self._places.subscription.name,
                self._refused,
                self._refusal,
            )
            self._refused = 0

    def _spare(self, seq: int, epoch: int) -> None:
        if self._is_dying(seq, epoch):
            self._places.spare(seq)
            self._changed()

    def _forwarded(self, seq: int, epoch: int) -> None:
        if self._is_dying(seq, epoch):
            self._places.forwarded(seq)
            self._changed()

    def _is_dying(self, seq: int, epoch: int) -> bool:
        """False if that was over before: a seek came between, or retention."""
        is_current = epoch == self._places.cursor.epoch and not self._closed
        return is_current and seq in self._places.dying
