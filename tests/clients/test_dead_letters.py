"""What nobody manages to acknowledge goes to a dead-letter topic: once, and not before its time."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.pubsub_v1.subscriber.message import Message  # type: ignore[import-untyped]
from google.pubsub_v1 import types

from tests.clients.pubsub import Inbox, PubSub, data_of

PREFIX = "CloudPubSubDeadLetterSource"


def policy(dead_letter_topic: str, attempts: int = 5) -> dict[str, Any]:
    return {"dead_letter_topic": dead_letter_topic, "max_delivery_attempts": attempts}


def change(pubsub: PubSub, subscription: str, dead_letter_policy: dict[str, Any] | None) -> None:
    pubsub.subscriber.update_subscription(
        request={
            "subscription": {"name": subscription, "dead_letter_policy": dead_letter_policy},
            "update_mask": {"paths": ["dead_letter_policy"]},
        }
    )


def fail(pubsub: PubSub, subscription: str, times: int) -> list[int]:
    """Pull and nack one message so often: the delivery attempts that it showed."""
    attempts = []
    for _ in range(times):
        [received] = pubsub.pull(subscription, 1)
        attempts.append(received.delivery_attempt)
        pubsub.modify_ack_deadline(subscription, 0, received)
    return attempts


# --- when a message is forwarded, and as what ---------------------------------------------------------


def test_a_message_is_forwarded_after_its_last_attempt(pubsub: PubSub) -> None:
    orders, dead = pubsub.topic(), pubsub.topic("dead")
    warehouse = pubsub.subscription(
        orders, dead_letter_policy={"dead_letter_topic": dead, "max_delivery_attempts": 5}
    )
    morgue = pubsub.subscription(dead, "morgue")
    pubsub.publish(orders, b"0")

    assert fail(pubsub, warehouse, 4) == [1, 2, 3, 4]
    [received] = pubsub.pull(warehouse)
    assert received.delivery_attempt == 5
    pubsub.modify_ack_deadline(warehouse, 0, received)

    [forwarded] = pubsub.pull(morgue)
    assert forwarded.message.data == b"0"
    attributes = dict(forwarded.message.attributes)
    published = dt.datetime.fromisoformat(attributes.pop(f"{PREFIX}TopicPublishTime"))
    assert published.utcoffset() == dt.timedelta(0)
    assert published == received.message.publish_time
    assert attributes == {
        "CloudPubSubDeadLetterSourceDeliveryCount": "5",
        "CloudPubSubDeadLetterSourceSubscription": "warehouse",
        "CloudPubSubDeadLetterSourceSubscriptionProject": pubsub.project,
    }
    assert data_of(pubsub.pull_now(warehouse)) == []


def test_a_message_whose_leases_expire_is_forwarded_too(lenient_pubsub: PubSub) -> None:
    pubsub = lenient_pubsub
    orders, dead = pubsub.topic(), pubsub.topic("dead")
    warehouse = pubsub.subscription(orders, dead_letter_policy=policy(dead), ack_deadline_seconds=1)
    morgue = pubsub.subscription(dead, "morgue")
    pubsub.publish(orders, b"0")

    attempts = [pubsub.pull(warehouse)[0].delivery_attempt for _ in range(5)]

    assert attempts == [1, 2, 3, 4, 5]
    assert data_of(pubsub.pull(morgue)) == [b"0"]
    assert pubsub.pull_now(warehouse) == []


def test_pulls_streams_nacks_and_expiries_all_count(lenient_pubsub: PubSub) -> None:
    pubsub = lenient_pubsub
    orders, dead = pubsub.topic(), pubsub.topic("dead")
    warehouse = pubsub.subscription(orders, dead_letter_policy=policy(dead), ack_deadline_seconds=1)
    morgue = pubsub.subscription(dead, "morgue")
    pubsub.publish(orders, b"0")

    attempts = fail(pubsub, warehouse, 1)
    attempts.append(pubsub.pull(warehouse)[0].delivery_attempt)  # and it expires
    stream = pubsub.stream(warehouse)
    for _ in range(2):
        [received] = stream.receive(1)
        attempts.append(received.delivery_attempt)
        stream.send(modify_deadline_ack_ids=[received.ack_id], modify_deadline_seconds=[0])
    [received] = stream.receive(1)
    stream.cancel()
    attempts.append(received.delivery_attempt)
    pubsub.modify_ack_deadline(warehouse, 1, received)  # and it expires, too

    assert attempts == [1, 2, 3, 4, 5]
    assert data_of(pubsub.pull(morgue)) == [b"0"]


def test_what_is_acknowledged_at_the_last_attempt_is_not_forwarded(pubsub: PubSub) -> None:
    orders, dead = pubsub.topic(), pubsub.topic("dead")
    warehouse = pubsub.subscription(orders, dead_letter_policy=policy(dead))
    morgue = pubsub.subscription(dead, "morgue")
    pubsub.publish(orders, b"0")
    fail(pubsub, warehouse, 4)

    [received] = pubsub.pull(warehouse)
    pubsub.acknowledge(warehouse, received)
    pubsub.modify_ack_deadline(warehouse, 0, received)

    assert received.delivery_attempt == 5
    assert pubsub.pull_now(warehouse) == []
    assert pubsub.pull_now(morgue) == []


def test_the_largest_message_with_the_most_attributes_can_be_forwarded(pubsub: PubSub) -> None:
    orders, dead = pubsub.topic(), pubsub.topic("dead")
    warehouse = pubsub.subscription(orders, dead_letter_policy=policy(dead))
    morgue = pubsub.subscription(dead, "morgue")
    attributes = {f"{number:03}": "x" * 1024 for number in range(100)}
    message = types.PubsubMessage(attributes=attributes)
    room = 10_000_000 - len(types.PubsubMessage.serialize(message)) - 100
    message.data = b"x" * room
    pubsub.publish_messages(orders, message)

    stream = pubsub.stream(warehouse)
    for _ in range(5):
        pubsub.modify_ack_deadline(warehouse, 0, *stream.receive(1))

    [forwarded] = pubsub.stream(morgue).receive(1)
    assert forwarded.message.data == message.data
    assert len(forwarded.message.attributes) == 104
    assert attributes.items() <= dict(forwarded.message.attributes).items()


def test_the_dead_letter_topic_may_be_in_another_project(
    pubsub: PubSub,
) -> None:
    with PubSub(pubsub.endpoint) as other:
        dead = other.topic("dead")
        morgue = other.subscription(dead, "morgue")
        warehouse = pubsub.subscription(pubsub.topic(), dead_letter_policy=policy(dead))
        pubsub.publish(f"{pubsub.path}/topics/orders", b"0")

        fail(pubsub, warehouse, 5)

        [forwarded] = other.pull(morgue)
    assert forwarded.message.data == b"0"
    assert forwarded.message.attributes[f"{PREFIX}SubscriptionProject"] == pubsub.project


def test_a_dead_letter_that_dies_again_tells_of_the_second_time(pubsub: PubSub) -> None:
    orders, dead, deader = pubsub.topic(), pubsub.topic("dead"), pubsub.topic("deader")
    warehouse = pubsub.subscription(orders, dead_letter_policy=policy(dead))
    morgue = pubsub.subscription(dead, "morgue", dead_letter_policy=policy(deader, 6))
    last = pubsub.subscription(deader, "last")
    pubsub.publish_messages(orders, types.PubsubMessage(data=b"0", attributes={"mine": "1"}))

    fail(pubsub, warehouse, 5)
    assert fail(pubsub, morgue, 6) == [1, 2, 3, 4, 5, 6]

    [forwarded] = pubsub.pull(last)
    attributes = dict(forwarded.message.attributes)
    del attributes[f"{PREFIX}TopicPublishTime"]
    assert attributes == {
        "mine": "1",
        f"{PREFIX}DeliveryCount": "6",
        f"{PREFIX}Subscription": "morgue",
        f"{PREFIX}SubscriptionProject": pubsub.project,
    }


def test_a_dead_letter_may_go_back_to_where_it_came_from(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, dead_letter_policy=policy(orders))
    [first_id] = pubsub.publish(orders, b"0")

    fail(pubsub, warehouse, 5)

    [received] = pubsub.pull(warehouse)
    assert received.message.data == b"0"
    assert received.message.message_id != first_id
    assert received.delivery_attempt == 1


def test_many_dead_letters_are_forwarded_once_each(pubsub: PubSub) -> None:
    orders, dead = pubsub.topic(), pubsub.topic("dead")
    warehouse = pubsub.subscription(orders, dead_letter_policy=policy(dead))
    morgue = pubsub.subscription(dead, "morgue")
    data = [b"%d" % number for number in range(1000)]
    pubsub.publish(orders, *data)

    for _ in range(5):
        received = pubsub.pull_all(warehouse, 1000)
        pubsub.modify_ack_deadline(warehouse, 0, *received)

    assert sorted(data_of(pubsub.pull_all(morgue, 1000))) == sorted(data)
    assert pubsub.pull_now(morgue) == []
    assert pubsub.pull_now(warehouse) == []


# --- delivery attempts --------------------------------------------------------------------------------


def test_without_a_policy_no_attempt_is_shown(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(
        orders, retry_policy={"minimum_backoff": {"seconds": 0}, "maximum_backoff": {"seconds": 0}}
    )
    pubsub.publish(orders, b"0")

    assert fail(pubsub, warehouse, 7) == [0] * 7
    assert pubsub.stream(warehouse).receive(1)[0].delivery_attempt == 0


def test_callbacks_are_shown_the_attempt(pubsub: PubSub) -> None:
    orders, dead = pubsub.topic(), pubsub.topic("dead")
    warehouse = pubsub.subscription(orders, dead_letter_policy=policy(dead))
    other = pubsub.subscription(orders, "other")
    morgue = pubsub.subscription(dead, "morgue")
    refusing, accepting, forwarded = Inbox(settle=Message.nack), Inbox(), Inbox()

    with (
        pubsub.subscribe(warehouse, refusing),
        pubsub.subscribe(other, accepting),
        pubsub.subscribe(morgue, forwarded),
    ):
        pubsub.publish(orders, b"0")
        forwarded.wait_for_count(1)
        accepting.wait_for_count(1)

    assert [message.delivery_attempt for message in refusing.messages] == [1, 2, 3, 4, 5]
    assert accepting.messages[0].delivery_attempt is None
    assert forwarded.messages[0].delivery_attempt is None


def test_attempts_are_those_of_one_message(pubsub: PubSub) -> None:
    orders, dead = pubsub.topic(), pubsub.topic("dead")
    warehouse = pubsub.subscription(orders, dead_letter_policy=policy(dead))
    pubsub.publish(orders, b"0", b"1")
    _, one = pubsub.pull_all(warehouse, 2)
    pubsub.modify_ack_deadline(warehouse, 0, one)
    pubsub.publish(orders, b"2")

    again = pubsub.pull_all(warehouse, 2)

    attempts = {each.message.data: each.delivery_attempt for each in again}
    assert attempts == {b"1": 2, b"2": 1}


def test_a_seek_starts_the_count_again(pubsub: PubSub) -> None:
    orders, dead = pubsub.topic(), pubsub.topic("dead")
    warehouse = pubsub.subscription(orders, dead_letter_policy=policy(dead))
    pubsub.publish(orders, b"0")
    fail(pubsub, warehouse, 4)
    before = pubsub.snapshot(warehouse)

    pubsub.subscriber.seek(request={"subscription": warehouse, "snapshot": before})

    assert fail(pubsub, warehouse, 5) == [1, 2, 3, 4, 5]


# --- changes of the policy ----------------------------------------------------------------------------


def test_more_attempts_count_from_where_it_was(pubsub: PubSub) -> None:
    orders, dead = pubsub.topic(), pubsub.topic("dead")
    warehouse = pubsub.subscription(orders, dead_letter_policy=policy(dead))
    morgue = pubsub.subscription(dead, "morgue")
    pubsub.publish(orders, b"0")
    assert fail(pubsub, warehouse, 4) == [1, 2, 3, 4]

    change(pubsub, warehouse, policy(dead, 7))

    assert fail(pubsub, warehouse, 3) == [5, 6, 7]
    [forwarded] = pubsub.pull(morgue)
    assert forwarded.message.attributes[f"{PREFIX}DeliveryCount"] == "7"


def test_with_fewer_attempts_the_next_failure_is_the_last(pubsub: PubSub) -> None:
    orders, dead = pubsub.topic(), pubsub.topic("dead")
    warehouse = pubsub.subscription(orders, dead_letter_policy=policy(dead, 100))
    morgue = pubsub.subscription(dead, "morgue")
    pubsub.publish(orders, b"0")
    fail(pubsub, warehouse, 6)
    [received] = pubsub.pull(warehouse)

    change(pubsub, warehouse, policy(dead, 5))
    pubsub.modify_ack_deadline(warehouse, 0, received)

    assert data_of(pubsub.pull(morgue)) == [b"0"]
    assert pubsub.pull_now(warehouse) == []


def test_without_the_policy_the_message_comes_again_and_again(pubsub: PubSub) -> None:
    orders, dead = pubsub.topic(), pubsub.topic("dead")
    warehouse = pubsub.subscription(orders, dead_letter_policy=policy(dead))
    morgue = pubsub.subscription(dead, "morgue")
    pubsub.publish(orders, b"0")
    fail(pubsub, warehouse, 4)

    change(pubsub, warehouse, None)

    assert fail(pubsub, warehouse, 4) == [0] * 4
    assert pubsub.pull_now(morgue) == []
    change(pubsub, warehouse, policy(dead, 10))
    assert fail(pubsub, warehouse, 2) == [9, 10]
    assert data_of(pubsub.pull(morgue)) == [b"0"]


def test_a_policy_that_goes_while_messages_are_forwarded_takes_none_with_it(
    pubsub: PubSub,
) -> None:
    orders, dead = pubsub.topic(), pubsub.topic("dead")
    warehouse = pubsub.subscription(orders, dead_letter_policy=policy(dead))
    morgue = pubsub.subscription(dead, "morgue")
    data = [b"%d" % number for number in range(1000)]
    pubsub.publish(orders, *data)
    for _ in range(5):
        received = pubsub.pull_all(warehouse, 1000)
        pubsub.modify_ack_deadline(warehouse, 0, *received)

    change(pubsub, warehouse, None)

    found: Counter[bytes] = Counter()
    while len(found) < 1000:
        for subscription in (warehouse, morgue):
            more = pubsub.pull_now(subscription, 1000)
            found.update(data_of(more))
            if more:
                pubsub.acknowledge(subscription, *more)
    assert found == Counter(data)


# --- when it cannot be forwarded ----------------------------------------------------------------------


def test_without_its_dead_letter_topic_a_message_stays_and_comes_again(pubsub: PubSub) -> None:
    orders, dead = pubsub.topic(), pubsub.topic("dead")
    warehouse = pubsub.subscription(orders, dead_letter_policy=policy(dead))
    pubsub.publish(orders, b"0")
    pubsub.publisher.delete_topic(topic=dead)

    assert fail(pubsub, warehouse, 6) == [1, 2, 3, 4, 5, 6]
    [received] = pubsub.pull(warehouse)  # nothing is being forwarded while it is out
    assert received.delivery_attempt == 7
    pubsub.topic("dead")
    morgue = pubsub.subscription(dead, "morgue")
    pubsub.modify_ack_deadline(warehouse, 0, received)

    [forwarded] = pubsub.pull(morgue)
    assert forwarded.message.attributes[f"{PREFIX}DeliveryCount"] == "7"
    assert pubsub.pull_now(warehouse) == []


def test_what_could_not_be_forwarded_can_still_be_acknowledged(pubsub: PubSub) -> None:
    orders, dead = pubsub.topic(), pubsub.topic("dead")
    warehouse = pubsub.subscription(orders, dead_letter_policy=policy(dead))
    pubsub.publish(orders, b"0")
    pubsub.publisher.delete_topic(topic=dead)
    fail(pubsub, warehouse, 5)

    pubsub.acknowledge(warehouse, *pubsub.pull(warehouse))

    pubsub.topic("dead")
    assert pubsub.pull_now(warehouse) == []
    assert pubsub.pull_now(pubsub.subscription(dead, "morgue")) == []


# --- with keys, and exactly once ----------------------------------------------------------------------


def test_a_dead_letter_keeps_its_key_and_its_key_goes_on(pubsub: PubSub) -> None:
    orders, dead = pubsub.topic(), pubsub.topic("dead")
    warehouse = pubsub.subscription(
        orders, enable_message_ordering=True, dead_letter_policy=policy(dead)
    )
    morgue = pubsub.subscription(dead, "morgue")
    messages = [types.PubsubMessage(data=b"%d" % n, ordering_key="k") for n in range(4)]
    pubsub.publish_messages(orders, *messages)
    stream = pubsub.stream(warehouse)

    for attempt in range(1, 6):
        received = stream.receive(4)
        assert data_of(received) == [b"0", b"1", b"2", b"3"]
        # Only the one that failed has one attempt more; what was behind it had no part in that.
        assert [each.delivery_attempt for each in received] == [attempt, 1, 1, 1]
        pubsub.acknowledge(warehouse, received[2])
        pubsub.modify_ack_deadline(warehouse, 0, received[0])

    rest = stream.receive(3)
    assert data_of(rest) == [b"1", b"2", b"3"]
    [forwarded] = pubsub.pull(morgue)
    assert (forwarded.message.data, forwarded.message.ordering_key) == (b"0", "k")
    pubsub.acknowledge(warehouse, *rest)
    assert stream.is_silent_until_answered()


def test_a_key_waits_for_a_dead_letter_that_cannot_be_forwarded(pubsub: PubSub) -> None:
    orders, dead = pubsub.topic(), pubsub.topic("dead")
    warehouse = pubsub.subscription(
        orders, enable_message_ordering=True, dead_letter_policy=policy(dead)
    )
    messages = [types.PubsubMessage(data=b"%d" % n, ordering_key="k") for n in range(2)]
    pubsub.publish_messages(orders, *messages)
    pubsub.publisher.delete_topic(topic=dead)

    assert fail(pubsub, warehouse, 7) == [1, 2, 3, 4, 5, 6, 7]

    received = pubsub.pull_all(warehouse, 2)
    assert data_of(received) == [b"0", b"1"]
    assert [each.delivery_attempt for each in received] == [8, 1]


def test_the_last_ack_id_of_a_dead_letter_is_refused_with_exactly_once(pubsub: PubSub) -> None:
    orders, dead = pubsub.topic(), pubsub.topic("dead")
    warehouse = pubsub.subscription(
        orders, enable_exactly_once_delivery=True, dead_letter_policy=policy(dead)
    )
    morgue = pubsub.subscription(dead, "morgue")
    pubsub.publish(orders, b"0")
    fail(pubsub, warehouse, 4)
    [received] = pubsub.pull(warehouse)
    pubsub.modify_ack_deadline(warehouse, 0, received)

    with pytest.raises(exceptions.InvalidArgument, match="ids in the request were invalid"):
        pubsub.acknowledge(warehouse, received)

    assert data_of(pubsub.pull(morgue)) == [b"0"]
    with pytest.raises(exceptions.InvalidArgument, match="ids in the request were invalid"):
        pubsub.acknowledge(warehouse, received)
