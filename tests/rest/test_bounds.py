"""What one request may hold, the same through both doors, and what strangers may send."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import grpc
import pytest
from google.protobuf.message import Message

from ams_grpc.auth.tokens import new_token
from ams_grpc.pb.ams.v1 import access_pb2, pubsub_pb2
from ams_grpc.services.ams.guard import LARGE_REQUEST_BYTES
from http_bridge.limits import LARGE_BODY_BYTES, MOST_SEPARATORS, SMALL_BODY_BYTES
from tests.rest.conftest import Ams, Town
from tests.rest.test_costs import Recorder, answer, bridge, publish

MOST_MESSAGES: Final = MOST_SEPARATORS - 1
MOST_ATTRIBUTES: Final = MOST_SEPARATORS // 2 - 1
_MESSAGE: Final = b'{"messages": [{"data": "%b"}]}'
GROWING: Final = _MESSAGE % (b"\xff" * (SMALL_BODY_BYTES + 2 - len(_MESSAGE)))
"""The largest small body, whose bytes become three times as many: AMS reads what is no UTF-8 as U+FFFD."""


@pytest.fixture(scope="module")
def channel(ams: Ams) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(ams.grpc) as channel:
        yield channel


def refusal(channel: grpc.Channel, method: str, request: Message, token: str) -> grpc.StatusCode:
    call: Any = channel.unary_unary(f"/ams.v1.{method}")
    with pytest.raises(grpc.RpcError) as error:
        call(request.SerializeToString(), metadata=[("x-api-key", token)], timeout=30)
    found: grpc.StatusCode = error.value.code()
    return found


@pytest.mark.parametrize(
    "messages",
    [
        [{}] * MOST_MESSAGES,
        [{"attributes": dict.fromkeys(map(str, range(MOST_ATTRIBUTES)), "")}],
    ],
    ids=["messages", "attributes"],
)
def test_as_many_parts_as_json_may_have_are_published(town: Town, messages: Any) -> None:
    topic, subscription = town.path("/topics/orders"), town.path("/subscriptions/billing")
    town.ams.ok("PUT", topic, json={})
    town.ams.ok("PUT", subscription, json={"topic": topic.removeprefix("/")})
    body = json.dumps({"messages": messages})
    published = town.ams.ok("POST", f"{topic}:publish", body=body)
    assert len(published["messageIds"]) == len(messages)

    [received] = town.ams.ok("POST", f"{subscription}:pull", json={"maxMessages": "1"})[
        "receivedMessages"
    ]
    assert received["message"].get("attributes") == messages[0].get("attributes")


def test_more_parts_are_refused_over_grpc(channel: grpc.Channel, town: Town) -> None:
    town.ams.ok("PUT", town.path("/topics/orders"), json={})
    request = pubsub_pb2.PublishRequest(project=town.project, topic="orders")
    for _ in range(2 * MOST_SEPARATORS):
        request.messages.add()
    code = refusal(channel, "Topics/Publish", request, town.tokens["alice"])
    assert code is grpc.StatusCode.INVALID_ARGUMENT


def test_who_asks_beforehand_sends_no_more_than_names(channel: grpc.Channel, town: Town) -> None:
    town.ams.ok("PUT", town.path("/topics/orders"), json={})
    asked = pubsub_pb2.PublishRequest(project=town.project, topic="orders")
    asked.messages.add(data="-" * LARGE_BODY_BYTES)
    request = access_pb2.CheckAccessRequest(
        method="ams.v1.Topics.Publish", request=asked.SerializeToString()
    )
    code = refusal(channel, "Access/CheckAccess", request, town.tokens["alice"])
    assert code is grpc.StatusCode.INVALID_ARGUMENT


def test_strangers_get_nothing_large_parsed(channel: grpc.Channel, town: Town) -> None:
    request = pubsub_pb2.PublishRequest(project="none", topic="orders")
    code = refusal(channel, "Topics/Publish", request, new_token())
    assert code is grpc.StatusCode.NOT_FOUND
    request.messages.add(data="-" * LARGE_BODY_BYTES)
    code = refusal(channel, "Topics/Publish", request, new_token())
    assert code is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("body", [GROWING, GROWING * 9], ids=["small", "large"])
def test_the_order_of_refusals_is_the_same_for_bodies_of_any_size(ams: Ams, body: bytes) -> None:
    refused = ams.refused("POST", "/projects/none/topics/t:publish", new_token(), body=body)
    assert refused == (404, "NOT_FOUND", "project doesn't exist")


async def test_what_is_made_of_a_small_body_is_no_large_request() -> None:
    """So nobody is asked for beforehand, and the order of refusals is AMS's all the same."""
    caller = Recorder()
    async with bridge(caller) as port:
        assert len(GROWING) == SMALL_BODY_BYTES
        assert b"messageIds" in await answer(port, publish(GROWING))
        assert b"messageIds" in await answer(port, publish(GROWING + b" "))
    assert caller.called == ["Publish", "CheckAccess", "Publish"]
    assert 2 * SMALL_BODY_BYTES < caller.requests[0].ByteSize() <= LARGE_REQUEST_BYTES


def test_what_is_too_large_to_be_validated_is_not_looked_at(town: Town) -> None:
    schema = town.path("/schemas/order")
    town.ams.ok("POST", schema, json={"type": "avro", "schema": {"type": "string"}})
    body = {"data": "A" * 14_000_000 + "*"}
    refused = town.ams.refused("POST", f"{schema}:validate", json=body)
    assert refused == (413, "INVALID_ARGUMENT", "Message size is too large")
