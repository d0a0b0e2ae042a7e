"""Push subscriptions: what endpoints get, and what their answers do."""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import grpc
import pytest
from google.api_core import exceptions
from google.protobuf.field_mask_pb2 import FieldMask
from google.pubsub_v1 import types
from joserfc import jwt
from joserfc.jwk import KeySet

from tests.clients.pubsub import PATIENCE_S, PubSub, data_of, project_on
from tests.receiver import Push, Receiver, self_signed, tls_with
from tests.server import Server, eventually, run

NOT_SUPPORTED = "This method is not supported for this subscription type."


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def push_to(receiver: Receiver, path: str = "/push", **fields: Any) -> types.PushConfig:
    return types.PushConfig(push_endpoint=receiver.url(path), **fields)


def nothing_is_left(project: PubSub, subscription: str) -> bool:
    """True if a pull finds nothing: everything was acknowledged."""
    project.subscriber.modify_push_config(subscription=subscription, push_config={})
    return project.pull_now(subscription) == []


# --- what comes -------------------------------------------------------------------------------------


def test_a_message_comes_wrapped_in_json(lenient_pubsub: PubSub, receiver: Receiver) -> None:
    orders = lenient_pubsub.topic()
    warehouse = lenient_pubsub.subscription(
        orders, push_config=push_to(receiver, "/push?token=a%2Fb&x=1"), enable_message_ordering=True
    )

    message = types.PubsubMessage(data=b"Hello!", attributes={"key": "value"}, ordering_key="k")
    [message_id] = lenient_pubsub.publish_messages(orders, message)

    [push] = receiver.wait_for_count(1)
    assert push.path == "/push?token=a%2Fb&x=1"
    assert push.headers["content-type"] == "application/json"
    assert push.headers["user-agent"] == "CloudPubSub-Google"
    assert "authorization" not in push.headers
    publish_time = push.json["message"]["publishTime"]
    assert push.json == {
        "message": {
            "attributes": {"key": "value"},
            "data": "SGVsbG8h",
            "messageId": message_id,
            "message_id": message_id,
            "publishTime": publish_time,
            "publish_time": publish_time,
            "orderingKey": "k",
        },
        "subscription": warehouse,
    }


def test_unwrapped_the_body_is_the_data(lenient_pubsub: PubSub, receiver: Receiver) -> None:
    orders = lenient_pubsub.topic()
    for name, config in (
        ("plain", types.PushConfig.NoWrapper()),
        ("metadata", types.PushConfig.NoWrapper(write_metadata=True)),
    ):
        lenient_pubsub.subscription(
            orders, name, push_config=push_to(receiver, f"/{name}", no_wrapper=config)
        )

    attributes = {"key": "value", "content-type": "text/plain", "Host": "evil", "new\nline": "x"}
    message = types.PubsubMessage(data=b"\x00Hello!", attributes=attributes)
    [message_id] = lenient_pubsub.publish_messages(orders, message)

    pushes = {push.path: push for push in receiver.wait_for_count(2)}
    for push in pushes.values():
        assert push.body == b"\x00Hello!"
        assert push.headers["content-type"] == "text/plain"
        assert push.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert "x-goog-pubsub-message-id" not in pushes["/plain"].headers
    assert "key" not in pushes["/plain"].headers
    with_metadata = pushes["/metadata"].headers
    assert with_metadata["x-goog-pubsub-message-id"] == message_id
    assert with_metadata["x-goog-pubsub-subscription-name"].endswith("/subscriptions/metadata")
    assert with_metadata["x-goog-pubsub-publish-time"].endswith("Z")
    assert with_metadata["key"] == "value"


def test_a_message_without_data_comes_with_an_empty_body(
    lenient_pubsub: PubSub, receiver: Receiver
) -> None:
    orders = lenient_pubsub.topic()
    config = push_to(receiver, no_wrapper=types.PushConfig.NoWrapper())
    warehouse = lenient_pubsub.subscription(orders, push_config=config)

    lenient_pubsub.publish_messages(orders, types.PubsubMessage(attributes={"a": "b"}))

    [push] = receiver.wait_for_count(1)
    assert push.body == b""
    assert push.headers["content-length"] == "0"
    eventually(lambda: nothing_is_left(lenient_pubsub, warehouse))


