"""Messages as the body of an AMS push."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import orjson

from ams_grpc.broker.ams_push import AmsMattermost, AmsPush
from ams_grpc.broker.names import SubscriptionName
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb

DataText: TypeAlias = Callable[[bytes, pb.PubsubMessage], str]
"""The data of a message, which is given in both forms, as AMS shows them."""

_LINE_BREAKS: Final = str.maketrans("", "", "\r\n")


def http_body(
    push: AmsPush,
    name: SubscriptionName,
    source: str,
    messages: Sequence[bytes],
    data_text: DataText,
) -> bytes:
    """For an HTTP endpoint. ``source``: HOST:PORT of the service.

    AMS: a subscription that takes one message at a time gets it bare, others get a list; what is
    called ``subscription`` is a sentence.
    """
    sentence = f"subscription /{name} from {source}"
    wrapped = [
        {"message": _shown(push, each, data_text), "subscription": sentence} for each in messages
    ]
    return orjson.dumps(wrapped[0] if push.max_messages == 1 else {"messages": wrapped})


def mattermost_body(
    push: AmsPush, target: AmsMattermost, message: bytes, data_text: DataText
) -> bytes:
    """For a webhook of Mattermost: the data are the text."""
    text = data_text(message, pb.PubsubMessage.FromString(message))
    body = {"text": _data(push, text)}
    if target.username:
        body["username"] = target.username
    if target.channel:
        body["channel"] = target.channel
    return orjson.dumps(body)


def mattermost_error(body: bytes) -> str:
    """What Mattermost says went wrong; other than JSON as it is."""
    raw = body.decode(errors="replace")
    try:
        values = orjson.loads(body)
    except orjson.JSONDecodeError:
        return raw
    if not isinstance(values, dict) or not isinstance(message := values.get("message"), str):
        return raw
    detailed = values.get("detailed_error")
    return f"{message}.{detailed}" if isinstance(detailed, str) and detailed else message


def _shown(push: AmsPush, serialized: bytes, data_text: DataText) -> dict[str, Any]:
    """AMS: attributes in the order of their keys, and left out when there are none."""
    message = pb.PubsubMessage.FromString(serialized)
    shown: dict[str, Any] = {"messageId": message.message_id}
    if message.attributes:
        shown["attributes"] = dict(sorted(message.attributes.items()))
    shown["data"] = _data(push, data_text(serialized, message))
    shown["publishTime"] = _moment(message.publish_time)
    return shown


def _data(push: AmsPush, text: str) -> str:
    """AMS: ``base64Decode`` makes text of the data; what does not decode stays as it is."""
    if not push.base64_decode:
        return text
    try:
        return b64decode(text.translate(_LINE_BREAKS), validate=True).decode(errors="replace")
    except ValueError:
        return text


def _moment(moment: Any) -> str:
    """AMS: RFC 3339 in UTC, with as many digits of a second as it takes."""
    seconds = moment.ToDatetime().strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{moment.nanos:09d}".rstrip("0") if moment.nanos else ""
    return f"{seconds}{fraction}Z"
