"""Bytes on the wire: the protobuf classes, ready-made request bodies, gRPC method paths."""

from typing import Final

from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.pb.google.pubsub.v1 import schema_pb2

PROJECT: Final = "projects/bench-project"

PUBLISH: Final = "/google.pubsub.v1.Publisher/Publish"
CREATE_TOPIC: Final = "/google.pubsub.v1.Publisher/CreateTopic"
UPDATE_TOPIC: Final = "/google.pubsub.v1.Publisher/UpdateTopic"
DELETE_TOPIC: Final = "/google.pubsub.v1.Publisher/DeleteTopic"
CREATE_SUBSCRIPTION: Final = "/google.pubsub.v1.Subscriber/CreateSubscription"
DELETE_SUBSCRIPTION: Final = "/google.pubsub.v1.Subscriber/DeleteSubscription"
STREAMING_PULL: Final = "/google.pubsub.v1.Subscriber/StreamingPull"
MODIFY_PUSH_CONFIG: Final = "/google.pubsub.v1.Subscriber/ModifyPushConfig"
ACKNOWLEDGE: Final = "/google.pubsub.v1.Subscriber/Acknowledge"
CREATE_SCHEMA: Final = "/google.pubsub.v1.SchemaService/CreateSchema"
DELETE_SCHEMA: Final = "/google.pubsub.v1.SchemaService/DeleteSchema"

STREAM_ACK_DEADLINE_S: Final = 60

CHANNEL_OPTIONS: Final[list[tuple[str, int]]] = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # one connection per channel
    ("grpc.enable_http_proxy", 0),
]

# How the bench tells the floor, in StreamingPullRequest.client_id, what to stream. Real servers
# take it for what it is: a name.
_FLOOR_ORDER: Final = "messages={} bytes={}"


def topic_path(name: str) -> str:
    """The full resource name of a topic of the bench project."""
    return f"{PROJECT}/topics/{name}"


def subscription_path(name: str) -> str:
    """The full resource name of a subscription of the bench project."""
    return f"{PROJECT}/subscriptions/{name}"


def any_data(byte_size: int) -> bytes:
    """``byte_size`` bytes of data."""
    return bytes(33 + i % 90 for i in range(byte_size))


def publish_body(topic: str, count: int, data: bytes) -> bytes:
    """A serialized PublishRequest of ``count`` messages with the same data."""
    messages = [pb.PubsubMessage(data=data)] * count
    return pb.PublishRequest(topic=topic, messages=messages).SerializeToString()


def stream_opening(
    subscription: str, *, max_outstanding_messages: int, messages: int, byte_size: int
) -> bytes:
    """The first StreamingPullRequest of a stream.

    ``messages`` and ``byte_size`` only matter to the floor, which streams that many of that size.
    """
    return pb.StreamingPullRequest(
        subscription=subscription,
        stream_ack_deadline_seconds=STREAM_ACK_DEADLINE_S,
        max_outstanding_messages=max_outstanding_messages,
        client_id=_FLOOR_ORDER.format(messages, byte_size),
    ).SerializeToString()


def floor_order(client_id: str) -> tuple[int, int]:
    """What :func:`stream_opening` asked of the floor: messages, and bytes of data in each."""
    messages, byte_size = (int(part.partition("=")[2]) for part in client_id.split())
    return messages, byte_size


def grpc_frame(body: bytes) -> bytes:
    """``body`` behind gRPC's prefix: uncompressed, four bytes of length."""
    return b"\0" + len(body).to_bytes(4, "big") + body


__all__ = [
    "ACKNOWLEDGE",
    "CHANNEL_OPTIONS",
    "CREATE_SCHEMA",
    "CREATE_SUBSCRIPTION",
    "CREATE_TOPIC",
    "DELETE_SCHEMA",
    "DELETE_SUBSCRIPTION",
    "DELETE_TOPIC",
    "MODIFY_PUSH_CONFIG",
    "PROJECT",
    "PUBLISH",
    "STREAMING_PULL",
    "UPDATE_TOPIC",
    "any_data",
    "floor_order",
    "grpc_frame",
    "pb",
    "publish_body",
    "schema_pb2",
    "stream_opening",
    "subscription_path",
    "topic_path",
]
