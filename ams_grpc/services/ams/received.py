"""Messages as AMS shows them: the one place where a stored message becomes an ams.v1.Message."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence

from ams_grpc.pb.ams.v1 import pubsub_pb2 as ams
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb


def show(stored: bytes, shown: ams.Message) -> int:
    """Fill ``shown`` with a serialized PubsubMessage. Returns how long its data is there.

    What AMS does not know, ordering keys, is left out.
    """
    message = pb.PubsubMessage.FromString(stored)
    shown.message_id = message.message_id
    if message.attributes:
        shown.attributes.update(message.attributes)
    shown.data = data = b64encode(message.data).decode()
    shown.publish_time.CopyFrom(message.publish_time)
    return len(data)


def received(
    subscription: str, seqs: Sequence[int], messages: Sequence[bytes]
) -> tuple[ams.PullReply, int]:
    """The reply of a pull, and how much data it has.

    AMS: an ack id is the ``subscription`` (``projects/P/subscriptions/S``) and the offset.
    """
    reply = ams.PullReply()
    add = reply.received_messages.add
    size = 0
    for seq, message in zip(seqs, messages, strict=True):
        each = add(ack_id=f"{subscription}:{seq}")
        size += show(message, each.message)
    return reply, size
