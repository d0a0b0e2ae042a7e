"""ams.v1.Subscriptions: subscriptions and their access lists. Messages, offsets and push have rooms of their own."""

from __future__ import annotations

from typing import Any

from google.protobuf.empty_pb2 import Empty

from ams_grpc.auth.access_lists import AccessLists
from ams_grpc.auth.checks import no_project
from ams_grpc.auth.visibility import Visibility
from ams_grpc.broker.catalog import (
    DEFAULT_ACK_DEADLINE_S,
    Subscription,
    SubscriptionConfig,
)
from ams_grpc.broker.errors import AlreadyExists, InvalidArgument, NotFound, ProjectGone
from ams_grpc.broker.names import DELETED_TOPIC, SubscriptionName, TopicName
from ams_grpc.broker.newest import Dated, Newest
from ams_grpc.broker.rules import MAX_ACK_DEADLINE_S
from ams_grpc.broker.subscriptions import Subscriptions
from ams_grpc.broker.topics import Topics
from ams_grpc.pb.ams.v1 import pubsub_pb2
from ams_grpc.services.ams.listing import page_limit, page_start, page_token, seconds_pb
from ams_grpc.services.ams.names import ams_words, full_name, read_topic
from ams_grpc.services.ams.push import PushDesk
from ams_grpc.services.callers import caller
from ams_grpc.services.frame import Context


class SubscriptionResources:
    """Made, shown, listed, deleted."""

    def __init__(
        self,
        subscriptions: Subscriptions,
        topics: Topics,
        newest: Newest,
        visibility: Visibility,
        push: PushDesk,
    ) -> None:
        self._subscriptions = subscriptions
        self._topics = topics
        self._newest = newest
        self._visibility = visibility
        self._push = push

    async def ListSubscriptions(
        self, request: Any, context: Context
    ) -> pubsub_pb2.SubscriptionPage:
        """AMS: consumers see those whose access lists have them. Raises InvalidArgument."""
        page = await self._newest.subscriptions(
            request.project,
            await self._visibility.subscriptions(caller(), request.project),
            page_start(request.page_token),
            page_limit(request.page_size),
        )
        return pubsub_pb2.SubscriptionPage(
            subscriptions=map(self._shown, page.items),
            next_page_token=page_token(page.next_start),
            total_size=page.total,
        )

    async def GetSubscription(self, request: Any, context: Context) -> pubsub_pb2.Subscription:
        """Raises NotFound."""
        with ams_words("Subscription"):
            found = await self._newest.subscription(_name(request))
        shown = self._shown(found)
        shown.push_status = self._push.status(found.resource)
        return shown

    async def CreateSubscription(self, request: Any, context: Context) -> pubsub_pb2.Subscription:
        """AMS: it never expires, and goes back to what is stored, acknowledged or not.

        Raises AlreadyExists, InvalidArgument, NotFound.
        """
        topic = read_topic(request.topic, request.project)
        with ams_words("Topic"):
            await self._topics.get(topic)
        if not 0 <= request.ack_deadline_seconds <= MAX_ACK_DEADLINE_S:
            raise InvalidArgument(
                "Invalid ackDeadlineSeconds(needs value between 0 and 600) Arguments"
            )
        push = await self._push.read_new(request.push_config)
        config = SubscriptionConfig(
            ack_deadline_s=request.ack_deadline_seconds or DEFAULT_ACK_DEADLINE_S,
            expiration_ttl_us=None,
            retain_acked_messages=True,
            ams_push=push,
        )
        name = _name(request)
        try:
            await self._subscriptions.create(
                name, topic, config, min_ack_deadline_s=0, registered=True
            )
        except ProjectGone:
            raise no_project() from None
        except NotFound:
            raise NotFound("Topic doesn't exist") from None
        except AlreadyExists:
            raise AlreadyExists("Subscription already exists") from None
        await self._push.changed(name, None, push)
        with ams_words("Subscription"):
            return self._shown(await self._newest.subscription(name))

    async def DeleteSubscription(
        self, request: Any, context: Context
    ) -> pubsub_pb2.DeleteSubscriptionReply:
        """Raises NotFound."""
        name = _name(request)
        with ams_words("Subscription"):
            farewell = self._push.farewell(await self._subscriptions.get(name))
            await self._subscriptions.delete(name)
        return pubsub_pb2.DeleteSubscriptionReply(message=farewell)

    def _shown(self, subscription: Dated[Subscription]) -> pubsub_pb2.Subscription:
        record = subscription.resource
        topic = record.topic_name or TopicName(record.name.project, DELETED_TOPIC)
        return pubsub_pb2.Subscription(
            name=full_name(record.name),
            topic=full_name(topic),
            push_config=self._push.shown(record.config),
            ack_deadline_seconds=record.config.ack_deadline_s,
            created_on=seconds_pb(subscription.created_us),
        )


class SubscriptionAccess:
    """Who may pull."""

    def __init__(self, lists: AccessLists) -> None:
        self._lists = lists

    async def GetSubscriptionAcl(self, request: Any, context: Context) -> pubsub_pb2.AccessList:
        """Raises NotFound."""
        with ams_words("Subscription"):
            users = await self._lists.get(_name(request))
        return pubsub_pb2.AccessList(authorized_users=users)

    async def ModifySubscriptionAcl(self, request: Any, context: Context) -> Empty:
        """Raises NotFound, for users and for the subscription."""
        await self._lists.check_members(request.project, request.authorized_users)
        with ams_words("Subscription"):
            await self._lists.replace(caller(), _name(request), request.authorized_users)
        return Empty()


def _name(request: Any) -> SubscriptionName:
    return SubscriptionName(request.project, request.subscription)
