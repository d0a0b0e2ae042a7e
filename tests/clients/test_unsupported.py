"""What this version does not do is refused, and the refusal names the field."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.api_core import exceptions
from google.protobuf.field_mask_pb2 import FieldMask
from google.pubsub_v1 import PublisherClient, types

from tests.clients.pubsub import PubSub

TRANSFORM = {"javascript_udf": {"function_name": "f", "code": "function f(m) { return m; }"}}

OF_TOPICS: dict[str, Any] = {
    "ingestion_data_source_settings": {
        "cloud_storage": {"bucket": "b", "text_format": {"delimiter": "\n"}}
    },
    "message_transforms": [TRANSFORM],
}
OF_SUBSCRIPTIONS: dict[str, Any] = {
    "filter": "attributes:name",
    "enable_message_ordering": True,
    "enable_exactly_once_delivery": True,
    "dead_letter_policy": {
        "dead_letter_topic": "projects/p/topics/dead",
        "max_delivery_attempts": 5,
    },
    "retry_policy": {"minimum_backoff": {"seconds": 1}},
    "push_config": {"push_endpoint": "https://example.com/push"},
    "bigquery_config": {"table": "p.d.t"},
    "cloud_storage_config": {"bucket": "bucket"},
    "message_transforms": [TRANSFORM],
}


@pytest.mark.parametrize("field, value", OF_TOPICS.items())
def test_a_topic_with_an_unsupported_feature_is_refused(
    pubsub: PubSub, field: str, value: Any
) -> None:
    with pytest.raises(exceptions.MethodNotImplemented, match=f"'{field}' is not supported"):
        pubsub.topic(**{field: value})

    assert list(pubsub.publisher.list_topics(project=pubsub.path)) == []


@pytest.mark.parametrize("field, value", OF_TOPICS.items())
def test_a_topic_cannot_be_given_an_unsupported_feature(
    pubsub: PubSub, field: str, value: Any
) -> None:
    orders = pubsub.topic()

    with pytest.raises(exceptions.MethodNotImplemented, match=f"'{field}' is not supported"):
        pubsub.publisher.update_topic(
            request={
                "topic": {"name": orders, field: value},
                "update_mask": FieldMask(paths=[field]),
            }
        )

    assert pubsub.publisher.get_topic(topic=orders) == types.Topic(name=orders)


@pytest.mark.parametrize("field, value", OF_SUBSCRIPTIONS.items())
def test_a_subscription_with_an_unsupported_feature_is_refused(
    pubsub: PubSub, field: str, value: Any
) -> None:
    orders = pubsub.topic()

    with pytest.raises(exceptions.MethodNotImplemented, match=f"'{field}.*' is not supported"):
        pubsub.subscription(orders, **{field: value})

    assert list(pubsub.subscriber.list_subscriptions(project=pubsub.path)) == []


@pytest.mark.parametrize(
    "field, value",
    [
        (field, value)
        for field, value in OF_SUBSCRIPTIONS.items()
        if field not in {"filter", "enable_message_ordering"}  # immutable anyway
    ],
)
def test_a_subscription_cannot_be_given_an_unsupported_feature(
    pubsub: PubSub, field: str, value: Any
) -> None:
    warehouse = pubsub.subscription(pubsub.topic())
    before = pubsub.subscriber.get_subscription(subscription=warehouse)

    with pytest.raises(exceptions.MethodNotImplemented, match=f"'{field}.*' is not supported"):
        pubsub.subscriber.update_subscription(
            request={
                "subscription": {"name": warehouse, field: value},
                "update_mask": FieldMask(paths=[field]),
            }
        )

    assert pubsub.subscriber.get_subscription(subscription=warehouse) == before


def test_a_subscription_cannot_become_a_push_subscription(pubsub: PubSub) -> None:
    warehouse = pubsub.subscription(pubsub.topic())

    with pytest.raises(
        exceptions.MethodNotImplemented, match=r"'push_config\.push_endpoint' is not supported"
    ):
        pubsub.subscriber.modify_push_config(
            subscription=warehouse,
            push_config=types.PushConfig(push_endpoint="https://example.com/push"),
        )


def test_policies_are_not_there(pubsub: PubSub) -> None:
    with pytest.raises(exceptions.MethodNotImplemented):
        PublisherClient.get_iam_policy(pubsub.publisher, {"resource": pubsub.topic()})


def test_an_unknown_method_is_unimplemented(pubsub: PubSub) -> None:
    call: Any = pubsub.channel.unary_unary("/google.pubsub.v1.Publisher/Nonsense")

    with pytest.raises(grpc.RpcError) as refusal:
        call(b"", timeout=10)

    assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED
