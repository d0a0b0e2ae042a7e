"""Ordering keys: in order within a key, independent between keys."""

from __future__ import annotations

from google.pubsub_v1 import types

from tests.clients.pubsub import PubSub, data_of


def keyed(key: str, *data: bytes) -> list[types.PubsubMessage]:
    return [types.PubsubMessage(data=each, ordering_key=key) for each in data]


def test_a_nack_brings_back_the_message_and_all_later_ones_of_its_key_in_order(
    pubsub: PubSub,
) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, enable_message_ordering=True)
    pubsub.publish_messages(orders, *keyed("k", b"0", b"1", b"2", b"3"))
    stream = pubsub.stream(warehouse)
    first = stream.receive(4)
    assert data_of(first) == [b"0", b"1", b"2", b"3"]

    pubsub.acknowledge(warehouse, *first[1:])
    pubsub.modify_ack_deadline(warehouse, 0, first[0])

    assert data_of(stream.receive(4)) == [b"0", b"1", b"2", b"3"]


def test_a_key_stays_with_one_stream_while_it_has_outstanding_messages(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, enable_message_ordering=True)
    one = pubsub.stream(warehouse)
    one.response()
    pubsub.publish_messages(orders, *keyed("k", b"0"))
    [first] = one.receive(1)
    other = pubsub.stream(warehouse)
    other.response()
    for each in (b"1", b"2", b"3"):
        pubsub.publish_messages(orders, *keyed("k", each))

    assert data_of(one.receive(3)) == [b"1", b"2", b"3"]
    assert other.is_silent_until_answered()
    assert first.message.ordering_key == "k"


def test_a_pull_gets_a_run_of_a_key_and_another_pull_nothing_of_it(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, enable_message_ordering=True)
    pubsub.publish_messages(orders, *keyed("k", b"0", b"1", b"2"))
    pubsub.publish_messages(orders, *keyed("other", b"x"))

    run = pubsub.pull(warehouse, 2)

    assert data_of(run) == [b"0", b"1"]
    assert data_of(pubsub.pull(warehouse, 10)) == [b"x"]
    pubsub.acknowledge(warehouse, *run)
    assert data_of(pubsub.pull(warehouse, 10)) == [b"2"]
