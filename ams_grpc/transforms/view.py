"""A subscription's transforms: what happens to messages before they are delivered."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

from ams_grpc.broker.clock import Clock
from ams_grpc.broker.policies import Transform
from ams_grpc.broker.views import Recent, Stretch, View, Window
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.transforms.chain import Failed, Item, Outcome, apply
from ams_grpc.transforms.lanes import Lanes
from ams_grpc.transforms.worker import Worker

_MAX_MESSAGES: Final = 256
_MAX_BYTES: Final = 1 << 20
_MAX_FAILED: Final = 4 * _MAX_MESSAGES
_FAILED_FOR_S: Final = 1.0


class TransformedView:
    """What transforms make of another view.

    ``load`` does the work, for a short stretch at a time; ``find`` knows the stretches of late. A
    message for which a transform fails is one of the window's failures, and stands in its place as
    it is stored. After a second it is worth another try, with those right behind it for which that is so,
    too, and no others.
    """

    def __init__(
        self,
        inner: View,
        transforms: Sequence[Transform],
        *,
        lanes: Lanes,
        whose: Hashable,
        clock: Clock,
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._transforms = transforms
        self._lanes = lanes
        self._whose = whose
        self._recent = Recent()
        self._failed_at: dict[int, float] = {}  # by seq

    def find(self, seq: int) -> Window | None:
        if self._is_worth_a_try(seq, self._clock.monotonic()):
            return None
        return self._recent.find(seq)

    async def load(self, seq: int) -> int | None:
        window = self._inner.find(seq)
        if window is None:
            first = await self._inner.load(seq)
            window = self._inner.find(seq)
            if window is None:
                return first
        messages = _start(window.messages[seq - window.first_seq :])
        if seq in self._failed_at:
            messages = messages[: self._length_of_retry(seq, len(messages))]
        live = [message for message in messages if message is not None]
        outcomes: list[Outcome] = []
        if live:
            outcomes = await self._lanes.run(self._whose, lambda worker: self._apply(live, worker))
        self._add(_stretch(window, seq, messages, outcomes))
        return seq

    def _length_of_retry(self, seq: int, longest: int) -> int:
        now = self._clock.monotonic()
        length = 1
        while length < longest and self._is_worth_a_try(seq + length, now):
            length += 1
        return length

    def _is_worth_a_try(self, seq: int, now: float) -> bool:
        """True if it has failed, but not just now."""
        failed_at = self._failed_at.get(seq)
        return failed_at is not None and failed_at + _FAILED_FOR_S <= now

    def _add(self, stretch: Stretch) -> None:
        self._recent.add(stretch)
        for seq in range(stretch.first_seq, stretch.end_seq):
            self._failed_at.pop(seq, None)
        if len(self._failed_at) > _MAX_FAILED:
            self._failed_at.clear()
        self._failed_at.update(dict.fromkeys(stretch.failures, self._clock.monotonic()))

    def _apply(self, messages: Sequence[bytes], worker: Worker) -> list[Outcome]:
        """In a thread."""
        items = [Item.of(pb.PubsubMessage.FromString(message)) for message in messages]
        return apply(self._transforms, items, worker)


def _start(messages: Sequence[bytes | None]) -> Sequence[bytes | None]:
    """As many of the messages as make one stretch."""
    count = size = 0
    for i, message in enumerate(messages):
        if message is not None:
            count += 1
            size += len(message)
            if count >= _MAX_MESSAGES or size >= _MAX_BYTES:
                return messages[: i + 1]
    return messages


def _stretch(
    window: Window, seq: int, messages: Sequence[bytes | None], outcomes: Sequence[Outcome]
) -> Stretch:
    """The window that starts at ``seq`` and ends where the outcomes do."""
    shown: list[bytes | None] = []
    failures: dict[int, str] = {}
    remaining = iter(outcomes)
    for message in messages:
        if message is None:
            shown.append(None)
            continue
        try:
            outcome = next(remaining)
        except StopIteration:
            break
        if isinstance(outcome, Failed):
            failures[seq + len(shown)] = outcome.reason
            shown.append(message)
        else:
            shown.append(None if outcome is None else outcome.message().SerializeToString())
    return Stretch(seq, window.publish_time_us, shown, failures)
