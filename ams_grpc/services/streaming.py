"""One StreamingPull call: requests in, deliveries out.

Two loops share the call: one reads the client's requests, the other writes what the runtime
sends. A delivery waits as references to cached messages and is put together when it is written;
``context.write`` returns when the transport has taken it, so a slow reader holds back its own
stream: with two deliveries waiting it takes no more.

The stream ends with the error that the runtime or a bad request raises. It never ends with OK
while the client still sends: subscribers would take that for the end of their work.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Final

from ams_grpc.broker.catalog import SubscriptionConfig
from ams_grpc.broker.consumers import Consumer, Delivery
from ams_grpc.broker.errors import InvalidArgument
from ams_grpc.broker.exactly_once import Confirmation
from ams_grpc.broker.names import SubscriptionName
from ams_grpc.broker.rules import check_modify_ack_deadline, check_stream_ack_deadline
from ams_grpc.broker.runtime import MAX_DELIVERY_BYTES, SubscriptionRuntime
from ams_grpc.broker.runtimes import Runtimes
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.services.frame import Context, parse, receive
from ams_grpc.services.messages import check_ack_request_size, received_messages

_WAITING_DELIVERIES: Final = 2
_MOST_OWED: Final = 1 << 20
"""Bytes of ack ids whose confirmation is not sent yet; beyond, no further request is read."""


@lru_cache
def _properties(exactly_once: bool, ordered: bool) -> bytes:
    """Pub/Sub: each response says whether delivery is exactly once and ordered; clients rely on it."""
    return pb.StreamingPullResponse(
        subscription_properties=pb.StreamingPullResponse.SubscriptionProperties(
            exactly_once_delivery_enabled=exactly_once, message_ordering_enabled=ordered
        )
    ).SerializeToString()


class PullStream:
    """The state of one StreamingPull call."""

    def __init__(self, runtimes: Runtimes, context: Context) -> None:
        self._runtimes = runtimes
        self._context = context
        self._outbox: deque[Delivery] = deque()
        self._answer = True  # the first response comes at once, and says what is to be known
        self._confirmations: list[tuple[bytes, int]] = []  # with the bytes that they pay off
        self._owed = 0
        self._paid = asyncio.Event()
        self._wake = asyncio.Event()
        self._ended: Exception | None = None
        self._half_closed = False

    async def run(self) -> None:
        """Serve the call until the client ends it or an error does."""
        first = await self._runtimes.unless_closed(receive(self._context))
        if first is None:
            raise InvalidArgument("first message must set subscription")
        request = _parse(first)
        name = SubscriptionName.parse(_check_first(request))
        runtime = await self._runtimes.runtime_to_pull(name)
        consumer = Consumer(
            self._send,
            self._end,
            ack_deadline_s=request.stream_ack_deadline_seconds,
            max_messages=request.max_outstanding_messages,
            max_bytes=request.max_outstanding_bytes,
        )
        self._consumer = consumer
        self._settle(runtime, request)
        runtime.add(consumer)
        reader = asyncio.get_running_loop().create_task(self._read(runtime))
        try:
            await self._write(runtime)
        finally:
            runtime.remove(consumer)
            reader.cancel()
            while self._outbox:  # leased, but never sent
                runtime.give_back(self._outbox.popleft())

    # --- called by the runtime ---------------------------------------------------------------

    def _send(self, delivery: Delivery) -> None:
        self._outbox.append(delivery)
        self._consumer.ready = len(self._outbox) < _WAITING_DELIVERIES
        self._wake.set()

    def _end(self, error: Exception) -> None:
        self._ended = error
        self._wake.set()

    # --- the two loops -----------------------------------------------------------------------

    async def _write(self, runtime: SubscriptionRuntime) -> None:
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._ended is None and (self._outbox or self._answer):
                response, paid = self._response(runtime.subscription.config)
                if not self._consumer.ready:
                    runtime.wake(self._consumer)
                await self._context.write(response)
                self._owed -= paid
                self._paid.set()
            if self._ended is not None:
                raise self._ended
            if self._half_closed:
                return

    def _response(self, config: SubscriptionConfig) -> tuple[bytes, int]:
        """As many waiting deliveries as make one response, and how much it pays off."""
        self._answer = False
        confirmations, self._confirmations = self._confirmations, []
        parts = [confirmation for confirmation, _ in confirmations]
        size = 0
        while self._outbox and size < MAX_DELIVERY_BYTES:
            part = received_messages(self._outbox.popleft())
            parts.append(part)
            size += len(part)
        parts.append(_properties(config.exactly_once, config.ordered))
        return b"".join(parts), sum(paid for _, paid in confirmations)

    async def _next_request(self) -> bytes | None:
        """None after the last. A client that does not read what it is owed is not read, either."""
        while self._owed > _MOST_OWED:
            self._paid.clear()
            await self._paid.wait()
        return await receive(self._context)

    async def _read(self, runtime: SubscriptionRuntime) -> None:
        try:
            while (serialized := await self._next_request()) is not None:
                if not serialized:  # a heartbeat, which clients want to see answered
                    self._answer = True
                    self._wake.set()
                    continue
                request = _parse(serialized)
                _check_later(request)
                if request.stream_ack_deadline_seconds:
                    self._consumer.ack_deadline_s = request.stream_ack_deadline_seconds
                self._settle(runtime, request)
        except Exception as error:  # noqa: BLE001 - the writing loop raises it
            self._end(error)
        else:
            self._half_closed = True
            runtime.remove(self._consumer)
            self._wake.set()

    # --- acks and deadlines ------------------------------------------------------------------

    def _settle(self, runtime: SubscriptionRuntime, request: pb.StreamingPullRequest) -> None:
        """Apply a request's acks and deadlines. A malformed ack id does not end the stream."""
        by_deadline: dict[int, list[str]] = {}
        for ack_id, seconds in zip(
            request.modify_deadline_ack_ids, request.modify_deadline_seconds, strict=True
        ):
            by_deadline.setdefault(seconds, []).append(ack_id)
        if runtime.exactly_once:
            self._settle_exactly(runtime, request.ack_ids, by_deadline)
            return
        if request.ack_ids:
            runtime.acknowledge(request.ack_ids, lenient=True)
        for seconds, ack_ids in by_deadline.items():
            runtime.modify_ack_deadline(ack_ids, seconds, lenient=True)

    def _settle_exactly(
        self,
        runtime: SubscriptionRuntime,
        ack_ids: Sequence[str],
        by_deadline: Mapping[int, Sequence[str]],
    ) -> None:
        """Pub/Sub: with exactly-once delivery, a response says what became of each ack id."""
        if not ack_ids and not by_deadline:
            return
        acks = runtime.acknowledge_exactly(ack_ids)
        deadlines = Confirmation()
        for seconds, ids in by_deadline.items():
            answer = runtime.modify_ack_deadline_exactly(ids, seconds)
            deadlines.accepted += answer.accepted
            deadlines.invalid += answer.invalid
        owed = sum(map(len, ack_ids)) + sum(len(i) for ids in by_deadline.values() for i in ids)
        self._owed += owed
        written = asyncio.ensure_future(runtime.written())
        written.add_done_callback(partial(self._confirm, acks, deadlines, owed))

    def _confirm(
        self,
        acks: Confirmation,
        deadlines: Confirmation,
        owed: int,
        written: asyncio.Future[None],
    ) -> None:
        """The group commit has written what was accepted, or could not: then clients try again."""
        if written.cancelled():
            return
        is_written = written.exception() is None
        response = pb.StreamingPullResponse()
        if acks:
            confirmation = response.acknowledge_confirmation
            confirmation.invalid_ack_ids[:] = acks.invalid
            confirmation.unordered_ack_ids[:] = acks.unordered
            accepted = confirmation.ack_ids if is_written else confirmation.temporary_failed_ack_ids
            accepted[:] = acks.accepted
        if deadlines:
            moved = response.modify_ack_deadline_confirmation
            moved.invalid_ack_ids[:] = deadlines.invalid
            accepted = moved.ack_ids if is_written else moved.temporary_failed_ack_ids
            accepted[:] = deadlines.accepted
        self._confirmations.append((response.SerializeToString(), owed))
        self._answer = True
        self._wake.set()


