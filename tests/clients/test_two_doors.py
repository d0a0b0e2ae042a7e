"""One message, two doors: published through the one, received through the other, and the same."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import pytest
import requests
from google.pubsub_v1 import types

from tests.clients.pubsub import PubSub, project_on
from tests.server import Server, free_port

TOKEN: Final = "r" * 64
ATTRIBUTES: Final = {"region": 'e"u\\\u0001\u2028', "ünï": "✓", "empty": ""}


class Rest:
    """AMS's REST API, as root."""

    def __init__(self, address: str, project: str) -> None:
        self.address = f"http://{address}/v1/projects/{project}"

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        reply = requests.request(
            method, f"{self.address}{path}", json=body, headers={"x-api-key": TOKEN}, timeout=30
        )
        assert reply.status_code == 200, reply.text
        return reply.json() if reply.content else None

    def pull(self, subscription: str, count: int) -> list[dict[str, Any]]:
        """The messages, without their ack ids."""
        found = self("POST", f"/subscriptions/{subscription}:pull", {"maxMessages": str(count)})
        return [each["message"] for each in found["receivedMessages"]]


@pytest.fixture
def doors(
    database_url: str | None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: Any
) -> Iterator[tuple[PubSub, Rest]]:
    address = f"127.0.0.1:{free_port()}"
    with (
        Server(
            tmp_path_factory.mktemp("doors"),
            database_url,
            arguments=("--ams-address", address),
            settings={"ADMIN_TOKEN": TOKEN},
        ) as server,
        project_on(server, monkeypatch) as pubsub,
    ):
        rest = Rest(address, pubsub.project)
        rest("POST", "", {})
        rest("PUT", "/topics/orders")
        for name in ("for-ams", "for-pubsub"):
            rest("PUT", f"/subscriptions/{name}", {"topic": f"{pubsub.path}/topics/orders"})
        yield pubsub, rest


def seen_by_pubsub(pubsub: PubSub, count: int) -> list[dict[str, Any]]:
    """What Google's client receives, in the form that AMS shows."""
    received = pubsub.pull_all(f"{pubsub.path}/subscriptions/for-pubsub", count)
    return [
        {
            "messageId": message.message_id,
            "data": base64.b64encode(message.data).decode(),
            "publishTime": time_of(message.publish_time),
        }
        | ({"attributes": dict(sorted(message.attributes.items()))} if message.attributes else {})
        for message in sorted(
            (each.message for each in received), key=lambda each: int(each.message_id)
        )
    ]


def time_of(moment: Any) -> str:
    """A publish time of Google's client, in all its digits, as AMS writes it."""
    at = datetime.fromtimestamp(int(moment.timestamp()), UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{at}.{moment.nanosecond:09d}".rstrip("0").rstrip(".") + "Z"


def test_messages_are_the_same_through_both_doors(doors: tuple[PubSub, Rest]) -> None:
    pubsub, rest = doors
    topic = f"{pubsub.path}/topics/orders"
    data = base64.b64encode(b"over REST").decode()

    over_rest = rest(
        "POST",
        "/topics/orders:publish",
        {"messages": [{"data": data, "attributes": ATTRIBUTES}, {"attributes": {"a": "b"}}]},
    )
    over_grpc = pubsub.publish_messages(
        topic, types.PubsubMessage(data=b"over gRPC", attributes=ATTRIBUTES)
    )

    assert over_rest == {"messageIds": ["0", "1"]}
    assert over_grpc == ["2"]
    messages = rest.pull("for-ams", 3)
    assert messages == seen_by_pubsub(pubsub, 3)
    assert [each["messageId"] for each in messages] == ["0", "1", "2"]
    assert messages[0]["attributes"] == messages[2]["attributes"] == ATTRIBUTES
    assert base64.b64decode(messages[2]["data"]) == b"over gRPC"
