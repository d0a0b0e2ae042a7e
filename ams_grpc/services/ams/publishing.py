"""ams.v1.Topics: publishing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from ams_grpc.broker.errors import ams
from ams_grpc.broker.names import TopicName
from ams_grpc.broker.topics import Topics
from ams_grpc.pb.ams.v1 import pubsub_pb2
from ams_grpc.services.ams.data import stored_body
from ams_grpc.services.ams.names import ams_words
from ams_grpc.services.frame import Context, brief
from ams_grpc.services.idempotency import IdempotencyKeys
from ams_grpc.services.messages import message_ids, payload_of

MAX_MESSAGE_BYTES: Final = 10_000_000


class Published:
    """The reply of a publish: a ``PublishReply``, which is made only if it has to be serialized."""

    def __init__(self, message_ids: Sequence[str]) -> None:
        self.message_ids = message_ids

    def SerializeToString(self) -> bytes:
        """As a protobuf message does it."""
        return pubsub_pb2.PublishReply(message_ids=self.message_ids).SerializeToString()


class TopicMessages:
    """Messages, as AMS publishes them: any number, also empty ones, with any attributes."""

    def __init__(self, topics: Topics, keys: IdempotencyKeys) -> None:
        self._topics = topics
        self._keys = keys

    async def check_Publish(self, request: Any, context: Context) -> None:
        """Raises NotFound."""
        with ams_words("Topic"):
            await self._topics.look_up(_name(request))

    @brief
    async def Publish(self, request: Any, context: Context) -> Published:
        """All of them are stored when this returns, or none is.

        Raises NotFound, AmsRefusal; InvalidArgument for its idempotency key.
        """
        bodies = list(map(stored_body, request.messages))
        if not bodies:
            await self.check_Publish(request, context)
            return Published([])
        if max(map(len, bodies)) > MAX_MESSAGE_BYTES:
            await self.check_Publish(request, context)
            raise ams("TOO_LARGE", "Message size is too large")
        count, payload = len(bodies), payload_of(bodies)
        once = self._keys.once(context, payload)
        with ams_words("Topic"):
            appended = await self._topics.publish(_name(request), payload, count, once=once)
        return Published(message_ids(appended, count, once))


def _name(request: Any) -> TopicName:
    return _topic_name(request.project, request.topic)


_topic_name: Final = lru_cache(maxsize=4096)(TopicName)  # the same few names come with every call
