"""The window of AMS's pulls, on the same cursor as everybody's.

    closed --pull--> open --ack, seek, expiry--> closed

A pull shows what is not done from the floor on, leases none of it, and opens the window: from the
floor up to the last message it gave. The next pull opens it anew. An acknowledgement names one
message in it, and all up to that one is done: whatever of it a pull did not give was done, or not
for this subscription. Until then nobody's deliveries are any different.

The floor may rise while the window is open, since others acknowledge, too. So the window keeps where
it began: what was given in it may be acknowledged, also where it is done by now.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ams_grpc.broker.errors import ams
from ams_grpc.broker.figures import Consumption, Event
from ams_grpc.broker.policies import SECOND_US
from ams_grpc.broker.ports import StoredWindow

NO_WINDOW: Final = StoredWindow()


def consumption_of(window: StoredWindow | None) -> Consumption:
    """What AMS's pulls have given of one subscription; bytes are those of data in base64.

    AMS: messages given again count again, and a pull without messages is an event, too.
    """
    if window is None or not window.pulled_us:
        return Consumption()
    last = Event(window.pulled_us, window.last_messages, window.pulled_us - window.last_interval_us)
    return Consumption(window.messages, window.data_bytes, last)


class PullWindow:
    """One subscription's window. It knows whether it is to be written."""

    __slots__ = ("changed", "state")

    def __init__(self, stored: StoredWindow = NO_WINDOW) -> None:
        self.state = stored
        self.changed = False

    def open(self, start: int, end: int, messages: int, now_us: int) -> None:
        """A pull gave ``messages`` from ``start`` up to ``end``; from now on the deadline counts.

        AMS: the first pull counts as one second after another; of a pull without messages at offset
        0 there is no window.
        """
        before = self.state
        interval_us = max(1, now_us - before.pulled_us) if before.pulled_us else SECOND_US
        self.state = replace(
            before,
            start=start,
            end=end,
            pulled_us=now_us,
            messages=before.messages + messages,
            last_messages=messages,
            last_interval_us=interval_us,
        )
        self.changed = True

    def count_data(self, size: int) -> None:
        """The last pull gave so many bytes of data, in base64."""
        self.state = replace(self.state, data_bytes=self.state.data_bytes + size)
        self.changed = True

    def acknowledge(self, end: int, now_us: int, ack_deadline_s: int) -> None:
        """All below ``end`` is acknowledged: the window closes.

        AMS: raises NO_ACK_PENDING, WRONG_ACK, ACK_TIMEOUT, and then stays as it is. Whole seconds
        count, so an ack may come up to one second late.
        """
        window = self.state
        if not window.end:
            raise ams("NO_ACK_PENDING", "no ack pending")
        if not window.start < end <= window.end:
            raise ams("WRONG_ACK", "wrong ack")
        if now_us // SECOND_US - window.pulled_us // SECOND_US > ack_deadline_s:
            raise ams("ACK_TIMEOUT", "ack timeout")
        self.close()

    def close(self) -> None:
        """There is no window any more; the counters stay."""
        if self.state.end:
            self.state = replace(self.state, start=0, end=0)
            self.changed = True

    def take_changes(self) -> StoredWindow | None:
        """What is not written yet; from now on it counts as written."""
        if not self.changed:
            return None
        self.changed = False
        return self.state
