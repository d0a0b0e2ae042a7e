"""Pull, Acknowledge and ModifyAckDeadline: who holds a message, and until when."""

from __future__ import annotations

import threading
import time

import pytest
from google.api_core import exceptions
from google.pubsub_v1 import types

from tests.clients.pubsub import PubSub, data_of


def test_an_acknowledged_message_does_not_come_back(lenient_pubsub: PubSub) -> None:
    pubsub = lenient_pubsub
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, ack_deadline_seconds=1)
    pubsub.publish(orders, b"hello")

    pubsub.acknowledge(warehouse, *pubsub.pull(warehouse))

    pubsub.let_leases_of_a_second_expire()
    assert pubsub.pull_now(warehouse) == []


def test_a_message_is_held_by_one_subscriber_until_its_deadline(lenient_pubsub: PubSub) -> None:
    pubsub = lenient_pubsub
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, ack_deadline_seconds=1)
    pubsub.publish(orders, b"hello")

    [first] = pubsub.pull(warehouse)
    assert pubsub.pull_now(warehouse) == []
    [again] = pubsub.pull(warehouse)

    assert again.message == first.message
    assert again.ack_id != first.ack_id


def test_the_ack_id_of_an_earlier_delivery_has_no_effect(lenient_pubsub: PubSub) -> None:
    pubsub = lenient_pubsub
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, ack_deadline_seconds=1)
    pubsub.publish(orders, b"hello")
    [first] = pubsub.pull(warehouse)
    [second] = pubsub.pull(warehouse)

    pubsub.acknowledge(warehouse, first)

    [third] = pubsub.pull(warehouse)
    assert third.message == second.message


def test_a_late_acknowledgement_counts_if_nobody_got_the_message_since(
    lenient_pubsub: PubSub,
) -> None:
    pubsub = lenient_pubsub
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, ack_deadline_seconds=1)
    pubsub.publish(orders, b"hello")
    received = pubsub.pull(warehouse)
    pubsub.let_leases_of_a_second_expire()

    pubsub.acknowledge(warehouse, *received)

    assert pubsub.pull_now(warehouse) == []


def test_a_late_extension_counts_if_nobody_got_the_message_since(lenient_pubsub: PubSub) -> None:
    pubsub = lenient_pubsub
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, ack_deadline_seconds=1)
    pubsub.publish(orders, b"hello")
    received = pubsub.pull(warehouse)
    pubsub.let_leases_of_a_second_expire()

    pubsub.modify_ack_deadline(warehouse, 600, *received)

    assert pubsub.pull_now(warehouse) == []


def test_a_message_with_more_time_is_not_delivered_to_others(lenient_pubsub: PubSub) -> None:
    pubsub = lenient_pubsub
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, ack_deadline_seconds=1)
    pubsub.publish(orders, b"hello")

    pubsub.modify_ack_deadline(warehouse, 600, *pubsub.pull(warehouse))

    pubsub.let_leases_of_a_second_expire()
    assert pubsub.pull_now(warehouse) == []


def test_a_deadline_can_be_shortened(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, ack_deadline_seconds=600)
    pubsub.publish(orders, b"hello")

    pubsub.modify_ack_deadline(warehouse, 1, *pubsub.pull(warehouse))

    assert data_of(pubsub.pull(warehouse)) == [b"hello"]


def test_a_nacked_message_comes_back_at_once(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, ack_deadline_seconds=600)
    pubsub.publish(orders, b"hello")
    [first] = pubsub.pull(warehouse)

    pubsub.modify_ack_deadline(warehouse, 0, first)

    [again] = pubsub.pull_now(warehouse)
    assert again.message == first.message
    assert again.ack_id != first.ack_id


