"""Idempotency keys: what is published again, for want of an answer, is stored once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from google.api_core import exceptions
from google.pubsub_v1 import PublisherClient, types

from tests.clients.pubsub import PATIENCE_S, PubSub, data_of, project_on
from tests.server import Server, eventually


def publish(pubsub: PubSub, topic: str, key: str, *data: bytes, **fields: Any) -> list[str]:
    messages = [types.PubsubMessage(data=each, **fields) for each in data]
    request = types.PublishRequest(topic=topic, messages=messages)
    metadata = [("x-idempotency-key", key)]
    reply = PublisherClient.publish(pubsub.publisher, request, metadata=metadata)
    return list(reply.message_ids)


def test_a_repeated_publish_gets_the_first_ids_and_stores_nothing(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)

    first = publish(pubsub, orders, "0190-a", b"a", b"b", ordering_key="o")
    pubsub.publish(orders, b"between")

    assert publish(pubsub, orders, "0190-a", b"a", b"b", ordering_key="o") == first
    assert publish(pubsub, orders, "0190-b", b"a", b"b", ordering_key="o") != first
    received = pubsub.pull_all(warehouse, 5)
    assert sorted(data_of(received)) == [b"a", b"a", b"b", b"b", b"between"]
    assert pubsub.pull_now(warehouse) == []


def test_a_key_belongs_to_its_topic(pubsub: PubSub) -> None:
    orders, bills = pubsub.topic(), pubsub.topic("bills")
    publish(pubsub, orders, "k", b"an order")
    publish(pubsub, bills, "k", b"a bill")

    pubsub.publisher.delete_topic(topic=orders)
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    publish(pubsub, orders, "k", b"another order")

    assert data_of(pubsub.pull(warehouse)) == [b"another order"]


def test_a_key_with_other_messages_is_refused(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    publish(pubsub, orders, "k", b"a")

    with pytest.raises(exceptions.InvalidArgument, match="used before, for a request with other"):
        publish(pubsub, orders, "k", b"b")
    with pytest.raises(exceptions.InvalidArgument, match="1 to 255 visible ASCII"):
        publish(pubsub, orders, "k" * 256, b"a")


def test_what_a_topics_transforms_made_of_messages_is_not_made_again(pubsub: PubSub) -> None:
    drop_b = "function drop(message, metadata) { return message.data === 'b' ? null : message }"
    transform = {"javascript_udf": {"function_name": "drop", "code": drop_b}}
    orders = pubsub.topic(message_transforms=[transform])
    warehouse = pubsub.subscription(orders)
    some = publish(pubsub, orders, "some", b"a", b"b", b"c")
    none = publish(pubsub, orders, "none", b"b", b"b")

    refuse = drop_b.replace("message.data === 'b'", "refuse()")
    topic = types.Topic(
        name=orders,
        message_transforms=[{"javascript_udf": {"function_name": "drop", "code": refuse}}],
    )
    pubsub.publisher.update_topic(topic=topic, update_mask={"paths": ["message_transforms"]})

    assert publish(pubsub, orders, "some", b"a", b"b", b"c") == some
    assert publish(pubsub, orders, "none", b"b", b"b") == none
    assert len({*some, *none}) == 5
    assert data_of(pubsub.pull_all(warehouse, 2)) == [b"a", b"c"]
    assert pubsub.pull_now(warehouse) == []


def test_kill_9_between_commits_and_answers_doubles_nothing(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 200
    with Server(tmp_path, database_url) as server, project_on(server, monkeypatch) as pubsub:
        orders = pubsub.topic()
        warehouse = pubsub.subscription(orders)
        method: Any = pubsub.channel.unary_unary(
            "/google.pubsub.v1.Publisher/Publish",
            request_serializer=types.PublishRequest.serialize,
            response_deserializer=types.PublishResponse.deserialize,
        )

        def begin(number: int) -> Any:
            message = types.PubsubMessage(data=b"%d" % number)
            request = types.PublishRequest(topic=orders, messages=[message])
            metadata = [("x-idempotency-key", f"key-{number}")]
            return method.future(
                request, metadata=metadata, timeout=PATIENCE_S, wait_for_ready=True
            )

        calls = [begin(number) for number in range(count)]
        eventually(lambda: any(call.done() for call in calls))
        server.kill()
        answered = {
            number: call.result().message_ids[0]
            for number, call in enumerate(calls)
            if call.code() is grpc.StatusCode.OK
        }
        server.start()

        ids = [begin(number).result().message_ids[0] for number in range(count)]

        assert {number: ids[number] for number in answered} == answered
        received = pubsub.pull_all(warehouse, count)
        assert {each.message.message_id: int(each.message.data) for each in received} == {
            message_id: number for number, message_id in enumerate(ids)
        }
        assert pubsub.pull_now(warehouse) == []
