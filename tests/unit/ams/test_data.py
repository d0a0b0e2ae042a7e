"""AMS's data: whatever text is published comes back, and base64 is bytes for everybody else."""

from __future__ import annotations

from base64 import b64encode

from hypothesis import given
from hypothesis import strategies as st

from ams_grpc.pb.ams.v1 import pubsub_pb2 as ams
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2
from ams_grpc.services.ams.data import shown_data, stored_body

ATTRIBUTES = st.dictionaries(st.text(), st.text(), max_size=2)
TEXTS = st.text() | st.binary().map(lambda data: b64encode(data).decode())


@given(TEXTS, ATTRIBUTES)
def test_the_text_comes_back_as_it_came(text: str, attributes: dict[str, str]) -> None:
    stored = stored_body(ams.Message(data=text, attributes=attributes))
    message = pubsub_pb2.PubsubMessage.FromString(stored)

    assert shown_data(stored, message) == text
    assert dict(message.attributes) == attributes


@given(st.binary(), ATTRIBUTES)
def test_base64_is_stored_as_its_bytes(data: bytes, attributes: dict[str, str]) -> None:
    stored = stored_body(ams.Message(data=b64encode(data).decode(), attributes=attributes))

    expected = pubsub_pb2.PubsubMessage(data=data, attributes=attributes)
    assert pubsub_pb2.PubsubMessage.FromString(stored) == expected


@given(ATTRIBUTES)
def test_nothing_else_of_a_message_is_stored(attributes: dict[str, str]) -> None:
    """What a publisher writes into other fields, or into those that only Pub/Sub's messages have."""
    unknown = pubsub_pb2.PubsubMessage(ordering_key="k").SerializeToString()
    message = ams.Message.FromString(unknown)
    message.MergeFrom(
        ams.Message(message_id="7", data="YQ==", publish_time={"seconds": 1}, attributes=attributes)
    )

    expected = pubsub_pb2.PubsubMessage(data=b"a", attributes=attributes)
    assert pubsub_pb2.PubsubMessage.FromString(stored_body(message)) == expected


@given(st.binary())
def test_bytes_that_pubsub_published_are_shown_in_base64(data: bytes) -> None:
    message = pubsub_pb2.PubsubMessage(data=data)

    assert shown_data(message.SerializeToString(), message) == b64encode(data).decode()
