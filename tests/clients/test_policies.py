"""Policies of subscriptions: their defaults, their bounds, and what does not go together."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from google.api_core import exceptions
from google.protobuf.field_mask_pb2 import FieldMask
from google.pubsub_v1 import types

from tests.clients.pubsub import PubSub

SECOND = dt.timedelta(seconds=1)


def created(pubsub: PubSub, **fields: Any) -> Any:
    """How a subscription is shown that is created so."""
    name = pubsub.subscription(pubsub.topic(), **fields)
    return pubsub.subscriber.get_subscription(subscription=name)


def update(pubsub: PubSub, name: str, **fields: Any) -> Any:
    return pubsub.subscriber.update_subscription(
        request={
            "subscription": {"name": name, **fields},
            "update_mask": FieldMask(paths=list(fields)),
        }
    )


# --- retries ----------------------------------------------------------------------------------------


def test_backoffs_that_are_not_set_are_filled_in(pubsub: PubSub) -> None:
    assert created(pubsub, retry_policy={}).retry_policy == types.RetryPolicy(
        minimum_backoff=10 * SECOND, maximum_backoff=600 * SECOND
    )


@pytest.mark.parametrize(
    "policy, text",
    [
        (
            {"minimum_backoff": 601 * SECOND},
            (
                "The value for minimum_backoff is out of bounds. You passed 601s in the request, "
                "but the value must be between 0s and 600s."
            ),
        ),
        (
            {"maximum_backoff": -1 * SECOND},
            (
                "The value for maximum_backoff is out of bounds. You passed -1s in the request, "
                "but the value must be between 0s and 600s."
            ),
        ),
        (
            {"maximum_backoff": 5 * SECOND},
            (
                "The value for maximum_backoff is too small. You passed 5s in the request, "
                "but the minimum value is 10s."
            ),
        ),
    ],
    ids=["too-long", "negative", "below-the-minimum"],
)
def test_a_backoff_out_of_bounds_is_refused(
    pubsub: PubSub, policy: dict[str, Any], text: str
) -> None:
    with pytest.raises(exceptions.InvalidArgument) as refusal:
        created(pubsub, retry_policy=policy)

    assert refusal.value.message == text


# --- dead letters -----------------------------------------------------------------------------------


def test_delivery_attempts_that_are_not_set_are_5(pubsub: PubSub) -> None:
    dead = pubsub.topic("dead")

    shown = created(pubsub, dead_letter_policy={"dead_letter_topic": dead})

    assert shown.dead_letter_policy == types.DeadLetterPolicy(
        dead_letter_topic=dead, max_delivery_attempts=5
    )


def test_dead_letters_may_go_back_to_where_they_came_from(pubsub: PubSub) -> None:
    shown = created(
        pubsub, dead_letter_policy={"dead_letter_topic": f"{pubsub.path}/topics/orders"}
    )

    assert shown.dead_letter_policy.dead_letter_topic == shown.topic


@pytest.mark.parametrize(
    "attempts, fault, bound",
    [
        (-1, "small", "minimum value is 5"),
        (4, "small", "minimum value is 5"),
        (101, "large", "maximum value is 100"),
    ],
)
def test_delivery_attempts_are_out_of_range(
    pubsub: PubSub, attempts: int, fault: str, bound: str
) -> None:
    policy = {"dead_letter_topic": pubsub.topic("dead"), "max_delivery_attempts": attempts}

    with pytest.raises(exceptions.OutOfRange) as refusal:
        created(pubsub, dead_letter_policy=policy)

    assert refusal.value.message == (
        f"The value for max_delivery_attempts is too {fault}. "
        f"You passed {attempts} in the request, but the {bound}."
    )


def test_a_dead_letter_policy_names_a_topic(pubsub: PubSub) -> None:
    with pytest.raises(exceptions.InvalidArgument, match=r"Invalid resource name given \(name=\)"):
        created(pubsub, dead_letter_policy={"max_delivery_attempts": 5})


def test_the_topic_of_dead_letters_has_to_exist(pubsub: PubSub) -> None:
    policy = {"dead_letter_topic": f"{pubsub.path}/topics/nowhere"}
    warehouse = created(pubsub)

    with pytest.raises(exceptions.NotFound, match=r"Resource not found \(resource=nowhere\)\."):
        pubsub.subscription(warehouse.topic, "other", dead_letter_policy=policy)
    with pytest.raises(exceptions.NotFound, match=r"Resource not found \(resource=nowhere\)\."):
        update(pubsub, warehouse.name, dead_letter_policy=policy)

    assert pubsub.subscriber.get_subscription(subscription=warehouse.name) == warehouse


# --- what does not go together ----------------------------------------------------------------------

PUSH = {"push_endpoint": "https://example.com/push"}


def test_with_exactly_once_delivery_the_default_ack_deadline_is_60_seconds(
    pubsub: PubSub,
) -> None:
    assert created(pubsub, enable_exactly_once_delivery=True).ack_deadline_seconds == 60


def test_exactly_once_delivery_is_for_those_who_pull(pubsub: PubSub) -> None:
    warehouse = created(pubsub, enable_exactly_once_delivery=True)

    with pytest.raises(exceptions.InvalidArgument):
        pubsub.subscription(
            warehouse.topic, "other", enable_exactly_once_delivery=True, push_config=PUSH
        )
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.subscriber.modify_push_config(subscription=warehouse.name, push_config=PUSH)

    assert pubsub.subscriber.get_subscription(subscription=warehouse.name) == warehouse


def test_messages_are_pushed_or_exported(pubsub: PubSub) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        created(pubsub, push_config=PUSH, cloud_storage_config={"bucket": "bucket"})