def test_a_large_message_comes_whole(lenient_pubsub: PubSub, receiver: Receiver) -> None:
    orders = lenient_pubsub.topic()
    lenient_pubsub.subscription(orders, push_config=push_to(receiver))
    data = random.randbytes(9_000_000)

    lenient_pubsub.publish(orders, data)

    [push] = receiver.wait_for_count(1)
    assert push.data == data


# --- what answers do --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [102, 200, 201, 202, 204])
def test_a_message_that_is_answered_with_success_is_done(
    lenient_pubsub: PubSub, receiver: Receiver, status: int
) -> None:
    receiver.answer = lambda _: status
    orders = lenient_pubsub.topic()
    warehouse = lenient_pubsub.subscription(
        orders, push_config=push_to(receiver), ack_deadline_seconds=1
    )

    lenient_pubsub.publish(orders, b"1")
    receiver.wait_for_count(1)

    lenient_pubsub.let_leases_of_a_second_expire()
    lenient_pubsub.let_leases_of_a_second_expire()
    assert len(receiver.pushes) == 1
    assert nothing_is_left(lenient_pubsub, warehouse)


@pytest.mark.parametrize("status", [203, 206, 301, 302, 307, 400, 401, 404, 429, 500, 503])
def test_a_message_that_is_answered_otherwise_comes_again(
    lenient_pubsub: PubSub, receiver: Receiver, status: int
) -> None:
    answers = iter([status])
    receiver.answer = lambda _: next(answers, 200)
    orders = lenient_pubsub.topic()
    lenient_pubsub.subscription(orders, push_config=push_to(receiver))

    lenient_pubsub.publish(orders, b"1")

    first, second = receiver.wait_for_count(2)
    assert first.message_id == second.message_id
    assert {first.path, second.path} == {"/push"}, "redirects are not followed"


def test_a_message_that_is_not_answered_in_time_comes_again(
    lenient_pubsub: PubSub, receiver: Receiver
) -> None:
    seconds = iter([PATIENCE_S])

    async def slow(_: Push) -> int:
        await asyncio.sleep(next(seconds, 0))
        return 200

    receiver.answer = slow
    orders = lenient_pubsub.topic()
    lenient_pubsub.subscription(orders, push_config=push_to(receiver), ack_deadline_seconds=1)

    lenient_pubsub.publish(orders, b"1")

    first, second = receiver.wait_for_count(2)
    assert first.message_id == second.message_id
    receiver.wait_until_accepted([b"1"])


def test_an_endpoint_gets_few_requests_at_once_until_it_has_answered(
    lenient_pubsub: PubSub, receiver: Receiver
) -> None:
    let_go = threading.Event()

    async def held(push: Push) -> int:
        if push.path == "/held":
            await asyncio.to_thread(let_go.wait, PATIENCE_S)
        return 200

    receiver.answer = held
    orders = lenient_pubsub.topic()
    lenient_pubsub.subscription(orders, "held", push_config=push_to(receiver, "/held"))
    lenient_pubsub.subscription(orders, "other", push_config=push_to(receiver, "/other"))
    data = [b"%d" % number for number in range(9)]

    def came(path: str) -> list[bytes]:
        return [push.data for push in receiver.pushes if push.path == path]

    try:
        lenient_pubsub.publish(orders, *data)
        # What went to the other endpoint could have gone to this one, too.
        receiver.wait_for(lambda _: len(came("/held")) == 3 and len(came("/other")) == 9)
        assert len(came("/held")) == 3
    finally:
        let_go.set()

    receiver.wait_for(lambda _: {*came("/held")} == {*data})


def test_a_quick_endpoint_gets_more_and_more_at_once(
    lenient_pubsub: PubSub, receiver: Receiver
) -> None:
    async def quick(_: Push) -> int:
        await asyncio.sleep(0.02)
        return 200

    receiver.answer = quick
    orders = lenient_pubsub.topic()
    warehouse = lenient_pubsub.subscription(orders, push_config=push_to(receiver))
    data = [b"%d" % number for number in range(500)]

    lenient_pubsub.publish(orders, *data)

    receiver.wait_until_accepted(data)
    assert 12 <= receiver.most_running <= 100
    assert max(Counter(receiver.data).values()) == 1
    eventually(lambda: nothing_is_left(lenient_pubsub, warehouse))


