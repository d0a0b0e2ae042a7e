"""Google's REST dialect: the JSON mapping of Pub/Sub v1, its errors, and Google's own clients on it."""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.pubsub_v1 import PublisherClient, SubscriberClient, types
from google.pubsub_v1.services.publisher.transports import PublisherRestTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberRestTransport

from tests.server import Server, free_port

Call = Callable[..., requests.Response]

GCLOUD = shutil.which("gcloud")
HELLO = base64.b64encode(b"hello").decode()


@pytest.fixture(scope="module")
def rest_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    address = f"127.0.0.1:{free_port()}"
    data = tmp_path_factory.mktemp("rest-server")
    with Server(data, arguments=("--google-rest-address", address)) as server:
        assert server.ready["google_rest"] == address
        yield address


@pytest.fixture
def call(rest_address: str) -> Call:
    """``call(method, path, json=..., ...)`` on the REST address."""

    def call(method: str, path: str, **options: Any) -> requests.Response:
        return requests.request(method, f"http://{rest_address}{path}", timeout=30, **options)

    return call


@pytest.fixture
def project() -> str:
    return f"projects/p-{secrets.token_hex(4)}"


def test_the_way_of_a_message(call: Call, project: str) -> None:
    topic, subscription = f"{project}/topics/orders", f"{project}/subscriptions/warehouse"
    assert call("PUT", f"/v1/{topic}").json() == {"name": topic}
    assert call("PUT", f"/v1/{subscription}", json={"topic": topic}).json() == {
        "name": subscription,
        "topic": topic,
        "pushConfig": {},
        "ackDeadlineSeconds": 10,
        "messageRetentionDuration": "604800s",
        "expirationPolicy": {"ttl": "2678400s"},
        "state": "ACTIVE",
    }

    message = {"data": HELLO, "attributes": {"language": 'ünï\u2028"code'}}
    published = call("POST", f"/v1/{topic}:publish", json={"messages": [message]}).json()
    pulled = call("POST", f"/v1/{subscription}:pull", json={"maxMessages": 10}).json()

    [received] = pulled["receivedMessages"]
    publish_time = received["message"].pop("publishTime")
    assert publish_time.endswith("Z")
    assert received["message"] == message | {"messageId": published["messageIds"][0]}
    acknowledged = call(
        "POST", f"/v1/{subscription}:acknowledge", json={"ackIds": [received["ackId"]]}
    )
    assert acknowledged.text == "{}\n"
    assert acknowledged.headers["Content-Type"] == "application/json; charset=UTF-8"


def test_both_spellings_of_a_field_are_taken_but_not_together(call: Call, project: str) -> None:
    topic, subscription = f"{project}/topics/orders", f"{project}/subscriptions/warehouse"
    call("PUT", f"/v1/{topic}")

    snake = {"topic": topic, "ack_deadline_seconds": 20}
    assert call("PUT", f"/v1/{subscription}", json=snake).json()["ackDeadlineSeconds"] == 20
    both = snake | {"ackDeadlineSeconds": 20}
    assert call("PUT", f"/v1/{subscription}2", json=both).status_code == 400


def test_an_update_reads_the_mask_in_camel_case(call: Call, project: str) -> None:
    topic, subscription = f"{project}/topics/orders", f"{project}/subscriptions/warehouse"
    call("PUT", f"/v1/{topic}")
    call("PUT", f"/v1/{subscription}", json={"topic": topic})

    updated = call(
        "PATCH",
        f"/v1/{subscription}",
        json={"subscription": {"ackDeadlineSeconds": 30}, "updateMask": "ackDeadlineSeconds"},
    ).json()

    assert updated["ackDeadlineSeconds"] == 30


def test_lists_take_their_page_from_the_query(call: Call, project: str) -> None:
    for name in ("one", "two"):
        call("PUT", f"/v1/{project}/topics/{name}")

    first = call("GET", f"/v1/{project}/topics?pageSize=1&alt=json").json()
    rest = call("GET", f"/v1/{project}/topics", params={"pageToken": first["nextPageToken"]})

    assert first["topics"] == [{"name": f"{project}/topics/one"}]
    assert rest.json() == {"topics": [{"name": f"{project}/topics/two"}]}
    assert call("GET", f"/v1/{project}/snapshots").text == "{}\n"


def test_a_policy_is_read_with_get(call: Call, project: str) -> None:
    topic = f"{project}/topics/orders"
    call("PUT", f"/v1/{topic}")
    binding = {"role": "roles/pubsub.viewer", "members": ["user:a@example.org"]}

    call("POST", f"/v1/{topic}:setIamPolicy", json={"policy": {"bindings": [binding]}})

    policy = call("GET", f"/v1/{topic}:getIamPolicy?options.requestedPolicyVersion=1").json()
    assert policy["bindings"] == [binding]


def test_enums_are_numbers_for_those_who_ask(call: Call, project: str) -> None:
    topic, subscription = f"{project}/topics/orders", f"{project}/subscriptions/warehouse"
    call("PUT", f"/v1/{topic}")
    call("PUT", f"/v1/{subscription}", json={"topic": topic})

    shown = call("GET", f"/v1/{subscription}?%24alt=json%3Benum-encoding%3Dint").json()

    assert shown["state"] == 1


