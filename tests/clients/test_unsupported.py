"""What this version does not do is refused, and the refusal names the field."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.api_core import exceptions
from google.protobuf.field_mask_pb2 import FieldMask
from google.pubsub_v1 import types

from tests.clients.pubsub import PubSub

TRANSFORMS = {
    "of-a-model": [{"ai_inference": {"endpoint": "projects/p/locations/l/endpoints/e"}}],
}
GOOGLES_OWN = "it needs services of Google that are not here"

OF_TOPICS: list[Any] = [
    pytest.param(
        "ingestion_data_source_settings",
        {"cloud_storage": {"bucket": "b", "text_format": {"delimiter": "\n"}}},
        id="ingestion",
    ),
    *(pytest.param("message_transforms", value, id=name) for name, value in TRANSFORMS.items()),
]
OF_SUBSCRIPTIONS: list[Any] = [
    pytest.param("bigquery_config", {"table": "p.d.t"}, id="bigquery"),
    pytest.param("bigtable_config", {"table": "projects/p/instances/i/tables/t"}, id="bigtable"),
    *(pytest.param("message_transforms", value, id=name) for name, value in TRANSFORMS.items()),
]


@pytest.mark.parametrize("field, value", OF_TOPICS)
def test_a_topic_with_an_unsupported_feature_is_refused(
    pubsub: PubSub, field: str, value: Any
) -> None:
    with pytest.raises(exceptions.MethodNotImplemented, match=f"'{field}.*' is not supported"):
        pubsub.topic(**{field: value})

    assert list(pubsub.publisher.list_topics(project=pubsub.path)) == []


@pytest.mark.parametrize("field, value", OF_TOPICS)
def test_a_topic_cannot_be_given_an_unsupported_feature(
    pubsub: PubSub, field: str, value: Any
) -> None:
    orders = pubsub.topic()

    with pytest.raises(exceptions.MethodNotImplemented, match=f"'{field}.*' is not supported"):
        pubsub.publisher.update_topic(
            request={
                "topic": {"name": orders, field: value},
                "update_mask": FieldMask(paths=[field]),
            }
        )

    assert pubsub.publisher.get_topic(topic=orders) == types.Topic(name=orders)


@pytest.mark.parametrize("field, value", OF_SUBSCRIPTIONS)
def test_a_subscription_with_an_unsupported_feature_is_refused(
    pubsub: PubSub, field: str, value: Any
) -> None:
    orders = pubsub.topic()

    with pytest.raises(exceptions.MethodNotImplemented, match=f"'{field}.*' is not supported"):
        pubsub.subscription(orders, **{field: value})

    assert list(pubsub.subscriber.list_subscriptions(project=pubsub.path)) == []


@pytest.mark.parametrize("field, value", OF_SUBSCRIPTIONS)
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


def test_a_refusal_says_why(pubsub: PubSub) -> None:
    with pytest.raises(exceptions.MethodNotImplemented) as refusal:
        pubsub.subscription(pubsub.topic(), bigquery_config={"table": "p.d.t"})

    assert refusal.value.message == (
        "The field 'bigquery_config' is not supported by this version of the service: "
        f"{GOOGLES_OWN}."
    )


def test_an_unknown_method_is_unimplemented(pubsub: PubSub) -> None:
    call: Any = pubsub.channel.unary_unary("/google.pubsub.v1.Publisher/Nonsense")

    with pytest.raises(grpc.RpcError) as refusal:
        call(b"", timeout=10)

    assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED
