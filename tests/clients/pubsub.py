"""A project on a server, seen through Google's own client, and the raw streams beneath it."""

from __future__ import annotations

import queue
import secrets
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Final, Self

import grpc
import pytest
from google.api_core.exceptions import GoogleAPICallError
from google.cloud import pubsub_v1  # type: ignore[import-untyped]
from google.cloud.pubsub_v1.subscriber.futures import (  # type: ignore[import-untyped]
    StreamingPullFuture,
)
from google.cloud.pubsub_v1.subscriber.message import Message  # type: ignore[import-untyped]
from google.pubsub_v1 import PublisherClient as GeneratedPublisherClient
from google.pubsub_v1 import types

from tests.server import Server

_STREAMING_PULL: Final = "/google.pubsub.v1.Subscriber/StreamingPull"
PATIENCE_S: Final = 30.0
"""How long a test waits for what must come."""


class PubSub:
    """One project, empty at first. Names in, full names out."""

    def __init__(self, endpoint: str) -> None:
        """The endpoint is where PUBSUB_EMULATOR_HOST points; the clients read it from there."""
        self.endpoint = endpoint
        self.project = f"project-{secrets.token_hex(4)}"
        self.path = f"projects/{self.project}"
        self.publisher = pubsub_v1.PublisherClient()
        self.subscriber = pubsub_v1.SubscriberClient()
        self.channel = grpc.insecure_channel(
            endpoint, options=[("grpc.max_receive_message_length", -1)]
        )
        self._streams: list[Stream] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for stream in self._streams:
            stream.cancel()
        self.channel.close()
        self.subscriber.close()
        self.publisher.stop()
        self.publisher.transport.close()

    # --- what there is ---------------------------------------------------------------------------

    def topic(self, topic_id: str = "orders", **fields: Any) -> str:
        """A new topic."""
        name = f"{self.path}/topics/{topic_id}"
        self.publisher.create_topic(request=types.Topic(name=name, **fields))
        return name

    def subscription(self, topic: str, subscription_id: str = "warehouse", **fields: Any) -> str:
        """A new subscription."""
        name = f"{self.path}/subscriptions/{subscription_id}"
        request = types.Subscription(name=name, topic=topic, **fields)
        self.subscriber.create_subscription(request=request)
        return name

    def snapshot(self, subscription: str, snapshot_id: str = "before", **fields: Any) -> str:
        """A new snapshot."""
        name = f"{self.path}/snapshots/{snapshot_id}"
        request = types.CreateSnapshotRequest(name=name, subscription=subscription, **fields)
        self.subscriber.create_snapshot(request=request)
        return name

    # --- messages, one call each -----------------------------------------------------------------

    def publish(self, topic: str, *data: bytes) -> list[str]:
        """Publish in one request; gives the ids."""
        return self.publish_messages(topic, *(types.PubsubMessage(data=each) for each in data))

    def publish_messages(self, topic: str, *messages: types.PubsubMessage) -> list[str]:
        """Publish in one request, past the client's batching; gives the ids."""
        request = types.PublishRequest(topic=topic, messages=messages)
        reply = GeneratedPublisherClient.publish(self.publisher, request)
        return list(reply.message_ids)

    def pull(self, subscription: str, max_messages: int = 100) -> list[types.ReceivedMessage]:
        """What can be had at once, or else the next that comes."""
        reply = self.subscriber.pull(subscription=subscription, max_messages=max_messages)
        return list(reply.received_messages)

    def pull_now(self, subscription: str, max_messages: int = 100) -> list[types.ReceivedMessage]:
        """What can be had at once, which may be nothing."""
        request = types.PullRequest(
            subscription=subscription, max_messages=max_messages, return_immediately=True
        )
        with pytest.warns(DeprecationWarning, match="return_immediately"):
            reply = self.subscriber.pull(request)
        return list(reply.received_messages)

    def pull_all(self, subscription: str, count: int) -> list[types.ReceivedMessage]:
        """`count` messages, in as many pulls as it takes."""
        received: list[types.ReceivedMessage] = []
        while len(received) < count:
            more = self.pull(subscription, count - len(received))
            assert more, f"{len(received)} of {count} messages came"
            received += more
        return received

    def acknowledge(self, subscription: str, *received: types.ReceivedMessage) -> None:
        ack_ids = [each.ack_id for each in received]
        self.subscriber.acknowledge(subscription=subscription, ack_ids=ack_ids)

    def modify_ack_deadline(
        self, subscription: str, seconds: int, *received: types.ReceivedMessage
    ) -> None:
        self.subscriber.modify_ack_deadline(
            subscription=subscription,
            ack_ids=[each.ack_id for each in received],
            ack_deadline_seconds=seconds,
        )

    def let_leases_of_a_second_expire(self) -> None:
        """Any lease of one second that was granted before this call ends before it returns.

        It watches another message, leased for one second later than those, come back.
        """
        topic = self.topic("clock")
        watched = self.subscription(topic, "clock", ack_deadline_seconds=1)
        self.publish(topic, b"tick")
        assert self.pull(watched)
        assert self.pull(watched)
        self.subscriber.delete_subscription(subscription=watched)
        self.publisher.delete_topic(topic=topic)

    # --- messages, as they come ------------------------------------------------------------------

    @contextmanager
    def subscribe(
        self, subscription: str, callback: Callable[[Message], None], **flow_control: Any
    ) -> Iterator[StreamingPullFuture]:
        """The client's streaming pull, for the length of a `with` block."""
        future = self.subscriber.subscribe(
            subscription,
            callback,
            flow_control=pubsub_v1.types.FlowControl(**flow_control),
            await_callbacks_on_shutdown=True,
        )
        try:
            yield future
        finally:
            future.cancel()
            # The stream may have ended by itself; a test that cares asks for the reason.
            with suppress(GoogleAPICallError):
                future.result(timeout=PATIENCE_S)

    def stream(
        self, subscription: str, *, stream_ack_deadline_seconds: int = 10, **fields: Any
    ) -> Stream:
        """A StreamingPull call without the client's machinery, whose first request has `fields`."""
        stream = Stream(self.channel)
        self._streams.append(stream)
        stream.send(
            subscription=subscription,
            stream_ack_deadline_seconds=stream_ack_deadline_seconds,
            **fields,
        )
        return stream


