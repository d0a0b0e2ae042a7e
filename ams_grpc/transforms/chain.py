"""The transforms of one topic or subscription, one after the other, on a few messages.

This runs in a thread of ``lanes``. It changes no message that it is given: what it returns for each is
what became of it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ams_grpc.broker.errors import BrokerError
from ams_grpc.broker.policies import (
    CompressionMode,
    CompressionTransform,
    JavaScriptTransform,
    Transform,
)
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.services.messages import MAX_REQUEST_BYTES, check_attributes
from ams_grpc.transforms.worker import Worker

MAX_DATA_BYTES: Final = MAX_REQUEST_BYTES
_ENOUGH_BYTES: Final = 16 << 20  # came of one transform: the rest is for another turn


@dataclass(frozen=True, slots=True)
class Item:
    """A message on its way through the transforms: what they change, and what it came as."""

    source: pb.PubsubMessage
    data: bytes
    attributes: Mapping[str, str]

    @classmethod
    def of(cls, message: pb.PubsubMessage) -> Item:
        return cls(message, message.data, dict(message.attributes))

    def message(self) -> pb.PubsubMessage:
        """The source, changed."""
        self.source.data = self.data
        self.source.attributes.clear()
        self.source.attributes.update(self.attributes)
        return self.source


@dataclass(frozen=True, slots=True)
class Failed:
    """A message that a transform did not get through with, and why."""

    reason: str


Outcome: TypeAlias = Item | Failed | None
"""None: a transform dropped the message."""


def enabled(transforms: Sequence[Transform]) -> tuple[Transform, ...]:
    return tuple(transform for transform in transforms if not transform.disabled)


def apply(transforms: Sequence[Transform], items: Sequence[Item], worker: Worker) -> list[Outcome]:
    """What became of the first few items, of one at least, as far as a turn's time went.

    A message that was dropped or failed takes no further part.
    """
    outcomes: list[Outcome] = list(items)
    for transform in transforms:
        live = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, Item)]
        inputs = [outcome for outcome in outcomes if isinstance(outcome, Item)]
        results = _apply_one(transform, inputs, worker)
        for i, result in zip(live, results, strict=False):
            outcomes[i] = result
        if len(results) < len(live):
            del outcomes[live[len(results)] :]
    return outcomes


def _apply_one(transform: Transform, items: Sequence[Item], worker: Worker) -> list[Outcome]:
    match transform:
        case JavaScriptTransform(name, code):
            return _javascript(name, code, items, worker)
        case CompressionTransform(mode):
            compresses = mode is CompressionMode.COMPRESS
            return _recode(zlib.compress if compresses else _decompress, items)


# --- compression --------------------------------------------------------------------------------


def _recode(recode: Callable[[bytes], bytes], items: Sequence[Item]) -> list[Outcome]:
    """Change each item's data. What has no data has nothing that could be changed."""
    outcomes: list[Outcome] = []
    size = 0
    for item in items:
        try:
            data = recode(item.data) if item.data else b""
        except (zlib.error, ValueError) as error:
            outcomes.append(Failed(f"cannot decompress the data: {error}"))
            continue
        outcomes.append(_checked(item, data, item.attributes))
        size += len(data)
        if size > _ENOUGH_BYTES:
            break
    return outcomes


def _decompress(data: bytes) -> bytes:
    """Raises zlib.error, ValueError. Stops where the result gets too long."""
    stream = zlib.decompressobj()
    result = stream.decompress(data, MAX_DATA_BYTES + 1)
    if len(result) > MAX_DATA_BYTES:
        raise ValueError(f"more than {MAX_DATA_BYTES} bytes come of it")
    if not stream.eof or stream.unused_data:
        raise ValueError("it is cut short" if not stream.eof else "something follows it")
    return result


# --- JavaScript ---------------------------------------------------------------------------------


def _javascript(name: str, code: str, items: Sequence[Item], worker: Worker) -> list[Outcome]:
    if not items:
        return []
    try:
        texts = [_as_text(item) for item in items]
    except UnicodeDecodeError:
        # One of them cannot be read. It has failed, and those before it go first.
        return _up_to_unreadable(name, code, items, worker)
    answers = worker.run(name, code, texts)
    return [
        Failed(f"function {name}: {reason}") if result is None else _result(name, item, result)
        for item, (result, reason) in zip(items, answers, strict=False)
    ]


def _up_to_unreadable(name: str, code: str, items: Sequence[Item], worker: Worker) -> list[Outcome]:
    for i, item in enumerate(items):
        try:
            item.data.decode()
        except UnicodeDecodeError:
            before = _javascript(name, code, items[:i], worker)
            failed = Failed(f"function {name}: the data is no valid UTF-8")
            return [*before, failed] if len(before) == i else before
    return []


def _as_text(item: Item) -> str:
    """What the function gets. Raises UnicodeDecodeError.

    Pub/Sub: ``message`` has data and attributes; ``metadata`` what is known of id, time and key.
    """
    source = item.source
    metadata = {"publish_time": source.publish_time.ToDatetime().strftime("%Y-%m-%dT%H:%M:%SZ")}
    if source.message_id:
        metadata["message_id"] = source.message_id
    if source.ordering_key:
        metadata["ordering_key"] = source.ordering_key
    message = {"data": item.data.decode(), "attributes": item.attributes}
    return json.dumps({"message": message, "metadata": metadata}, ensure_ascii=False)


def _result(name: str, item: Item, text: str) -> Outcome:
    result: Any = json.loads(text)
    if result is None:
        return None
    data, attributes = result
    try:
        outcome = _checked(item, data.encode(), dict(attributes))
    except UnicodeEncodeError:
        return Failed(f"function {name}: it returned text that is no valid Unicode")
    return Failed(f"function {name}: {outcome.reason}") if isinstance(outcome, Failed) else outcome


def _checked(item: Item, data: bytes, attributes: Mapping[str, str]) -> Item | Failed:
    """Pub/Sub: what comes out obeys the limits of a publish."""
    if len(data) > MAX_DATA_BYTES:
        return Failed(f"more than {MAX_DATA_BYTES} bytes come of it")
    if not data and not attributes:
        return Failed("an empty message comes of it")
    try:
        check_attributes(attributes)
    except BrokerError as error:
        return Failed(error.message)
    return Item(item.source, data, attributes)
