"""Ordering keys: in order within a key, independent between keys."""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from google.api_core import exceptions
from google.cloud import pubsub_v1  # type: ignore[import-untyped]
from google.cloud.pubsub_v1.subscriber.message import Message  # type: ignore[import-untyped]
from google.pubsub_v1 import types

from tests.clients.pubsub import PATIENCE_S, Inbox, PubSub, data_of, project_on
from tests.server import Server, eventually

NEVER_S = 600  # longer than any test


def publish_keyed(pubsub: PubSub, topic: str, key: str, *data: bytes) -> None:
    """In one request: all messages of a request have the same key."""
    messages = (types.PubsubMessage(data=each, ordering_key=key) for each in data)
    pubsub.publish_messages(topic, *messages)


def numbers(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


@contextmanager
def ordering_publisher() -> Iterator[pubsub_v1.PublisherClient]:
    options = pubsub_v1.types.PublisherOptions(enable_message_ordering=True)
    publisher = pubsub_v1.PublisherClient(publisher_options=options)
    try:
        yield publisher
    finally:
        publisher.stop()
        publisher.transport.close()


def by_key(messages: Sequence[Message] | Sequence[types.PubsubMessage]) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = defaultdict(list)
    for message in messages:
        found[message.ordering_key].append(message.data)
    return found


# --- Google's publisher and subscriber ----------------------------------------------------------------


def test_callbacks_get_each_key_in_the_order_in_which_it_was_published(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, enable_message_ordering=True)
    keys = [f"key-{number}" for number in range(20)]
    inbox = Inbox()

    with ordering_publisher() as publisher, pubsub.subscribe(warehouse, inbox):
        futures = [
            publisher.publish(orders, data, ordering_key=key)
            for data in numbers(50)
            for key in keys
        ]
        for future in futures:
            future.result(PATIENCE_S)
        inbox.wait_for_count(1000)

    assert by_key(inbox.messages) == {key: numbers(50) for key in keys}
    assert pubsub.pull_now(warehouse) == []


def test_two_subscribers_share_the_keys_and_each_key_stays_in_order(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, enable_message_ordering=True)
    keys = [f"key-{number}" for number in range(40)]
    inbox = Inbox()
    inboxes = [Inbox(), Inbox()]

    def via(own: Inbox) -> Inbox:
        def note(message: Message) -> None:
            inbox(message)  # the common one sees all in the order of callbacks

        own._settle = note
        return own

    with (
        pubsub.subscribe(warehouse, via(inboxes[0]), max_messages=10),
        pubsub.subscribe(warehouse, via(inboxes[1]), max_messages=10),
    ):
        for number in range(0, 25, 5):
            for key in keys:
                publish_keyed(pubsub, orders, key, *numbers(25)[number : number + 5])
        inbox.wait_for_count(1000)

    assert by_key(inbox.messages) == {key: numbers(25) for key in keys}
    assert all(own.messages for own in inboxes)


def test_a_nack_in_a_callback_brings_the_rest_of_the_key_after_it(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, enable_message_ordering=True)
    refused = threading.Event()

    def refuse_the_third_once(message: Message) -> None:
        if message.data == b"2" and not refused.is_set():
            refused.set()
            message.nack()
        else:
            message.ack()

    inbox = Inbox(settle=refuse_the_third_once)
    publish_keyed(pubsub, orders, "k", *numbers(6))

    with pubsub.subscribe(warehouse, inbox):
        inbox.wait_for(lambda inbox: inbox.data.count(b"2") == 2 and inbox.data[-1:] == [b"5"])

    again = len(inbox.data) - 1 - inbox.data[::-1].index(b"2")
    assert inbox.data[:3] == numbers(3)
    assert inbox.data[again:] == numbers(6)[2:]


# --- what comes back, and after what ------------------------------------------------------------------


def test_a_nack_brings_back_the_message_and_all_later_ones_of_its_key_in_order(
    pubsub: PubSub,
) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, enable_message_ordering=True)
    publish_keyed(pubsub, orders, "k", b"0", b"1", b"2", b"3")
    stream = pubsub.stream(warehouse)
    first = stream.receive(4)
    assert data_of(first) == [b"0", b"1", b"2", b"3"]

    pubsub.acknowledge(warehouse, *first[1:])
    pubsub.modify_ack_deadline(warehouse, 0, first[0])

    assert data_of(stream.receive(4)) == [b"0", b"1", b"2", b"3"]


