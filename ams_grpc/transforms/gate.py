"""A topic's transforms: what happens to messages before they are stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ams_grpc.broker.catalog import Topic
from ams_grpc.broker.clock import Clock
from ams_grpc.broker.errors import UNABLE, InvalidArgument, Unavailable, too_large
from ams_grpc.broker.policies import Transform
from ams_grpc.broker.ports import Admitted
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.services.messages import MAX_REQUEST_BYTES
from ams_grpc.transforms.chain import Failed, Item, apply, enabled
from ams_grpc.transforms.lanes import Lanes
from ams_grpc.transforms.worker import Worker

_MAX_WAITING_BYTES: Final = 64 << 20


class TransformGate:
    """Implements ``broker.ports.Gate``."""

    def __init__(self, lanes: Lanes, clock: Clock) -> None:
        self._lanes = lanes
        self._clock = clock
        self._waiting_bytes = 0

    async def admit(self, topic: Topic, payload: bytes, count: int) -> Admitted:
        """Raises InvalidArgument if a transform fails; Unavailable when too much is waiting.

        Pub/Sub: then nothing of the request is stored; what a transform drops is left out.
        """
        transforms = enabled(topic.config.transforms)
        if not transforms:
            return Admitted(payload, count)
        if self._waiting_bytes and self._waiting_bytes + len(payload) > _MAX_WAITING_BYTES:
            raise Unavailable(UNABLE)
        self._waiting_bytes += len(payload)
        try:
            request = _Request(transforms, payload, self._clock.now_us())
            while not request.done:
                await self._lanes.run(("topic", topic.id), request.advance)
        finally:
            self._waiting_bytes -= len(payload)
        return request.admitted


class _Request:
    """One publish on its way through the transforms, turn by turn."""

    def __init__(self, transforms: Sequence[Transform], payload: bytes, now_us: int) -> None:
        self._transforms = transforms
        self._payload = payload
        self._now_us = now_us
        self._items: list[Item] | None = None
        self._next = 0
        self._kept = pb.PublishRequest()
        self._places: list[int] = []
        self._size = 0
        self.done = False

    def advance(self, worker: Worker) -> None:
        """Do one turn's work. Raises InvalidArgument."""
        items = self._items
        if items is None:
            items = self._items = [self._item(m) for m in _messages(self._payload)]
        for outcome in apply(self._transforms, items[self._next :], worker):
            if isinstance(outcome, Failed):
                raise InvalidArgument(
                    f"Message {self._next + 1} of the request: a transform of the topic failed: "
                    f"{outcome.reason}",
                    field="messages",
                )
            if outcome is not None:
                self._keep(outcome)
            self._next += 1
        self.done = self._next == len(items)

    @property
    def admitted(self) -> Admitted:
        """What is left of it, once it is done."""
        dropped = self._items is not None and len(self._places) < len(self._items)
        return Admitted(
            self._kept.SerializeToString(),
            len(self._places),
            self._places if dropped else None,
        )

    def _item(self, message: pb.PubsubMessage) -> Item:
        """Its id is not known yet; its time is now, more or less."""
        message.ClearField("message_id")
        message.publish_time.FromMicroseconds(self._now_us)
        return Item.of(message)

    def _keep(self, item: Item) -> None:
        message = item.message()
        message.ClearField("publish_time")
        self._size += message.ByteSize()
        if self._size > MAX_REQUEST_BYTES:
            raise too_large("request_size", self._size, MAX_REQUEST_BYTES)
        self._kept.messages.append(message)
        self._places.append(self._next)


def _messages(payload: bytes) -> Sequence[pb.PubsubMessage]:
    return pb.PublishRequest.FromString(payload).messages
