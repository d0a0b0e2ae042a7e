"""Messages on the wire: checked when published, taken apart when read, put together when sent.

This is the hot path, so it works on bytes where it can. A stored payload is what publishers sent:
``PublishRequest.messages`` entries, one after the other (protobuf: joining serialized messages
merges them). A delivered message is the publisher's bytes with ``message_id`` and
``publish_time`` appended (protobuf: the last value of a field counts), so what a publisher set
there is replaced without parsing anything.

Field numbers used here, all of google.pubsub.v1: PublishRequest.topic 1, .messages 2;
PublishResponse.message_ids 1; PubsubMessage.message_id 3, .publish_time 4;
ReceivedMessage.ack_id 1, .message 2; PullResponse and StreamingPullResponse.received_messages 1.
``tests/unit/test_messages.py`` holds each function against protobuf's own code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
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
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb

MAX_MESSAGES: Final = 1000
MAX_REQUEST_BYTES: Final = 10_000_000
MAX_ATTRIBUTES: Final = 100
MAX_ATTRIBUTE_KEY_BYTES: Final = 256
MAX_ATTRIBUTE_VALUE_BYTES: Final = 1024
MAX_ORDERING_KEY_BYTES: Final = 1024

_RESERVED: Final = "goog"
_CLIENTS_OWN: Final = "googclient_"  # official clients put their trace context there

_MESSAGES_TAG: Final = 0x12
_MORE: Final = 0x80  # this bit of a varint's byte says that another byte follows


# --- publishing ----------------------------------------------------------------------------------


def check_publish(request: pb.PublishRequest, payload: bytes, size: int) -> None:
    """Pub/Sub: limits of Publish.

    ``payload`` is the request's messages (``payload_of``), ``size`` the bytes of all of it.
    Raises InvalidArgument, FailedPrecondition (different ordering keys).
    """
    count = len(request.messages)
    if count == 0:
        raise too_small("message_count", 0, 1)
    if count > MAX_MESSAGES:
        raise too_large("message_count", count, MAX_MESSAGES)
    if size > MAX_REQUEST_BYTES:
        raise too_large("request_size", size, MAX_REQUEST_BYTES)
    if not _is_plain(payload):
        _check_messages(request.messages)


def _is_plain(payload: bytes) -> bool:
    """True if all messages have data and nothing else, so that there is nothing to check.

    Messages of one size begin with the same bytes, and that is all that is compared.
    """
    starts_with = payload.startswith
    head, stride = _plain_head(b"\x12\x00")
    position, end = 0, len(payload)
    while position < end:
        if not starts_with(head, position):
            head, stride = _plain_head(payload[position : position + 11])
            if not starts_with(head, position):
                return False
        position += stride
    return True


@lru_cache(maxsize=4096)
def _plain_head(start: bytes) -> tuple[bytes, int]:
    """How a message begins that has data and nothing else, and how long it is, head included.

    ``start`` are the first bytes of such an entry; if they cannot be, the head is none that
    any entry begins with.
    """
    length, at = _read_varint(start, 1)
    data = length - 2
    while data > 0 and 1 + len(_varint(data)) + data > length:
        data -= 1
    if start[0] != _MESSAGES_TAG or data <= 0 or 1 + len(_varint(data)) + data != length:
        return b"\x00", 1
    return start[:at] + b"\x0a" + _varint(data), at + length


def _check_messages(messages: Iterable[pb.PubsubMessage]) -> None:
    ordering_keys = set()
    for message in messages:
        if message.attributes:
            _check_attributes(message.attributes)
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


def _check_attributes(attributes: Mapping[str, str]) -> None:
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


def payload_of(raw: bytes, request: pb.PublishRequest) -> bytes:
    """The messages of a serialized PublishRequest without its topic, ready to be stored."""
    topic = request.topic.encode()
    head = b"\x0a%b%b" % (_varint(len(topic)), topic)
    if raw.startswith(head):
        return raw[len(head) :]
    stripped = pb.PublishRequest(messages=request.messages)
    return stripped.SerializeToString()


def publish_response(first_seq: int, count: int) -> bytes:
    """A serialized PublishResponse: the ids are the seqs."""
    return b"".join([_ids(digits, seqs) for digits, seqs in _by_digits(first_seq, count)])


def _ids(digits: int, seqs: range) -> bytes:
    head = f"\x0a{digits:c}"
    return (head + head.join(map(str, seqs))).encode()


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
    bodies = _split(payload)
    if len(bodies) != count:
        bodies = [
            message.SerializeToString()
            for message in pb.PublishRequest.FromString(payload).messages
        ]
    seconds, micros = divmod(publish_time_us, 1_000_000)
    # Both parts are always written, so that they win over whatever the publisher wrote there.
    time = b"\x08%b\x10%b" % (_varint(seconds), _varint(micros * 1000))
    tail = b"\x22%c%b" % (len(time), time)
    messages: list[bytes] = []
    at = 0
    for digits, seqs in _by_digits(first_seq, count):
        part = bodies[at : at + len(seqs)]
        at += len(seqs)
        messages += [
            b"%b\x1a%c%d%b" % (body, digits, seq, tail)
            for body, seq in zip(part, seqs, strict=True)
        ]
    return messages


def _split(payload: bytes) -> list[bytes]:
    """The entries of ``PublishRequest.messages``; none if there is anything else in between."""
    bodies: list[bytes] = []
    append = bodies.append
    position, end = 0, len(payload)
    while position < end:
        if payload[position] != _MESSAGES_TAG:
            return []
        length = payload[position + 1]
        if length & _MORE:
            length, position = _read_varint(payload, position + 1)
        else:
            position += 2
        stop = position + length
        append(payload[position:stop])
        position = stop
    return bodies


# --- delivering ----------------------------------------------------------------------------------


def received_messages(delivery: Delivery) -> bytes:
    """The ``received_messages`` of a serialized PullResponse or StreamingPullResponse."""
    head = delivery.ack_id_head
    parts: list[bytes] = []
    append = parts.append
    for seq, message in zip(delivery.seqs, delivery.messages, strict=True):
        before, between = _frame(len(message))
        append(b"%b%b%012x%b%b" % (before, head, seq, between, message))
    return b"".join(parts)


@lru_cache(maxsize=4096)
def _frame(size: int) -> tuple[bytes, bytes]:
    """What stands before the ack id, and between it and a message of ``size`` bytes."""
    length = _varint(size)
    received = 2 + ACK_ID_CHARS + 1 + len(length) + size
    return (
        b"\x0a%b\x0a%c" % (_varint(received), ACK_ID_CHARS),
        b"\x12" + length,
    )


def _varint(number: int) -> bytes:
    """A number of at least 0 as protobuf writes it."""
    parts = bytearray()
    while number >= _MORE:
        parts.append(number & (_MORE - 1) | _MORE)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    """A number as protobuf writes it, and where it ends."""
    number = shift = 0
    while True:
        byte = data[position]
        position += 1
        number |= (byte & (_MORE - 1)) << shift
        if not byte & _MORE:
            return number, position
        shift += 7
