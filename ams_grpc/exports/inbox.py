"""What an export holds of its subscription: one delivery at a time in, acks and nacks out.

Each message of a delivery is in exactly one place:

    waiting   not looked at yet
    taken     in the object that is being written
    refused   cannot be written; it counts as failed a little later, all that failed together

All of them are leased, for longer than any object is open, so none is delivered again as long as
their worker lives. Leases are in memory: after a crash all is delivered again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from ams_grpc.broker.consumers import Consumer, Delivery
from ams_grpc.broker.errors import BrokerError
from ams_grpc.broker.runtime import SubscriptionRuntime

LEASE_S: Final = 3600
"""Longer than an object can be open and be completed: then it is settled one way or the other."""
REFUSED_S: Final = 10.0
"""So long a message that cannot be written rests before it is nacked, and perhaps comes again."""
_logger = logging.getLogger(__name__)


class Inbox:
    """Messages of one subscription on their way to one export. ``ring`` tells of news."""

    def __init__(
        self, runtime: SubscriptionRuntime, ring: Callable[[], None], max_messages: int
    ) -> None:
        """It holds ``max_messages`` at most."""
        self.error: BrokerError | None = None
        """Why nothing comes any more."""
        self.refused_until: float | None = None
        """When those that cannot be written are to be nacked; None if there are none."""
        self._runtime = runtime
        self._ring = ring
        self._max_messages = max_messages
        self._consumer = self._new_consumer()
        self._asked = False
        self._delivery: Delivery | None = None
        self._at = 0  # of the delivery's messages, the first that is waiting
        self._taken: dict[int, list[int]] = {}  # by grant: seqs
        self._refused: dict[tuple[int, str], list[int]] = {}  # by grant and reason: seqs

    # --- in ----------------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """True if nothing comes before something is settled."""
        return self._delivery is None and self._consumer.free_messages <= 0

    def ask(self) -> None:
        """Ask for messages, if none is waiting; they may be there when this returns.

        Sets ``error`` if the subscription is closed.
        """
        if self._delivery is not None or self._asked:
            return
        self._asked = True
        try:
            self._runtime.add(self._consumer)
        except BrokerError as error:
            self._end(error)

    def peek(self) -> bytes | None:
        """The next message that is waiting."""
        return None if self._delivery is None else self._delivery.messages[self._at]

    def take(self) -> None:
        """That message is in the object."""
        grant, seq = self._next()
        self._taken.setdefault(grant, []).append(seq)

    def refuse(self, reason: str, now: float) -> None:
        """That message cannot be written. ``now`` is of the monotonic clock."""
        grant, seq = self._next()
        self._refused.setdefault((grant, reason), []).append(seq)
        if self.refused_until is None:
            self.refused_until = now + REFUSED_S

    # --- out ---------------------------------------------------------------------------------

    async def acknowledge(self) -> None:
        """The object is complete: what was taken is done."""
        for grant in list(self._taken):
            self._runtime.settle(grant, self._taken.pop(grant))
            await asyncio.sleep(0)  # others are there, too

    def give_back(self) -> None:
        """Nothing can be written now: what is taken or waiting was not delivered, as it were."""
        self._runtime.remove(self._consumer)
        self._consumer = self._new_consumer()
        self._asked = False
        if self._delivery is not None:
            waiting = self._delivery.seqs[self._at :]
            self._taken.setdefault(self._delivery.grant, []).extend(waiting)
            self._delivery = None
        taken, self._taken = self._taken, {}
        for grant, seqs in taken.items():
            self._runtime.give_back(Delivery(grant, b"", seqs, ()))

    def nack_refused(self) -> None:
        """Deliveries of messages that could not be written have failed."""
        refused, self._refused, self.refused_until = self._refused, {}, None
        for (grant, reason), seqs in refused.items():
            _logger.debug("%d messages could not be exported: %s", len(seqs), reason)
            self._runtime.fail(grant, seqs, reason)

    def leave(self) -> None:
        """Hold nothing any more."""
        self.give_back()
        self.nack_refused()

    # --- the parts of the above --------------------------------------------------------------

    def _new_consumer(self) -> Consumer:
        # Like a pull, it is gone with each delivery, and comes back for the next: an export that
        # waits is no activity of its subscription. It is the same one all the time, since what is
        # outstanding of an ordering key is with one consumer.
        return Consumer(
            self._receive,
            self._end,
            ack_deadline_s=LEASE_S,
            max_messages=self._max_messages,
            once=True,
        )

    def _receive(self, delivery: Delivery) -> None:
        self._asked = False
        self._delivery = delivery
        self._at = 0
        self._ring()

    def _end(self, error: BrokerError) -> None:
        self._asked = False
        self.error = error
        self._ring()

    def _next(self) -> tuple[int, int]:
        """Grant and seq of the first message that is waiting; from now on it is not."""
        delivery, at = self._delivery, self._at
        if delivery is None:
            raise LookupError("no message is waiting")
        self._at += 1
        if self._at == len(delivery.seqs):
            self._delivery = None
        return delivery.grant, delivery.seqs[at]