def test_an_endpoint_that_was_down_gets_everything_when_it_is_up(
    lenient_pubsub: PubSub, receiver: Receiver
) -> None:
    receiver.stop()
    orders = lenient_pubsub.topic()
    lenient_pubsub.subscription(orders, push_config=push_to(receiver))
    data = [b"%d" % number for number in range(50)]
    lenient_pubsub.publish(orders, *data)
    lenient_pubsub.let_leases_of_a_second_expire()

    receiver.start()

    receiver.wait_until_accepted(data, timeout_s=2 * PATIENCE_S)


def test_messages_that_are_never_accepted_keep_no_others_from_coming(
    lenient_pubsub: PubSub, receiver: Receiver
) -> None:
    receiver.answer = lambda push: 500 if push.data.startswith(b"bad") else 200
    orders = lenient_pubsub.topic()
    lenient_pubsub.subscription(orders, push_config=push_to(receiver))
    good = [b"good-%d" % number for number in range(50)]

    lenient_pubsub.publish(orders, *(b"bad-%d" % number for number in range(5)), *good)

    receiver.wait_until_accepted(good)


def test_an_endpoint_that_answers_at_length_is_not_read_to_the_end(
    lenient_pubsub: PubSub, receiver: Receiver
) -> None:
    orders = lenient_pubsub.topic()
    config = push_to(receiver)
    warehouse = lenient_pubsub.subscription(orders, push_config=config)
    with EndlessAnswer() as endless:
        lenient_pubsub.subscriber.modify_push_config(
            subscription=warehouse, push_config={"push_endpoint": endless.url}
        )
        lenient_pubsub.publish(orders, b"1")

        eventually(lambda: endless.was_cut_off)
    assert nothing_is_left(lenient_pubsub, warehouse)


class EndlessAnswer:
    """An endpoint whose answers begin with 200 and never end."""

    def __init__(self) -> None:
        self.was_cut_off = False

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            try:
                while True:
                    connection.sendall(b"400\r\n" + b"x" * 1024 + b"\r\n")
            except OSError:
                self.was_cut_off = True


# --- policies -----------------------------------------------------------------------------------------


def test_a_message_that_is_never_accepted_becomes_a_dead_letter_that_tells_why(
    lenient_pubsub: PubSub, receiver: Receiver
) -> None:
    receiver.answer = lambda _: 418
    orders, dead = lenient_pubsub.topic(), lenient_pubsub.topic("dead")
    morgue = lenient_pubsub.subscription(dead, "morgue")
    lenient_pubsub.subscription(
        orders, push_config=push_to(receiver), dead_letter_policy={"dead_letter_topic": dead}
    )

    lenient_pubsub.publish(orders, b"1")

    [letter] = lenient_pubsub.pull(morgue)
    assert letter.message.data == b"1"
    attributes = letter.message.attributes
    assert attributes["CloudPubSubDeadLetterSourceDeliveryErrorMessage"] == "status 418"
    assert [push.json["deliveryAttempt"] for push in receiver.pushes] == [1, 2, 3, 4, 5]


def test_messages_of_a_key_come_one_after_the_other_whatever_fails(
    lenient_pubsub: PubSub, receiver: Receiver
) -> None:
    running: Counter[str] = Counter()
    overlaps: list[str] = []

    async def sometimes(push: Push) -> int:
        key = push.json["message"]["orderingKey"]
        if running[key]:
            overlaps.append(key)
        running[key] += 1
        await asyncio.sleep(0.01)
        running[key] -= 1
        return 200 if random.random() < 0.8 else 500

    receiver.answer = sometimes
    orders = lenient_pubsub.topic()
    lenient_pubsub.subscription(orders, push_config=push_to(receiver), enable_message_ordering=True)
    for number in range(10):
        for key in "abc":
            message = types.PubsubMessage(data=b"%s-%d" % (key.encode(), number), ordering_key=key)
            lenient_pubsub.publish_messages(orders, message)

    for key in "abc":
        data = [b"%s-%d" % (key.encode(), number) for number in range(10)]
        receiver.wait_until_accepted(data, timeout_s=2 * PATIENCE_S)
        assert [each for each in receiver.accepted if each[:1] == key.encode()] == data
    assert overlaps == []


# --- push, pull, and back -----------------------------------------------------------------------------