def test_a_nack_does_not_bring_back_what_came_before_it(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, enable_message_ordering=True)
    publish_keyed(pubsub, orders, "k", *numbers(4))
    stream = pubsub.stream(warehouse)
    first = stream.receive(4)

    pubsub.modify_ack_deadline(warehouse, 0, first[2])

    assert data_of(stream.receive(2)) == [b"2", b"3"]
    pubsub.acknowledge(warehouse, *first[:2])
    assert stream.is_silent_until_answered()


def test_ack_ids_from_before_the_nack_mean_nothing_any_more(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, enable_message_ordering=True)
    publish_keyed(pubsub, orders, "k", *numbers(3))
    stale = pubsub.pull_all(warehouse, 3)
    pubsub.modify_ack_deadline(warehouse, 0, stale[0])

    pubsub.acknowledge(warehouse, *stale)
    again = pubsub.pull_all(warehouse, 3)
    pubsub.acknowledge(warehouse, *stale)
    pubsub.modify_ack_deadline(warehouse, 0, *stale)

    assert data_of(again) == numbers(3)
    assert pubsub.pull_now(warehouse) == []
    pubsub.modify_ack_deadline(warehouse, 0, again[0])
    assert data_of(pubsub.pull_all(warehouse, 3)) == numbers(3)


def test_an_expired_lease_brings_back_the_later_ones_too_even_those_with_more_time(
    lenient_pubsub: PubSub,
) -> None:
    pubsub = lenient_pubsub
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, enable_message_ordering=True, ack_deadline_seconds=1)
    publish_keyed(pubsub, orders, "k", *numbers(4))
    first = pubsub.pull_all(warehouse, 4)
    assert data_of(first) == numbers(4)
    pubsub.acknowledge(warehouse, first[1])
    pubsub.modify_ack_deadline(warehouse, NEVER_S, *first[2:])

    assert data_of(pubsub.pull_all(warehouse, 4)) == numbers(4)


def test_a_late_ack_of_an_expired_message_counts_if_nobody_got_it_since(
    lenient_pubsub: PubSub,
) -> None:
    pubsub = lenient_pubsub
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, enable_message_ordering=True, ack_deadline_seconds=1)
    publish_keyed(pubsub, orders, "k", *numbers(3))
    first = pubsub.pull_all(warehouse, 3)
    pubsub.let_leases_of_a_second_expire()

    pubsub.acknowledge(warehouse, first[0])

    assert data_of(pubsub.pull_all(warehouse, 2)) == [b"1", b"2"]


def test_after_a_late_ack_the_key_does_not_rest_for_what_is_done(lenient_pubsub: PubSub) -> None:
    pubsub = lenient_pubsub
    orders = pubsub.topic()
    warehouse = pubsub.subscription(
        orders,
        enable_message_ordering=True,
        ack_deadline_seconds=1,
        retry_policy={"minimum_backoff": {"seconds": 600}, "maximum_backoff": {"seconds": 600}},
    )
    publish_keyed(pubsub, orders, "k", *numbers(3))
    first = pubsub.pull_all(warehouse, 3)
    pubsub.let_leases_of_a_second_expire()

    pubsub.acknowledge(warehouse, first[0])

    assert data_of(pubsub.pull_all(warehouse, 2)) == [b"1", b"2"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)], ids=str)
