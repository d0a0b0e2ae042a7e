"""Publishing, as Google's client does it: batches, limits, and what a message carries."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import wait
from typing import Any

import grpc
import pytest
from google.api_core import exceptions
from google.cloud import pubsub_v1  # type: ignore[import-untyped]
from google.pubsub_v1 import types

from tests.clients.pubsub import PATIENCE_S, PubSub, data_of

TEN_MEGABYTES = 10_000_000


def message(**fields: object) -> types.PubsubMessage:
    return types.PubsubMessage(**fields)


def test_thousands_of_messages_arrive_with_what_was_published(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    batches = pubsub_v1.PublisherClient(pubsub_v1.types.BatchSettings(max_messages=500))

    futures = {
        batches.publish(orders, f"order {number}".encode(), number=str(number)): number
        for number in range(3_000)
    }
    wait(futures, timeout=PATIENCE_S)

    number_of = {future.result(timeout=0): number for future, number in futures.items()}
    assert len(number_of) == 3_000  # no id twice
    received = pubsub.pull_all(warehouse, 3_000)
    assert {each.message.message_id for each in received} == set(number_of)
    for each in received:
        number = number_of[each.message.message_id]
        assert each.message.data == f"order {number}".encode()
        assert each.message.attributes == {"number": str(number)}


def test_a_request_gets_one_id_for_each_message_in_order(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)

    ids = pubsub.publish(orders, b"a", b"b", b"c")

    received = pubsub.pull_all(warehouse, 3)
    assert [(each.message.message_id, each.message.data) for each in received] == [
        (ids[0], b"a"),
        (ids[1], b"b"),
        (ids[2], b"c"),
    ]


def test_a_message_carries_data_attributes_ordering_key_and_publish_time(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    before = dt.datetime.now(dt.UTC) - dt.timedelta(milliseconds=1)

    published = message(
        data=bytes(range(256)),
        attributes={"Sprache": "Grüße, 世界 🌍", "empty": ""},
        ordering_key="customer 7 ✓",
        message_id="chosen by the publisher",
        publish_time=dt.datetime(2001, 1, 1, tzinfo=dt.UTC),
    )
    [message_id] = pubsub.publish_messages(orders, published)

    [received] = pubsub.pull(warehouse)
    assert received.message.data == published.data
    assert received.message.attributes == published.attributes
    assert received.message.ordering_key == published.ordering_key
    assert received.message.message_id == message_id
    assert message_id.isdecimal()
    time: Any = received.message.publish_time
    assert before <= time <= dt.datetime.now(dt.UTC)
    assert time.nanosecond % 1_000_000 == 0
    assert received.delivery_attempt == 0  # there is no dead-letter policy


def test_a_message_of_attributes_alone_is_delivered(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)

    pubsub.publish_messages(orders, message(attributes={"kind": "tick"}))

    [received] = pubsub.pull(warehouse)
    assert (received.message.data, received.message.attributes) == (b"", {"kind": "tick"})


def test_each_subscription_gets_each_message_published_after_it(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, "warehouse")
    pubsub.publish(orders, b"early")
    accounting = pubsub.subscription(orders, "accounting")
    pubsub.publish(orders, b"late")

    assert data_of(pubsub.pull_all(warehouse, 2)) == [b"early", b"late"]
    assert data_of(pubsub.pull(accounting)) == [b"late"]


def test_publishing_to_a_topic_without_subscriptions_succeeds(pubsub: PubSub) -> None:
    assert len(pubsub.publish(pubsub.topic(), b"nobody listens", b"really")) == 2


def test_a_message_of_almost_ten_megabytes_arrives(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    data = b"x" * (TEN_MEGABYTES - 1_000)

    pubsub.publish(orders, data)

    # Not a pull: with PUBSUB_EMULATOR_HOST the client takes no responses above 4 MiB.
    [received] = pubsub.stream(warehouse).receive(1)
    assert received.message.data == data


def test_a_compressed_request_is_understood(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    publish = pubsub.channel.unary_unary(
        "/google.pubsub.v1.Publisher/Publish",
        request_serializer=types.PublishRequest.serialize,
        response_deserializer=types.PublishResponse.deserialize,
    )

    request = types.PublishRequest(topic=orders, messages=[message(data=b"z" * 100_000)])
    publish(request, compression=grpc.Compression.Gzip, timeout=PATIENCE_S)

    assert data_of(pubsub.pull(warehouse)) == [b"z" * 100_000]


INVALID = exceptions.InvalidArgument
REFUSED = {
    "no messages": (
        [],
        INVALID,
        (
            "The value for message_count is too small. You passed 0 in the request, but the minimum "
            "value is 1."
        ),
    ),
    "1001 messages": (
        [message(data=b"x")] * 1001,
        INVALID,
        (
            "The value for message_count is too large. You passed 1001 in the request, but the maximum "
            "value is 1000."
        ),
    ),
    "an empty message": ([message()], INVALID, "Some messages are empty"),
    "a message of an ordering key alone": (
        [message(ordering_key="k")],
        INVALID,
        "Some messages are empty",
    ),
    "two ordering keys": (
        [message(data=b"x", ordering_key="a"), message(data=b"x", ordering_key="b")],
        exceptions.FailedPrecondition,
        (
            "In a single publish request, all messages must have no ordering key or they must all have "
            "the same ordering key."
        ),
    ),
    "an ordering key and none": (
        [message(data=b"x", ordering_key="a"), message(data=b"x")],
        exceptions.FailedPrecondition,
        (
            "In a single publish request, all messages must have no ordering key or they must all have "
            "the same ordering key."
        ),
    ),
    "an ordering key of 1025 bytes": (
        [message(data=b"x", ordering_key="é" * 512 + "x")],
        INVALID,
        "ordering_key",
    ),
    "101 attributes": (
        [message(attributes={f"key{number}": "" for number in range(101)})],
        INVALID,
        "attributes",
    ),
    "an attribute key of 257 bytes": (
        [message(attributes={"é" * 128 + "x": ""})],
        INVALID,
        "attributes",
    ),
    "an attribute value of 1025 bytes": (
        [message(attributes={"k": "é" * 512 + "x"})],
        INVALID,
        "attributes",
    ),
    "an empty attribute key": ([message(attributes={"": "v"})], INVALID, "attributes"),
    "a reserved attribute key": ([message(attributes={"googx": "v"})], INVALID, "attributes"),
}


@pytest.mark.parametrize("messages, error, text", REFUSED.values(), ids=REFUSED)
def test_what_exceeds_a_limit_is_refused(
    pubsub: PubSub, messages: list[types.PubsubMessage], error: type[Exception], text: str
) -> None:
    orders = pubsub.topic()

    with pytest.raises(error) as refusal:
        pubsub.publish_messages(orders, *messages)

    assert text in str(refusal.value)


def test_a_request_of_more_than_ten_million_bytes_is_refused(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    too_large = message(data=b"x" * TEN_MEGABYTES)
    size = len(
        types.PublishRequest.serialize(types.PublishRequest(topic=orders, messages=[too_large]))
    )

    with pytest.raises(
        INVALID,
        match=f"The value for request_size is too large. You passed {size} in the request, but the "
        "maximum value is 10000000.",
    ):
        pubsub.publish_messages(orders, too_large)


ACCEPTED = {
    "1000 messages": [message(data=b"x")] * 1000,
    "100 attributes": [message(attributes={f"key{number}": "" for number in range(100)})],
    "an attribute key of 256 bytes": [message(attributes={"é" * 128: ""})],
    "an attribute value of 1024 bytes": [message(attributes={"k": "é" * 512})],
    "an ordering key of 1024 bytes": [message(data=b"x", ordering_key="é" * 512)],
    "what clients trace with": [message(attributes={"googclient_traceparent": "00-0-0-0"})],
    "a key that only looks reserved": [message(attributes={"Googx": ""})],
}


@pytest.mark.parametrize("messages", ACCEPTED.values(), ids=ACCEPTED)
def test_what_is_just_within_a_limit_is_accepted(
    pubsub: PubSub, messages: list[types.PubsubMessage]
) -> None:
    ids = pubsub.publish_messages(pubsub.topic(), *messages)

    assert len(set(ids)) == len(messages)


def test_one_bad_message_keeps_its_whole_request_back(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)

    with pytest.raises(INVALID):
        pubsub.publish_messages(orders, message(data=b"good"), message(), message(data=b"good"))
    pubsub.publish(orders, b"alone")

    assert data_of(pubsub.pull(warehouse)) == [b"alone"]


def test_publishing_to_a_missing_topic_says_which(pubsub: PubSub) -> None:
    with pytest.raises(exceptions.NotFound, match=r"Resource not found \(resource=nowhere\)\."):
        pubsub.publish(f"{pubsub.path}/topics/nowhere", b"x")