def test_who_pulls_from_a_push_subscription_is_told_so(
    lenient_pubsub: PubSub, receiver: Receiver
) -> None:
    receiver.answer = lambda _: 500
    orders = lenient_pubsub.topic()
    warehouse = lenient_pubsub.subscription(orders)
    lenient_pubsub.publish(orders, b"1")
    [received] = lenient_pubsub.pull(warehouse)
    lenient_pubsub.subscriber.modify_push_config(
        subscription=warehouse, push_config=push_to(receiver)
    )

    calls: list[Callable[[], object]] = [
        lambda: lenient_pubsub.pull(warehouse),
        lambda: lenient_pubsub.acknowledge(warehouse, received),
        lambda: lenient_pubsub.modify_ack_deadline(warehouse, 10, received),
    ]
    for call in calls:
        with pytest.raises(exceptions.FailedPrecondition) as refusal:
            call()
        assert refusal.value.message == NOT_SUPPORTED
    assert lenient_pubsub.stream(warehouse).error() == (
        grpc.StatusCode.FAILED_PRECONDITION,
        NOT_SUPPORTED,
    )


def test_streams_and_pulls_end_when_a_subscription_becomes_a_push_subscription(
    lenient_pubsub: PubSub, receiver: Receiver
) -> None:
    orders = lenient_pubsub.topic()
    warehouse = lenient_pubsub.subscription(orders, ack_deadline_seconds=1)
    failures: list[BaseException] = []

    def pull() -> None:
        try:
            lenient_pubsub.pull(warehouse)
        except exceptions.GoogleAPICallError as error:
            failures.append(error)

    waiting = threading.Thread(target=pull)
    waiting.start()
    stream = lenient_pubsub.stream(warehouse)
    stream.response()

    lenient_pubsub.subscriber.modify_push_config(
        subscription=warehouse, push_config=push_to(receiver)
    )

    assert stream.error() == (grpc.StatusCode.FAILED_PRECONDITION, NOT_SUPPORTED)
    waiting.join(PATIENCE_S)
    assert [type(error) for error in failures] == [exceptions.FailedPrecondition]


def test_nothing_is_lost_between_pull_and_push(lenient_pubsub: PubSub, receiver: Receiver) -> None:
    orders = lenient_pubsub.topic()
    warehouse = lenient_pubsub.subscription(orders, ack_deadline_seconds=1)
    lenient_pubsub.publish(orders, *(b"%d" % number for number in range(10)))
    acknowledged, *held = lenient_pubsub.pull_all(warehouse, 5)
    lenient_pubsub.acknowledge(warehouse, acknowledged)

    lenient_pubsub.subscriber.modify_push_config(
        subscription=warehouse, push_config=push_to(receiver)
    )

    expected = {b"%d" % number for number in range(10)} - {acknowledged.message.data}
    assert {*data_of(held)} < expected
    receiver.wait_until_accepted([*expected])
    assert acknowledged.message.data not in receiver.data


def test_nothing_is_lost_between_push_and_pull(lenient_pubsub: PubSub, receiver: Receiver) -> None:
    receiver.answer = lambda push: 200 if push.data in {b"0", b"1", b"2"} else 500
    orders = lenient_pubsub.topic()
    warehouse = lenient_pubsub.subscription(
        orders, push_config=push_to(receiver), ack_deadline_seconds=1
    )
    lenient_pubsub.publish(orders, *(b"%d" % number for number in range(10)))
    receiver.wait_until_accepted([b"0", b"1", b"2"])
    receiver.wait_for(lambda pushes: any(push.data == b"5" for push in pushes))

    lenient_pubsub.subscriber.modify_push_config(
        subscription=warehouse, push_config=types.PushConfig()
    )

    came: set[bytes] = set()
    while len(came) < 7:
        received = lenient_pubsub.pull(warehouse)
        lenient_pubsub.acknowledge(warehouse, *received)
        came.update(data_of(received))
    assert came == {b"%d" % number for number in range(3, 10)}


def test_a_push_config_can_be_changed_by_an_update(
    lenient_pubsub: PubSub, receiver: Receiver
) -> None:
    orders = lenient_pubsub.topic()
    warehouse = lenient_pubsub.subscription(orders)

    updated = lenient_pubsub.subscriber.update_subscription(
        request={
            "subscription": {"name": warehouse, "push_config": push_to(receiver)},
            "update_mask": FieldMask(paths=["push_config"]),
        }
    )
    lenient_pubsub.publish(orders, b"1")

    assert updated.push_config.push_endpoint == receiver.url("/push")
    receiver.wait_until_accepted([b"1"])


