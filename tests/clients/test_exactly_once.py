"""Exactly-once delivery: acks are confirmed, or refused; nothing comes twice under a valid lease."""

from __future__ import annotations

import pytest
from google.api_core import exceptions
from google.rpc import error_details_pb2  # type: ignore[import-untyped]

from tests.clients.pubsub import PubSub, data_of


def test_only_the_latest_ack_id_counts(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, enable_exactly_once_delivery=True)
    pubsub.publish(orders, b"0")
    [stale] = pubsub.pull(warehouse)
    pubsub.modify_ack_deadline(warehouse, 0, stale)
    [latest] = pubsub.pull(warehouse)

    with pytest.raises(exceptions.InvalidArgument) as refused:
        pubsub.acknowledge(warehouse, stale)

    [info] = refused.value.details
    assert isinstance(info, error_details_pb2.ErrorInfo)
    assert info.reason == "EXACTLY_ONCE_ACKID_FAILURE"
    assert dict(info.metadata) == {stale.ack_id: "PERMANENT_FAILURE_INVALID_ACK_ID"}
    pubsub.acknowledge(warehouse, latest)
    pubsub.acknowledge(warehouse, latest)  # its answer may have been lost
    assert data_of(pubsub.pull_now(warehouse)) == []


def test_acks_on_a_stream_are_confirmed(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, enable_exactly_once_delivery=True)
    stream = pubsub.stream(warehouse)
    assert stream.response().subscription_properties.exactly_once_delivery_enabled
    pubsub.publish(orders, b"0")
    [received] = stream.receive(1)

    stream.send(ack_ids=[received.ack_id, "nonsense"])

    confirmation = stream.response().acknowledge_confirmation
    assert list(confirmation.ack_ids) == [received.ack_id]
    assert list(confirmation.invalid_ack_ids) == ["nonsense"]
