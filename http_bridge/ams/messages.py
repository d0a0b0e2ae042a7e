"""Publish and pull: JSON <-> messages without the generic mapping, which costs too much for each message."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, Protocol, TypeAlias

import orjson
from google.protobuf.timestamp_pb2 import Timestamp

from ams_grpc.pb.ams.v1 import pubsub_pb2
from http_bridge.ams.reading import load
from http_bridge.ams.writing import escaped, moment

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,10}", re.ASCII)
_MOST: Final = (1 << 31) - 1
_FIELDS: Final = ("data", "attributes")
_KNOWN: Final = frozenset(_FIELDS)


class WrongType(ValueError):
    """A value that is not what AMS expects under its key."""


def read_publish(request: pubsub_pb2.PublishRequest, body: bytes) -> None:
    """Fill in the messages. Raises ValueError, RecursionError."""
    add = request.messages.add
    for each in _of(_get(load(body), "messages"), list) or ():
        message = _of(each, dict) or {}
        known = message if message.keys() <= _KNOWN else _renamed(message)
        data = known.get("data")
        attributes = known.get("attributes")
        if data is not None and not isinstance(data, str):
            raise WrongType
        if attributes:
            add(data=data, attributes=_texts(attributes))
        elif attributes is None or isinstance(attributes, dict):
            add(data=data)
        else:
            raise WrongType


def read_pull(request: pubsub_pb2.PullRequest, body: bytes) -> None:
    """AMS: both values are texts; what is no number is 1, and only ``"false"`` waits.

    Raises ValueError, RecursionError.
    """
    values = load(body)
    most = _of(_get(values, "maxMessages"), str) or ""
    request.max_messages = min(max(int(most), 1), _MOST) if _INTEGER.fullmatch(most) else 1
    request.wait = _of(_get(values, "returnImmediately"), str) == "false"


Row: TypeAlias = tuple[str, str, Mapping[str, str], str, Timestamp]
"""A received message: its ack id, message id, attributes, data and publish time."""


class Received(Protocol):
    """What a pull gave, from a server in this process: a ``PullReply`` that was never made."""

    def rows(self) -> Iterable[Row]:
        """Each message."""
        ...


def pull_json(reply: pubsub_pb2.PullReply | Received) -> bytes:
    """The received messages. On one line: there may be many."""
    received = []
    rows = _rows(reply) if isinstance(reply, pubsub_pb2.PullReply) else reply.rows()
    for ack_id, message_id, attributes, data, time in rows:
        message: dict[str, Any] = {"messageId": message_id}
        if attributes:
            message["attributes"] = dict(sorted(attributes.items()))
        message["data"] = data
        message["publishTime"] = _moment(time.seconds, time.nanos)
        received.append({"ackId": ack_id, "message": message})
    return escaped(orjson.dumps({"receivedMessages": received}))


def _rows(reply: pubsub_pb2.PullReply) -> Iterator[Row]:
    for each in reply.received_messages:
        message = each.message
        yield (
            each.ack_id,
            message.message_id,
            message.attributes,
            message.data,
            message.publish_time,
        )


def publish_json(reply: pubsub_pb2.PublishReply) -> bytes:
    """The ids. On one line."""
    return orjson.dumps({"messageIds": list(reply.message_ids)})


@lru_cache(maxsize=64)  # the messages of a batch have the same
def _moment(seconds: int, nanos: int) -> str:
    return moment(seconds, nanos)


def _texts(attributes: Any) -> Mapping[str, str]:
    """AMS: ``null`` in place of a text is an empty one."""
    if not isinstance(attributes, dict):
        raise WrongType
    for value in attributes.values():
        if not isinstance(value, str):
            if value is not None:
                raise WrongType
            return {key: _of(each, str) or "" for key, each in attributes.items()}
    return attributes


def _renamed(message: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _get(message, name) for name in _FIELDS}


def _get(values: Mapping[str, Any], name: str) -> Any:
    """AMS: keys count whatever their case; an exact one comes first, of others the last."""
    if name in values:
        return values[name]
    found = [value for key, value in values.items() if key.lower() == name.lower()]
    return found[-1] if found else None


def _of(value: Any, kind: type) -> Any:
    if value is not None and not isinstance(value, kind):
        raise WrongType
    return value