def test_a_pull_returns_no_more_than_it_asks_for(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    pubsub.publish(orders, *[b"x"] * 10)

    assert len(pubsub.pull(warehouse, max_messages=3)) == 3
    assert len(pubsub.pull_all(warehouse, 7)) == 7
    assert pubsub.pull_now(warehouse) == []


def test_a_pull_may_ask_for_as_many_as_there_can_be(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    for _ in range(3):
        pubsub.publish(orders, *[b"x"] * 1000)

    first = pubsub.pull(warehouse, max_messages=2**31 - 1)

    assert 1 <= len(first) <= 1000


def test_a_waiting_pull_is_answered_when_a_message_comes(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    answers: list[list[types.ReceivedMessage]] = []
    waiting = threading.Thread(target=lambda: answers.append(pubsub.pull(warehouse)))
    waiting.start()

    pubsub.publish(orders, b"at last")

    waiting.join()
    assert data_of(answers[0]) == [b"at last"]


def test_a_pull_of_nothing_is_answered_before_its_caller_gives_up(pubsub: PubSub) -> None:
    warehouse = pubsub.subscription(pubsub.topic())

    reply = pubsub.subscriber.pull(subscription=warehouse, max_messages=1, timeout=2.0, retry=None)

    assert list(reply.received_messages) == []


def test_a_pull_that_will_not_wait_is_answered_at_once(pubsub: PubSub) -> None:
    warehouse = pubsub.subscription(pubsub.topic())
    started = time.monotonic()

    assert pubsub.pull_now(warehouse) == []

    assert time.monotonic() - started < 1.0


def test_a_pull_that_was_cancelled_holds_nothing(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    call = pubsub.channel.unary_unary(
        "/google.pubsub.v1.Subscriber/Pull",
        request_serializer=types.PullRequest.serialize,
        response_deserializer=types.PullResponse.deserialize,
    ).future(types.PullRequest(subscription=warehouse, max_messages=1))
    call.cancel()

    pubsub.publish(orders, b"for whoever is there")

    assert data_of(pubsub.pull(warehouse)) == [b"for whoever is there"]


def test_acknowledging_twice_is_fine(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    pubsub.publish(orders, b"hello")
    received = pubsub.pull(warehouse)

    pubsub.acknowledge(warehouse, *received)
    pubsub.acknowledge(warehouse, *received, *received)


def test_one_malformed_ack_id_keeps_its_whole_request_back(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, ack_deadline_seconds=600)
    pubsub.publish(orders, b"hello")
    [received] = pubsub.pull(warehouse)

    with pytest.raises(
        exceptions.InvalidArgument,
        match=r"You have passed an invalid ack ID to the service \(ack_id=garbage\)\.",
    ):
        pubsub.subscriber.acknowledge(subscription=warehouse, ack_ids=[received.ack_id, "garbage"])

    pubsub.modify_ack_deadline(warehouse, 0, received)  # so it was not acknowledged
    assert data_of(pubsub.pull_now(warehouse)) == [b"hello"]


def test_the_ack_id_of_another_subscription_is_refused(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, "warehouse")
    accounting = pubsub.subscription(orders, "accounting")
    pubsub.publish(orders, b"hello")
    received = pubsub.pull(warehouse)

    with pytest.raises(exceptions.InvalidArgument):
        pubsub.acknowledge(accounting, *received)
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.modify_ack_deadline(accounting, 0, *received)

    assert data_of(pubsub.pull(accounting)) == [b"hello"]


def test_ack_ids_are_short_and_plain(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    pubsub.publish(orders, *[b"x"] * 100)

    ack_ids = {received.ack_id for received in pubsub.pull_all(warehouse, 100)}

    assert len(ack_ids) == 100
    assert all(len(ack_id) < 190 for ack_id in ack_ids)
    assert all(
        ack_id.isascii() and ack_id.replace("_", "").replace("-", "").isalnum()
        for ack_id in ack_ids
    )


def test_a_request_with_2500_ack_ids_fits(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, ack_deadline_seconds=600)
    for _ in range(3):
        pubsub.publish(orders, *[b"x"] * 1000)
    received = pubsub.pull_all(warehouse, 3000)

    pubsub.modify_ack_deadline(warehouse, 600, *received[:2500])
    pubsub.acknowledge(warehouse, *received[:2500])
    pubsub.modify_ack_deadline(warehouse, 0, *received)

    assert len(pubsub.pull_all(warehouse, 500)) == 500
    assert pubsub.pull_now(warehouse) == []


@pytest.mark.parametrize("seconds", [0, 1, 9, 600])
def test_deadlines_from_0_to_600_seconds_are_accepted(pubsub: PubSub, seconds: int) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    pubsub.publish(orders, b"x")

    pubsub.modify_ack_deadline(warehouse, seconds, *pubsub.pull(warehouse))