def test_acks_count_in_whatever_order_they_come(
    lenient_pubsub: PubSub, order: tuple[int, ...]
) -> None:
    pubsub = lenient_pubsub
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, enable_message_ordering=True, ack_deadline_seconds=1)
    publish_keyed(pubsub, orders, "k", *numbers(4))
    received = pubsub.pull_all(warehouse, 4)

    for each in order:
        pubsub.acknowledge(warehouse, received[each])

    assert data_of(pubsub.pull(warehouse)) == [b"3"]  # its lease has expired


def test_order_holds_through_a_storm_of_nacks_and_acks(pubsub: PubSub) -> None:
    """After any message, the next one of its key is its successor or an earlier one."""
    chance = random.Random(7)
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, enable_message_ordering=True)
    keys = [f"key-{number}" for number in range(8)]
    for half in (numbers(12)[:6], numbers(12)[6:]):
        for key in keys:
            publish_keyed(pubsub, orders, key, *half)
    stream = pubsub.stream(warehouse, max_outstanding_messages=30)
    came: dict[str, list[int]] = defaultdict(list)
    owed: set[tuple[str, int]] = set()  # refused, or later in the key than a refused one
    refusals = 60

    def take(received: list[types.ReceivedMessage]) -> None:
        nonlocal refusals
        for each in received:
            key, number = each.message.ordering_key, int(each.message.data)
            came[key].append(number)
            owed.discard((key, number))
        chance.shuffle(received)
        for each in received:
            if refusals and chance.random() < 0.4:
                refusals -= 1
                key, number = each.message.ordering_key, int(each.message.data)
                owed.update((key, later) for later in came[key] if later >= number)
                pubsub.modify_ack_deadline(warehouse, 0, each)
            else:
                pubsub.acknowledge(warehouse, each)

    def is_over() -> bool:
        stream.send()  # it is answered, so that reading never waits for long
        take(list(stream.response().received_messages))
        all_came = all(set(came[key]) == set(range(12)) for key in keys)
        return all_came and not refusals and not owed

    eventually(is_over, timeout_s=2 * PATIENCE_S)
    for key in keys:
        assert came[key][0] == 0
        for before, after in zip(came[key], came[key][1:], strict=False):
            assert after <= before + 1, f"{after} came without those before it: {came[key]}"


# --- keys do not know of each other -------------------------------------------------------------------