def test_a_subscription_that_is_deleted_or_detached_is_not_pushed_any_more(
    lenient_pubsub: PubSub, receiver: Receiver
) -> None:
    orders = lenient_pubsub.topic()
    config = push_to(receiver)
    deleted = lenient_pubsub.subscription(orders, "deleted", push_config=config)
    detached = lenient_pubsub.subscription(orders, "detached", push_config=config)
    lenient_pubsub.subscription(orders, "other", push_config=config)
    lenient_pubsub.publish(orders, b"1")
    receiver.wait_for_count(3)

    lenient_pubsub.subscriber.delete_subscription(subscription=deleted)
    lenient_pubsub.publisher.detach_subscription(request={"subscription": detached})
    lenient_pubsub.publish(orders, b"2")

    receiver.wait_for_count(4)
    lenient_pubsub.let_leases_of_a_second_expire()
    assert [push.json["subscription"].rpartition("/")[2] for push in receiver.pushes[3:]] == [
        "other"
    ]


def test_a_seek_brings_messages_back_to_the_endpoint(
    lenient_pubsub: PubSub, receiver: Receiver
) -> None:
    orders = lenient_pubsub.topic()
    warehouse = lenient_pubsub.subscription(
        orders, push_config=push_to(receiver), retain_acked_messages=True
    )
    before = lenient_pubsub.snapshot(warehouse)
    lenient_pubsub.publish(orders, b"1", b"2")
    receiver.wait_until_accepted([b"1", b"2"])

    lenient_pubsub.subscriber.seek(request={"subscription": warehouse, "snapshot": before})

    receiver.wait_for_count(4)
    assert Counter(receiver.data) == {b"1": 2, b"2": 2}