@contextmanager
def project_on(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[PubSub]:
    """A new project. What the server logs meanwhile is shown if the test fails."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", server.endpoint)
    already_logged = len(server.log())
    try:
        with PubSub(server.endpoint) as project:
            yield project
    finally:
        sys.stderr.write(server.log()[already_logged:])


class Stream:
    """One StreamingPull call."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._requests: queue.SimpleQueue[types.StreamingPullRequest | None] = queue.SimpleQueue()
        self._responses: queue.SimpleQueue[types.StreamingPullResponse | None] = queue.SimpleQueue()
        method = channel.stream_stream(
            _STREAMING_PULL,
            request_serializer=types.StreamingPullRequest.serialize,
            response_deserializer=types.StreamingPullResponse.deserialize,
        )
        self._call = method(iter(self._requests.get, None))
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, **fields: Any) -> None:
        self._requests.put(types.StreamingPullRequest(**fields))

    def half_close(self) -> None:
        """Say that no request follows."""
        self._requests.put(None)

    def cancel(self) -> None:
        self._call.cancel()
        self._requests.put(None)

    def response(self, timeout_s: float = PATIENCE_S) -> types.StreamingPullResponse:
        """The next response. Raises AssertionError if none comes."""
        response = self._next(timeout_s)
        assert response is not None, f"the stream has ended: {self._call.code()}"
        return response

    def receive(self, count: int, timeout_s: float = PATIENCE_S) -> list[types.ReceivedMessage]:
        """The next `count` messages, in however many responses."""
        deadline = time.monotonic() + timeout_s
        received: list[types.ReceivedMessage] = []
        while len(received) < count:
            response = self.response(max(0.0, deadline - time.monotonic()))
            received += response.received_messages
        assert len(received) == count
        return received

    def is_silent_until_answered(self) -> bool:
        """True if nothing but the answer to a heartbeat comes: no message is on its way."""
        self.send()
        return not self.response().received_messages

    def error(self, timeout_s: float = PATIENCE_S) -> tuple[grpc.StatusCode, str]:
        """How the call ends, whatever comes before."""
        deadline = time.monotonic() + timeout_s
        while self._next(max(0.0, deadline - time.monotonic())) is not None:
            pass
        return self._call.code(), self._call.details() or ""

    def _next(self, timeout_s: float) -> types.StreamingPullResponse | None:
        try:
            return self._responses.get(timeout=timeout_s)
        except queue.Empty:
            raise AssertionError(f"nothing came within {timeout_s:.1f} s") from None

    def _read(self) -> None:
        try:
            for response in self._call:
                self._responses.put(response)
        except grpc.RpcError:
            pass  # `error` reports it
        self._responses.put(None)


class Inbox:
    """A callback that keeps what it gets, and acknowledges it unless told otherwise."""

    def __init__(self, settle: Callable[[Message], None] = Message.ack) -> None:
        self._settle = settle
        self._arrived = threading.Condition()
        self.messages: list[Message] = []

    def __call__(self, message: Message) -> None:
        with self._arrived:
            self.messages.append(message)
            self._arrived.notify_all()
        self._settle(message)

    def wait_for(self, enough: Callable[[Self], bool], timeout_s: float = PATIENCE_S) -> None:
        with self._arrived:
            if not self._arrived.wait_for(lambda: enough(self), timeout_s):
                raise AssertionError(f"only {len(self.messages)} messages came: {self.data[:20]}")

    def wait_for_count(self, count: int, timeout_s: float = PATIENCE_S) -> None:
        self.wait_for(lambda inbox: len(inbox.messages) >= count, timeout_s)

    def wait_for_data(self, data: Sequence[bytes], timeout_s: float = PATIENCE_S) -> None:
        wanted = set(data)
        self.wait_for(lambda inbox: wanted <= set(inbox.data), timeout_s)

    @property
    def data(self) -> list[bytes]:
        return [message.data for message in self.messages]

    @property
    def times(self) -> Counter[bytes]:
        """How often each message came."""
        return Counter(self.data)


def data_of(received: Sequence[types.ReceivedMessage]) -> list[bytes]:
    return [each.message.data for each in received]
