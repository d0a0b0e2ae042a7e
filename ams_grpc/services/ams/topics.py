"""ams.v1.Topics: topics and their access lists. Messages, schemas and metrics have rooms of their own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from google.protobuf.empty_pb2 import Empty

from ams_grpc.auth.access_lists import AccessLists
from ams_grpc.auth.visibility import Visibility
from ams_grpc.broker.catalog import DEFAULT_RETENTION_US, Topic, TopicConfig
from ams_grpc.broker.names import TopicName
from ams_grpc.broker.newest import Dated, Newest
from ams_grpc.broker.policies import SchemaSettings
from ams_grpc.broker.topics import Topics
from ams_grpc.pb.ams.v1 import pubsub_pb2
from ams_grpc.services.ams.listing import page_limit, page_start, page_token, seconds_pb
from ams_grpc.services.ams.names import ams_words, full_name
from ams_grpc.services.callers import caller
from ams_grpc.services.frame import Context

FindSchema: TypeAlias = Callable[[str, str], Awaitable[SchemaSettings | None]]
"""From a project and a reference to a schema, perhaps empty, to what a topic stores of it.

Raises InvalidArgument, NotFound.
"""


class TopicResources:
    """Made, shown, listed, deleted."""

    def __init__(
        self, topics: Topics, newest: Newest, visibility: Visibility, find_schema: FindSchema
    ) -> None:
        self._topics = topics
        self._newest = newest
        self._visibility = visibility
        self._find_schema = find_schema

    async def ListTopicSubscriptions(
        self, request: Any, context: Context
    ) -> pubsub_pb2.SubscriptionNames:
        """Raises NotFound."""
        with ams_words("Topic"):
            topic = await self._topics.get(_name(request))
        names = await self._newest.subscriptions_of(topic)
        return pubsub_pb2.SubscriptionNames(subscriptions=map(full_name, names))

    async def ListTopics(self, request: Any, context: Context) -> pubsub_pb2.TopicPage:
        """AMS: publishers see the topics whose access lists have them. Raises InvalidArgument."""
        page = await self._newest.topics(
            request.project,
            await self._visibility.topics(caller(), request.project),
            page_start(request.page_token),
            page_limit(request.page_size),
        )
        return pubsub_pb2.TopicPage(
            topics=map(_topic_pb, page.items),
            next_page_token=page_token(page.next_start),
            total_size=page.total,
        )

    async def GetTopic(self, request: Any, context: Context) -> pubsub_pb2.Topic:
        """Raises NotFound."""
        with ams_words("Topic"):
            return _topic_pb(await self._newest.topic(_name(request)))

    async def CreateTopic(self, request: Any, context: Context) -> pubsub_pb2.Topic:
        """AMS: messages are kept whether or not they are acknowledged, so the topic keeps them.

        Raises AlreadyExists, InvalidArgument, NotFound.
        """
        config = TopicConfig(
            message_retention_us=DEFAULT_RETENTION_US,
            schema_settings=await self._find_schema(request.project, request.schema),
        )
        with ams_words("Topic"):
            await self._topics.create(_name(request), config, registered=True)
            return _topic_pb(await self._newest.topic(_name(request)))

    async def DeleteTopic(self, request: Any, context: Context) -> Empty:
        """Raises NotFound."""
        with ams_words("Topic"):
            await self._topics.delete(_name(request))
        return Empty()


class TopicAccess:
    """Who may publish."""

    def __init__(self, lists: AccessLists) -> None:
        self._lists = lists

    async def GetTopicAcl(self, request: Any, context: Context) -> pubsub_pb2.AccessList:
        """Raises NotFound."""
        with ams_words("Topic"):
            users = await self._lists.get(_name(request))
        return pubsub_pb2.AccessList(authorized_users=users)

    async def ModifyTopicAcl(self, request: Any, context: Context) -> Empty:
        """Raises NotFound, for users and for the topic."""
        await self._lists.check_members(request.project, request.authorized_users)
        with ams_words("Topic"):
            await self._lists.replace(caller(), _name(request), request.authorized_users)
        return Empty()


def _name(request: Any) -> TopicName:
    return TopicName(request.project, request.topic)


def _topic_pb(topic: Dated[Topic]) -> pubsub_pb2.Topic:
    settings = topic.resource.config.schema_settings
    schema = "" if settings is None or settings.schema is None else str(settings.schema)
    return pubsub_pb2.Topic(
        name=full_name(topic.resource.name), schema=schema, created_on=seconds_pb(topic.created_us)
    )
