"""AMS's push over REST: from the configuration to what endpoints get, on a server process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from aiohttp import web

from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2
from tests.receiver import Push, Receiver, self_signed, tls_with
from tests.rest.conftest import ROOT_TOKEN, Town
from tests.server import eventually

HOOK = "/subscriptions/hook"


class Hook:
    """A receiver that answers with a hash when it is asked, and a push subscription."""

    def __init__(self, town: Town, receiver: Receiver) -> None:
        self.town = town
        self.receiver = receiver
        self.hash: str | None = None
        self.status = 200
        receiver.answer = self._answer
        town.ams.ok("PUT", town.path("/topics/orders"))

    def _answer(self, push: Push) -> int | web.Response:
        if push.path == "/ams_verification_hash":
            return web.Response(text=self.hash) if self.hash is not None else 404
        if self.status != 200:
            return web.Response(status=self.status, text="try later")
        return 200

    def create(self, **config: Any) -> Any:
        wanted = {"type": "http_endpoint", "pushEndpoint": self.receiver.url("/hook")} | config
        return self.ok(
            "PUT",
            "",
            json={"topic": f"projects/{self.town.project}/topics/orders", "pushConfig": wanted},
        )

    def ok(self, method: str, verb: str = "", **options: Any) -> Any:
        return self.town.ams.ok(method, self.town.path(f"{HOOK}{verb}"), **options)

    def refused(self, method: str, verb: str = "", **options: Any) -> tuple[int, str, str]:
        return self.town.ams.refused(method, self.town.path(f"{HOOK}{verb}"), **options)

    def modify(self, **config: Any) -> None:
        self.ok("POST", ":modifyPushConfig", json={"pushConfig": config})

    def verify(self) -> None:
        self.hash = self.shown["verificationHash"]
        self.ok("POST", ":verifyPushEndpoint")

    def publish(self, *data: str) -> None:
        messages = [{"data": each, "attributes": {"region": "eu"}} for each in data]
        self.town.ams.ok(
            "POST", self.town.path("/topics/orders:publish"), json={"messages": messages}
        )

    @property
    def shown(self) -> dict[str, Any]:
        shown: dict[str, Any] = self.ok("GET")["pushConfig"]
        return shown

    @property
    def status_text(self) -> str | None:
        text: str | None = self.ok("GET").get("pushStatus")
        return text

    @property
    def name(self) -> str:
        return f"/projects/{self.town.project}/subscriptions/hook"

    @property
    def pushes(self) -> list[Push]:
        return [push for push in self.receiver.pushes if push.method == "POST"]


@pytest.fixture(scope="module")
def https(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    certificate, key = self_signed(tmp_path_factory.mktemp("https"))
    with Receiver(tls=tls_with(certificate, key)) as receiver:
        yield receiver


@pytest.fixture
def hook(town: Town, https: Receiver) -> Hook:
    https.forget()
    return Hook(town, https)


def test_from_the_hash_to_the_delivery(hook: Hook) -> None:
    made = hook.create(maxMessages=2, retryPolicy={"type": "linear", "period": 50})
    assert made["pushConfig"]["verified"] is False
    assert "pushStatus" not in made
    assert hook.status_text is None
    assert hook.refused("POST", ":pull", json={}, token=hook.town.tokens["alice"])[0] == 403
    hook.publish("MQ==", "Mg==", "Mw==")

    hook.hash = made["pushConfig"]["verificationHash"] + "\n"
    failed = "Endpoint verification failed."
    assert hook.refused("POST", ":verifyPushEndpoint") == (
        *(401, "UNAUTHORIZED"),
        f"{failed}Wrong verification hash",
    )
    hook.hash = None
    assert hook.refused("POST", ":verifyPushEndpoint")[2] == f"{failed}Wrong response status code"
    assert hook.pushes == []
    hook.verify()

    eventually(lambda: len(hook.pushes) == 2)
    first, second = hook.pushes
    assert first.headers["authorization"] == made["pushConfig"]["authorizationHeader"]["value"]
    assert [each["message"]["data"] for each in first.json["messages"]] == ["MQ==", "Mg=="]
    [last] = second.json["messages"]
    assert last.pop("subscription") == f"subscription {hook.name} from ams.example.org:443"
    assert last["message"].pop("publishTime").endswith("Z")
    assert last == {"message": {"messageId": "2", "attributes": {"region": "eu"}, "data": "Mw=="}}
    assert hook.ok("GET")["pushStatus"] == f"Subscription {hook.name} is currently active"
    assert hook.refused("POST", ":verifyPushEndpoint") == (
        *(409, "CONFLICT"),
        "Push endpoint is already verified",
    )
    assert hook.ok("GET", ":acl") == {"authorized_users": ["admin"]}  # the push worker here

    farewell = {"message": f"Subscription {hook.name} deactivated"}
    assert hook.ok("DELETE") == farewell


def test_what_is_refused_comes_again_and_the_status_says_why(hook: Hook) -> None:
    hook.create(retryPolicy={"period": 50}, base64Decode=True)
    hook.verify()
    hook.status = 503
    hook.publish("MQ==")

    eventually(lambda: len(hook.pushes) >= 2)
    assert hook.ok("GET")["pushStatus"].endswith(" - Could not send message, try later")
    hook.status = 200

    eventually(lambda: hook.status_text == f"Subscription {hook.name} is currently active")
    assert {push.json["message"]["data"] for push in hook.pushes} == {"1"}
    assert hook.ok("GET", ":offsets")["current"] == 1


def test_of_a_topic_that_is_gone_there_is_nothing_to_push(hook: Hook) -> None:
    hook.create()
    hook.verify()
    hook.town.ams.ok("DELETE", hook.town.path("/topics/orders"))

    trouble = " - Could not consume message, Subscription's topic doesn't exist"
    assert hook.ok("GET")["pushStatus"].endswith(trouble)


def test_what_pub_sub_pushes_needs_no_verification(hook: Hook) -> None:
    topic = f"projects/{hook.town.project}/topics/orders"
    request = pubsub_pb2.Subscription(name=hook.name[1:], topic=topic)
    request.push_config.push_endpoint = "https://127.0.0.1/receive"
    with grpc.insecure_channel(hook.town.ams.grpc) as channel:
        create: Any = channel.unary_unary("/google.pubsub.v1.Subscriber/CreateSubscription")
        create(request.SerializeToString(), timeout=30)

    assert hook.shown["verified"] is True
    assert hook.refused("POST", ":verifyPushEndpoint")[2] == "Push endpoint is already verified"


def test_changes(hook: Hook) -> None:
    before = hook.create()["pushConfig"]
    hook.verify()
    same, url = {"type": "http_endpoint"}, hook.receiver.url("/hook")

    hook.modify(**same, pushEndpoint=url, maxMessages=5, retryPolicy={"type": "slowstart"})
    assert hook.shown == before | {
        "verified": True,
        "maxMessages": 5,
        "retryPolicy": {"type": "slowstart", "period": 0},
    }
    hook.modify(**same, pushEndpoint=f"{url}2")
    assert hook.shown["verified"] is False
    assert hook.shown["verificationHash"] != before["verificationHash"]
    assert hook.ok("GET", ":acl") == {"authorized_users": []}
    hook.modify()
    assert hook.shown["type"] == ""
    assert hook.shown["authorizationHeader"] == hook.shown["retryPolicy"] == {}
    alice = hook.town.tokens["alice"]
    assert hook.ok("POST", ":pull", token=alice, json={}) == {"receivedMessages": []}
    assert hook.refused("POST", ":verifyPushEndpoint") == (
        *(409, "CONFLICT"),
        "Subscription is not in http push mode",
    )
    assert hook.ok("DELETE") is None


def test_mattermost_is_pushed_to_at_once(hook: Hook) -> None:
    webhook = hook.receiver.url("/hooks/abc")
    made = hook.create(type="mattermost", mattermostUrl=webhook, base64Decode=True)
    assert (made["pushConfig"]["verified"], made["pushConfig"]["pushEndpoint"]) == (True, "")
    assert "pushStatus" not in made

    hook.publish("ZGlzayBmdWxs")

    eventually(lambda: hook.pushes)
    assert (hook.pushes[0].path, hook.pushes[0].json) == ("/hooks/abc", {"text": "disk full"})
    assert hook.status_text == f"Subscription {hook.name} is currently active"


def test_refusals_in_their_order(hook: Hook) -> None:
    http = {"type": "http_endpoint", "pushEndpoint": "http://x.org/r"}
    body = {"topic": f"projects/{hook.town.project}/topics/orders", "pushConfig": http}
    no_https = (400, "INVALID_ARGUMENT", "Push endpoint should be addressed by a valid https url")

    assert hook.refused("POST", ":modifyPushConfig", body="x")[2] == (
        "Invalid Subscription Arguments"
    )
    missing = (404, "NOT_FOUND", "Subscription doesn't exist")
    assert hook.refused("POST", ":modifyPushConfig", json={"pushConfig": http}) == missing
    assert hook.refused("POST", ":verifyPushEndpoint") == missing
    assert hook.refused("PUT", json=body) == no_https
    hook.create()
    assert hook.refused("PUT", json=body) == no_https
    body["pushConfig"] = {}
    assert hook.refused("PUT", json=body)[0] == 409
    assert ROOT_TOKEN not in hook.refused("PUT", json=body)[2]
