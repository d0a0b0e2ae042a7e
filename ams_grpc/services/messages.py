"""Messages on the wire: checked when published, taken apart when read, put together when sent.

This is the hot path, so it works on bytes where it can. A stored payload is what publishers sent:
``PublishRequest.messages`` entries, one after the other (protobuf: joining serialized messages
merges them). A delivered message is the publisher's bytes with ``message_id`` and
``publish_time`` appended (protobuf: the last value of a field counts), so what a publisher set
there is replaced without parsing anything.

Field numbers used here, all of google.pubsub.v1: PublishRequest.topic 1, .messages 2;
PublishResponse.message_ids 1; PubsubMessage.message_id 3, .publish_time 4, .ordering_key 5;
ReceivedMessage.ack_id 1, .message 2, .delivery_attempt 3; PullResponse and StreamingPullResponse.received_messages 1.
``tests/unit/test_messages.py`` holds each function against protobuf's own code.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from ams_grpc.broker.ack_ids import ACK_ID_CHARS
from ams_grpc.broker.consumers import Delivery
from ams_grpc.broker.errors import (
    FailedPrecondition,
    InvalidArgument,
    invalid_argument,
    too_large,
    too_small,
)
from ams_grpc.broker.names import TopicName
from ams_grpc.broker.ports import Appended, Once
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.services.frame import parse
from ams_grpc.services.wire import read_varint, varint

MAX_MESSAGES: Final = 1000
MAX_REQUEST_BYTES: Final = 10_000_000
MAX_ACK_REQUEST_BYTES: Final = 524_288
MAX_ATTRIBUTES: Final = 100
MAX_ATTRIBUTE_KEY_BYTES: Final = 256
MAX_ATTRIBUTE_VALUE_BYTES: Final = 1024
MAX_ORDERING_KEY_BYTES: Final = 1024

_RESERVED: Final = "goog"
_CLIENTS_OWN: Final = "googclient_"  # official clients put their trace context there

_TOPIC_TAG: Final = 0x0A
_MESSAGES_TAG: Final = 0x12
_ORDERING_KEY_TAG: Final = b"\x2a"
_DATA_TAG: Final = b"\x0a"
_MORE: Final = 0x80  # this bit of a varint's byte says that another byte follows


# --- publishing ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Published:
    """A valid PublishRequest: ``payload`` is its ``count`` messages, ready to be stored."""

    topic: TopicName
    payload: bytes
    count: int


def read_publish(serialized: bytes) -> Published:
    """Read a serialized PublishRequest, and hold it against the limits of Publish.

    Most requests are plain: the topic, then messages that have data and nothing else. Those need
    not even be parsed. Raises InvalidArgument, FailedPrecondition (different ordering keys).
    """
    return _read_plain(serialized) or _read_any(serialized)


def _read_plain(serialized: bytes) -> Published | None:
    """Read a plain request that is within the limits; None for any other."""
    try:
        if serialized[0] != _TOPIC_TAG or len(serialized) > MAX_REQUEST_BYTES:
            return None
        length, start = read_varint(serialized, 1)
        payload = serialized[start + length :]
        count = _count_plain(payload)
        if not 1 <= count <= MAX_MESSAGES:
            return None
        topic = serialized[start : start + length].decode()
    except (IndexError, UnicodeDecodeError):
        return None
    return Published(TopicName.parse(topic), payload, count)


def _read_any(serialized: bytes) -> Published:
    if len(serialized) > MAX_REQUEST_BYTES:
        raise too_large("request_size", len(serialized), MAX_REQUEST_BYTES)
    request: pb.PublishRequest = parse(pb.PublishRequest, serialized)
    if len(request.messages) > MAX_MESSAGES:
        raise too_large("message_count", len(request.messages), MAX_MESSAGES)
    topic = TopicName.parse(request.topic)
    if not request.messages:
        raise too_small("message_count", 0, 1)
    _check_messages(request.messages)
    count = len(request.messages)
    request.ClearField("topic")
    request.DiscardUnknownFields()
    return Published(topic, request.SerializeToString(), count)


def _count_plain(payload: bytes) -> int:
    """How many messages there are, if all have data and nothing else; -1 if not.

    Messages of one size begin with the same bytes, and that is all that is compared: at once, if
    there are only such.
    """
    head, stride = _plain_head(payload[:6])
    if not stride:
        return -1
    count, rest = divmod(len(payload), stride)
    if not rest and all(
        payload[at::stride] == head[at : at + 1] * count for at in range(len(head))
    ):
        return count
    return _count_plain_of_all_sizes(payload)


def _count_plain_of_all_sizes(payload: bytes) -> int:
    head, stride = b"", 0
    count = position = 0
    end = len(payload)
    while position < end:
        if not stride or payload[position : position + len(head)] != head:
            head, stride = _plain_head(payload[position : position + 6])
            if not stride or payload[position : position + len(head)] != head:
                return -1
        position += stride
        count += 1
    return count if position == end else -1


_NO_HEAD: Final = (b"", 0)


@lru_cache(maxsize=4096)
def _plain_head(start: bytes) -> tuple[bytes, int]:
    """How a message begins that has data and nothing else, and how long it is, head included.

    ``start`` are the first bytes of such an entry. ``_NO_HEAD`` if they cannot be.
    """
    try:
        length, at = read_varint(start, 1)
    except IndexError:
        return _NO_HEAD
    data = length - 2
    while data > 0 and 1 + len(varint(data)) + data > length:
        data -= 1
    if start[0] != _MESSAGES_TAG or data <= 0 or 1 + len(varint(data)) + data != length:
        return _NO_HEAD
    return start[:at] + b"\x0a" + varint(data), at + length


def _check_messages(messages: Iterable[pb.PubsubMessage]) -> None:
    ordering_keys = set()
    for message in messages:
        if message.attributes:
            check_attributes(message.attributes)
        elif not message.data:
            raise InvalidArgument("Some messages are empty", field="messages")
        ordering_keys.add(message.ordering_key)
    if len(ordering_keys) > 1:
        raise FailedPrecondition(
            "In a single publish request, all messages must have no ordering key or they must all "
            "have the same ordering key.",
            field="messages",
        )
    if len(ordering_keys.pop().encode()) > MAX_ORDERING_KEY_BYTES:
        raise invalid_argument(
            f"ordering_key: at most {MAX_ORDERING_KEY_BYTES} bytes", field="messages.ordering_key"
        )


def check_attributes(attributes: Mapping[str, str]) -> None:
    """Pub/Sub: limits of attributes. Raises InvalidArgument."""
    if len(attributes) > MAX_ATTRIBUTES:
        raise invalid_argument(
            f"attributes: at most {MAX_ATTRIBUTES} per message", field="messages.attributes"
        )
    for key, value in attributes.items():
        if not key:
            raise invalid_argument("attributes: a key is empty", field="messages.attributes")
        if len(key.encode()) > MAX_ATTRIBUTE_KEY_BYTES:
            raise invalid_argument(
                f"attributes: a key has more than {MAX_ATTRIBUTE_KEY_BYTES} bytes",
                field="messages.attributes",
            )
        if len(value.encode()) > MAX_ATTRIBUTE_VALUE_BYTES:
            raise invalid_argument(
                f"attributes: a value has more than {MAX_ATTRIBUTE_VALUE_BYTES} bytes",
                field="messages.attributes",
            )
        if key.startswith(_RESERVED) and not key.startswith(_CLIENTS_OWN):
            raise invalid_argument(
                f"attributes: keys that start with '{_RESERVED}' are reserved",
                field="messages.attributes",
            )


def publish_response(appended: Appended, count: int, once: Once | None = None) -> bytes:
    """A serialized PublishResponse for ``count`` messages: the ids are the seqs.

    Messages that transforms dropped get ids, too, which no message ever had or will have; if they
    are published ``once``, always the same.
    """
    if appended.places is None:
        return _ids(appended.first_seq, count)
    ids = message_ids(appended, count, once)
    return b"".join([b"\x0a%c%b" % (len(each), each.encode()) for each in ids])


def message_ids(appended: Appended, count: int, once: Once | None = None) -> list[str]:
    """The same ids, one by one."""
    first = appended.first_seq
    if appended.places is None:
        return list(map(str, range(first, first + count)))
    seed = secrets.token_bytes(16) if once is None else once.key
    ids = [_id_of_dropped(seed, place) for place in range(count)]
    for seq, place in enumerate(appended.places, first):
        ids[place] = str(seq)
    return ids


def _id_of_dropped(seed: bytes, place: int) -> str:
    """39 digits out of 2**127 possibilities; a seq has 19 at most."""
    digest = blake2b(seed + place.to_bytes(4, "little"), digest_size=16).digest()
    return str(1 << 127 | int.from_bytes(digest, "little"))


def _ids(first_seq: int, count: int) -> bytes:
    """The ``message_ids`` of consecutive seqs."""
    parts = []
    end = first_seq + count
    while first_seq < end:
        # A thousand ids that differ in their last three digits are joined in one go.
        thousand, at = divmod(first_seq, 1000)
        stop = min(end - first_seq + at, 1000)
        if thousand:
            front = b"%d" % thousand
            head = b"\x0a%c%b" % (len(front) + 3, front)
            parts.append(head + head.join(_LAST_DIGITS[at:stop]))
        else:
            parts += [b"\x0a%c%d" % (len(str(seq)), seq) for seq in range(at, stop)]
        first_seq += stop - at
    return b"".join(parts)


_LAST_DIGITS: Final = tuple(b"%03d" % number for number in range(1000))


def _by_digits(first_seq: int, count: int) -> list[tuple[int, range]]:
    """``count`` seqs, cut where they get one more decimal digit: pairs of digits and seqs."""
    end = first_seq + count
    digits = len(str(first_seq))
    parts = []
    while end > 10**digits:
        parts.append((digits, range(first_seq, 10**digits)))
        first_seq = 10**digits
        digits += 1
    return [*parts, (digits, range(first_seq, end))]


# --- reading -------------------------------------------------------------------------------------


def decode(payload: bytes, first_seq: int, count: int, publish_time_us: int) -> list[bytes]:
    """Take a stored payload apart into serialized PubsubMessages with id and publish time.

    Implements ``ports.Decoder``.
    """
    messages_alone = bodies(payload, count)
    seconds, micros = divmod(publish_time_us, 1_000_000)
    # Both parts are always written, so that they win over whatever the publisher wrote there.
    time = b"\x08%b\x10%b" % (varint(seconds), varint(micros * 1000))
    tail = b"\x22%c%b" % (len(time), time)
    messages: list[bytes] = []
    at = 0
    for digits, seqs in _by_digits(first_seq, count):
        part = messages_alone[at : at + len(seqs)]
        at += len(seqs)
        messages += [
            b"%b\x1a%c%d%b" % (body, digits, seq, tail)
            for body, seq in zip(part, seqs, strict=True)
        ]
    return messages


def bodies(payload: bytes, count: int) -> list[bytes]:
    """The ``count`` serialized PubsubMessages of a payload."""
    found = _split(payload)
    if len(found) == count:
        return found
    request = pb.PublishRequest.FromString(payload)
    return [message.SerializeToString() for message in request.messages]


def _split(payload: bytes) -> list[bytes]:
    """The entries of ``PublishRequest.messages``; none if there is anything else in between."""
    found: list[bytes] = []
    append = found.append
    position, end = 0, len(payload)
    while position < end:
        if payload[position] != _MESSAGES_TAG:
            return []
        length = payload[position + 1]
        if length & _MORE:
            length, position = read_varint(payload, position + 1)
        else:
            position += 2
        stop = position + length
        append(payload[position:stop])
        position = stop
    return found


def data_of(body: bytes) -> bytes:
    """The data of a serialized PubsubMessage."""
    if body.startswith(_DATA_TAG):
        length, start = body[1], 2
        if length & _MORE:
            length, start = read_varint(body, 1)
        if start + length == len(body):
            return body[start:]
    data: bytes = pb.PubsubMessage.FromString(body).data
    return data


def payload_of(messages: Iterable[bytes]) -> bytes:
    """A payload of serialized PubsubMessages: the opposite of ``bodies``."""
    return b"".join([_entry_head(len(body)) + body for body in messages])


@lru_cache(maxsize=4096)
def _entry_head(size: int) -> bytes:
    return b"\x12" + varint(size)


def ordering_key(message: bytes) -> str:
    """The ordering key of a serialized PubsubMessage; empty if it has none."""
    if _ORDERING_KEY_TAG not in message:
        return ""
    key: str = pb.PubsubMessage.FromString(message).ordering_key
    return key


def annotated(message: bytes, attributes: Mapping[str, str]) -> bytes:
    """A payload of one message: a stored one with these attributes in place of its own of that name.

    protobuf: of a map's entries with the same key, the last counts.
    """
    more = pb.PubsubMessage(attributes=attributes).SerializeToString()
    return b"\x12%b%b%b" % (varint(len(message) + len(more)), message, more)


def attributes_of(message: bytes) -> Mapping[str, str]:
    """The attributes of a serialized PubsubMessage. Implements ``filters.AttributesOf``."""
    return pb.PubsubMessage.FromString(message).attributes


# --- acknowledging -------------------------------------------------------------------------------


def check_ack_request_size(serialized: bytes) -> None:
    """Pub/Sub: limit of requests that carry ack ids. Raises InvalidArgument."""
    if len(serialized) > MAX_ACK_REQUEST_BYTES:
        raise InvalidArgument(
            f"Request payload size exceeds the limit: {MAX_ACK_REQUEST_BYTES} bytes."
        )


# --- delivering ----------------------------------------------------------------------------------


def received_messages(delivery: Delivery) -> bytes:
    """The ``received_messages`` of a serialized PullResponse or StreamingPullResponse."""
    head = delivery.ack_id_head
    parts: list[bytes] = []
    append = parts.append
    if delivery.attempts:
        return _with_attempts(delivery)
    for seq, message in zip(delivery.seqs, delivery.messages, strict=True):
        before, between = _frame(len(message))
        append(b"%b%b%012x%b%b" % (before, head, seq, between, message))
    return b"".join(parts)


def _with_attempts(delivery: Delivery) -> bytes:
    """``received_messages`` where each has a delivery attempt."""
    parts: list[bytes] = []
    head = delivery.ack_id_head
    for seq, message, attempt in zip(
        delivery.seqs, delivery.messages, delivery.attempts, strict=True
    ):
        received = b"\x0a%c%b%012x\x12%b%b\x18%b" % (
            ACK_ID_CHARS, head, seq, varint(len(message)), message, varint(attempt),
        )  # fmt: skip
        parts.append(b"\x0a%b%b" % (varint(len(received)), received))
    return b"".join(parts)


@lru_cache(maxsize=4096)
def _frame(size: int) -> tuple[bytes, bytes]:
    """What stands before the ack id, and between it and a message of ``size`` bytes."""
    length = varint(size)
    received = 2 + ACK_ID_CHARS + 1 + len(length) + size
    return (
        b"\x0a%b\x0a%c" % (varint(received), ACK_ID_CHARS),
        b"\x12" + length,
    )