def test_a_key_that_is_held_up_does_not_hold_up_others(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(
        orders,
        enable_message_ordering=True,
        retry_policy={"minimum_backoff": {"seconds": 600}, "maximum_backoff": {"seconds": 600}},
    )
    stream = pubsub.stream(warehouse)
    publish_keyed(pubsub, orders, "blocked", *numbers(3))
    received = stream.receive(3)

    pubsub.modify_ack_deadline(warehouse, 0, received[1])  # it rests, and the third waits for it
    publish_keyed(pubsub, orders, "blocked", b"3")
    publish_keyed(pubsub, orders, "free", *numbers(500))
    pubsub.publish(orders, b"without a key")

    others = stream.receive(501)
    assert by_key([each.message for each in others]) == {
        "free": numbers(500),
        "": [b"without a key"],
    }
    assert stream.is_silent_until_answered()


def test_messages_without_a_key_come_back_alone(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, enable_message_ordering=True)
    pubsub.publish(orders, *numbers(4))
    stream = pubsub.stream(warehouse)
    received = stream.receive(4)

    pubsub.modify_ack_deadline(warehouse, 0, received[1])

    assert data_of(stream.receive(1)) == [b"1"]
    assert stream.is_silent_until_answered()


def test_a_subscription_without_ordering_does_not_care_for_keys(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    publish_keyed(pubsub, orders, "k", *numbers(4))
    [first] = pubsub.pull(warehouse, 1)

    assert data_of(pubsub.pull_all(warehouse, 3)) == [b"1", b"2", b"3"]
    pubsub.modify_ack_deadline(warehouse, 0, first)
    assert data_of(pubsub.pull(warehouse)) == [b"0"]


# --- who gets a key -----------------------------------------------------------------------------------


def test_a_key_stays_with_one_stream_while_it_has_outstanding_messages(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, enable_message_ordering=True)
    one = pubsub.stream(warehouse)
    one.response()
    publish_keyed(pubsub, orders, "k", b"0")
    [first] = one.receive(1)
    other = pubsub.stream(warehouse)
    other.response()
    for each in (b"1", b"2", b"3"):
        publish_keyed(pubsub, orders, "k", each)

    assert data_of(one.receive(3)) == [b"1", b"2", b"3"]
    assert other.is_silent_until_answered()
    assert first.message.ordering_key == "k"


def test_a_key_moves_on_when_nothing_of_it_is_outstanding(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, enable_message_ordering=True)
    publish_keyed(pubsub, orders, "k", *numbers(2))
    pulled = pubsub.pull_all(warehouse, 2)
    stream = pubsub.stream(warehouse)
    stream.response()
    publish_keyed(pubsub, orders, "k", b"2")
    pubsub.acknowledge(warehouse, pulled[1])
    assert stream.is_silent_until_answered()

    pubsub.acknowledge(warehouse, pulled[0])

    assert data_of(stream.receive(1)) == [b"2"]


def test_the_messages_of_a_closed_stream_keep_their_key_until_they_are_settled(
    pubsub: PubSub,
) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, enable_message_ordering=True)
    publish_keyed(pubsub, orders, "k", *numbers(2))
    closed = pubsub.stream(warehouse, stream_ack_deadline_seconds=NEVER_S)
    held = closed.receive(2)
    closed.cancel()
    publish_keyed(pubsub, orders, "k", b"2")
    stream = pubsub.stream(warehouse)
    stream.response()
    assert stream.is_silent_until_answered()

    pubsub.acknowledge(warehouse, held[0])
    assert stream.is_silent_until_answered()
    pubsub.acknowledge(warehouse, held[1])

    assert data_of(stream.receive(1)) == [b"2"]


def test_a_pull_gets_a_run_of_a_key_and_another_pull_nothing_of_it(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, enable_message_ordering=True)
    publish_keyed(pubsub, orders, "k", b"0", b"1", b"2")
    publish_keyed(pubsub, orders, "other", b"x")

    run = pubsub.pull(warehouse, 2)

    assert data_of(run) == [b"0", b"1"]
    assert data_of(pubsub.pull(warehouse, 10)) == [b"x"]
    pubsub.acknowledge(warehouse, *run)
    assert data_of(pubsub.pull(warehouse, 10)) == [b"2"]


def test_a_stream_that_can_hold_one_message_gets_one_after_the_other(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, enable_message_ordering=True)
    publish_keyed(pubsub, orders, "k", *numbers(5))
    stream = pubsub.stream(warehouse, max_outstanding_messages=1)
    came = []

    for _ in range(5):
        [received] = stream.receive(1)
        came.append(received.message.data)
        pubsub.acknowledge(warehouse, received)

    assert came == numbers(5)


# --- seeks and snapshots ------------------------------------------------------------------------------


def seek(pubsub: PubSub, subscription: str, **target: object) -> None:
    pubsub.subscriber.seek(request={"subscription": subscription, **target})


def test_a_seek_starts_each_key_from_its_oldest_message(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(
        orders, enable_message_ordering=True, retain_acked_messages=True
    )
    publish_keyed(pubsub, orders, "k", *numbers(4))
    stream = pubsub.stream(warehouse)
    first = stream.receive(4)
    pubsub.acknowledge(warehouse, first[0], first[2])

    seek(pubsub, warehouse, time=first[0].message.publish_time)
    again = stream.receive(4)
    pubsub.acknowledge(warehouse, *first)
    pubsub.modify_ack_deadline(warehouse, 0, *first)

    assert data_of(again) == numbers(4)
    assert stream.is_silent_until_answered()
    pubsub.modify_ack_deadline(warehouse, 0, again[1])
    assert data_of(stream.receive(3)) == [b"1", b"2", b"3"]


def test_a_seek_frees_a_key_that_rests(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(
        orders,
        enable_message_ordering=True,
        retry_policy={"minimum_backoff": {"seconds": 600}, "maximum_backoff": {"seconds": 600}},
    )
    publish_keyed(pubsub, orders, "k", *numbers(3))
    first = pubsub.pull_all(warehouse, 3)
    pubsub.modify_ack_deadline(warehouse, 0, first[0])
    assert pubsub.pull_now(warehouse) == []

    seek(pubsub, warehouse, time=first[0].message.publish_time)

    assert data_of(pubsub.pull_all(warehouse, 3)) == numbers(3)


def test_a_snapshot_holds_what_was_acknowledged_before_its_turn(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, enable_message_ordering=True)
    publish_keyed(pubsub, orders, "k", *numbers(4))
    first = pubsub.pull_all(warehouse, 4)
    pubsub.acknowledge(warehouse, first[0], first[2])

    before = pubsub.snapshot(warehouse)
    pubsub.acknowledge(warehouse, first[1], first[3])
    assert pubsub.pull_now(warehouse) == []
    seek(pubsub, warehouse, snapshot=before)

    assert data_of(pubsub.pull_all(warehouse, 3)) == [b"1", b"2", b"3"]


def test_an_ordered_subscription_refuses_the_snapshot_of_an_unordered_one(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    ordered = pubsub.subscription(orders, "ordered", enable_message_ordering=True)
    unordered = pubsub.subscription(orders, "unordered")
    publish_keyed(pubsub, orders, "k", *numbers(2))
    of_ordered = pubsub.snapshot(ordered, "of-ordered")
    of_unordered = pubsub.snapshot(unordered, "of-unordered")

    with pytest.raises(exceptions.FailedPrecondition) as refused:
        seek(pubsub, ordered, snapshot=of_unordered)

    assert refused.value.message == (
        "Subscriptions with ordering keys enabled cannot be seeked to snapshots of subscriptions "
        "without ordering keys enabled, as it may cause out-of-order redelivery."
    )
    pubsub.acknowledge(unordered, *pubsub.pull_all(unordered, 2))
    seek(pubsub, unordered, snapshot=of_ordered)
    assert sorted(data_of(pubsub.pull_all(unordered, 2))) == numbers(2)
    seek(pubsub, ordered, snapshot=of_ordered)
    assert data_of(pubsub.pull_all(ordered, 2)) == numbers(2)


def test_ordering_cannot_be_switched_by_an_update(pubsub: PubSub) -> None:
    warehouse = pubsub.subscription(pubsub.topic())

    with pytest.raises(exceptions.InvalidArgument):
        pubsub.subscriber.update_subscription(
            request={
                "subscription": {"name": warehouse, "enable_message_ordering": True},
                "update_mask": {"paths": ["enable_message_ordering"]},
            }
        )


# --- independence, however long a backlog is ----------------------------------------------------------


def test_a_key_that_is_blocked_before_more_than_fits_in_memory_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        Server(tmp_path, settings={"MAX_OUTSTANDING": "1000"}) as server,
        project_on(server, monkeypatch) as pubsub,
    ):
        orders = pubsub.topic()
        warehouse = pubsub.subscription(
            orders, enable_message_ordering=True, ack_deadline_seconds=NEVER_S
        )
        blocked = numbers(5000)
        for start in range(0, 5000, 1000):
            publish_keyed(pubsub, orders, "blocked", *blocked[start : start + 1000])
        publish_keyed(pubsub, orders, "other", b"other")
        [first] = pubsub.pull(warehouse, 1)
        stream = pubsub.stream(warehouse)
        assert data_of(stream.receive(1)) == [b"other"]

        pubsub.acknowledge(warehouse, first)
        came = [first]
        while len(came) < 5000:
            received = list(stream.response().received_messages)
            pubsub.acknowledge(warehouse, *received)
            came += received

        assert data_of(came) == blocked
