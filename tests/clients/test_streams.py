"""StreamingPull beneath the client: what each request does, and what each response says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.pubsub_v1 import types

from tests.clients.pubsub import PubSub, Stream, data_of

INVALID = grpc.StatusCode.INVALID_ARGUMENT
FAILED = grpc.StatusCode.FAILED_PRECONDITION


# --- responses --------------------------------------------------------------------------------------


def test_the_first_response_comes_at_once_and_holds_the_properties(pubsub: PubSub) -> None:
    warehouse = pubsub.subscription(pubsub.topic())

    response = pubsub.stream(warehouse).response()

    assert "subscription_properties" in response
    assert not response.subscription_properties.exactly_once_delivery_enabled
    assert not response.subscription_properties.message_ordering_enabled
    assert list(response.received_messages) == []


def test_every_response_holds_the_properties(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    stream = pubsub.stream(warehouse)
    responses = [stream.response()]

    for number in range(5):
        pubsub.publish(orders, b"%d" % number)
        responses.append(stream.response())
        stream.send()
        responses.append(stream.response())

    assert len(responses) == 11
    assert all("subscription_properties" in response for response in responses)


@pytest.mark.parametrize("protocol_version", [0, 1])
def test_a_heartbeat_is_answered(pubsub: PubSub, protocol_version: int) -> None:
    warehouse = pubsub.subscription(pubsub.topic())
    stream = pubsub.stream(warehouse, protocol_version=protocol_version)
    stream.response()

    for _ in range(3):
        stream.send()
        answer = stream.response(timeout_s=5.0)
        assert list(answer.received_messages) == []


def test_responses_stay_below_what_clients_accept(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    for _ in range(8):
        pubsub.publish(orders, *[b"x" * 1_000_000] * 4)

    stream = pubsub.stream(warehouse)

    received = 0
    while received < 32:
        response = stream.response()
        received += len(response.received_messages)
        assert len(types.StreamingPullResponse.serialize(response)) <= 10_000_000


# --- the first request ------------------------------------------------------------------------------

BAD_FIRST_REQUESTS: dict[str, tuple[dict[str, Any], str]] = {
    "no subscription": ({"subscription": ""}, "first message must set subscription"),
    "no deadline": (
        {"stream_ack_deadline_seconds": 0},
        "first message must set stream_ack_deadline_seconds",
    ),
    "a deadline of 9": (
        {"stream_ack_deadline_seconds": 9},
        "stream_ack_deadline_seconds must be between 10 and 600 seconds",
    ),
    "a deadline of 601": (
        {"stream_ack_deadline_seconds": 601},
        "stream_ack_deadline_seconds must be between 10 and 600 seconds",
    ),
    "a negative deadline": (
        {"stream_ack_deadline_seconds": -1},
        "stream_ack_deadline_seconds must be between 10 and 600 seconds",
    ),
    "the name of a topic": (
        {"subscription": "projects/p/topics/orders"},
        (
            "Invalid resource name given (name=projects/p/topics/orders). Refer to "
            "https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names for more information."
        ),
    ),
    "an ack id without its deadline": (
        {"modify_deadline_ack_ids": ["a"]},
        "ack IDs and deadlines must have the same size",
    ),
}


@pytest.mark.parametrize("fields, text", BAD_FIRST_REQUESTS.values(), ids=BAD_FIRST_REQUESTS)
def test_a_bad_first_request_is_refused(pubsub: PubSub, fields: dict[str, Any], text: str) -> None:
    good = {"subscription": pubsub.subscription(pubsub.topic())}

    stream = pubsub.stream(**good | fields)

    assert stream.error() == (INVALID, text)


@pytest.mark.parametrize("seconds", [10, 600])
def test_stream_deadlines_from_10_to_600_seconds_are_accepted(pubsub: PubSub, seconds: int) -> None:
    warehouse = pubsub.subscription(pubsub.topic())

    pubsub.stream(warehouse, stream_ack_deadline_seconds=seconds).response()


def test_a_stream_of_a_missing_subscription_is_refused(pubsub: PubSub) -> None:
    stream = pubsub.stream(f"{pubsub.path}/subscriptions/nowhere")

    assert stream.error() == (
        grpc.StatusCode.NOT_FOUND,
        "Resource not found (resource=nowhere).",
    )


def test_the_first_request_may_acknowledge_and_nack(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, ack_deadline_seconds=600)
    pubsub.publish(orders, b"done", b"again")
    done, again = pubsub.pull_all(warehouse, 2)

    stream = pubsub.stream(
        warehouse,
        ack_ids=[done.ack_id],
        modify_deadline_ack_ids=[again.ack_id],
        modify_deadline_seconds=[0],
    )

    assert data_of(stream.receive(1)) == [b"again"]
    pubsub.modify_ack_deadline(warehouse, 0, done)  # it is done, so this has no effect
    assert stream.is_silent_until_answered()


# --- later requests ---------------------------------------------------------------------------------

BAD_LATER_REQUESTS: dict[str, tuple[dict[str, Any], str]] = {
    "a subscription": (
        {"subscription": "projects/p/subscriptions/warehouse"},
        "subscription may only be set in first message",
    ),
    "max_outstanding_messages": ({"max_outstanding_messages": 1}, "max_outstanding_messages"),
    "max_outstanding_bytes": ({"max_outstanding_bytes": 1}, "max_outstanding_bytes"),
    "protocol_version": ({"protocol_version": 1}, "protocol_version"),
    "a deadline of 9": (
        {"stream_ack_deadline_seconds": 9},
        "stream_ack_deadline_seconds must be between 10 and 600 seconds",
    ),
    "a deadline of 601": (
        {"stream_ack_deadline_seconds": 601},
        "stream_ack_deadline_seconds must be between 10 and 600 seconds",
    ),
    "fewer ack ids than deadlines": (
        {"modify_deadline_seconds": [10]},
        "ack IDs and deadlines must have the same size",
    ),
    "a negative deadline for a message": (
        {"modify_deadline_ack_ids": ["a"], "modify_deadline_seconds": [-1]},
        (
            "Invalid ack deadline given (ack_deadline=-1). "
            "The ack deadline must be between 0 and 600 seconds."
        ),
    ),
    "too long a deadline for a message": (
        {"modify_deadline_ack_ids": ["a"], "modify_deadline_seconds": [601]},
        (
            "Invalid ack deadline given (ack_deadline=601). "
            "The ack deadline must be between 0 and 600 seconds."
        ),
    ),
}


@pytest.mark.parametrize("fields, text", BAD_LATER_REQUESTS.values(), ids=BAD_LATER_REQUESTS)
def test_a_bad_later_request_ends_the_stream(
    pubsub: PubSub, fields: dict[str, Any], text: str
) -> None:
    stream = pubsub.stream(pubsub.subscription(pubsub.topic()))
    stream.response()

    stream.send(**fields)

    code, details = stream.error()
    assert code is INVALID
    assert text in details


def test_a_later_request_may_repeat_the_client_id(pubsub: PubSub) -> None:
    stream = pubsub.stream(pubsub.subscription(pubsub.topic()), client_id="me")
    stream.response()

    stream.send(client_id="me")

    assert stream.is_silent_until_answered()


def test_messages_can_be_acknowledged_on_the_stream(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    pubsub.publish(orders, b"hello")
    stream = pubsub.stream(warehouse)
    [received] = stream.receive(1)

    stream.send(ack_ids=[received.ack_id])
    stream.send(modify_deadline_ack_ids=[received.ack_id], modify_deadline_seconds=[0])

    assert stream.is_silent_until_answered()


def test_messages_can_be_nacked_on_the_stream(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    pubsub.publish(orders, b"hello")
    stream = pubsub.stream(warehouse, stream_ack_deadline_seconds=600)
    [first] = stream.receive(1)

    stream.send(modify_deadline_ack_ids=[first.ack_id], modify_deadline_seconds=[0])

    [again] = stream.receive(1)
    assert again.message == first.message
    assert again.ack_id != first.ack_id


def test_a_malformed_ack_id_on_the_stream_is_passed_over(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    pubsub.publish(orders, b"hello")
    stream = pubsub.stream(warehouse)
    [received] = stream.receive(1)

    stream.send(
        ack_ids=["garbage", received.ack_id],
        modify_deadline_ack_ids=["garbage", received.ack_id],
        modify_deadline_seconds=[0, 0],
    )

    assert stream.is_silent_until_answered()


def test_what_was_pulled_can_be_acknowledged_on_a_stream(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    pubsub.publish(orders, b"hello")
    [received] = pubsub.pull(warehouse)
    stream = pubsub.stream(warehouse)
    stream.response()

    stream.send(ack_ids=[received.ack_id])
    stream.is_silent_until_answered()
    pubsub.modify_ack_deadline(warehouse, 0, received)

    assert stream.is_silent_until_answered()


# --- leases -----------------------------------------------------------------------------------------


def test_the_streams_deadline_counts_and_not_the_subscriptions(lenient_pubsub: PubSub) -> None:
    pubsub = lenient_pubsub
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, ack_deadline_seconds=1)
    pubsub.publish(orders, b"hello")
    stream = pubsub.stream(warehouse, stream_ack_deadline_seconds=600)
    stream.receive(1)

    pubsub.let_leases_of_a_second_expire()

    assert stream.is_silent_until_answered()


def test_a_stream_can_change_the_deadline_of_what_it_is_sent_from_then_on(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    stream = pubsub.stream(warehouse, stream_ack_deadline_seconds=600)
    stream.response()
    pubsub.publish(orders, b"for 600 seconds")
    stream.receive(1)

    stream.send(stream_ack_deadline_seconds=10)
    assert stream.is_silent_until_answered()
    pubsub.publish(orders, b"for 10 seconds")
    stream.receive(1)

    with pytest.raises(AssertionError, match="nothing came"):
        stream.response(timeout_s=8.0)
    assert data_of(stream.receive(1, timeout_s=5.0)) == [b"for 10 seconds"]


def test_messages_stay_leased_when_their_stream_ends(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    pubsub.publish(orders, b"hello")
    stream = pubsub.stream(warehouse, stream_ack_deadline_seconds=600)
    [received] = stream.receive(1)

    stream.cancel()
    stream.error()

    assert pubsub.pull_now(warehouse) == []
    pubsub.acknowledge(warehouse, received)
    pubsub.modify_ack_deadline(warehouse, 0, received)
    assert pubsub.pull_now(warehouse) == []


# --- flow control -----------------------------------------------------------------------------------


def acknowledge(pubsub: PubSub, subscription: str, _: Stream, each: types.ReceivedMessage) -> None:
    pubsub.acknowledge(subscription, each)


def acknowledge_on_the_stream(
    _: PubSub, _subscription: str, stream: Stream, each: types.ReceivedMessage
) -> None:
    stream.send(ack_ids=[each.ack_id])


Settle = Callable[[PubSub, str, Stream, types.ReceivedMessage], None]


@pytest.mark.parametrize(
    "settle", [acknowledge, acknowledge_on_the_stream], ids=["by a unary call", "on the stream"]
)
def test_an_acknowledgement_makes_room_on_the_stream(pubsub: PubSub, settle: Settle) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    pubsub.publish(orders, b"1", b"2", b"3")
    stream = pubsub.stream(warehouse, max_outstanding_messages=1)

    for expected in (b"1", b"2", b"3"):
        [received] = stream.receive(1)
        assert received.message.data == expected
        assert stream.is_silent_until_answered()
        settle(pubsub, warehouse, stream, received)


def test_an_acknowledgement_on_another_stream_makes_room(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    pubsub.publish(orders, b"1")
    first = pubsub.stream(warehouse, max_outstanding_messages=1)
    [received] = first.receive(1)
    second = pubsub.stream(warehouse, max_outstanding_messages=1)
    second.response()
    pubsub.publish(orders, b"2", b"3")
    assert len(second.receive(1)) == 1
    assert first.is_silent_until_answered()

    second.send(ack_ids=[received.ack_id])

    assert data_of(first.receive(1)) == [b"3"]
    assert second.is_silent_until_answered()


def test_a_nack_by_a_unary_call_makes_room_on_the_stream(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    pubsub.publish(orders, b"1")
    stream = pubsub.stream(warehouse, max_outstanding_messages=1)
    [first] = stream.receive(1)

    pubsub.modify_ack_deadline(warehouse, 0, first)

    assert data_of(stream.receive(1)) == [b"1"]


def test_the_end_of_a_lease_makes_room_on_the_stream(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    pubsub.publish(orders, b"1")
    stream = pubsub.stream(warehouse, max_outstanding_messages=1)
    [first] = stream.receive(1)

    pubsub.modify_ack_deadline(warehouse, 1, first)

    assert data_of(stream.receive(1)) == [b"1"]


def test_a_stream_holds_no_more_bytes_than_it_asked_for_and_one_message(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    pubsub.publish(orders, *[b"x" * 1_000] * 10)

    stream = pubsub.stream(warehouse, max_outstanding_bytes=3_500)

    received = stream.receive(4)  # 3 are below the limit; the 4th goes beyond it
    assert stream.is_silent_until_answered()
    pubsub.acknowledge(warehouse, *received[:2])
    stream.receive(2)
    assert stream.is_silent_until_answered()


def test_a_message_larger_than_the_limit_is_delivered_alone(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    pubsub.publish(orders, b"x" * 100_000, b"y" * 100_000)

    stream = pubsub.stream(warehouse, max_outstanding_bytes=10)

    [received] = stream.receive(1)
    assert stream.is_silent_until_answered()
    pubsub.acknowledge(warehouse, received)
    assert data_of(stream.receive(1)) == [b"y" * 100_000]


def test_limits_of_zero_and_below_mean_none(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    for _ in range(3):
        pubsub.publish(orders, *[b"x"] * 1000)

    stream = pubsub.stream(warehouse, max_outstanding_messages=0, max_outstanding_bytes=-1)

    assert len(stream.receive(3000)) == 3000


def test_two_streams_share_the_work(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    streams = [pubsub.stream(warehouse, max_outstanding_messages=5) for _ in range(2)]
    for stream in streams:
        stream.response()

    pubsub.publish(orders, *(b"%d" % number for number in range(20)))

    held = [data_of(stream.receive(5)) for stream in streams]
    assert len({*held[0], *held[1]}) == 10
    assert all(stream.is_silent_until_answered() for stream in streams)


def test_a_backlog_is_divided_among_those_who_wait_for_it(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    streams = [pubsub.stream(warehouse) for _ in range(2)]
    for stream in streams:
        stream.response()

    pubsub.publish(orders, *[b"x"] * 100)

    assert all(stream.response().received_messages for stream in streams)


# --- the end ----------------------------------------------------------------------------------------


def test_deleting_the_subscription_ends_its_streams(pubsub: PubSub) -> None:
    warehouse = pubsub.subscription(pubsub.topic())
    stream = pubsub.stream(warehouse)
    stream.response()

    pubsub.subscriber.delete_subscription(subscription=warehouse)

    assert stream.error() == (
        grpc.StatusCode.NOT_FOUND,
        "Resource not found (resource=warehouse).",
    )


def test_detaching_the_subscription_ends_its_streams(pubsub: PubSub) -> None:
    warehouse = pubsub.subscription(pubsub.topic())
    stream = pubsub.stream(warehouse)
    stream.response()

    pubsub.publisher.detach_subscription(request={"subscription": warehouse})

    assert stream.error() == (FAILED, "Subscription is detached.")
    assert pubsub.stream(warehouse).error() == (FAILED, "Subscription is detached.")


def test_deleting_the_topic_leaves_streams_open(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    pubsub.publish(orders, b"last")
    stream = pubsub.stream(warehouse)
    [received] = stream.receive(1)

    pubsub.publisher.delete_topic(topic=orders)
    pubsub.modify_ack_deadline(warehouse, 0, received)

    assert data_of(stream.receive(1)) == [b"last"]


def test_a_half_closed_stream_delivers_nothing_new(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    stream = pubsub.stream(warehouse)
    stream.response()

    stream.half_close()
    code, _ = stream.error()

    assert code is grpc.StatusCode.OK
    pubsub.publish(orders, b"for others")
    assert data_of(pubsub.pull(warehouse)) == [b"for others"]
