"""Retry policies: a message that failed rests, and nothing else does."""

from __future__ import annotations

from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.pubsub_v1.subscriber.message import Message  # type: ignore[import-untyped]

from tests.clients.pubsub import Inbox, PubSub, data_of

LONG = 600
"""Longer than any test."""


def rests(minimum_s: int, maximum_s: int) -> dict[str, Any]:
    return {"minimum_backoff": {"seconds": minimum_s}, "maximum_backoff": {"seconds": maximum_s}}


def change(pubsub: PubSub, subscription: str, retry_policy: dict[str, Any] | None) -> None:
    pubsub.subscriber.update_subscription(
        request={
            "subscription": {"name": subscription, "retry_policy": retry_policy},
            "update_mask": {"paths": ["retry_policy"]},
        }
    )


def test_a_nacked_message_rests_while_others_flow(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, retry_policy=rests(LONG, LONG))
    stream = pubsub.stream(warehouse)
    pubsub.publish(orders, b"0", b"1", b"2")
    _, one, _ = stream.receive(3)

    pubsub.modify_ack_deadline(warehouse, 0, one)
    pubsub.publish(orders, b"3", b"4")

    assert data_of(stream.receive(2)) == [b"3", b"4"]
    assert stream.is_silent_until_answered()
    assert pubsub.pull_now(warehouse) == []


def test_an_expired_message_rests_too(lenient_pubsub: PubSub) -> None:
    pubsub = lenient_pubsub
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, retry_policy=rests(LONG, LONG), ack_deadline_seconds=1)
    pubsub.publish(orders, b"0")
    pubsub.pull(warehouse)

    pubsub.let_leases_of_a_second_expire()

    assert pubsub.pull_now(warehouse) == []


def test_an_expired_message_that_rests_can_still_be_acknowledged(lenient_pubsub: PubSub) -> None:
    pubsub = lenient_pubsub
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, retry_policy=rests(1, 1), ack_deadline_seconds=1)
    pubsub.publish(orders, b"0", b"1")
    zero, one = pubsub.pull_all(warehouse, 2)
    pubsub.modify_ack_deadline(warehouse, LONG, one)
    pubsub.let_leases_of_a_second_expire()
    pubsub.acknowledge(warehouse, zero)

    pubsub.modify_ack_deadline(warehouse, 0, one)

    assert data_of(pubsub.pull(warehouse)) == [b"1"]
    assert pubsub.pull_now(warehouse) == []


@pytest.mark.parametrize("pulled", [True, False], ids=["pull", "stream"])
def test_a_message_comes_back_when_it_has_rested(pubsub: PubSub, pulled: bool) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, retry_policy=rests(1, 1))
    pubsub.publish(orders, b"0")
    [first] = pubsub.pull(warehouse)
    pubsub.modify_ack_deadline(warehouse, 0, first)

    [again] = pubsub.pull(warehouse) if pulled else pubsub.stream(warehouse).receive(1)

    assert again.message == first.message
    assert again.ack_id != first.ack_id


def test_the_more_often_a_message_fails_the_longer_it_rests(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, retry_policy=rests(1, LONG))
    stream = pubsub.stream(warehouse)
    pubsub.publish(orders, b"often")
    pubsub.modify_ack_deadline(warehouse, 0, *stream.receive(1))
    [often] = stream.receive(1)
    pubsub.publish(orders, b"once")
    [once] = stream.receive(1)

    pubsub.modify_ack_deadline(warehouse, 0, often, once)

    assert data_of(stream.receive(2)) == [b"once", b"often"]


def test_no_message_rests_longer_than_the_maximum(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, retry_policy=rests(1, 1))
    stream = pubsub.stream(warehouse)
    pubsub.publish(orders, b"0")

    for _ in range(6):  # doubled each time, it would take more than a minute
        pubsub.modify_ack_deadline(warehouse, 0, *stream.receive(1))

    assert data_of(stream.receive(1)) == [b"0"]


