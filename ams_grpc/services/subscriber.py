"""google.pubsub.v1.Subscriber: translates, and decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from ams_grpc.auth.visibility import Visibility
from ams_grpc.broker.broker import Broker
from ams_grpc.broker.catalog import Snapshot, Subscription, SubscriptionConfig
from ams_grpc.broker.names import SnapshotName, SubscriptionName, TopicName, parse_project
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.services import convert, masks, policies
from ams_grpc.services.callers import caller
from ams_grpc.services.frame import Context, parse, raw
from ams_grpc.services.messages import check_ack_request_size, received_messages
from ams_grpc.services.pages import Page
from ams_grpc.services.streaming import PullStream

_LONGEST_WAIT_S: Final = 90.0
_ANSWER_EARLY_S: Final = 5.0


def _parse_acks(message_class: type[Message], serialized: bytes) -> Any:
    check_ack_request_size(serialized)
    return parse(message_class, serialized)


class Subscriber:
    """Subscriptions, their messages, and snapshots. For the options see ``Publisher``."""

    def __init__(
        self, broker: Broker, visibility: Visibility | None = None, *, registered: bool = False
    ) -> None:
        self._registered = registered
        self._visibility = visibility
        self._subscriptions = broker.subscriptions
        self._runtimes, self._pulls = broker.runtimes, broker.pulls
        self._snapshots = broker.snapshots

    # --- messages ----------------------------------------------------------------------------

    @raw(partial(parse, pb.PullRequest))
    async def Pull(self, request: pb.PullRequest, context: Context) -> bytes:
        name = SubscriptionName.parse(request.subscription)
        wait_s = 0.0 if request.return_immediately else _wait_s(context.time_remaining())
        delivery = await self._pulls.pull(name, request.max_messages, wait_s)
        return b"" if delivery is None else received_messages(delivery)

    async def StreamingPull(self, context: Context) -> None:
        await PullStream(self._runtimes, context).run()

    @raw(partial(_parse_acks, pb.AcknowledgeRequest))
    async def Acknowledge(self, request: pb.AcknowledgeRequest, _context: Context) -> bytes:
        name = SubscriptionName.parse(request.subscription)
        await self._pulls.acknowledge(name, request.ack_ids)
        return b""

    @raw(partial(_parse_acks, pb.ModifyAckDeadlineRequest))
    async def ModifyAckDeadline(
        self, request: pb.ModifyAckDeadlineRequest, _context: Context
    ) -> bytes:
        name = SubscriptionName.parse(request.subscription)
        await self._pulls.modify_ack_deadline(name, request.ack_ids, request.ack_deadline_seconds)
        return b""

    async def Seek(self, request: pb.SeekRequest, _context: Context) -> pb.SeekResponse:
        name = SubscriptionName.parse(request.subscription)
        await self._subscriptions.get(name)  # Pub/Sub: a missing one is reported first
        target = convert.seek_target(request)
        if isinstance(target, SnapshotName):
            await self._snapshots.seek(name, target)
        else:
            await self._snapshots.seek_to_time(name, target)
        return pb.SeekResponse()

    # --- subscriptions -----------------------------------------------------------------------

    async def CreateSubscription(
        self, request: pb.Subscription, _context: Context
    ) -> pb.Subscription:
        name = SubscriptionName.parse(request.name) if request.name else None
        topic = TopicName.parse(request.topic)
        config = convert.subscription_config(request)
        subscription = await self._subscriptions.create(
            name, topic, config, registered=self._registered
        )
        return convert.subscription_pb(subscription)

    async def GetSubscription(
        self, request: pb.GetSubscriptionRequest, _context: Context
    ) -> pb.Subscription:
        name = SubscriptionName.parse(request.subscription)
        return convert.subscription_pb(await self._subscriptions.get(name))

    async def UpdateSubscription(
        self, request: pb.UpdateSubscriptionRequest, _context: Context
    ) -> pb.Subscription:
        name = SubscriptionName.parse(request.subscription.name)
        masks.check(request.subscription, request.update_mask)

        def change(subscription: Subscription) -> SubscriptionConfig:
            stored, old = convert.subscription_pb(subscription), subscription.config
            config = convert.subscription_config(
                masks.apply(stored, request.subscription, request.update_mask)
            )
            if masks.names(request.update_mask, "push_config"):
                return config
            # Pub/Sub does not show all there is to AMS's push.
            return replace(config, push=old.push, ams_push=old.ams_push)

        return convert.subscription_pb(await self._subscriptions.update(name, change))

    async def DeleteSubscription(
        self, request: pb.DeleteSubscriptionRequest, _context: Context
    ) -> Empty:
        await self._subscriptions.delete(SubscriptionName.parse(request.subscription))
        return Empty()

    async def ListSubscriptions(
        self, request: pb.ListSubscriptionsRequest, _context: Context
    ) -> pb.ListSubscriptionsResponse:
        project = parse_project(request.project)
        page = Page.asked_for(
            "subscriptions", request.project, request.page_size, request.page_token
        )
        among = None
        if self._visibility is not None:
            among = await self._visibility.subscriptions(caller(), project)
        subscriptions, token = page.cut(
            await self._subscriptions.list(project, page.after, page.limit, among),
            lambda subscription: subscription.name,
        )
        return pb.ListSubscriptionsResponse(
            subscriptions=map(convert.subscription_pb, subscriptions), next_page_token=token
        )

    async def ModifyPushConfig(
        self, request: pb.ModifyPushConfigRequest, _context: Context
    ) -> Empty:
        name = SubscriptionName.parse(request.subscription)

        def change(subscription: Subscription) -> SubscriptionConfig:
            config = subscription.config
            push = policies.push_config(request.push_config, config.push)
            return replace(config, push=push, ams_push=None)

        await self._subscriptions.update(name, change)
        return Empty()

    # --- snapshots ---------------------------------------------------------------------------

    async def CreateSnapshot(
        self, request: pb.CreateSnapshotRequest, _context: Context
    ) -> pb.Snapshot:
        name = SnapshotName.parse(request.name) if request.name else None
        source = SubscriptionName.parse(request.subscription)
        snapshot = await self._snapshots.create(
            name, source, dict(request.labels), registered=self._registered
        )
        return convert.snapshot_pb(snapshot)

    async def GetSnapshot(self, request: pb.GetSnapshotRequest, _context: Context) -> pb.Snapshot:
        return convert.snapshot_pb(await self._snapshots.get(SnapshotName.parse(request.snapshot)))

    async def UpdateSnapshot(
        self, request: pb.UpdateSnapshotRequest, _context: Context
    ) -> pb.Snapshot:
        name = SnapshotName.parse(request.snapshot.name)
        masks.check(request.snapshot, request.update_mask)

        def change(snapshot: Snapshot) -> tuple[int, Mapping[str, str]]:
            changed = masks.apply(
                convert.snapshot_pb(snapshot), request.snapshot, request.update_mask
            )
            return convert.snapshot_expire_us(changed), dict(changed.labels)

        return convert.snapshot_pb(await self._snapshots.update(name, change))

    async def DeleteSnapshot(self, request: pb.DeleteSnapshotRequest, _context: Context) -> Empty:
        await self._snapshots.delete(SnapshotName.parse(request.snapshot))
        return Empty()

    async def ListSnapshots(
        self, request: pb.ListSnapshotsRequest, _context: Context
    ) -> pb.ListSnapshotsResponse:
        project = parse_project(request.project)
        page = Page.asked_for("snapshots", request.project, request.page_size, request.page_token)
        snapshots, token = page.cut(
            await self._snapshots.list(project, page.after, page.limit),
            lambda snapshot: snapshot.name,
        )
        return pb.ListSnapshotsResponse(
            snapshots=map(convert.snapshot_pb, snapshots), next_page_token=token
        )


def _wait_s(remaining_s: float | None) -> float:
    """How long a pull may wait: it must be answered before the caller gives up.

    Pub/Sub: Pull answers an empty list after a bounded time.
    """
    if remaining_s is None:
        return _LONGEST_WAIT_S
    return min(_LONGEST_WAIT_S, max(remaining_s - _ANSWER_EARLY_S, remaining_s / 2))
