"""AMS's ``data``, which is a text, and the bytes that are stored.

AMS gives back whatever text was published. Base64 in its usual form stands for the bytes that it
encodes, which is what all other doors see. Any other text is stored as it is, with a mark behind the
message: a field that PubsubMessage does not have, so nobody else looks at it.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from functools import lru_cache
from typing import Any, Final

from google.protobuf.unknown_fields import UnknownFieldSet

from ams_grpc.pb.ams.v1 import pubsub_pb2 as ams
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2
from ams_grpc.services.messages import data_of
from ams_grpc.services.wire import varint

_MARK_FIELD: Final = 2000
_MARK: Final = b"\x80\x7d\x01"  # a varint, 1, in that field
_OTHERS: Final = ("message_id", "data", "publish_time")


def stored_body(message: ams.Message) -> bytes:
    """A serialized PubsubMessage for a message of AMS, which has only its attributes afterwards."""
    text = message.data
    decoded = decoded_base64(text)
    mark = b"" if decoded is not None else _MARK
    data = text.encode() if decoded is None else decoded
    return (_data_head(len(data)) + data if data else b"") + _attributes(message) + mark


@lru_cache(maxsize=4096)
def _data_head(size: int) -> bytes:
    return b"\x0a" + varint(size)


def _attributes(message: ams.Message) -> bytes:
    """They are the same field in both, and to build a map of them costs more than all the rest."""
    if not message.attributes:
        return b""
    for field in _OTHERS:
        message.ClearField(field)
    message.DiscardUnknownFields()
    return message.SerializeToString()


def decoded_base64(text: str) -> bytes | None:
    """What a text encodes; None if it is not base64 as everybody writes it."""
    try:
        decoded = a2b_base64(text, strict_mode=True)
    except ValueError:
        return None
    return decoded if b2a_base64(decoded, newline=False) == text.encode() else None


def shown_data(serialized: bytes, message: Any) -> str:
    """The text of a stored message, which is given in both forms."""
    if _MARK in serialized and _is_marked(message):
        return str(message.data.decode(errors="replace"))
    return b2a_base64(message.data, newline=False).decode("ascii")


def data_and_text(serialized: bytes) -> tuple[bytes, bool]:
    """The data of a stored message, and whether that is the text itself which was published."""
    if _MARK in serialized:
        message = pubsub_pb2.PubsubMessage.FromString(serialized)
        return message.data, _is_marked(message)
    return data_of(serialized), False


def _is_marked(message: Any) -> bool:
    unknown = UnknownFieldSet(message)
    return any(unknown[at].field_number == _MARK_FIELD for at in range(len(unknown)))
