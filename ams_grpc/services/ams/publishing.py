"""ams.v1.Topics: publishing."""

from __future__ import annotations

from typing import Any, Final

from ams_grpc.broker.errors import ams
from ams_grpc.broker.names import TopicName
from ams_grpc.broker.topics import Topics
from ams_grpc.pb.ams.v1 import pubsub_pb2
from ams_grpc.services.ams.data import stored_body
from ams_grpc.services.ams.names import ams_words
from ams_grpc.services.frame import Context
from ams_grpc.services.messages import message_ids, payload_of

MAX_MESSAGE_BYTES: Final = 10_000_000


class TopicMessages:
    """Messages, as AMS publishes them: any number, also empty ones, with any attributes."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics

    async def check_Publish(self, request: Any, context: Context) -> None:
        """Raises NotFound."""
        with ams_words("Topic"):
            await self._topics.look_up(_name(request))

    async def Publish(self, request: Any, context: Context) -> pubsub_pb2.PublishReply:
        """All of them are stored when this returns, or none is. Raises NotFound, AmsRefusal."""
        await self.check_Publish(request, context)
        bodies = [stored_body(each.data, each.attributes) for each in request.messages]
        if not bodies:
            return pubsub_pb2.PublishReply()
        if max(map(len, bodies)) > MAX_MESSAGE_BYTES:
            raise ams("TOO_LARGE", "Message size is too large")
        with ams_words("Topic"):
            appended = await self._topics.publish(_name(request), payload_of(bodies), len(bodies))
        return pubsub_pb2.PublishReply(message_ids=message_ids(appended, len(bodies)))


def _name(request: Any) -> TopicName:
    return TopicName(request.project, request.topic)
