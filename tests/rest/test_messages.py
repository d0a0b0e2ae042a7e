"""Messages over AMS's REST API, and the same messages through Pub/Sub's."""

from __future__ import annotations

import base64
import json

import pytest
import requests

from tests.rest.conftest import Town, pulled_by_grpc

HELLO = base64.b64encode(b"hello").decode()


@pytest.fixture
def orders(town: Town) -> Town:
    town.ams.ok("PUT", town.path("/topics/orders"))
    topic = f"projects/{town.project}/topics/orders"
    town.ams.ok("PUT", town.path("/subscriptions/billing"), json={"topic": topic})
    return town


def test_a_published_message_is_received_by_pubsub(orders: Town) -> None:
    attributes = {"region": 'e"u\\\u0001\u2028', "ünï": "✓"}
    messages = [{"data": HELLO, "attributes": attributes}, {"data": "d29ybGQ="}, {}]

    published = orders.ams.ok(
        "POST", orders.path("/topics/orders:publish"), json={"messages": messages}
    )

    assert published == {"messageIds": ["0", "1", "2"]}
    first, second, third = pulled_by_grpc(orders, "billing", 3)
    assert (first.data, dict(first.attributes)) == (b"hello", attributes)
    assert (second.data, third.data) == (b"world", b"")
    assert [each.message_id for each in (first, second, third)] == ["0", "1", "2"]


def test_a_text_that_is_no_base64_is_its_own_bytes_elsewhere(orders: Town) -> None:
    texts = ["msg 1", "aGVsbG8", "aGVsbG9=", "é"]
    orders.ams.ok(
        "POST",
        orders.path("/topics/orders:publish"),
        json={"messages": [{"data": each} for each in texts]},
    )

    assert [each.data.decode() for each in pulled_by_grpc(orders, "billing", 4)] == texts


@pytest.mark.parametrize("body", ["{}", '{"messages": []}', "null", '{"messages": null}'])
def test_nothing_to_publish_is_published(orders: Town, body: str) -> None:
    assert orders.ams.ok("POST", orders.path("/topics/orders:publish"), body=body) == {
        "messageIds": []
    }


@pytest.mark.parametrize(
    "message",
    [
        {"data": 5},
        {"attributes": [{"key": "a", "value": "b"}]},
        {"attributes": {"a": 1}},
        "text",
    ],
)
def test_what_is_no_message_is_refused(orders: Town, message: object) -> None:
    path = orders.path("/topics/orders:publish")

    assert orders.ams.refused("POST", path, json={"messages": [{"data": HELLO}, message]}) == (
        400,
        "INVALID_ARGUMENT",
        "Invalid Message Arguments",
    )


def test_keys_of_messages_count_whatever_their_case(orders: Town) -> None:
    body = json.dumps({"Messages": [{"DATA": HELLO, "Attributes": {"a": None}, "x": 1}]})
    orders.ams.ok("POST", orders.path("/topics/orders:publish"), body=body)

    [message] = pulled_by_grpc(orders, "billing", 1)
    assert (message.data, dict(message.attributes)) == (b"hello", {"a": ""})


def test_publishers_publish_where_the_access_list_has_them(orders: Town) -> None:
    path, pat = orders.path("/topics/orders:publish"), orders.tokens["pat"]
    forbidden = (403, "FORBIDDEN", "Access to this resource is forbidden")
    assert orders.ams.refused("POST", path, pat, body="x") == forbidden
    users = {"authorized_users": [orders.names["pat"]]}
    orders.ams.ok("POST", orders.path("/topics/orders:modifyAcl"), json=users)

    assert orders.ams.ok("POST", path, pat, json={"messages": [{}]}) == {"messageIds": ["0"]}
    missing = orders.path("/topics/none:publish")
    for user in ("pat", "alice"):
        assert orders.ams.refused("POST", missing, orders.tokens[user], body="x") == (
            404,
            "NOT_FOUND",
            "Topic doesn't exist",
        )


def test_a_repeated_publish_with_an_idempotency_key_is_stored_once(orders: Town) -> None:
    def publish(key: str | bytes, data: str, user: str = "alice") -> requests.Response:
        messages = [{"data": data, "attributes": {"b": "1", "a": "2"}}]
        return orders.ams.call(
            "POST",
            orders.path("/topics/orders:publish"),
            orders.tokens[user],
            json={"messages": messages},
            headers={"Idempotency-Key": key},
        )

    users = {"authorized_users": [orders.names["pat"]]}
    orders.ams.ok("POST", orders.path("/topics/orders:modifyAcl"), json=users)
    for _ in range(2):
        assert publish("k", HELLO).json() == {"messageIds": ["0"]}
        assert publish("l", "no base64").json() == {"messageIds": ["1"]}
        # Another user's key is another key.
        assert publish("k", HELLO, "pat").json() == {"messageIds": ["2"]}
    for key, data in (("k", "b3RoZXI="), ("k" * 256, HELLO), ("schlüssel".encode(), HELLO)):
        refused = publish(key, data)
        assert refused.status_code == 400
        assert "dempotency key" in refused.json()["error"]["message"]

    assert len(pulled_by_grpc(orders, "billing", 3)) == 3
    assert publish("m", HELLO).json() == {"messageIds": ["3"]}
