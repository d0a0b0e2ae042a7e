"""How much one request may hold, counted before it is parsed."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import given
from hypothesis import strategies as st

from ams_grpc.broker.errors import InvalidArgument
from ams_grpc.pb.ams.v1 import accounts_pb2
from ams_grpc.pb.ams.v1 import pubsub_pb2 as ams
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2
from ams_grpc.services import wire
from ams_grpc.services.frame import parse
from ams_grpc.services.wire import MAX_PARTS, check_parts, read_varint, varint

ROOM = "-" * (2 * MAX_PARTS)  # so that it is worth counting
MANY = [str(number) for number in range(MAX_PARTS)]
TOPIC = "projects/pro/topics/topic"


@pytest.mark.parametrize(
    "request_",
    [
        ams.PublishRequest(messages=[{}] * MAX_PARTS, topic=ROOM),
        ams.PublishRequest(messages=[{"data": "YQ=="}] * (MAX_PARTS // 2), topic=ROOM),
        ams.PublishRequest(messages=[{"attributes": dict.fromkeys(MANY, "")}]),
        ams.AcknowledgeRequest(ack_ids=[*MANY, ""]),
        ams.ModifyTopicAclRequest(authorized_users=[*MANY, ""]),
        accounts_pb2.MemberUserRequest(projects=[{"roles": MANY}]),
        pubsub_pb2.Topic(labels=dict.fromkeys(MANY, ""), name=TOPIC),
    ],
    ids=["messages", "data", "attributes", "ack ids", "names", "roles", "labels"],
)
def test_a_request_of_very_many_parts_is_refused_before_it_is_parsed(request_: Message) -> None:
    for request in (request_.SerializeToString(), request_.SerializeToString() + b"cut off"):
        with pytest.raises(InvalidArgument, match=f"more than {MAX_PARTS} parts"):
            parse(type(request_), request)


@pytest.mark.parametrize(
    "request_",
    [
        ams.PublishRequest(messages=[{}] * (MAX_PARTS - 1), topic=ROOM),
        ams.PublishRequest(messages=[{"attributes": dict.fromkeys(MANY[:100_000], "")}]),
        ams.PublishRequest(messages=[{"data": ROOM * 10}]),
        pubsub_pb2.PublishRequest(
            topic=TOPIC,
            messages=[
                {"data": b"a", "ordering_key": "k", "attributes": dict.fromkeys(MANY[:100], "a")}
            ]
            * 1000,
        ),
    ],
    ids=["messages", "attributes", "data", "the largest publish of Pub/Sub"],
)
def test_whatever_the_bridge_takes_and_pubsub_allows_is_parsed(request_: Message) -> None:
    assert parse(type(request_), request_.SerializeToString()) == request_


@pytest.mark.parametrize("number", [0, 127, 128, 16_383, 16_384, 2**31, 2**63, 2**64 - 1])
def test_numbers_are_read_as_they_are_written(number: int) -> None:
    written = varint(number)
    assert read_varint(b"-" + written + b"-", 1) == (number, 1 + len(written))
    for end in range(len(written)):
        with pytest.raises(IndexError):
            read_varint(written[:end], 0)


messages = st.builds(
    ams.PublishRequest,
    topic=st.text(max_size=200),
    messages=st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "data": st.text(max_size=200),
                "attributes": st.dictionaries(st.text(), st.text(), max_size=3),
                "publish_time": st.just({"seconds": 1}),
            },
        ),
        max_size=4,
    ),
)
OTHERS = {  # what no serializer of ours writes, and how many parts it has
    b"": 0,
    b"\x7b\x08\x01\x7c": 3,
    b"\x79" + bytes(8): 1,
    b"\x7d" + bytes(4): 1,
    b"\x9a\x00\x00": 1,
}


@given(messages, st.sampled_from(sorted(OTHERS)))
def test_every_field_value_and_entry_counts(request: ams.PublishRequest, other: bytes) -> None:
    assert _counted(other + request.SerializeToString()) == OTHERS[other] + _parts(request)


@given(st.binary(max_size=50))
def test_what_can_be_parsed_can_be_counted(serialized: bytes) -> None:
    try:
        request = ams.PublishRequest.FromString(serialized)
    except DecodeError:
        return
    assert _counted(serialized) >= len(request.messages)
    check_parts(ams.PublishRequest, serialized)


def _counted(serialized: bytes) -> int:
    return wire._parts(ams.PublishRequest.DESCRIPTOR, serialized, 0, len(serialized), MAX_PARTS)


def _parts(message: Any) -> int:
    parts = 0
    for field, value in message.ListFields():
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        parts += len(value) if field.is_repeated else 1
        if field.message_type is not None and not is_map:
            parts += sum(map(_parts, value if field.is_repeated else (value,)))
    return parts
