"""Exactly-once delivery: acks are confirmed, or refused; nothing comes twice under a valid lease."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import grpc
import pytest
from google.api_core import exceptions
from google.cloud.pubsub_v1.subscriber.exceptions import (  # type: ignore[import-untyped]
    AcknowledgeError,
    AcknowledgeStatus,
)
from google.cloud.pubsub_v1.subscriber.futures import Future  # type: ignore[import-untyped]
from google.cloud.pubsub_v1.subscriber.message import Message  # type: ignore[import-untyped]
from google.pubsub_v1 import SubscriberClient as GeneratedSubscriberClient
from google.pubsub_v1 import types
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport
from google.rpc import error_details_pb2  # type: ignore[import-untyped]

from tests.clients.pubsub import PATIENCE_S, Inbox, PubSub, Stream, data_of
from tests.server import eventually

INVALID = "PERMANENT_FAILURE_INVALID_ACK_ID"
UNORDERED = "TRANSIENT_FAILURE_UNORDERED_ACK_ID"
NEVER_S = 600  # longer than any test


@contextmanager
def refused(expected: dict[str, str]) -> Iterator[None]:
    """The call is refused, and says of each ack id why."""
    with pytest.raises(exceptions.InvalidArgument) as refusal:
        yield
    assert refusal.value.message == (
        "Some acknowledgement ids in the request were invalid. This could be because the "
        "acknowledgement ids have expired or the acknowledgement ids were malformed."
    )
    [info] = refusal.value.details
    assert isinstance(info, error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain) == ("EXACTLY_ONCE_ACKID_FAILURE", "pubsub.googleapis.com")
    assert dict(info.metadata) == expected


def exactly_once(pubsub: PubSub, topic: str, **fields: Any) -> str:
    return pubsub.subscription(topic, enable_exactly_once_delivery=True, **fields)


def publish_keyed(pubsub: PubSub, topic: str, key: str, *data: bytes) -> None:
    messages = (types.PubsubMessage(data=each, ordering_key=key) for each in data)
    pubsub.publish_messages(topic, *messages)


def switch(pubsub: PubSub, subscription: str, *, on: bool) -> None:
    pubsub.subscriber.update_subscription(
        request={
            "subscription": {"name": subscription, "enable_exactly_once_delivery": on},
            "update_mask": {"paths": ["enable_exactly_once_delivery"]},
        }
    )


# --- unary calls --------------------------------------------------------------------------------------


def test_only_the_latest_ack_id_counts(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = exactly_once(pubsub, orders)
    pubsub.publish(orders, b"0")
    [stale] = pubsub.pull(warehouse)
    pubsub.modify_ack_deadline(warehouse, 0, stale)
    [latest] = pubsub.pull(warehouse)

    with refused({stale.ack_id: INVALID}):
        pubsub.acknowledge(warehouse, stale)

    pubsub.acknowledge(warehouse, latest)
    pubsub.acknowledge(warehouse, latest)  # its answer may have been lost
    with refused({stale.ack_id: INVALID}):
        pubsub.acknowledge(warehouse, stale)
    assert data_of(pubsub.pull_now(warehouse)) == []


def test_after_a_nack_its_ack_id_is_worth_nothing(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = exactly_once(pubsub, orders)
    pubsub.publish(orders, b"0")
    [received] = pubsub.pull(warehouse)
    pubsub.modify_ack_deadline(warehouse, 0, received)

    with refused({received.ack_id: INVALID}):
        pubsub.acknowledge(warehouse, received)
    with refused({received.ack_id: INVALID}):
        pubsub.modify_ack_deadline(warehouse, NEVER_S, received)
    with refused({received.ack_id: INVALID}):
        pubsub.modify_ack_deadline(warehouse, 0, received)

    assert data_of(pubsub.pull(warehouse)) == [b"0"]


def test_an_expired_ack_id_is_refused_even_if_nobody_got_the_message_since(
    lenient_pubsub: PubSub,
) -> None:
    pubsub = lenient_pubsub
    orders = pubsub.topic()
    warehouse = exactly_once(pubsub, orders, ack_deadline_seconds=1)
    pubsub.publish(orders, b"0")
    [received] = pubsub.pull(warehouse)
    pubsub.let_leases_of_a_second_expire()

    with refused({received.ack_id: INVALID}):
        pubsub.acknowledge(warehouse, received)
    with refused({received.ack_id: INVALID}):
        pubsub.modify_ack_deadline(warehouse, NEVER_S, received)

    assert data_of(pubsub.pull(warehouse)) == [b"0"]


def test_good_ack_ids_count_although_others_are_refused(pubsub: PubSub) -> None:
    orders, elsewhere = pubsub.topic(), pubsub.topic("elsewhere")
    warehouse = exactly_once(pubsub, orders)
    other = exactly_once(pubsub, elsewhere, subscription_id="other")
    pubsub.publish(orders, b"0", b"1")
    pubsub.publish(elsewhere, b"x")
    good, stale = pubsub.pull_all(warehouse, 2)
    [foreign] = pubsub.pull(other)
    pubsub.modify_ack_deadline(warehouse, 0, stale)

    ack_ids = [good.ack_id, stale.ack_id, foreign.ack_id, "nonsense"]
    with refused({stale.ack_id: INVALID, foreign.ack_id: INVALID, "nonsense": INVALID}):
        pubsub.subscriber.acknowledge(subscription=warehouse, ack_ids=ack_ids)

    assert data_of(pubsub.pull(warehouse)) == [b"1"]
    assert pubsub.pull_now(warehouse) == []
    pubsub.acknowledge(other, foreign)  # where it comes from it is as good as before


def test_many_refusals_fit_into_one_answer(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = exactly_once(pubsub, orders)
    pubsub.publish(orders, *(b"%d" % number for number in range(1000)))
    stale = pubsub.pull_all(warehouse, 1000)
    pubsub.modify_ack_deadline(warehouse, 0, *stale)
    # What Google's clients allow. For an emulator they take a channel without options, which
    # allows 16 KiB: so many refusals in one answer are too many there, whoever answers.
    options = [("grpc.max_metadata_size", 4 * 1024 * 1024)]
    with grpc.insecure_channel(pubsub.endpoint, options=options) as channel:
        subscriber = GeneratedSubscriberClient(transport=SubscriberGrpcTransport(channel=channel))

        ack_ids = [each.ack_id for each in stale]
        with refused(dict.fromkeys(ack_ids, INVALID)):
            subscriber.acknowledge(subscription=warehouse, ack_ids=ack_ids)


def test_no_ack_id_at_all_is_a_bad_request_as_always(pubsub: PubSub) -> None:
    warehouse = exactly_once(pubsub, pubsub.topic())

    with pytest.raises(exceptions.InvalidArgument, match="not specified an ack ID"):
        pubsub.subscriber.acknowledge(subscription=warehouse, ack_ids=[])


def test_an_extension_holds(lenient_pubsub: PubSub) -> None:
    pubsub = lenient_pubsub
    orders = pubsub.topic()
    warehouse = exactly_once(pubsub, orders, ack_deadline_seconds=1)
    pubsub.publish(orders, b"0")
    [received] = pubsub.pull(warehouse)

    pubsub.modify_ack_deadline(warehouse, NEVER_S, received)

    pubsub.let_leases_of_a_second_expire()
    assert pubsub.pull_now(warehouse) == []
    pubsub.acknowledge(warehouse, received)


def test_the_default_ack_deadline_is_a_minute(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    fields_of: dict[str, dict[str, Any]] = {
        "default": {},
        "exactly-once": {"enable_exactly_once_delivery": True},
        "its-own": {"enable_exactly_once_delivery": True, "ack_deadline_seconds": 20},
    }
    created = {
        name: pubsub.subscriber.create_subscription(
            request={"name": f"{pubsub.path}/subscriptions/{name}", "topic": orders, **fields}
        ).ack_deadline_seconds
        for name, fields in fields_of.items()
    }

    assert created == {"default": 10, "exactly-once": 60, "its-own": 20}


def test_a_seek_ends_all_leases(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = exactly_once(pubsub, orders)
    pubsub.publish(orders, b"0", b"1")
    first, second = pubsub.pull_all(warehouse, 2)
    pubsub.acknowledge(warehouse, first)

    pubsub.subscriber.seek(request={"subscription": warehouse, "time": first.message.publish_time})

    with refused({second.ack_id: INVALID}):
        pubsub.acknowledge(warehouse, second)
    assert data_of(pubsub.pull(warehouse)) == [b"1"]


# --- raw streams --------------------------------------------------------------------------------------


def confirmation_of_acks(stream: Stream) -> dict[str, list[str]]:
    """The next confirmation of acks: only the lists that hold something."""
    while "acknowledge_confirmation" not in (response := stream.response()):
        pass
    lists = types.StreamingPullResponse.AcknowledgeConfirmation.to_dict(
        response.acknowledge_confirmation
    )
    return {name: ids for name, ids in lists.items() if ids}


def confirmation_of_deadlines(stream: Stream) -> dict[str, list[str]]:
    while "modify_ack_deadline_confirmation" not in (response := stream.response()):
        pass
    lists = types.StreamingPullResponse.ModifyAckDeadlineConfirmation.to_dict(
        response.modify_ack_deadline_confirmation
    )
    return {name: ids for name, ids in lists.items() if ids}


def test_acks_on_a_stream_are_confirmed(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = exactly_once(pubsub, orders)
    stream = pubsub.stream(warehouse)
    assert stream.response().subscription_properties.exactly_once_delivery_enabled
    pubsub.publish(orders, b"0")
    [received] = stream.receive(1)

    stream.send(ack_ids=[received.ack_id, "nonsense"])

    assert confirmation_of_acks(stream) == {
        "ack_ids": [received.ack_id],
        "invalid_ack_ids": ["nonsense"],
    }


def test_deadlines_on_a_stream_are_confirmed(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = exactly_once(pubsub, orders)
    pubsub.publish(orders, b"0", b"1")
    stream = pubsub.stream(warehouse)
    zero, one = stream.receive(2)

    stream.send(
        modify_deadline_ack_ids=[zero.ack_id, one.ack_id, "nonsense"],
        modify_deadline_seconds=[NEVER_S, 0, NEVER_S],
    )

    confirmed = confirmation_of_deadlines(stream)
    assert sorted(confirmed.pop("ack_ids")) == sorted([zero.ack_id, one.ack_id])
    assert confirmed == {"invalid_ack_ids": ["nonsense"]}


def test_a_first_request_with_acks_is_answered_too(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = exactly_once(pubsub, orders)
    pubsub.publish(orders, b"0")
    [received] = pubsub.pull(warehouse)

    stream = pubsub.stream(warehouse, ack_ids=[received.ack_id])

    assert confirmation_of_acks(stream) == {"ack_ids": [received.ack_id]}


def test_without_exactly_once_nothing_is_confirmed(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    pubsub.publish(orders, b"0")
    stream = pubsub.stream(warehouse)
    [received] = stream.receive(1)

    stream.send(ack_ids=[received.ack_id])
    stream.send()

    answer = stream.response()
    assert "acknowledge_confirmation" not in answer
    assert "modify_ack_deadline_confirmation" not in answer


def test_an_ack_on_one_stream_of_what_another_has_gives_that_one_credit(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = exactly_once(pubsub, orders)
    pubsub.publish(orders, b"0", b"1")
    reading = pubsub.stream(warehouse, max_outstanding_messages=1)
    [received] = reading.receive(1)

    pubsub.acknowledge(warehouse, received)

    assert data_of(reading.receive(1)) == [b"1"]


def test_a_message_is_at_one_of_many_subscribers(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = exactly_once(pubsub, orders)
    streams = [pubsub.stream(warehouse, max_outstanding_messages=40) for _ in range(4)]
    for stream in streams:
        stream.response()
    pubsub.publish(orders, *(b"%d" % number for number in range(160)))

    came = Counter(data for stream in streams for data in data_of(stream.receive(40)))

    assert len(came) == 160
    assert pubsub.pull_now(warehouse) == []


# --- switching it on and off --------------------------------------------------------------------------


def test_an_open_stream_says_when_it_is_switched(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    stream = pubsub.stream(warehouse)

    def next_property() -> bool:
        stream.send()
        return bool(stream.response().subscription_properties.exactly_once_delivery_enabled)

    assert not stream.response().subscription_properties.exactly_once_delivery_enabled
    switch(pubsub, warehouse, on=True)
    assert next_property()
    switch(pubsub, warehouse, on=False)
    assert not next_property()


def test_switched_on_it_holds_for_what_is_out_already(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    pubsub.publish(orders, b"0", b"1")
    first, second = pubsub.pull_all(warehouse, 2)
    pubsub.modify_ack_deadline(warehouse, 0, second)

    switch(pubsub, warehouse, on=True)

    with refused({second.ack_id: INVALID}):
        pubsub.acknowledge(warehouse, first, second)
    assert data_of(pubsub.pull(warehouse)) == [b"1"]


def test_switched_off_it_refuses_nothing_any_more(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = exactly_once(pubsub, orders)
    pubsub.publish(orders, b"0", b"1")
    held, stale = pubsub.pull_all(warehouse, 2)
    pubsub.modify_ack_deadline(warehouse, 0, stale)

    switch(pubsub, warehouse, on=False)

    pubsub.acknowledge(warehouse, held, stale)
    assert data_of(pubsub.pull(warehouse)) == [b"1"]
    assert pubsub.pull_now(warehouse) == []


# --- together with ordering ---------------------------------------------------------------------------


def test_an_ack_before_its_turn_is_refused_for_now(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = exactly_once(pubsub, orders, enable_message_ordering=True)
    publish_keyed(pubsub, orders, "k", *(b"%d" % number for number in range(5)))
    received = pubsub.pull_all(warehouse, 5)

    with refused({each.ack_id: UNORDERED for each in received[1:]}):
        pubsub.acknowledge(warehouse, *received[1:])
    pubsub.acknowledge(warehouse, *reversed(received[:3]))  # in whatever order in one request
    pubsub.acknowledge(warehouse, received[3])

    with refused({each.ack_id: INVALID for each in received[4:]}):
        pubsub.modify_ack_deadline(warehouse, 0, received[4])
        pubsub.acknowledge(warehouse, received[4])
    assert data_of(pubsub.pull(warehouse)) == [b"4"]


def test_a_nack_takes_the_later_ones_of_the_key_back_and_no_acknowledged_one(
    pubsub: PubSub,
) -> None:
    orders = pubsub.topic()
    warehouse = exactly_once(pubsub, orders, enable_message_ordering=True)
    publish_keyed(pubsub, orders, "k", *(b"%d" % number for number in range(4)))
    received = pubsub.pull_all(warehouse, 4)
    pubsub.acknowledge(warehouse, received[0])

    pubsub.modify_ack_deadline(warehouse, 0, received[1])

    with refused({each.ack_id: INVALID for each in received[1:]}):
        pubsub.acknowledge(warehouse, *received[1:])
    again = pubsub.pull_all(warehouse, 3)
    assert data_of(again) == [b"1", b"2", b"3"]
    pubsub.acknowledge(warehouse, *again)


def test_a_stream_tells_an_ack_that_comes_before_its_turn(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = exactly_once(pubsub, orders, enable_message_ordering=True)
    publish_keyed(pubsub, orders, "k", b"0", b"1")
    stream = pubsub.stream(warehouse)
    zero, one = stream.receive(2)

    stream.send(ack_ids=[one.ack_id])
    assert confirmation_of_acks(stream) == {"unordered_ack_ids": [one.ack_id]}
    stream.send(ack_ids=[zero.ack_id])
    assert confirmation_of_acks(stream) == {"ack_ids": [zero.ack_id]}
    stream.send(ack_ids=[one.ack_id])
    assert confirmation_of_acks(stream) == {"ack_ids": [one.ack_id]}


# --- Google's subscriber ------------------------------------------------------------------------------


def test_the_client_hears_that_its_acks_hold(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = exactly_once(pubsub, orders)
    acks: list[Future] = []
    inbox = Inbox(settle=lambda message: acks.append(message.ack_with_response()))

    with pubsub.subscribe(warehouse, inbox):
        data = [b"%d" % number for number in range(300)]
        for each in data:
            pubsub.publisher.publish(orders, each)
        inbox.wait_for_data(data)
        eventually(lambda: len(acks) == 300)
        assert {ack.result(PATIENCE_S) for ack in acks} == {AcknowledgeStatus.SUCCESS}

    assert max(inbox.times.values()) == 1
    assert pubsub.pull_now(warehouse) == []


def test_the_client_hears_that_its_nack_and_its_extension_hold(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = exactly_once(pubsub, orders)
    pubsub.publish(orders, b"0")
    answers: list[Future] = []

    def extend_and_refuse_at_first(message: Message) -> None:
        if not answers:
            answers.append(message.modify_ack_deadline_with_response(120))
            answers.append(message.nack_with_response())
        else:
            answers.append(message.ack_with_response())

    inbox = Inbox(settle=extend_and_refuse_at_first)
    with pubsub.subscribe(warehouse, inbox):
        inbox.wait_for_count(2)
        eventually(lambda: len(answers) == 3)
        assert {each.result(PATIENCE_S) for each in answers} == {AcknowledgeStatus.SUCCESS}

    assert inbox.data == [b"0", b"0"]


@pytest.mark.parametrize(
    "settle",
    [
        Message.ack_with_response,
        Message.nack_with_response,
        lambda message: message.modify_ack_deadline_with_response(60),
    ],
    ids=["ack", "nack", "extension"],
)
def test_the_client_hears_that_its_lease_has_expired(
    pubsub: PubSub, settle: Callable[[Message], Future]
) -> None:
    orders = pubsub.topic()
    warehouse = exactly_once(pubsub, orders)
    pubsub.publish(orders, b"0")
    inbox = Inbox(settle=lambda message: message.ack() if inbox.times[b"0"] > 1 else None)

    with pubsub.subscribe(warehouse, inbox):
        inbox.wait_for_count(1)
        [first] = inbox.messages
        while len(inbox.messages) < 2:  # the client may extend the lease in between
            with suppress(exceptions.InvalidArgument):
                pubsub.subscriber.modify_ack_deadline(
                    subscription=warehouse, ack_ids=[first.ack_id], ack_deadline_seconds=1
                )
            with suppress(AssertionError):
                inbox.wait_for_count(2, timeout_s=3.0)
        with pytest.raises(AcknowledgeError) as refusal:
            settle(first).result(PATIENCE_S)

    assert refusal.value.error_code is AcknowledgeStatus.INVALID_ACK_ID


def test_the_client_acknowledges_keys_in_order(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = exactly_once(pubsub, orders, enable_message_ordering=True)
    keys = [f"key-{number}" for number in range(10)]
    for key in keys:
        publish_keyed(pubsub, orders, key, *(b"%d" % number for number in range(20)))
    acks: list[Future] = []
    inbox = Inbox(settle=lambda message: acks.append(message.ack_with_response()))

    with pubsub.subscribe(warehouse, inbox):
        eventually(lambda: len(acks) == 200, timeout_s=PATIENCE_S)
        assert {ack.result(PATIENCE_S) for ack in acks} == {AcknowledgeStatus.SUCCESS}

    for key in keys:
        came = [int(each.data) for each in inbox.messages if each.ordering_key == key]
        assert came == list(range(20))
    assert pubsub.pull_now(warehouse) == []