def test_a_message_rests_by_its_own_failures(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, retry_policy=rests(1, LONG))
    stream = pubsub.stream(warehouse)
    for each in (b"0", b"1", b"2", b"3"):
        # Were failures counted together, the last would rest for more than the time it is given.
        pubsub.publish(orders, each)
        pubsub.modify_ack_deadline(warehouse, 0, *stream.receive(1))
        [again] = stream.receive(1, timeout_s=5.0)
        assert again.message.data == each
        pubsub.acknowledge(warehouse, again)


def test_a_policy_of_zero_lets_nothing_rest(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, retry_policy=rests(0, 0))
    pubsub.publish(orders, b"0")

    for _ in range(20):
        [received] = pubsub.pull_now(warehouse)
        pubsub.modify_ack_deadline(warehouse, 0, received)


def test_the_ack_id_of_a_nacked_message_has_no_effect_on_its_rest(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, retry_policy=rests(1, 1))
    pubsub.publish(orders, b"0")
    [received] = pubsub.pull(warehouse)
    pubsub.modify_ack_deadline(warehouse, 0, received)

    pubsub.modify_ack_deadline(warehouse, 0, received)
    pubsub.modify_ack_deadline(warehouse, LONG, received)
    pubsub.acknowledge(warehouse, received)

    assert data_of(pubsub.pull(warehouse)) == [b"0"]


def test_with_exactly_once_the_ack_id_of_a_message_that_rests_is_refused(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(
        orders, retry_policy=rests(LONG, LONG), enable_exactly_once_delivery=True
    )
    pubsub.publish(orders, b"0")
    [received] = pubsub.pull(warehouse)
    pubsub.modify_ack_deadline(warehouse, 0, received)

    with pytest.raises(exceptions.InvalidArgument, match="ids in the request were invalid"):
        pubsub.acknowledge(warehouse, received)


def test_a_policy_can_come_and_go(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    pubsub.publish(orders, b"0")
    for _ in range(3):
        [received] = pubsub.pull_now(warehouse)
        pubsub.modify_ack_deadline(warehouse, 0, received)
    [received] = pubsub.pull_now(warehouse)

    change(pubsub, warehouse, rests(LONG, LONG))
    pubsub.modify_ack_deadline(warehouse, 0, received)
    assert pubsub.pull_now(warehouse) == []

    change(pubsub, warehouse, None)
    pubsub.publish(orders, b"1")
    for _ in range(3):
        [received] = pubsub.pull_now(warehouse)
        assert received.message.data == b"1"
        pubsub.modify_ack_deadline(warehouse, 0, received)


def test_a_seek_ends_all_rests(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, retry_policy=rests(LONG, LONG))
    pubsub.publish(orders, b"0", b"1")
    received = pubsub.pull_all(warehouse, 2)
    pubsub.modify_ack_deadline(warehouse, 0, *received)
    assert pubsub.pull_now(warehouse) == []

    pubsub.subscriber.seek(
        request={"subscription": warehouse, "time": received[0].message.publish_time}
    )

    assert data_of(pubsub.pull_all(warehouse, 2)) == [b"0", b"1"]


def test_callbacks_go_on_with_others_while_what_they_refused_rests(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, retry_policy=rests(LONG, LONG))

    def refuse_one(message: Message) -> None:
        if message.data == b"7":
            message.nack()
        else:
            message.ack()

    inbox = Inbox(settle=refuse_one)
    data = [b"%d" % number for number in range(200)]
    with pubsub.subscribe(warehouse, inbox):
        for each in data:
            pubsub.publisher.publish(orders, each)
        inbox.wait_for_data(data)

    assert inbox.times[b"7"] == 1
    assert pubsub.pull_now(warehouse) == []


def test_what_is_not_given_has_defaults(pubsub: PubSub) -> None:
    warehouse = pubsub.subscription(pubsub.topic(), retry_policy={})

    policy = pubsub.subscriber.get_subscription(subscription=warehouse).retry_policy

    assert policy.minimum_backoff.total_seconds() == 10
    assert policy.maximum_backoff.total_seconds() == 600
