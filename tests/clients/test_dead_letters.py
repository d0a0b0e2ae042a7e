"""What nobody manages to acknowledge goes to a dead-letter topic: once, and not before its time."""

from __future__ import annotations

from tests.clients.pubsub import PubSub, data_of


def test_a_message_is_forwarded_after_its_last_attempt(pubsub: PubSub) -> None:
    orders, dead = pubsub.topic(), pubsub.topic("dead")
    warehouse = pubsub.subscription(
        orders, dead_letter_policy={"dead_letter_topic": dead, "max_delivery_attempts": 5}
    )
    morgue = pubsub.subscription(dead, "morgue")
    pubsub.publish(orders, b"0")

    for attempt in range(1, 6):
        [received] = pubsub.pull(warehouse)
        assert received.delivery_attempt == attempt
        pubsub.modify_ack_deadline(warehouse, 0, received)

    [forwarded] = pubsub.pull(morgue)
    assert forwarded.message.data == b"0"
    attributes = dict(forwarded.message.attributes)
    assert attributes.pop("CloudPubSubDeadLetterSourceTopicPublishTime").endswith("+00:00")
    assert attributes == {
        "CloudPubSubDeadLetterSourceDeliveryCount": "5",
        "CloudPubSubDeadLetterSourceSubscription": "warehouse",
        "CloudPubSubDeadLetterSourceSubscriptionProject": pubsub.project,
    }
    assert data_of(pubsub.pull_now(warehouse)) == []
