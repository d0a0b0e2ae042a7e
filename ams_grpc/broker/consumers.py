"""Who takes messages from a subscription: streams and waiting pulls, one shape, with credit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Final, TypeAlias

from ams_grpc.broker.errors import BrokerError

UNLIMITED: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Delivery:
    """Messages on their way to one consumer, leased to it under one grant.

    ``ack_id_head`` and ``%012x`` of a seq make that message's ack id.
    """

    grant: int
    ack_id_head: bytes
    seqs: Sequence[int]
    messages: Sequence[bytes]
    attempts: Sequence[int] = ()
    """The delivery attempt of each, with a dead-letter policy; else empty."""

    def only(self, chosen: Sequence[bool]) -> Delivery:
        """Those of its messages that are ``chosen``."""
        return replace(
            self,
            seqs=list(compress(self.seqs, chosen)),
            messages=list(compress(self.messages, chosen)),
            attempts=list(compress(self.attempts, chosen)),
        )


Line: TypeAlias = "OrderedDict[Consumer, None]"
"""Consumers that wait for messages, each once, and gone at once when it leaves."""


class Consumer:
    """One stream or waiting pull, and how much more it may be sent.

    ``send`` takes a delivery and must not block; ``close`` ends the consumer with an error. A
    consumer that cannot take more for now clears ``ready``, and calls the runtime's ``wake`` when
    it can again. With credit it stands in its subscription's ``line``. Limits at or below zero
    mean no limit (Pub/Sub: StreamingPullRequest).
    """

    __slots__ = (
        "_max_bytes",
        "_max_messages",
        "ack_deadline_s",
        "close",
        "left",
        "line",
        "once",
        "one_per_key",
        "outstanding_bytes",
        "outstanding_messages",
        "prefers_new",
        "ready",
        "send",
    )

    def __init__(
        self,
        send: Callable[[Delivery], None],
        close: Callable[[BrokerError], None],
        *,
        ack_deadline_s: int,
        max_messages: int = 0,
        max_bytes: int = 0,
        once: bool = False,
        one_per_key: bool = False,
    ) -> None:
        self.send = send
        self.close = close
        self.ack_deadline_s = ack_deadline_s
        self.once = once
        """A pull: it leaves with its first delivery."""
        self.one_per_key = one_per_key
        """Of an ordering key it takes the next message when it is done with the one before."""
        self.prefers_new = False
        """It takes what was never delivered before what failed."""
        self.left = False
        """It takes nothing any more."""
        self.ready = True
        self.line: Line | None = None
        """Where it waits for messages; None before it joins and after it left."""
        self.outstanding_messages = 0
        self.outstanding_bytes = 0
        self._max_messages = max_messages if max_messages > 0 else UNLIMITED
        self._max_bytes = max_bytes if max_bytes > 0 else UNLIMITED

    @property
    def free_messages(self) -> int:
        """How many more messages it may hold now; 0 when its bytes are used up, too."""
        if not self.ready or self.outstanding_bytes >= self._max_bytes:
            return 0
        return self._max_messages - self.outstanding_messages

    @property
    def free_bytes(self) -> int:
        """How many more bytes it may hold before it gets no further message.

        The last message may go beyond: one above the limit must not block for ever.
        """
        return self._max_bytes - self.outstanding_bytes

    def stand_in_line(self) -> None:
        """Wait for messages, if there is credit for any."""
        if self.line is not None and self.free_messages > 0:
            self.line.setdefault(self)

    def take(self, messages: int, size: int) -> None:
        """It was sent ``messages`` of ``size`` bytes altogether."""
        self.outstanding_messages += messages
        self.outstanding_bytes += size

    def settle(self, messages: int, size: int) -> None:
        """As many of what it holds are acknowledged, taken back, or expired."""
        self.outstanding_messages -= messages
        self.outstanding_bytes -= size
        self.stand_in_line()
