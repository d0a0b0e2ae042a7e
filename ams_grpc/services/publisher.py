"""google.pubsub.v1.Publisher: translates, and decides nothing."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty

from ams_grpc.auth.visibility import Visibility
from ams_grpc.broker.broker import Broker
from ams_grpc.broker.catalog import Topic, TopicConfig
from ams_grpc.broker.names import SubscriptionName, TopicName, parse_project
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.services import convert, masks
from ams_grpc.services.callers import caller
from ams_grpc.services.frame import Context, raw
from ams_grpc.services.idempotency import IdempotencyKeys
from ams_grpc.services.messages import Published, publish_response, read_publish
from ams_grpc.services.pages import Page


class Publisher:
    """Topics, and what is published to them. ``visibility`` None: everybody sees everything.

    ``registered``: things are made only in projects that are registered.
    """

    def __init__(
        self,
        broker: Broker,
        keys: IdempotencyKeys,
        visibility: Visibility | None = None,
        *,
        registered: bool = False,
    ) -> None:
        self._registered = registered
        self._keys = keys
        self._visibility = visibility
        self._topics = broker.topics
        self._subscriptions = broker.subscriptions

    @raw(read_publish)
    async def Publish(self, read: Published, context: Context) -> bytes:
        once = self._keys.once(context, read.payload)
        appended = await self._topics.publish(read.topic, read.payload, read.count, once=once)
        return publish_response(appended, read.count, once)

    async def CreateTopic(self, request: pb.Topic, _context: Context) -> pb.Topic:
        name = TopicName.parse(request.name)
        config = convert.topic_config(request)
        topic = await self._topics.create(name, config, registered=self._registered)
        return convert.topic_pb(topic)

    async def GetTopic(self, request: pb.GetTopicRequest, _context: Context) -> pb.Topic:
        return convert.topic_pb(await self._topics.get(TopicName.parse(request.topic)))

    async def UpdateTopic(self, request: pb.UpdateTopicRequest, _context: Context) -> pb.Topic:
        name = TopicName.parse(request.topic.name)
        masks.check(request.topic, request.update_mask)

        def change(topic: Topic) -> TopicConfig:
            stored = convert.topic_pb(topic)
            return convert.topic_config(masks.apply(stored, request.topic, request.update_mask))

        return convert.topic_pb(await self._topics.update(name, change))

    async def DeleteTopic(self, request: pb.DeleteTopicRequest, _context: Context) -> Empty:
        await self._topics.delete(TopicName.parse(request.topic))
        return Empty()

    async def ListTopics(
        self, request: pb.ListTopicsRequest, _context: Context
    ) -> pb.ListTopicsResponse:
        project = parse_project(request.project)
        page = Page.asked_for("topics", request.project, request.page_size, request.page_token)
        among = None
        if self._visibility is not None:
            among = await self._visibility.topics(caller(), project)
        topics, token = page.cut(
            await self._topics.list(project, page.after, page.limit, among),
            lambda topic: topic.name,
        )
        return pb.ListTopicsResponse(topics=map(convert.topic_pb, topics), next_page_token=token)

    async def ListTopicSubscriptions(
        self, request: pb.ListTopicSubscriptionsRequest, _context: Context
    ) -> pb.ListTopicSubscriptionsResponse:
        name = TopicName.parse(request.topic)
        page = Page.asked_for(
            "topic subscriptions", request.topic, request.page_size, request.page_token
        )
        names, token = page.cut(await self._topics.subscriptions(name, page.after, page.limit))
        return pb.ListTopicSubscriptionsResponse(
            subscriptions=map(str, names), next_page_token=token
        )

    async def ListTopicSnapshots(
        self, request: pb.ListTopicSnapshotsRequest, _context: Context
    ) -> pb.ListTopicSnapshotsResponse:
        name = TopicName.parse(request.topic)
        page = Page.asked_for(
            "topic snapshots", request.topic, request.page_size, request.page_token
        )
        names, token = page.cut(await self._topics.snapshots(name, page.after, page.limit))
        return pb.ListTopicSnapshotsResponse(snapshots=map(str, names), next_page_token=token)

    async def DetachSubscription(
        self, request: pb.DetachSubscriptionRequest, _context: Context
    ) -> pb.DetachSubscriptionResponse:
        await self._subscriptions.detach(SubscriptionName.parse(request.subscription))
        return pb.DetachSubscriptionResponse()
