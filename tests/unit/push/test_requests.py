"""A message as an HTTP request, in each of its forms."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_grpc.broker.names import SubscriptionName
from ams_grpc.broker.policies import PushConfig
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.push.requests import Request, push_request

NAME = SubscriptionName("project", "orders-sub")
URL = "https://example.com/push"
WRAPPED = PushConfig(URL)
PLAIN = PushConfig(URL, unwrapped=True)
WITH_METADATA = PushConfig(URL, unwrapped=True, write_metadata=True)


def request(config: PushConfig, attempt: int | None = None, **fields: Any) -> Request:
    message = pb.PubsubMessage(message_id="17", **fields)
    message.publish_time.FromJsonString("2021-02-26T19:13:55.749Z")
    return push_request(config, NAME, message.SerializeToString(), attempt)


# --- wrapped ----------------------------------------------------------------------------------------


def test_a_message_is_wrapped_in_json_with_both_spellings() -> None:
    sent = request(WRAPPED, 5, data=b"Hello!", attributes={"key": "value"}, ordering_key="k")

    assert json.loads(sent.body) == {
        "message": {
            "attributes": {"key": "value"},
            "data": "SGVsbG8h",
            "messageId": "17",
            "message_id": "17",
            "publishTime": "2021-02-26T19:13:55.749Z",
            "publish_time": "2021-02-26T19:13:55.749Z",
            "orderingKey": "k",
        },
        "subscription": "projects/project/subscriptions/orders-sub",
        "deliveryAttempt": 5,
    }
    assert sent.headers == {
        "User-Agent": "CloudPubSub-Google",
        "Content-Type": "application/json",
    }


def test_what_is_empty_is_left_out() -> None:
    sent = json.loads(request(WRAPPED, attributes={"a": ""}).body)

    assert sent["message"].keys() == {
        *("attributes", "messageId", "message_id", "publishTime", "publish_time"),
    }
    assert sent.keys() == {"message", "subscription"}
    assert "attributes" not in json.loads(request(WRAPPED, data=b"x").body)["message"]


@pytest.mark.parametrize("version", ["v1", "v1beta2", "v1beta1"])
def test_every_version_has_the_same_form(version: str) -> None:
    config = PushConfig(URL, {"x-goog-version": version})

    assert request(config, data=b"x") == request(WRAPPED, data=b"x")


def test_data_is_standard_base64_with_padding() -> None:
    assert json.loads(request(WRAPPED, data=b"\xff\xfe\xfd\xfc").body)["message"]["data"] == (
        "//79/A=="
    )


# --- unwrapped --------------------------------------------------------------------------------------


def test_unwrapped_the_body_is_the_data_and_no_metadata_is_sent() -> None:
    sent = request(PLAIN, 5, data=b"Hello!", attributes={"key": "value"}, ordering_key="k")

    assert sent == Request(
        b"Hello!", {"User-Agent": "CloudPubSub-Google", "Content-Type": "application/json"}
    )


def test_with_write_metadata_all_but_the_data_is_in_headers() -> None:
    sent = request(WITH_METADATA, 5, data=b"Hello!", attributes={"key": "value"}, ordering_key="k")

    assert sent.body == b"Hello!"
    assert sent.headers == {
        "User-Agent": "CloudPubSub-Google",
        "Content-Type": "application/json",
        "x-goog-pubsub-subscription-name": str(NAME),
        "x-goog-pubsub-message-id": "17",
        "x-goog-pubsub-publish-time": "2021-02-26T19:13:55.749Z",
        "x-goog-pubsub-ordering-key": "k",
        "key": "value",
    }


def test_without_an_ordering_key_there_is_no_header_for_it() -> None:
    assert "x-goog-pubsub-ordering-key" not in request(WITH_METADATA, data=b"x").headers


@pytest.mark.parametrize("config", [PLAIN, WITH_METADATA])
@pytest.mark.parametrize("name", ["content-type", "Content-Type"])
def test_an_attribute_says_what_type_the_data_has(config: PushConfig, name: str) -> None:
    sent = request(config, data=b"x", attributes={name: "text/plain"})

    types = [value for header, value in sent.headers.items() if header.lower() == "content-type"]
    assert types == ["text/plain"]


@pytest.mark.parametrize(
    "name",
    [
        *("Content-Length", "host", "Connection", "Transfer-Encoding", "TE", "trailer", "Upgrade"),
        *("Keep-Alive", "Expect", "Content-Encoding", "Proxy-Authorization", "proxy-connection"),
        *("Authorization", "Cookie", "User-Agent", "X-Goog-PubSub-Message-Id"),
        *("a b", "a:b", "ä", "a\nb", "a\x00", "(a)", "a/b"),
    ],
)
def test_an_attribute_that_may_be_no_header_is_left_out(name: str) -> None:
    plain = request(WITH_METADATA, data=b"x", attributes={"fine": "1"})

    assert request(WITH_METADATA, data=b"x", attributes={"fine": "1", name: "evil"}) == plain


@pytest.mark.parametrize("value", ["a\r\nHost: evil", "a\n", "\x00", "\x7f", "a\x1bb"])
def test_a_value_with_control_characters_is_left_out(value: str) -> None:
    sent = request(
        WITH_METADATA, data=b"x", attributes={"a": value, "content-type": value}, ordering_key=value
    )

    assert sent.headers == request(WITH_METADATA, data=b"x").headers


@given(st.dictionaries(st.text(min_size=1, max_size=12), st.text(max_size=12), max_size=5))
def test_no_attributes_can_break_out_of_the_headers(attributes: dict[str, str]) -> None:
    headers = request(WITH_METADATA, data=b"x", attributes=attributes).headers

    for name, value in headers.items():
        assert not set(f"{name}{value}") & {"\r", "\n", "\0"}
        assert ":" not in name
