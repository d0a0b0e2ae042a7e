"""What an idempotency key is, whose it is, and which requests are the same."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import copy_context
from typing import cast

import pytest

from ams_grpc.auth.principals import Principal
from ams_grpc.broker.errors import InvalidArgument
from ams_grpc.broker.ports import Appended, Once
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.services.callers import set_caller
from ams_grpc.services.frame import Context
from ams_grpc.services.idempotency import IdempotencyKeys
from ams_grpc.services.messages import message_ids, payload_of, publish_response

KEYS = IdempotencyKeys(60.0)
PAYLOAD = payload_of([b"\x0a\x01a"])


class Call:
    """A call's context, as far as it matters here."""

    def __init__(self, *metadata: tuple[str, str | bytes]) -> None:
        self.metadata = metadata

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]] | None:
        return self.metadata or None


def once(*keys: str | bytes, payload: bytes = PAYLOAD) -> Once | None:
    call = Call(("user-agent", "x"), *[("x-idempotency-key", key) for key in keys])
    return KEYS.once(cast("Context", call), payload)


def test_without_a_key_nothing_is_remembered() -> None:
    assert once() is None
    assert KEYS.once(cast("Context", Call()), PAYLOAD) is None


def test_a_key_is_short_and_kept_for_the_window() -> None:
    found = once("order-17")

    assert found is not None
    assert (len(found.key), len(found.digest), found.keep_us) == (16, 16, 60_000_000)


@pytest.mark.parametrize("key", ["", " ", "a b", "a\tb", "schlüssel", "x" * 256, b"bytes", "\x7f"])
def test_what_is_no_key_is_refused(key: str | bytes) -> None:
    with pytest.raises(InvalidArgument, match="1 to 255 visible ASCII characters"):
        once(key)


def test_a_request_has_one_key() -> None:
    with pytest.raises(InvalidArgument, match="one idempotency key"):
        once("a", "a")


def test_keys_differ_by_their_text_and_by_whose_they_are() -> None:
    def of(user: str) -> Once | None:
        set_caller(Principal(user, "pat"))
        return once("k")

    pat, again, carl = [copy_context().run(of, user) for user in ("pat", "pat", "carl")]
    anybody, another = once("k"), once("K")

    assert pat == again
    assert len({pat, carl, anybody, another}) == 4


def test_the_same_messages_are_the_same_request_however_a_client_writes_them() -> None:
    one = pb.PubsubMessage(data=b"a", attributes={"x": "1", "y": "2"})
    x, y = (pb.PubsubMessage(attributes={key: one.attributes[key]}) for key in "xy")
    orders = [y.SerializeToString() + x.SerializeToString() + b"\x0a\x01a", one.SerializeToString()]
    assert orders[0] != orders[1]

    assert once("k", payload=payload_of(orders[:1])) == once("k", payload=payload_of(orders[1:]))


@pytest.mark.parametrize(
    "other",
    [
        pb.PubsubMessage(data=b"b", attributes={"x": "1"}),
        pb.PubsubMessage(data=b"a", attributes={"x": "2"}),
        pb.PubsubMessage(data=b"a", attributes={"x": "1"}, ordering_key="o"),
    ],
)
def test_other_messages_are_another_request(other: pb.PubsubMessage) -> None:
    message = pb.PubsubMessage(data=b"a", attributes={"x": "1"}).SerializeToString()
    requests = [payload_of([message]), payload_of([message] * 2)]
    requests += [payload_of([other.SerializeToString()]), payload_of([message + b"\x80\x7d\x01"])]

    assert len({once("k", payload=payload) for payload in requests}) == 4


def test_ids_of_what_was_dropped_are_the_same_again() -> None:
    key, other = once("k"), once("l")
    appended = Appended(7, 0, (1,))

    first = message_ids(appended, 3, key)

    assert first == message_ids(appended, 3, key)
    assert first[1] == "7"
    assert len(set(first) | set(message_ids(appended, 3, other))) == 5
    assert len(set(first) | set(message_ids(appended, 3))) == 5
    reply = pb.PublishResponse.FromString(publish_response(appended, 3, key))
    assert list(reply.message_ids) == first
