"""Messages as AMS shows them: the one place where a stored message becomes an ams.v1.Message.

This is a hot path. For gRPC it works on bytes where it can; the REST API in this process gets no message
at all, but what is in it. Field numbers used here: PubsubMessage.data 1,
.attributes 2, .message_id 3, .publish_time 4; ams.v1.Message.message_id 1, .attributes 2, .data 3,
.publish_time 4; ReceivedMessage.ack_id 1, .message 2; PullReply.received_messages 1. So most of a
stored message only has to move.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp

from ams_grpc.broker.windowed import Pulled
from ams_grpc.pb.ams.v1 import pubsub_pb2 as ams
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.services.ams.data import shown_data
from ams_grpc.services.wire import read_varint, varint

_DATA: Final = 0x0A
_ATTRIBUTE: Final = 0x12
_TIME: Final = 0x22
_MORE: Final = 0x80  # this bit of a varint's byte says that another byte follows


Shown: TypeAlias = tuple[bytes, int]
"""A serialized ams.v1.Message, and how long its data is."""


class Received:
    """The reply of a pull: a ``PullReply``, which is made only if it has to be serialized.

    AMS: an ack id is the ``subscription`` (``projects/P/subscriptions/S``) and the offset. Whoever asks
    for the messages has them counted.
    """

    def __init__(self, subscription: str, pulled: Pulled) -> None:
        self._subscription = subscription
        self._pulled = pulled

    def SerializeToString(self) -> bytes:
        """As a protobuf message does it."""
        pulled = self._pulled
        reply, size = received(self._subscription, pulled.seqs, pulled.messages)
        pulled.count_data(size)
        return reply

    def rows(self) -> list[Row]:
        """See ``http_bridge.ams.messages.Received``."""
        pulled = self._pulled
        rows, size = received_rows(self._subscription, pulled.seqs, pulled.messages)
        pulled.count_data(size)
        return rows


Row: TypeAlias = tuple[str, str, Mapping[str, str], str, Timestamp]
"""An ack id; and a message's id, attributes, data and publish time."""


def received_rows(
    subscription: str, seqs: Sequence[int], messages: Sequence[bytes]
) -> tuple[list[Row], int]:
    """What ``received`` serializes, and how much data it has."""
    head = f"{subscription}:"
    rows: list[Row] = []
    size = 0
    for seq, stored in zip(seqs, messages, strict=True):
        message = pb.PubsubMessage.FromString(stored)
        data = shown_data(stored, message)
        size += len(data)
        row = (f"{head}{seq}", str(seq), message.attributes, data, message.publish_time)
        rows.append(row)
    return rows, size


def received(
    subscription: str, seqs: Sequence[int], messages: Sequence[bytes]
) -> tuple[bytes, int]:
    """The serialized reply of a pull, and how much data it has."""
    head = f"{subscription}:".encode()
    parts: list[bytes] = []
    size = 0
    for seq, stored in zip(seqs, messages, strict=True):
        digits = b"%d" % seq
        message, data_size = shown(stored, digits)
        size += data_size
        ack_id = b"\x0a%b%b%b" % (_length(len(head) + len(digits)), head, digits)
        body = _length(len(message))
        whole = _length(len(ack_id) + 1 + len(body) + len(message))
        parts.append(b"\x0a%b%b\x12%b%b" % (whole, ack_id, body, message))
    return b"".join(parts), size


def shown(stored: bytes, digits: bytes) -> Shown:
    """A serialized PubsubMessage with the id ``digits`` as AMS shows it.

    What AMS does not know, ordering keys, is left out.
    """
    return _rearranged(stored, digits) or _translated(stored)


def _rearranged(stored: bytes, digits: bytes) -> Shown | None:
    """If there is nothing but data, attributes, and then this id and a time; else None."""
    try:
        data, attributes, tail = _cut(stored)
        after_id = tail + 2 + len(digits)
        if (
            stored[tail:after_id] != b"\x1a%c%b" % (len(digits), digits)
            or stored[after_id] != _TIME
            or after_id + 2 + stored[after_id + 1] != len(stored)
        ):
            return None
    except IndexError:
        return None
    text = b2a_base64(data, newline=False)
    message = b"\x0a%b%b\x1a%b%b%b" % (
        stored[tail + 1 : after_id],
        stored[attributes:tail],
        _length(len(text)),
        text,
        stored[after_id:],
    )
    return message, len(text)


def _cut(stored: bytes) -> tuple[bytes, int, int]:
    """The data; where attributes begin; and where they end. Raises IndexError."""
    data, at = b"", 0
    if stored[0] == _DATA:
        length, at = stored[1], 2
        if length & _MORE:
            length, at = read_varint(stored, 1)
        data = stored[at : at + length]
        at += length
    attributes = at
    while stored[at] == _ATTRIBUTE:
        length = stored[at + 1]
        if length & _MORE:
            length, at = read_varint(stored, at + 1)
        else:
            at += 2
        at += length
    return data, attributes, at


def _translated(stored: bytes) -> Shown:
    """However it is made."""
    message = pb.PubsubMessage.FromString(stored)
    data = shown_data(stored, message)
    translated = ams.Message(
        message_id=message.message_id,
        attributes=message.attributes,
        data=data,
        publish_time=message.publish_time,
    )
    return translated.SerializeToString(), len(data)


@lru_cache(maxsize=4096)
def _length(number: int) -> bytes:
    return varint(number)
