"""How stored messages become AMS's: whatever is done with bytes is what protobuf would make of it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ams_grpc.pb.ams.v1 import pubsub_pb2 as ams
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.services.ams.data import stored_body
from ams_grpc.services.ams.received import Row, received, received_rows, shown
from ams_grpc.services.messages import annotated, decode, payload_of
from http_bridge.ams.messages import pull_json

TIME_US = 1_700_000_000_123_000
SEQS = st.sampled_from([0, 9, 10, 12345, (1 << 62) + 1])
texts = st.text(max_size=200)


def stored(body: bytes, seq: int) -> bytes:
    """As the log gives it."""
    [message] = decode(payload_of([body]), seq, 1, TIME_US)
    return message


def expected(seq: int, data: bytes, attributes: Mapping[str, str]) -> ams.Message:
    message = ams.Message(message_id=str(seq), attributes=attributes, data=b64encode(data).decode())
    message.publish_time.FromMicroseconds(TIME_US)
    return message


@given(
    seq=SEQS,
    data=st.binary(max_size=300),
    attributes=st.dictionaries(texts, texts, max_size=3),
    ordering_key=texts,
    message_id=texts,
)
@example(seq=7, data=b"x" * 100_000, attributes={"k": "v" * 1000}, ordering_key="", message_id="")
@example(seq=7, data=b"", attributes={}, ordering_key="", message_id="")
def test_a_message_is_shown_as_it_is(
    seq: int, data: bytes, attributes: dict[str, str], ordering_key: str, message_id: str
) -> None:
    body = pb.PubsubMessage(
        data=data, attributes=attributes, ordering_key=ordering_key, message_id=message_id
    ).SerializeToString()

    message, size = shown(stored(body, seq), str(seq).encode())

    assert ams.Message.FromString(message) == expected(seq, data, attributes)
    assert size == len(b64encode(data))


@given(seq=SEQS, data=texts, attributes=st.dictionaries(texts, texts, max_size=2))
def test_what_came_over_ams_comes_back_as_it_came(
    seq: int, data: str, attributes: dict[str, str]
) -> None:
    body = stored_body(ams.Message(data=data, attributes=attributes))
    message, size = shown(stored(body, seq), str(seq).encode())

    shown_message = ams.Message.FromString(message)
    assert (shown_message.data, dict(shown_message.attributes)) == (data, attributes)
    assert size == len(data)


PIECES = st.sampled_from(
    [
        pb.PubsubMessage(data=b"data").SerializeToString(),
        pb.PubsubMessage(data=b"other").SerializeToString(),
        b"\x0a\x00",
        pb.PubsubMessage(attributes={"a": "1"}).SerializeToString(),
        pb.PubsubMessage(attributes={"a": "2"}).SerializeToString(),
        pb.PubsubMessage(message_id="7").SerializeToString(),
        pb.PubsubMessage(ordering_key="key").SerializeToString(),
        pb.PubsubMessage(publish_time={"seconds": 1}).SerializeToString(),
        b"\xf8\x01\x05",  # a field that nobody knows
    ]
)


@given(pieces=st.lists(PIECES, max_size=5))
def test_fields_in_any_order_and_number_are_read_as_protobuf_reads_them(
    pieces: list[bytes],
) -> None:
    """As other versions, or other programs, might have written them."""
    body = b"".join(pieces)
    message = pb.PubsubMessage.FromString(body)

    found, _ = shown(stored(body, 7), b"7")

    assert ams.Message.FromString(found) == expected(7, message.data, message.attributes)


def test_a_dead_letter_is_shown_with_the_attributes_that_count() -> None:
    body = pb.PubsubMessage(data=b"1", attributes={"a": "old"}).SerializeToString()
    forwarded = annotated(stored(body, 3), {"a": "new"})
    [message] = decode(forwarded, 8, 1, TIME_US)

    found, _ = shown(message, b"8")

    assert ams.Message.FromString(found) == expected(8, b"1", {"a": "new"})


class Rows:
    """A reply in this process."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows

    def rows(self) -> list[Row]:
        return self._rows


@given(
    bodies=st.lists(
        st.one_of(
            st.builds(
                lambda data, attributes: pb.PubsubMessage(data=data, attributes=attributes),
                st.binary(max_size=50),
                st.dictionaries(texts, texts, max_size=3),
            ).map(lambda message: message.SerializeToString()),
            st.builds(
                lambda data, attributes: stored_body(ams.Message(data=data, attributes=attributes)),
                texts,
                st.dictionaries(texts, texts, max_size=3),
            ),
            st.lists(PIECES, max_size=5).map(b"".join),
        ),
        max_size=4,
    )
)
def test_rest_shows_the_same_whether_a_reply_was_serialized_on_its_way(bodies: list[bytes]) -> None:
    subscription, seqs = "projects/p/subscriptions/s", range(99, 99 + len(bodies))
    messages = [stored(body, seq) for seq, body in zip(seqs, bodies, strict=True)]

    reply, size = received(subscription, seqs, messages)
    rows, size_of_rows = received_rows(subscription, seqs, messages)

    assert pull_json(Rows(rows)) == pull_json(ams.PullReply.FromString(reply))
    assert size_of_rows == size


@pytest.mark.parametrize("count", [0, 1, 300])
def test_a_reply(count: int) -> None:
    seqs = range(900, 900 + count)
    messages = [stored(pb.PubsubMessage(data=b"%d" % seq).SerializeToString(), seq) for seq in seqs]

    reply, size = received("projects/p/subscriptions/s", seqs, messages)

    found = ams.PullReply.FromString(reply).received_messages
    assert [each.ack_id for each in found] == [f"projects/p/subscriptions/s:{seq}" for seq in seqs]
    assert [each.message for each in found] == [expected(seq, b"%d" % seq, {}) for seq in seqs]
    assert size == sum(len(each.message.data) for each in found)
