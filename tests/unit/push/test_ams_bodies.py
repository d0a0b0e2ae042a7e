"""What AMS's endpoints get."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from ams_grpc.broker.ams_push import AmsEndpoint, AmsMattermost, AmsPush
from ams_grpc.broker.names import SubscriptionName
from ams_grpc.pb.ams.v1 import pubsub_pb2 as ams
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.push.ams.bodies import http_body, mattermost_body, mattermost_error
from ams_grpc.services.ams.data import shown_data, stored_body

HOOK = SubscriptionName("ACME", "hook")
ENDPOINT = AmsEndpoint("https://a.b", "hash")
SENTENCE = "subscription /projects/ACME/subscriptions/hook from ams.example.org:443"
BOT = AmsMattermost("https://chat.example.org/hooks/abc", "ams", "alerts")


def stored(data: str, number: int = 7, nanos: int = 120_345_678, **attributes: str) -> bytes:
    """A message published through AMS, as it is read from the log."""
    annotations = pb.PubsubMessage(
        message_id=str(number), publish_time=Timestamp(seconds=1_709_633_472, nanos=nanos)
    )
    body = stored_body(ams.Message(data=data, attributes=attributes))
    return body + annotations.SerializeToString()


def pushed(push: AmsPush, *messages: bytes) -> Any:
    return json.loads(http_body(push, HOOK, "ams.example.org:443", messages, shown_data))


def test_one_message_at_a_time_comes_bare() -> None:
    message = stored("aGVsbG8=", zone="b", region="eu")

    body = pushed(AmsPush(ENDPOINT), message)

    assert body == {
        "message": {
            "messageId": "7",
            "attributes": {"region": "eu", "zone": "b"},
            "data": "aGVsbG8=",
            "publishTime": "2024-03-05T10:11:12.120345678Z",
        },
        "subscription": SENTENCE,
    }
    assert list(body["message"]) == ["messageId", "attributes", "data", "publishTime"]
    assert list(body["message"]["attributes"]) == ["region", "zone"]


def test_several_at_a_time_come_as_a_list_each_with_its_sentence() -> None:
    push = AmsPush(ENDPOINT, max_messages=3)

    body = pushed(push, stored("aGVsbG8=", nanos=120_000_000), stored("d29ybGQ=", 8, 0))

    first = {"messageId": "7", "data": "aGVsbG8=", "publishTime": "2024-03-05T10:11:12.12Z"}
    second = {"messageId": "8", "data": "d29ybGQ=", "publishTime": "2024-03-05T10:11:12Z"}
    assert body == {
        "messages": [
            {"message": first, "subscription": SENTENCE},
            {"message": second, "subscription": SENTENCE},
        ]
    }


@pytest.mark.parametrize("max_messages", [2, 0, -1])
def test_it_is_a_list_also_of_one_message(max_messages: int) -> None:
    assert len(pushed(AmsPush(ENDPOINT, max_messages), stored("aGVsbG8="))["messages"]) == 1


@pytest.mark.parametrize(
    "data, decoded",
    [
        ("aGVsbG8=", "hello"),
        ("msg 1", "msg 1"),  # no base64: as it is
        ("", ""),
        ("aGVs\r\nbG8=", "hello"),
        ("/w==", "\N{REPLACEMENT CHARACTER}"),
        ("aGVsbG8", "aGVsbG8"),
    ],
)
def test_data_are_pushed_as_text_on_demand(data: str, decoded: str) -> None:
    plain, decoding = AmsPush(ENDPOINT), AmsPush(ENDPOINT, base64_decode=True)

    assert pushed(plain, stored(data))["message"]["data"] == data
    assert pushed(decoding, stored(data))["message"]["data"] == decoded


def test_mattermost_gets_the_data_as_a_text() -> None:
    push = AmsPush(BOT, base64_decode=True)

    body = mattermost_body(push, BOT, stored("aGVsbG8="), shown_data)

    assert json.loads(body) == {"text": "hello", "username": "ams", "channel": "alerts"}


def test_mattermost_gets_no_key_that_is_empty() -> None:
    target = AmsMattermost("https://chat.example.org/hooks/abc")

    body = mattermost_body(AmsPush(target), target, stored("aGVsbG8="), shown_data)

    assert json.loads(body) == {"text": "aGVsbG8="}


@pytest.mark.parametrize(
    "body, text",
    [
        (b'{"message": "no channel", "detailed_error": ""}', "no channel"),
        (b'{"message": "no channel", "detailed_error": "alerts"}', "no channel.alerts"),
        (b'{"other": 1}', '{"other": 1}'),
        (b'{"message": 1}', '{"message": 1}'),
        (b"[1]", "[1]"),
        (b"bad gateway", "bad gateway"),
        (b"\xff", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_what_mattermost_says_went_wrong(body: bytes, text: str) -> None:
    assert mattermost_error(body) == text
