"""Pulling over AMS's REST API: the same messages until they are acknowledged; and Pub/Sub beside it."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2
from tests.rest.conftest import Town, pulled_by_grpc
from tests.rest.test_messages import orders

__all__ = ["orders"]

BILLING = "/subscriptions/billing"
INTERNAL = "INTERNAL_SERVER_ERROR"


def publish(town: Town, *datas: str) -> None:
    messages = [{"data": data} for data in datas]
    town.ams.ok("POST", town.path("/topics/orders:publish"), json={"messages": messages})


def pull(town: Town, **body: Any) -> list[str]:
    reply = town.ams.ok("POST", town.path(f"{BILLING}:pull"), json=body)
    return [each["message"]["messageId"] for each in reply["receivedMessages"]]


def ack_id(town: Town, offset: int) -> str:
    return f"projects/{town.project}{BILLING}:{offset}"


def ack(town: Town, offset: int) -> None:
    ids = {"ackIds": [ack_id(town, offset)]}
    assert town.ams.ok("POST", town.path(f"{BILLING}:acknowledge"), json=ids) == {}


def ack_refused(town: Town, *ack_ids: str) -> tuple[int, str, str]:
    ids = {"AckIds": list(ack_ids)}
    return town.ams.refused("POST", town.path(f"{BILLING}:acknowledge"), json=ids)


def offsets(town: Town) -> Any:
    return town.ams.ok("GET", town.path(f"{BILLING}:offsets"))


def move(town: Town, offset: int) -> Any:
    return town.ams.ok("POST", town.path(f"{BILLING}:modifyOffset"), json={"offset": offset})


def test_the_conformance_vectors_of_pulling(orders: Town) -> None:
    no_ack_pending = (500, INTERNAL, "no ack pending")
    assert offsets(orders) == {"max": 0, "min": 0, "current": 0}
    assert pull(orders) == []
    assert ack_refused(orders, ack_id(orders, 0)) == no_ack_pending
    publish(orders, "MA==", "MQ==", "Mg==")
    assert pull(orders, maxMessages="2") == ["0", "1"]
    for body in ('{"maxMessages": 2}', '{"returnImmediately": false}', "x", ""):
        assert orders.ams.refused("POST", orders.path(f"{BILLING}:pull"), body=body) == (
            400, "INVALID_ARGUMENT", "Invalid Pull Parameters Arguments",
        )  # fmt: skip
    assert pull(orders, maxMessages="two") == ["0"]
    assert ack_refused(orders, ack_id(orders, 1)) == (500, INTERNAL, "wrong ack")
    bad_id = (400, "INVALID_ARGUMENT", "Invalid ack id")
    assert ack_refused(orders, f"projects/{orders.project}/subscriptions/other:0") == bad_id
    assert ack_refused(orders) == bad_id
    assert pull(orders, maxMessages="10") == ["0", "1", "2"]
    ack(orders, 2)
    assert ack_refused(orders, ack_id(orders, 2)) == no_ack_pending
    assert offsets(orders) == {"max": 3, "min": 0, "current": 3}
    assert orders.ams.refused(
        "POST", orders.path(f"{BILLING}:modifyOffset"), json={"offset": 4}
    ) == (400, "INVALID_ARGUMENT", "Offset out of bounds")
    assert offsets(orders)["current"] == 3
    assert move(orders, 3) is None
    assert move(orders, 0) is None
    assert offsets(orders)["current"] == 0

    deadline = orders.path(f"{BILLING}:modifyAckDeadline")
    assert orders.ams.refused("POST", deadline, json={"ackDeadlineSeconds": 601})[0] == 400
    for seconds in (600, 1):
        assert orders.ams.ok("POST", deadline, json={"ackDeadlineSeconds": seconds}) is None
    assert orders.ams.ok("GET", orders.path(BILLING))["ackDeadlineSeconds"] == 1

    topic = {"topic": f"projects/{orders.project}/topics/orders"}
    late = orders.path("/subscriptions/late")
    orders.ams.ok("PUT", late, json=topic | {"ackDeadlineSeconds": 1})
    assert orders.ams.ok("POST", f"{late}:pull", json={})["receivedMessages"] == []
    assert orders.ams.ok("GET", f"{late}:offsets")["current"] == 3
    orders.ams.ok("POST", f"{late}:modifyOffset", json={"offset": 0})  # before it was made

    orders.ams.ok("DELETE", orders.path("/topics/orders"))
    assert orders.ams.refused("POST", orders.path(f"{BILLING}:pull"), body="x") == (
        409, "CONFLICT", "Subscription's topic doesn't exist",
    )  # fmt: skip
    missing = orders.path("/subscriptions/none")
    for method, what in (
        ("POST", "pull"), ("POST", "modifyOffset"), ("GET", "offsets"), ("GET", "timeToOffset"),
    ):  # fmt: skip
        body = "x" if what == "pull" else "{}"
        assert orders.ams.refused(method, f"{missing}:{what}", body=body) == (
            404, "NOT_FOUND", "Subscription doesn't exist",
        )  # fmt: skip
    assert orders.ams.refused("POST", f"{missing}:acknowledge", body="x")[::2] == (
        400, "Invalid ack parameter",
    )  # fmt: skip


def test_a_received_message(orders: Town) -> None:
    message = {"data": "msg 1", "attributes": {"region": 'e"u\\\u0001<', "a": "✓"}}
    path = orders.path("/topics/orders:publish")
    orders.ams.ok("POST", path, json={"messages": [message, {}]})

    reply = orders.ams.ok("POST", orders.path(f"{BILLING}:pull"), json={"maxMessages": "5"})

    first, second = reply["receivedMessages"]
    assert list(first) == ["ackId", "message"]
    assert first["ackId"] == ack_id(orders, 0)
    published = first["message"].pop("publishTime")
    assert published.endswith("Z")
    assert first["message"] == {"messageId": "0"} | message
    assert list(second["message"]) == ["messageId", "data", "publishTime"]
    assert second["message"]["data"] == ""

    time_to_offset = orders.path(f"{BILLING}:timeToOffset")
    assert orders.ams.ok("GET", time_to_offset, params={"time": published}) == {"offset": 0}
    assert orders.ams.refused("GET", time_to_offset, params={"time": "now"}) == (
        400, "INVALID_ARGUMENT", "Time is not in valid Zulu format.",
    )  # fmt: skip
    assert orders.ams.refused(
        "GET", time_to_offset, params={"time": "2999-01-01T00:00:00.000Z"}
    ) == (409, "CONFLICT", "Timestamp is out of bounds for the subscription's topic/partition")


def test_one_cursor_for_both_doors(orders: Town) -> None:
    publish(orders, *[base64.b64encode(b"%d" % at).decode() for at in range(5)])
    assert pull(orders, maxMessages="3") == ["0", "1", "2"]
    ack(orders, 1)

    assert [each.data for each in pulled_by_grpc(orders, "billing", 3)] == [b"2", b"3", b"4"]

    assert offsets(orders) == {"max": 5, "min": 0, "current": 5}
    assert pull(orders, maxMessages="10") == []
    move(orders, 4)
    assert [each.data for each in pulled_by_grpc(orders, "billing", 1)] == [b"4"]


def test_a_pull_waits_for_the_first_message_and_others_do_not(orders: Town) -> None:
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(pull, orders, maxMessages="10", returnImmediately="false")
        while not waiting.done() and not pull(orders):
            publish(orders, "MA==")
        assert waiting.result(30)[:1] == ["0"]


def test_many_at_once(orders: Town) -> None:
    publish(orders, *["eHh4"] * 100)
    assert pull(orders, maxMessages="100") == [str(at) for at in range(100)]
    ack(orders, 99)
    assert offsets(orders)["current"] == 100


def test_a_detached_subscription_has_no_topic(orders: Town) -> None:
    publish(orders, "MA==")
    name = f"projects/{orders.project}{BILLING}"
    request = pubsub_pb2.DetachSubscriptionRequest(subscription=name)
    with grpc.insecure_channel(orders.ams.grpc) as channel:
        detach: Any = channel.unary_unary("/google.pubsub.v1.Publisher/DetachSubscription")
        detach(request.SerializeToString(), timeout=30)

    refused = (409, "CONFLICT", "Subscription's topic doesn't exist")
    billing = orders.path(BILLING)
    time = {"time": "2024-03-05T10:11:12.000Z"}
    assert orders.ams.refused("POST", f"{billing}:pull", json={}) == refused
    assert ack_refused(orders, ack_id(orders, 0)) == refused
    assert orders.ams.refused("GET", f"{billing}:offsets") == refused
    assert orders.ams.refused("GET", f"{billing}:timeToOffset", params=time) == refused
    assert orders.ams.refused("POST", f"{billing}:modifyOffset", json={"offset": 0}) == refused