def test_a_push_subscription_that_is_not_used_expires_and_a_success_is_use(
    tmp_path: Path, database_url: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.answer = lambda push: 200 if push.path == "/works" else 500
    settings = {"RETENTION_INTERVAL_S": "0.2"}
    with (
        Server(tmp_path, database_url, profile="emulator", settings=settings) as server,
        project_on(server, monkeypatch) as own,
    ):
        orders = own.topic()
        for name in ("works", "fails"):
            own.subscription(
                orders,
                name,
                push_config=push_to(receiver, f"/{name}"),
                expiration_policy={"ttl": {"seconds": 3}},
            )
        project = own.path
        publishing = threading.Event()

        def publish() -> None:
            while not publishing.wait(0.3):
                own.publish(orders, b"x")

        thread = threading.Thread(target=publish)
        thread.start()
        try:

            def names() -> list[str]:
                # Listing is no use, unlike getting.
                listed = own.subscriber.list_subscriptions(project=project)
                return [each.name.rpartition("/")[2] for each in listed]

            eventually(lambda: names() == ["works"])
        finally:
            publishing.set()
            thread.join()
        eventually(lambda: names() == [])


# --- what is refused ----------------------------------------------------------------------------------


def invalid_endpoint(endpoint: str) -> str:
    return (
        f"Invalid push endpoint given (endpoint={endpoint}). Refer to "
        "https://cloud.google.com/pubsub/subscriber#create for more information."
    )


@pytest.mark.parametrize(
    "endpoint",
    [
        *(
            "nonsense",
            "http://example.com/",
            "ftp://example.com/",
            "https://",
            "https://127.0.0.1/",
        ),
        *("https://localhost/", "https://10.0.0.1/", "https://[::1]/", "https://169.254.169.254/"),
        *("https://[::ffff:127.0.0.1]/", "https://2130706433/", "https://user:pw@example.com/"),
    ],
)
def test_an_endpoint_that_is_not_public_is_refused(pubsub: PubSub, endpoint: str) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    config = types.PushConfig(push_endpoint=endpoint)

    calls: list[Callable[[], object]] = [
        lambda: pubsub.subscription(orders, "pushed", push_config=config),
        lambda: pubsub.subscriber.modify_push_config(subscription=warehouse, push_config=config),
        lambda: pubsub.subscriber.update_subscription(
            request={
                "subscription": {"name": warehouse, "push_config": config},
                "update_mask": FieldMask(paths=["push_config"]),
            }
        ),
    ]
    for call in calls:
        with pytest.raises(exceptions.InvalidArgument) as refusal:
            call()
        assert refusal.value.message == invalid_endpoint(endpoint)
    listed = list(pubsub.subscriber.list_subscriptions(project=pubsub.path))
    assert [(each.name, each.push_config) for each in listed] == [(warehouse, types.PushConfig())]


def test_an_unknown_version_is_refused(pubsub: PubSub) -> None:
    config = types.PushConfig(
        push_endpoint="https://example.com/", attributes={"x-goog-version": "v2"}
    )

    with pytest.raises(exceptions.InvalidArgument) as refusal:
        pubsub.subscription(pubsub.topic(), push_config=config)

    assert refusal.value.message == (
        "Invalid push endpoint version given in push config (version=v2)."
    )


def test_a_push_config_of_megabytes_is_refused_wherever_they_are(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    megabytes = "x" * 5_000_000
    token = types.PushConfig.OidcToken(service_account_email="a@b.c", audience=megabytes)
    configs: dict[str, dict[str, Any]] = {
        "push_endpoint": {"push_endpoint": f"https://example.com/{megabytes}"},
        "attributes": {"attributes": {"a": megabytes}},
        "oidc_token": {"oidc_token": token},
    }

    for field, config in configs.items():
        with pytest.raises(exceptions.InvalidArgument) as refusal:
            pubsub.subscription(
                orders, push_config={"push_endpoint": "https://example.com/", **config}
            )
        assert field.removeprefix("push_") in refusal.value.message
        assert len(refusal.value.message) < 2000


def test_a_token_without_an_identity_is_refused(pubsub: PubSub) -> None:
    config = types.PushConfig(
        push_endpoint="https://example.com/", oidc_token=types.PushConfig.OidcToken(audience="a")
    )

    with pytest.raises(exceptions.InvalidArgument) as refusal:
        pubsub.subscription(pubsub.topic(), push_config=config)

    assert refusal.value.message == (
        "You have passed an invalid argument to the service "
        "(argument=PushConfig::oidc_token::service_account_email)."
    )


def test_a_push_config_is_returned_as_it_was_given(pubsub: PubSub) -> None:
    given = types.PushConfig(
        push_endpoint="https://example.com/push?x=1",
        oidc_token=types.PushConfig.OidcToken(service_account_email="a@b.c", audience="d"),
        no_wrapper=types.PushConfig.NoWrapper(write_metadata=True),
    )
    warehouse = pubsub.subscription(pubsub.topic(), push_config=given)

    shown = pubsub.subscriber.get_subscription(subscription=warehouse).push_config

    assert shown.attributes == {"x-goog-version": "v1"}
    shown.attributes = {}
    assert shown == given


def test_a_version_that_is_not_given_stays_as_it_was(pubsub: PubSub) -> None:
    config = types.PushConfig(
        push_endpoint="https://example.com/", attributes={"x-goog-version": "v1beta1"}
    )
    warehouse = pubsub.subscription(pubsub.topic(), push_config=config)

    pubsub.subscriber.modify_push_config(
        subscription=warehouse, push_config={"push_endpoint": "https://example.com/new"}
    )

    shown = pubsub.subscriber.get_subscription(subscription=warehouse).push_config
    assert shown.push_endpoint == "https://example.com/new"
    assert shown.attributes == {"x-goog-version": "v1beta1"}


def test_a_config_without_an_endpoint_means_that_subscribers_pull(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    config = types.PushConfig(oidc_token=types.PushConfig.OidcToken(service_account_email="a@b.c"))
    warehouse = pubsub.subscription(orders, push_config=config)

    pubsub.publish(orders, b"1")

    assert data_of(pubsub.pull(warehouse)) == [b"1"]


def test_a_push_config_of_a_missing_subscription_is_not_found(pubsub: PubSub) -> None:
    with pytest.raises(exceptions.NotFound):
        pubsub.subscriber.modify_push_config(
            subscription=f"{pubsub.path}/subscriptions/missing", push_config={}
        )


# --- servers of their own -----------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    return self_signed(tmp_path)


@pytest.fixture
def https_receiver(certificate: tuple[Path, Path]) -> Iterator[Receiver]:
    with Receiver(tls=tls_with(*certificate)) as receiver:
        yield receiver


def test_a_name_of_a_private_address_is_not_pushed_to_unless_it_is_allowed(
    tmp_path: Path,
    database_url: str,
    https_receiver: Receiver,
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The endpoint is accepted, as nobody knows yet what its name will mean."""
    name = host_that_is_loopback()
    endpoint = https_receiver.url("/push?secret=hidden", name)
    settings = {"PUSH_VERIFY_TLS": "false"}
    with ExitStack() as stack:
        server = stack.enter_context(Server(tmp_path, database_url, admin=True, settings=settings))
        own = stack.enter_context(project_on(server, monkeypatch))
        orders = own.topic()
        own.subscription(orders, push_config=types.PushConfig(push_endpoint=endpoint))
        own.publish(orders, b"payload")

        eventually(lambda: refused(server) >= 2)
        assert https_receiver.pushes == []
        line = json.loads(next(each for each in server.log().splitlines() if "pushing" in each))
        assert "is not a public address" in line["event"]
        assert "hidden" not in server.log()
        assert "payload" not in server.log()
    settings["PUSH_ALLOWED_HOSTS"] = json.dumps([name])
    with Server(tmp_path, database_url, settings=settings):
        https_receiver.wait_until_accepted([b"payload"])


def refused(server: Server) -> float:
    _, page = server.get("/metrics")
    return sum(
        float(line.rpartition(" ")[2])
        for line in page.splitlines()
        if line.startswith("pubsub_subscription_push_request_total") and '"refused"' in line
    )


def host_that_is_loopback() -> str:
    """A name of this machine that does not say that it is one."""
    name = socket.gethostname()
    try:
        found = {each[4][0] for each in socket.getaddrinfo(name, 1)}
    except OSError:
        found = set()
    if not found or name == "localhost":
        pytest.skip("this machine has no name of its own")
    return name


def test_certificates_are_verified(
    tmp_path: Path,
    https_receiver: Receiver,
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    allowed = {"PUSH_ALLOWED_HOSTS": '["localhost"]'}
    endpoint = https_receiver.url("/push", "localhost")
    with (
        Server(tmp_path, settings=allowed) as server,
        project_on(server, monkeypatch) as own,
    ):
        orders = own.topic()
        own.subscription(orders, push_config=types.PushConfig(push_endpoint=endpoint))
        own.publish(orders, b"1")
        eventually(lambda: "certificate is not valid" in server.log())
    assert https_receiver.pushes == []

    with Server(tmp_path, settings={**allowed, "PUSH_CA_FILE": str(certificate[0])}):
        https_receiver.wait_until_accepted([b"1"])


@pytest.mark.parametrize(
    "setting, complaint",
    [
        ('push_allowed_hosts = ["10.0.0.0/99"]', "neither a network nor a host name"),
        ('push_issuer = "issuer"', "push_issuer is no http:// or https:// URL"),
        ('push_ca_file = "/missing.pem"', "/missing.pem has no certificates to read"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(
    tmp_path: Path, setting: str, complaint: str
) -> None:
    file = tmp_path / "ams.toml"
    file.write_text(setting)

    refused = run("config", "--config", str(file))

    assert refused.returncode != 0
    assert complaint in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_token_is_verified_with_the_keys_that_the_service_shows(
    tmp_path: Path, database_url: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        Server(tmp_path, database_url, profile="emulator", admin=True) as server,
        project_on(server, monkeypatch) as own,
    ):
        orders = own.topic()
        identity = types.PushConfig.OidcToken(service_account_email="a@b.c")
        own.subscription(orders, push_config=push_to(receiver, oidc_token=identity))
        own.publish(orders, b"1", b"2")
        receiver.wait_for_count(2)
        issuer = f"http://{server.admin_endpoint}"
        document = json.loads(server.get("/.well-known/openid-configuration")[1])
        assert document["issuer"] == issuer
        keys = server.get(document["jwks_uri"].removeprefix(issuer))[1]

        server.kill()
        server.start()
        own.publish(orders, b"3")
        receiver.wait_until_accepted([b"3"])

        assert server.get("/oauth2/v3/certs")[1] == keys, "the key outlives the process"
        assert "PRIVATE" not in keys + server.log()
    tokens = [push.headers["authorization"].removeprefix("Bearer ") for push in receiver.pushes]
    assert tokens[0] == tokens[1]
    for token in (tokens[0], tokens[-1]):
        verified = jwt.decode(token, KeySet.import_key_set(json.loads(keys)), algorithms=["RS256"])
        assert verified.claims["iss"] == issuer
        assert verified.claims["aud"] == receiver.url("/push")
        assert verified.claims["email"] == "a@b.c"
        assert verified.claims["email_verified"] is True
        assert verified.claims["exp"] - verified.claims["iat"] == 3600
        assert verified.claims["sub"] == verified.claims["azp"]


def test_the_issuer_can_be_set(tmp_path: Path) -> None:
    settings = {"PUSH_ISSUER": "https://pubsub.example.com/"}
    with Server(tmp_path, admin=True, settings=settings) as server:
        document = json.loads(server.get("/.well-known/openid-configuration")[1])

    assert document["issuer"] == "https://pubsub.example.com"
    assert document["jwks_uri"] == "https://pubsub.example.com/oauth2/v3/certs"


def test_a_stopped_server_finishes_the_requests_that_run(
    tmp_path: Path, database_url: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()

    async def slow(_: Push) -> int:
        await asyncio.to_thread(let_go.wait, PATIENCE_S)
        return 200

    receiver.answer = slow
    with (
        Server(tmp_path, database_url, profile="emulator") as server,
        project_on(server, monkeypatch) as own,
    ):
        orders = own.topic()
        warehouse = own.subscription(orders, push_config=push_to(receiver))
        own.publish(orders, *(b"%d" % number for number in range(10)))
        begun = {push.data for push in receiver.wait_for_count(3)}

        server.terminate()
        eventually(lambda: "draining" in server.log())
        let_go.set()

        assert server.wait() == 0
        assert {push.data for push in receiver.pushes} >= begun
        receiver.stop()
        server.start()
        own.subscriber.modify_push_config(subscription=warehouse, push_config={})
        left = {*data_of(own.pull_all(warehouse, 10 - len(receiver.pushes)))}
        assert not left & {push.data for push in receiver.pushes}
        assert len(left) == 10 - len(receiver.pushes)


def test_a_server_that_is_killed_again_and_again_loses_nothing(
    tmp_path: Path, database_url: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def mostly(_: Push) -> int:
        await asyncio.sleep(random.random() / 50)
        return 200 if random.random() < 0.9 else 500

    receiver.answer = mostly
    with (
        Server(tmp_path, database_url, profile="emulator") as server,
        project_on(server, monkeypatch) as own,
    ):
        orders = own.topic()
        own.subscription(orders, push_config=push_to(receiver))
        published = []
        for kill in range(4):
            data = [b"%d-%d" % (kill, number) for number in range(200)]
            own.publish(orders, *data)
            published += data
            goal = len(receiver.pushes) + random.randrange(20, 120)
            receiver.wait_for_count(goal)
            server.kill()
            server.start()

        receiver.wait_until_accepted(published, timeout_s=2 * PATIENCE_S)


def test_an_idle_server_with_push_subscriptions_does_nothing(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer than 2 % of one core, with 50 push subscriptions that were used."""
    with (
        Server(tmp_path, profile="emulator") as server,
        project_on(server, monkeypatch) as own,
    ):
        orders = own.topic()
        for number in range(50):
            own.subscription(orders, f"sub-{number}", push_config=push_to(receiver))
        own.publish(orders, b"1")
        receiver.wait_for_count(50)
        eventually(Idleness(server.pid), timeout_s=60)


class Idleness:
    """True once a process has used next to no CPU for two seconds on end."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._since, self._before = time.monotonic(), self._ticks()

    def __call__(self) -> bool:
        ticks = self._ticks()
        if ticks - self._before > 4:  # hundredths of a second: not idle, count anew
            self._since, self._before = time.monotonic(), ticks
        return time.monotonic() - self._since >= 2

    def _ticks(self) -> int:
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])


def test_documents_for_receivers_are_not_there_for_other_methods(tmp_path: Path) -> None:
    with Server(tmp_path, admin=True) as server:
        assert server.admin_endpoint is not None
        connection = http.client.HTTPConnection(server.admin_endpoint, timeout=PATIENCE_S)
        connection.request("POST", "/oauth2/v3/certs")
        assert connection.getresponse().status == 405
        connection.close()
