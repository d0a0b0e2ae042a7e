"""Messages on the wire: each hand-written function equals what protobuf's own code does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_grpc.broker.ack_ids import AckIds
from ams_grpc.broker.consumers import Delivery
from ams_grpc.broker.errors import FailedPrecondition, InvalidArgument
from ams_grpc.broker.ports import Appended
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.services import messages

TOPIC = "projects/p/topics/topic"
PUBLISHED_US = 1_700_000_000_123_000

text = st.text(max_size=20)
pubsub_messages = st.builds(
    pb.PubsubMessage,
    data=st.binary(max_size=400),
    attributes=st.dictionaries(text, text, max_size=3),
    message_id=text,
    ordering_key=text,
)


def request_of(*published: pb.PubsubMessage) -> pb.PublishRequest:
    return pb.PublishRequest(topic=TOPIC, messages=published)


def stored(request: pb.PublishRequest) -> bytes:
    return pb.PublishRequest(messages=request.messages).SerializeToString()


@given(st.lists(st.lists(pubsub_messages, min_size=1, max_size=5), min_size=1, max_size=3))
def test_joined_payloads_come_apart_into_the_messages_that_were_published(
    requests: list[list[pb.PubsubMessage]],
) -> None:
    payload = b"".join(stored(request_of(*published)) for published in requests)
    published = [message for request in requests for message in request]

    decoded = messages.decode(payload, 98, len(published), PUBLISHED_US)

    for seq, (before, after) in enumerate(zip(published, decoded, strict=True), start=98):
        message = pb.PubsubMessage.FromString(after)
        assert message.message_id == str(seq)
        assert message.publish_time.ToMicroseconds() == PUBLISHED_US
        assert message.data == before.data
        assert message.attributes == before.attributes
        assert message.ordering_key == before.ordering_key


def test_the_time_and_id_that_a_publisher_sets_are_replaced() -> None:
    mine = pb.PubsubMessage(data=b"x", message_id="mine")
    mine.publish_time.seconds, mine.publish_time.nanos = 5, 999

    [decoded] = messages.decode(stored(request_of(mine)), 7, 1, 1_700_000_000_000_000)

    message = pb.PubsubMessage.FromString(decoded)
    assert message.message_id == "7"
    assert (message.publish_time.seconds, message.publish_time.nanos) == (1_700_000_000, 0)


@given(st.lists(pubsub_messages.filter(lambda m: m.data), min_size=1, max_size=5), st.booleans())
def test_a_request_is_read_alike_however_it_is_written(
    published: list[pb.PubsubMessage], topic_first: bool
) -> None:
    for message in published:
        message.ordering_key = ""
        for key in [key for key in message.attributes if not key or key.startswith("goog")]:
            del message.attributes[key]  # what publishers may not send
    topic = pb.PublishRequest(topic=TOPIC).SerializeToString()
    bodies = stored(request_of(*published))

    read = messages.read_publish(topic + bodies if topic_first else bodies + topic)

    assert str(read.topic) == TOPIC
    assert read.count == len(published)
    assert pb.PublishRequest.FromString(read.payload).messages == published


@pytest.mark.parametrize(
    "unknown",
    [
        b"\xfa\x01\x02ab",  # field 31, two bytes
        b"\xf8\x01\x80\x01",  # field 31, a number
        b"\x1d\xff\xff\xff\xff",  # field 3, 32 bits
        b"\x19" + b"\xff" * 8,  # field 3, 64 bits
    ],
)
@pytest.mark.parametrize("at_the_end", [True, False])
def test_unknown_fields_of_a_request_are_ignored(unknown: bytes, at_the_end: bool) -> None:
    request = request_of(pb.PubsubMessage(data=b"a"), pb.PubsubMessage(data=b"b"))
    serialized = request.SerializeToString()

    read = messages.read_publish(serialized + unknown if at_the_end else unknown + serialized)

    assert (str(read.topic), read.payload, read.count) == (TOPIC, stored(request), 2)


@pytest.mark.parametrize(
    "serialized",
    [
        b"",
        b"\x0a",
        b"\x0a\x05ab",
        b"\x0a\x01\xff\x12\x03\x0a\x01a",  # a topic that is not UTF-8
        b"\x0a\x19projects/pro/topics/topic" + b"\x00" * 3,  # fields with the number 0
        b"\x0a\x19projects/pro/topics/topic" + b"\x12\x03\x0a\x01a\x00\x00\x00\x00\x00",
        b"\x12\xff",
        b"\x12\x05\x0a\x05a",
        b"\x0b\x0c",  # a group
        b"\xff" * 30,
    ],
)
def test_what_is_no_request_is_refused(serialized: bytes) -> None:
    with pytest.raises(InvalidArgument):
        messages.read_publish(serialized)


def test_millions_of_empty_messages_are_refused_before_they_are_parsed() -> None:
    with pytest.raises(InvalidArgument, match="more than 110000 parts"):
        messages.read_publish(b"\x12\x00" * 4_000_000)


def test_unknown_fields_between_the_messages_do_not_disturb() -> None:
    unknown = b"\xfa\x01\x02ab"  # field 31, two bytes
    request = request_of(pb.PubsubMessage(data=b"a"))
    payload = stored(request) + unknown + stored(request)

    decoded = messages.decode(payload, 0, 2, PUBLISHED_US)

    assert [pb.PubsubMessage.FromString(message).data for message in decoded] == [b"a", b"a"]


@given(st.integers(0, 10**12), st.integers(1, 1000))
def test_the_response_names_one_id_for_each_message(first_seq: int, count: int) -> None:
    response = pb.PublishResponse.FromString(
        messages.publish_response(Appended(first_seq, PUBLISHED_US), count)
    )

    assert response.message_ids == [str(seq) for seq in range(first_seq, first_seq + count)]


@given(st.integers(0, 2**63 - 1001), st.integers(1, 1000), st.data())
def test_messages_that_were_dropped_get_ids_that_no_stored_message_can_have(
    first_seq: int, count: int, data: st.DataObject
) -> None:
    places = sorted(data.draw(st.sets(st.integers(0, count - 1))))
    appended = Appended(first_seq, PUBLISHED_US, places)

    response = pb.PublishResponse.FromString(messages.publish_response(appended, count))

    ids = list(response.message_ids)
    assert len(ids) == len(set(ids)) == count
    assert [ids[place] for place in places] == [str(first_seq + i) for i in range(len(places))]
    dropped = [each for i, each in enumerate(ids) if i not in places]
    assert all(each.isdecimal() and int(each) >= 2**63 for each in dropped)


@given(pubsub_messages)
def test_attributes_are_read_from_serialized_messages(message: pb.PubsubMessage) -> None:
    assert dict(messages.attributes_of(message.SerializeToString())) == dict(message.attributes)


@given(st.lists(st.tuples(st.integers(0, 2**40), pubsub_messages), max_size=20))
def test_a_delivery_reads_as_received_messages(
    delivered: list[tuple[int, pb.PubsubMessage]],
) -> None:
    ids = AckIds(b"secret", 1)
    head = ids.head(3, 4)
    delivery = Delivery(
        4,
        head,
        [seq for seq, _ in delivered],
        [message.SerializeToString() for _, message in delivered],
    )

    response = pb.StreamingPullResponse.FromString(messages.received_messages(delivery))

    assert [received.message for received in response.received_messages] == [
        message for _, message in delivered
    ]
    for received, (seq, _) in zip(response.received_messages, delivered, strict=True):
        assert ids.parse([received.ack_id]) == [(3, 4, [seq])]
        assert received.delivery_attempt == 0


@given(
    st.lists(
        st.tuples(st.integers(0, 2**40), pubsub_messages, st.integers(1, 2**31 - 1)), min_size=1
    )
)
def test_a_delivery_with_attempts_reads_as_received_messages(
    delivered: list[tuple[int, pb.PubsubMessage, int]],
) -> None:
    ids = AckIds(b"secret", 1)
    head = ids.head(3, 4)
    seqs, sent, attempts = zip(*delivered, strict=True)
    delivery = Delivery(4, head, seqs, [message.SerializeToString() for message in sent], attempts)

    response = pb.PullResponse.FromString(messages.received_messages(delivery))

    assert list(response.received_messages) == [
        pb.ReceivedMessage(
            ack_id=f"{head.decode()}{seq:012x}", message=message, delivery_attempt=attempt
        )
        for seq, message, attempt in delivered
    ]


@given(pubsub_messages)
def test_the_ordering_key_is_the_one_that_protobuf_reads(message: pb.PubsubMessage) -> None:
    assert messages.ordering_key(message.SerializeToString()) == message.ordering_key


@pytest.mark.parametrize("key", ["*", "k", "k" * 1024])
def test_the_ordering_key_is_found_in_what_is_delivered(key: str) -> None:
    """Also where its tag (a ``*``) occurs elsewhere, or not at all."""
    for data in (b"data", b"**"):
        for expected in ("", key):
            published = pb.PubsubMessage(data=data, ordering_key=expected)
            (message,) = messages.decode(stored(request_of(published)), 7, 1, PUBLISHED_US)
            assert messages.ordering_key(message) == expected


@given(pubsub_messages, st.dictionaries(text, text, max_size=4), st.integers(1, 2**40))
def test_an_annotated_message_has_the_attributes_beside_its_own(
    published: pb.PubsubMessage, attributes: dict[str, str], seq: int
) -> None:
    """Of the same name, the new one counts; and its id and time are new, too."""
    (delivered,) = messages.decode(stored(request_of(published)), 3, 1, PUBLISHED_US)
    payload = messages.annotated(delivered, attributes)

    (serialized,) = messages.decode(payload, seq, 1, PUBLISHED_US + 5_000)

    message = pb.PubsubMessage.FromString(serialized)
    assert dict(message.attributes) == {**published.attributes, **attributes}
    assert (message.data, message.ordering_key) == (published.data, published.ordering_key)
    assert message.message_id == str(seq)
    assert message.publish_time.ToMicroseconds() == PUBLISHED_US + 5_000


# --- the limits of Publish -----------------------------------------------------------------------


def check(request: pb.PublishRequest) -> None:
    messages.read_publish(request.SerializeToString())


@pytest.mark.parametrize("count", [1, 1000])
def test_a_request_of_1_to_1000_messages_is_accepted(count: int) -> None:
    check(request_of(*[pb.PubsubMessage(data=b"x")] * count))


@pytest.mark.parametrize(
    "count,text",
    [
        (
            0,
            (
                "The value for message_count is too small. You passed 0 in the request, "
                "but the minimum value is 1."
            ),
        ),
        (
            1001,
            (
                "The value for message_count is too large. You passed 1001 in the request, "
                "but the maximum value is 1000."
            ),
        ),
    ],
)
def test_other_counts_are_refused(count: int, text: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check(request_of(*[pb.PubsubMessage(data=b"x")] * count))
    assert refused.value.message == text


def test_a_request_above_10_megabytes_is_refused() -> None:
    request = request_of(pb.PubsubMessage(data=bytes(10_000_000)))
    with pytest.raises(InvalidArgument) as refused:
        check(request)
    assert refused.value.message == (
        f"The value for request_size is too large. You passed {request.ByteSize()} in the "
        "request, but the maximum value is 10000000."
    )


@pytest.mark.parametrize(
    "message",
    [
        pb.PubsubMessage(data=b"x"),
        pb.PubsubMessage(attributes={"k": ""}),
        pb.PubsubMessage(attributes={f"k{i}": "" for i in range(100)}),
        pb.PubsubMessage(attributes={"k" * 256: "v" * 1024}),
        pb.PubsubMessage(attributes={"googclient_traceparent": "00"}),
        pb.PubsubMessage(attributes={"Googx": "1"}),
        pb.PubsubMessage(data=b"x", ordering_key="o" * 1024),
    ],
)
def test_messages_at_the_limits_are_accepted(message: pb.PubsubMessage) -> None:
    check(request_of(message))


@pytest.mark.parametrize(
    "message",
    [
        pb.PubsubMessage(),
        pb.PubsubMessage(ordering_key="k"),
        pb.PubsubMessage(attributes={f"k{i}": "" for i in range(101)}),
        pb.PubsubMessage(attributes={"k" * 257: ""}),
        pb.PubsubMessage(attributes={"é" * 129: ""}),
        pb.PubsubMessage(attributes={"k": "v" * 1025}),
        pb.PubsubMessage(attributes={"": "v"}),
        pb.PubsubMessage(attributes={"googx": "1"}),
        pb.PubsubMessage(data=b"x", ordering_key="o" * 1025),
    ],
)
def test_messages_beyond_the_limits_are_refused(message: pb.PubsubMessage) -> None:
    with pytest.raises(InvalidArgument):
        check(
            request_of(pb.PubsubMessage(data=b"good", ordering_key=message.ordering_key), message)
        )


@pytest.mark.parametrize(
    "size", [0, 1, 2, 125, 126, 127, 128, 129, 130, 16382, 16383, 16384, 16385]
)
@pytest.mark.parametrize("before", [b"x", b"y" * 300])
def test_only_messages_with_data_and_nothing_else_are_plain(size: int, before: bytes) -> None:
    first = pb.PubsubMessage(data=before)
    for message, plain in (
        (pb.PubsubMessage(data=bytes(size)), size > 0),
        (pb.PubsubMessage(data=bytes(size), ordering_key="k"), False),
        (pb.PubsubMessage(data=bytes(size), attributes={"k": "v"}), False),
        (pb.PubsubMessage(ordering_key="x" * size), False),
    ):
        count = messages._count_plain(stored(request_of(first, message, first)))
        assert count == (3 if plain else -1)


@pytest.mark.parametrize(
    "empty",
    [b"\x12\x00", b"\x12\x80\x00", b"\x12\x02\x0a\x00", b"\x12\x03\x0a\x80\x00"],
)
def test_an_empty_message_is_refused_however_it_is_written(empty: bytes) -> None:
    request = request_of(pb.PubsubMessage(data=b"x")).SerializeToString()
    with pytest.raises(InvalidArgument, match="Some messages are empty"):
        messages.read_publish(request + empty)


@pytest.mark.parametrize("keys", [("a", "b"), ("a", ""), ("", "a")])
def test_all_messages_of_a_request_have_the_same_ordering_key(keys: tuple[str, str]) -> None:
    with pytest.raises(FailedPrecondition) as refused:
        check(request_of(*[pb.PubsubMessage(data=b"x", ordering_key=key) for key in keys]))
    assert refused.value.message == (
        "In a single publish request, all messages must have no ordering key or they must all "
        "have the same ordering key."
    )


@pytest.mark.parametrize("head", [b"", b"\x0a", b"\x12", b"\x0a\x03abc\x12"])
def test_megabytes_of_a_number_that_does_not_end_are_refused_at_once(head: bytes) -> None:
    with pytest.raises(InvalidArgument):
        messages.read_publish(head + b"\xff" * 9_000_000)


@given(st.lists(pubsub_messages, min_size=1, max_size=5))
def test_a_payload_is_taken_apart_and_put_together_again(published: list[pb.PubsubMessage]) -> None:
    payload = stored(request_of(*published))

    bodies = messages.bodies(payload, len(published))

    assert [messages.data_of(body) for body in bodies] == [each.data for each in published]
    assert messages.payload_of(bodies) == payload