@pytest.mark.parametrize(
    "method, path, body, status, message",
    [
        ("GET", "topics/orders", None, "NOT_FOUND", "Resource not found (resource=orders)."),
        (
            "PUT", "topics/orders", b'{"colour": "red"}', "INVALID_ARGUMENT",
            'Invalid JSON payload received. Unknown name "colour": Cannot find field.',
        ),
        ("GET", "topics?colour=red", None, "INVALID_ARGUMENT",
         'Invalid JSON payload received. Unknown name "colour": Cannot bind query parameter.'),
        ("PUT", "topics/orders", b"{", "INVALID_ARGUMENT", "Invalid JSON payload received."),
        ("PUT", "topics/orders", b"[]", "INVALID_ARGUMENT", "Invalid JSON payload received."),
        ("PUT", "topics/orders", b'{"labels": 5}', "INVALID_ARGUMENT", "Invalid value at 'labels'"),
        ("PUT", "topics/or:ders", None, "NOT_FOUND", "Not found."),
        ("GET", "nothing", None, "NOT_FOUND", "Not found."),
    ],
)  # fmt: skip
def test_errors_have_googles_body(
    call: Call, project: str, method: str, path: str, body: Any, status: str, message: str
) -> None:
    response = call(method, f"/v1/{project}/{path}", data=body)

    error = response.json()["error"]
    assert error["status"] == status
    assert error["message"].startswith(message)
    assert error["code"] == response.status_code


def test_an_error_names_the_field_at_fault(call: Call, project: str) -> None:
    call("PUT", f"/v1/{project}/topics/orders")

    response = call(
        "PUT",
        f"/v1/{project}/subscriptions/warehouse",
        json={"topic": f"{project}/topics/orders", "ackDeadlineSeconds": 5000},
    )

    [detail] = response.json()["error"]["details"]
    assert detail["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert detail["fieldViolations"][0]["field"] == "ack_deadline_seconds"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://example.com"},
        {"Origin": "null"},
        {"Host": "rebound.example.com"},
    ],
)
def test_a_page_of_another_site_is_refused(
    call: Call, project: str, headers: dict[str, str]
) -> None:
    refused = call("PUT", f"/v1/{project}/topics/orders", headers=headers)

    assert refused.status_code == 403
    assert call("GET", f"/v1/{project}/topics").json() == {}


def test_a_body_of_many_small_parts_is_refused(call: Call, project: str) -> None:
    body = b'{"messages": [' + b"{}," * 300_000 + b"{}]}"

    refused = call("POST", f"/v1/{project}/topics/orders:publish", data=body)

    assert refused.status_code == 400
    assert "parts" in refused.json()["error"]["message"]


def test_the_root_answers_as_googles_emulator_does(call: Call) -> None:
    assert call("GET", "/").text == "Ok\n"


def test_the_official_clients_rest_transport(rest_address: str, project: str) -> None:
    options: dict[str, Any] = {
        "host": f"http://{rest_address}",
        "credentials": AnonymousCredentials(),  # type: ignore[no-untyped-call]
        "url_scheme": "http",
    }
    publisher = PublisherClient(transport=PublisherRestTransport(**options))
    subscriber = SubscriberClient(transport=SubscriberRestTransport(**options))
    topic, subscription = f"{project}/topics/orders", f"{project}/subscriptions/warehouse"

    publisher.create_topic(name=topic)
    subscriber.create_subscription(name=subscription, topic=topic)
    publisher.publish(topic=topic, messages=[types.PubsubMessage(data=b"hello")])
    [received] = subscriber.pull(subscription=subscription, max_messages=1).received_messages
    subscriber.acknowledge(subscription=subscription, ack_ids=[received.ack_id])

    assert received.message.data == b"hello"
    assert [each.name for each in publisher.list_topics(project=project)] == [topic]
    with pytest.raises(exceptions.NotFound, match=r"Resource not found \(resource=missing\)"):
        publisher.get_topic(topic=f"{project}/topics/missing")


@pytest.mark.skipif(GCLOUD is None, reason="gcloud is not installed")
def test_gcloud(rest_address: str, project: str, tmp_path: Path) -> None:
    environment = os.environ | {
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB": f"http://{rest_address}/",
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_CORE_PROJECT": project.removeprefix("projects/"),
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CONFIG": str(tmp_path),
    }

    def gcloud(*arguments: str) -> str:
        done = subprocess.run(
            [str(GCLOUD), "pubsub", *arguments, "--quiet"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    gcloud("topics", "create", "orders")
    gcloud("subscriptions", "create", "warehouse", "--topic=orders", "--expiration-period=never")
    gcloud("topics", "publish", "orders", "--message=hello", "--attribute=a=b")
    pulled = gcloud("subscriptions", "pull", "warehouse", "--auto-ack", "--format=json")

    assert HELLO in pulled
    assert f"{project}/topics/orders" in gcloud("topics", "list")


def test_the_bridge_alone_in_front_of_a_server(lenient_server: Server, project: str) -> None:
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "http_bridge", "--target", lenient_server.endpoint]
    with subprocess.Popen(
        [*command, "--google-rest-address", address], stdout=subprocess.PIPE, text=True
    ) as bridge:
        try:
            assert bridge.stdout is not None
            assert bridge.stdout.readline().startswith("ready ")
            url = f"http://{address}/v1/{project}/topics/orders"
            assert requests.put(url, timeout=30).json() == {"name": f"{project}/topics/orders"}
            again = requests.put(url, timeout=30)
            message = {"messages": [{"data": HELLO}]}
            published = [
                requests.post(
                    f"{url}:publish", json=message, headers={"Idempotency-Key": key}, timeout=30
                )
                for key in ("k", "k", "schlüssel".encode())
            ]
        finally:
            bridge.terminate()

    assert bridge.returncode == 0
    assert again.status_code == 409
    assert again.json()["error"]["status"] == "ALREADY_EXISTS"
    first, repeated, refused = published
    assert first.json() == repeated.json() == {"messageIds": ["0"]}
    assert "An idempotency key has" in refused.json()["error"]["message"]
