"""A message as an HTTP request.

Pub/Sub: by default the message is wrapped in JSON; unwrapped, the body is its data, and with
``write_metadata`` its attributes are headers.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from typing import Any, Final

import orjson

from ams_grpc.broker.names import SubscriptionName
from ams_grpc.broker.policies import PushConfig
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb

_USER_AGENT: Final = "CloudPubSub-Google"
_JSON: Final = "application/json"
_OWN: Final = "x-goog-pubsub-"

_is_name: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII).fullmatch
_has_controls: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]").search

_NOT_FOR_PUBLISHERS: Final = frozenset(
    {
        # How the body travels, and on which connection, is between the service and the endpoint.
        *("connection", "content-encoding", "content-length", "expect", "host", "http2-settings"),
        *("keep-alive", "te", "trailer", "transfer-encoding", "upgrade"),
        # Who calls, too: a publisher is not to speak in the name of the service.
        *("authorization", "cookie", "user-agent"),
    }
)


@dataclass(frozen=True, slots=True)
class Request:
    """Body and headers of one push; the token comes on top."""

    body: bytes
    headers: dict[str, str]


def push_request(
    config: PushConfig, subscription: SubscriptionName, serialized: bytes, attempt: int | None
) -> Request:
    """The request for a serialized message; ``attempt`` is told with a dead-letter policy only."""
    message = pb.PubsubMessage.FromString(serialized)
    if config.unwrapped:
        return _unwrapped(message, subscription, write_metadata=config.write_metadata)
    return _wrapped(message, subscription, attempt)


def _wrapped(
    message: pb.PubsubMessage, subscription: SubscriptionName, attempt: int | None
) -> Request:
    publish_time = message.publish_time.ToJsonString()
    inner: dict[str, Any] = {}
    if message.attributes:
        inner["attributes"] = dict(message.attributes)
    if message.data:
        inner["data"] = b64encode(message.data).decode()
    # Pub/Sub: receivers in the field use either spelling.
    inner["messageId"] = inner["message_id"] = message.message_id
    inner["publishTime"] = inner["publish_time"] = publish_time
    if message.ordering_key:
        inner["orderingKey"] = message.ordering_key
    outer: dict[str, Any] = {"message": inner, "subscription": str(subscription)}
    if attempt is not None:
        outer["deliveryAttempt"] = attempt
    return Request(orjson.dumps(outer), {"User-Agent": _USER_AGENT, "Content-Type": _JSON})


def _unwrapped(
    message: pb.PubsubMessage, subscription: SubscriptionName, *, write_metadata: bool
) -> Request:
    headers = {"User-Agent": _USER_AGENT, "Content-Type": _content_type(message)}
    if write_metadata:
        _add(headers, f"{_OWN}subscription-name", str(subscription))
        _add(headers, f"{_OWN}message-id", message.message_id)
        _add(headers, f"{_OWN}publish-time", message.publish_time.ToJsonString())
        if message.ordering_key:
            _add(headers, f"{_OWN}ordering-key", message.ordering_key)
        for name, value in message.attributes.items():
            if _may_be_set(name):
                _add(headers, name, value)
    return Request(message.data, headers)


def _content_type(message: pb.PubsubMessage) -> str:
    for name, value in message.attributes.items():
        if name.lower() == "content-type" and value and not _has_controls(value):
            return value
    return _JSON


def _may_be_set(name: str) -> bool:
    """True if an attribute of this name may become a header."""
    lower = name.lower()
    return (
        _is_name(name) is not None
        and lower != "content-type"  # it has been seen to
        and lower not in _NOT_FOR_PUBLISHERS
        and not lower.startswith((_OWN, "proxy-"))
    )


def _add(headers: dict[str, str], name: str, value: str) -> None:
    """What no header can carry is left out."""
    if not _has_controls(value):
        headers[name] = value
