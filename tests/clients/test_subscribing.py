"""Google's subscriber at work: callbacks, flow control, leases that it extends, nacks."""

from __future__ import annotations

import threading

import pytest
from google.api_core import exceptions
from google.cloud.pubsub_v1.subscriber.message import Message  # type: ignore[import-untyped]

from tests.clients.pubsub import PATIENCE_S, Inbox, PubSub
from tests.server import eventually


def numbers(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def test_callbacks_get_every_message_once(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    inbox = Inbox()

    with pubsub.subscribe(warehouse, inbox):
        futures = [pubsub.publisher.publish(orders, data) for data in numbers(2_000)]
        ids = {future.result(PATIENCE_S) for future in futures}
        inbox.wait_for_data(numbers(2_000))

    assert {message.message_id for message in inbox.messages} == ids
    assert max(inbox.times.values()) == 1
    assert pubsub.pull_now(warehouse) == []


def test_two_subscribers_share_a_subscription(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    inboxes = [Inbox(), Inbox()]

    with (
        pubsub.subscribe(warehouse, inboxes[0], max_messages=10),
        pubsub.subscribe(warehouse, inboxes[1], max_messages=10),
    ):
        for start in range(0, 500, 50):
            pubsub.publish(orders, *numbers(500)[start : start + 50])
        eventually(lambda: len(inboxes[0].messages) + len(inboxes[1].messages) >= 500)

    assert sorted(inboxes[0].data + inboxes[1].data) == sorted(numbers(500))
    assert all(inbox.messages for inbox in inboxes)


def test_no_more_messages_are_out_than_flow_control_allows(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    pubsub.publish(orders, *numbers(50))
    held: list[Message] = []
    inbox = Inbox(settle=held.append)

    with pubsub.subscribe(warehouse, inbox, max_messages=7):
        inbox.wait_for_count(7)
        # The 43 others are neither at the client nor on their way: somebody else can have them.
        others = pubsub.pull_all(warehouse, 43)
        assert len(inbox.messages) == 7
        for message in held[:7]:
            message.ack()
        pubsub.modify_ack_deadline(warehouse, 0, *others)
        inbox.wait_for_count(14)
        assert len(held) <= 14
        for message in held:
            message.ack()

    assert {each.message.data for each in others} | set(inbox.data) == set(numbers(50))


def test_a_nacked_message_comes_back(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    seen: set[str] = set()

    def refuse_at_first(message: Message) -> None:
        if message.message_id in seen:
            message.ack()
        else:
            seen.add(message.message_id)
            message.nack()

    inbox = Inbox(settle=refuse_at_first)
    with pubsub.subscribe(warehouse, inbox):
        pubsub.publish(orders, *numbers(100))
        inbox.wait_for(lambda inbox: len(inbox.messages) >= 200)

    assert set(inbox.times.values()) == {2}
    assert pubsub.pull_now(warehouse) == []


def test_a_lease_lasts_as_long_as_its_callback_unless_the_client_gives_it_up(
    lenient_pubsub: PubSub,
) -> None:
    pubsub = lenient_pubsub
    orders = pubsub.topic()
    patient = pubsub.subscription(orders, "patient", ack_deadline_seconds=1)
    hasty = pubsub.subscription(orders, "hasty", ack_deadline_seconds=1)
    finish = threading.Event()

    def hang_at_first(message: Message) -> None:
        if message.message_id in seen_by_hasty:
            message.ack()
        else:
            seen_by_hasty.add(message.message_id)
            finish.wait(PATIENCE_S)

    def take_long(message: Message) -> None:
        finish.wait(PATIENCE_S)
        message.ack()

    seen_by_hasty: set[str] = set()
    given_up, kept = Inbox(settle=hang_at_first), Inbox(settle=take_long)
    with (
        pubsub.subscribe(patient, kept),
        pubsub.subscribe(hasty, given_up, max_lease_duration=1),
    ):
        pubsub.publish(orders, b"takes long")
        kept.wait_for_count(1)
        # The client's leases are of 10 seconds. So this one ends when it is not extended ...
        given_up.wait_for_count(2, timeout_s=20.0)
        # ... and by now, as the clocks of both began to run together, this one was extended.
        with pytest.raises(AssertionError, match="only 1 messages came"):
            kept.wait_for_count(2, timeout_s=2.0)
        finish.set()

    assert pubsub.pull_now(patient) == []


def test_deleting_the_subscription_ends_the_subscriber(pubsub: PubSub) -> None:
    warehouse = pubsub.subscription(pubsub.topic())

    with pubsub.subscribe(warehouse, Inbox()) as future:
        pubsub.subscriber.delete_subscription(subscription=warehouse)

        with pytest.raises(exceptions.NotFound, match=r"\(resource=warehouse\)"):
            future.result(PATIENCE_S)


def test_detaching_the_subscription_ends_the_subscriber(pubsub: PubSub) -> None:
    warehouse = pubsub.subscription(pubsub.topic())

    with pubsub.subscribe(warehouse, Inbox()) as future:
        pubsub.publisher.detach_subscription(request={"subscription": warehouse})

        with pytest.raises(exceptions.FailedPrecondition, match="Subscription is detached"):
            future.result(PATIENCE_S)


def test_a_seek_reaches_an_open_subscriber(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    pubsub.publish(orders, *numbers(10))
    before = pubsub.snapshot(warehouse)
    inbox = Inbox()

    with pubsub.subscribe(warehouse, inbox):
        inbox.wait_for_data(numbers(10))
        eventually(lambda: not pubsub.pull_now(warehouse))
        pubsub.subscriber.seek(request={"subscription": warehouse, "snapshot": before})
        inbox.wait_for(lambda inbox: min(inbox.times[data] for data in numbers(10)) == 2)
