"""ams.v1.Subscriptions: messages and offsets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from google.protobuf.empty_pb2 import Empty

from ams_grpc.auth.roles import SERVICE_ADMIN
from ams_grpc.broker.broker import Broker
from ams_grpc.broker.catalog import Subscription, SubscriptionConfig
from ams_grpc.broker.errors import (
    InvalidArgument,
    PermissionDenied,
    ams,
)
from ams_grpc.broker.names import SubscriptionName
from ams_grpc.broker.rules import MAX_ACK_DEADLINE_S
from ams_grpc.pb.ams.v1 import pubsub_pb2 as pb
from ams_grpc.services.ams.names import ams_words, no_topic
from ams_grpc.services.ams.received import Received
from ams_grpc.services.callers import caller
from ams_grpc.services.frame import Context, brief

DEFAULT_WAIT_S: Final = 3.0
_PUSH_WORKER: Final = "push_worker"
_MAX_OFFSET: Final = (1 << 63) - 1
_offset: Final = re.compile("[+-]?[0-9]{1,19}").fullmatch
_moment: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d?):(\d\d):(\d\d)(?:[.,](\d+))?Z", re.ASCII
).fullmatch
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class _Named(Protocol):
    """A request about one subscription."""

    @property
    def project(self) -> str: ...

    @property
    def subscription(self) -> str: ...


class Windows:
    """Pulling in windows, and where a subscription stands.

    ``wait_s``: how long a pull waits for the first message if its caller wants to. ``push_enabled``:
    whether there is anybody who pushes.
    """

    def __init__(
        self, broker: Broker, *, wait_s: float = DEFAULT_WAIT_S, push_enabled: bool = True
    ) -> None:
        self._windowed = broker.windowed
        self._subscriptions = broker.subscriptions
        self._wait_s = wait_s
        self._push_enabled = push_enabled

    # --- messages ----------------------------------------------------------------------------

    async def check_Pull(self, request: pb.PullRequest, _context: Context) -> None:
        """Raises NotFound; CONFLICT: its topic is gone; PermissionDenied: others get its messages."""
        with ams_words("Subscription"):
            subscription = await self._windowed.subscription(_name(request))
        if subscription.config.is_pushed:
            self._check_who_pulls_what_is_pushed(request.project)
        if subscription.topic_name is None:
            raise no_topic()

    @brief
    async def Pull(self, request: pb.PullRequest, context: Context) -> Received:
        await self.check_Pull(request, context)
        name = _name(request)
        wait_s = self._wait_s if request.wait else 0.0
        with ams_words("Subscription"):
            pulled = await self._windowed.pull(name, request.max_messages, wait_s)
        return Received(str(name), pulled)

    async def Acknowledge(self, request: pb.AcknowledgeRequest, _context: Context) -> Empty:
        name = _name(request)
        with ams_words("Subscription"):
            await self._windowed.subscription(name)
            await self._windowed.acknowledge(name, _last_offset(str(name), request.ack_ids) + 1)
        return Empty()

    async def ModifyAckDeadline(
        self, request: pb.ModifyAckDeadlineRequest, _context: Context
    ) -> Empty:
        seconds = request.ack_deadline_seconds
        if not 0 <= seconds <= MAX_ACK_DEADLINE_S:
            raise InvalidArgument(
                "Invalid ackDeadlineSeconds(needs value between 0 and 600) Arguments"
            )

        def change(subscription: Subscription) -> SubscriptionConfig:
            return replace(subscription.config, ack_deadline_s=seconds)

        with ams_words("Subscription"):
            await self._subscriptions.update(_name(request), change, min_ack_deadline_s=0)
        return Empty()

    # --- offsets -----------------------------------------------------------------------------

    async def GetOffsets(self, request: pb.SubscriptionRequest, _context: Context) -> pb.Offsets:
        with ams_words("Subscription"):
            offsets = await self._windowed.offsets(_name(request))
        return pb.Offsets(max=offsets.high, min=offsets.low, current=offsets.current)

    async def ModifyOffset(self, request: pb.ModifyOffsetRequest, _context: Context) -> Empty:
        with ams_words("Subscription"):
            await self._windowed.move(_name(request), request.offset)
        return Empty()

    async def TimeToOffset(self, request: pb.TimeToOffsetRequest, _context: Context) -> pb.Offset:
        name = _name(request)
        with ams_words("Subscription"):
            await self._windowed.subscription(name)
            offset = await self._windowed.offset_at(name, _time_us(request.time))
        if offset is None:
            raise ams(
                "CONFLICT", "Timestamp is out of bounds for the subscription's topic/partition"
            )
        return pb.Offset(offset=offset)

    def _check_who_pulls_what_is_pushed(self, project: str) -> None:
        """AMS: the push worker does, and those who may do anything; in open mode, everybody."""
        try:
            roles = caller().roles(project)
        except LookupError:
            return
        if _PUSH_WORKER in roles and not self._push_enabled:
            raise ams("CONFLICT", "Push functionality is currently disabled")
        if not roles & {_PUSH_WORKER, SERVICE_ADMIN}:
            raise PermissionDenied("Access to this resource is forbidden")


def _name(request: _Named) -> SubscriptionName:
    return SubscriptionName(request.project, request.subscription)


def _last_offset(subscription: str, ack_ids: Sequence[str]) -> int:
    """The greatest offset among ack ids; the others are checked for form, as AMS does."""
    head = f"{subscription}:"
    last = -1
    for ack_id in ack_ids:
        digits = ack_id[len(head) :]
        if not ack_id.startswith(head) or _offset(digits) is None:
            raise _invalid_ack_id()
        last = max(last, int(digits))
    if not 0 <= last <= _MAX_OFFSET:
        raise _invalid_ack_id()
    return last


def _invalid_ack_id() -> InvalidArgument:
    return InvalidArgument("Invalid ack id", field="ack_ids")


def _time_us(text: str) -> int:
    """A moment in microseconds; finer digits are cut off.

    AMS wants three digits and a T; its library sends a blank, and people send what they have.
    """
    found = _moment(text)
    try:
        if found is None:
            raise ValueError
        *parts, fraction = found.groups()
        year, month, day, hour, minute, second = map(int, parts)
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise InvalidArgument("Time is not in valid Zulu format.", field="time") from None
    micros = int((fraction or "0")[:6].ljust(6, "0"))
    return (moment - _EPOCH) // timedelta(microseconds=1) + micros
