"""Idempotency keys of publishers: a request that is sent again, for want of an answer, counts once.

The key comes as metadata, ``x-idempotency-key``; over REST as the header ``Idempotency-Key``. It
belongs to its caller and its topic: what others call theirs is another key.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from ams_grpc.broker.errors import InvalidArgument
from ams_grpc.broker.ports import Once
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.services.callers import caller
from ams_grpc.services.frame import Context

METADATA_KEY: Final = "x-idempotency-key"
MAX_KEY_CHARS: Final = 255


class IdempotencyKeys:
    """Reads them. They are remembered for ``window_s`` seconds."""

    def __init__(self, window_s: float) -> None:
        self._window_us = int(window_s * 1e6)

    def once(self, context: Context, payload: bytes) -> Once | None:
        """What makes a publish of ``payload`` happen once; None if nobody asked for it.

        ``payload`` is the serialized ``PublishRequest.messages``. Raises InvalidArgument.
        """
        given = [value for key, value in context.invocation_metadata() or () if key == METADATA_KEY]
        if not given:
            return None
        return Once(_own(_checked(given)), _digest(payload), self._window_us)


def _checked(given: list[str | bytes]) -> str:
    key = given[0]
    if len(given) > 1:
        raise InvalidArgument("A request has one idempotency key at most.")
    if not isinstance(key, str) or not 1 <= len(key) <= MAX_KEY_CHARS or not _is_visible(key):
        raise InvalidArgument(
            f"An idempotency key has 1 to {MAX_KEY_CHARS} visible ASCII characters, and no blanks."
        )
    return key


def _is_visible(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def _own(key: str) -> bytes:
    """16 bytes that stand for the caller's key."""
    try:
        whose = caller().uuid
    except LookupError:  # open mode: all callers are one
        whose = ""
    return blake2b(f"{whose} {key}".encode(), digest_size=16, person=b"publish").digest()


def _digest(payload: bytes) -> bytes:
    """The same for the same messages, in whatever order a client writes their attributes."""
    messages = pb.PublishRequest.FromString(payload)
    return blake2b(messages.SerializeToString(deterministic=True), digest_size=16).digest()