def _parse(serialized: bytes) -> pb.StreamingPullRequest:
    check_ack_request_size(serialized)
    request: pb.StreamingPullRequest = parse(pb.StreamingPullRequest, serialized)
    return request


def _check_first(request: pb.StreamingPullRequest) -> str:
    """Pub/Sub: rules of a stream's first request. Returns the subscription's name."""
    if not request.subscription:
        raise InvalidArgument("first message must set subscription", field="subscription")
    if not request.stream_ack_deadline_seconds:
        raise InvalidArgument(
            "first message must set stream_ack_deadline_seconds",
            field="stream_ack_deadline_seconds",
        )
    check_stream_ack_deadline(request.stream_ack_deadline_seconds)
    _check_deadlines(request)
    return request.subscription


def _check_later(request: pb.StreamingPullRequest) -> None:
    """Pub/Sub: rules of a stream's later requests."""
    for field in (
        "subscription",
        "max_outstanding_messages",
        "max_outstanding_bytes",
        "protocol_version",
    ):
        if getattr(request, field):
            raise InvalidArgument(f"{field} may only be set in first message", field=field)
    if request.stream_ack_deadline_seconds:
        check_stream_ack_deadline(request.stream_ack_deadline_seconds)
    _check_deadlines(request)


def _check_deadlines(request: pb.StreamingPullRequest) -> None:
    if len(request.modify_deadline_ack_ids) != len(request.modify_deadline_seconds):
        raise InvalidArgument(
            "ack IDs and deadlines must have the same size", field="modify_deadline_seconds"
        )
    for seconds in set(request.modify_deadline_seconds):
        check_modify_ack_deadline(seconds)
