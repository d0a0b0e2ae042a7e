"""Filters: a subscription gets the messages whose attributes match, and never the others."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from google.api_core import exceptions
from google.protobuf.field_mask_pb2 import FieldMask
from google.pubsub_v1 import types

from tests.clients.pubsub import Inbox, PubSub, data_of, project_on
from tests.server import Server, eventually

MESSAGES: dict[str, dict[str, str]] = {
    "A": {"lang": "en", "name": "com"},
    "B": {"lang": "en", "name": "net"},
    "C": {"lang": "jp"},
    "D": {},
    "E": {"iana.org/language_tag": "en", "name": ""},
    "F": {"name": "company", "a-b_c": "1"},
}
UNDELIVERED = "pubsub_subscription_num_undelivered_messages"
LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


def publish_all(pubsub: PubSub, topic: str) -> list[str]:
    return pubsub.publish_messages(
        topic,
        *(
            types.PubsubMessage(data=name.encode(), attributes=attributes)
            for name, attributes in MESSAGES.items()
        ),
    )


@pytest.mark.parametrize(
    "text, matching",
    [
        ("", "ABCDEF"),
        ("attributes:name", "ABEF"),
        ("NOT attributes:name", "CD"),
        ('attributes.name = "com"', "A"),
        ('attributes.name != "com"', "BCDEF"),
        ('attributes.name = ""', "E"),
        ('hasPrefix(attributes.name, "co")', "AF"),
        ('NOT hasPrefix(attributes.name, "co")', "BCDE"),
        ('attributes."iana.org/language_tag" = "en"', "E"),
        ('(attributes.lang = "en" OR attributes.lang = "jp") AND attributes:name', "AB"),
        ('NOT (attributes:name OR attributes.lang = "jp")', "D"),
    ],
)
def test_a_subscription_gets_what_its_filter_matches(
    pubsub: PubSub, text: str, matching: str
) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, filter=text)
    publish_all(pubsub, orders)

    received = pubsub.pull_all(warehouse, len(matching))

    assert sorted(data_of(received)) == [name.encode() for name in matching]
    pubsub.acknowledge(warehouse, *received)
    assert pubsub.pull_now(warehouse) == []


def test_a_stream_gets_only_what_matches(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, filter='attributes.lang = "en"')
    inbox = Inbox()

    with pubsub.subscribe(warehouse, inbox):
        publish_all(pubsub, orders)
        publish_all(pubsub, orders)
        inbox.wait_for_count(4)

    assert inbox.times == {b"A": 2, b"B": 2}


def test_messages_that_match_nothing_pass_by_in_great_numbers(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, filter="attributes:wanted")
    for _ in range(25):
        pubsub.publish(orders, *(b"%d" % i for i in range(1000)))
    wanted = types.PubsubMessage(data=b"this one", attributes={"wanted": ""})
    pubsub.publish_messages(orders, wanted)

    assert data_of(pubsub.pull_all(warehouse, 1)) == [b"this one"]


def test_a_seek_never_brings_back_what_does_not_match(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(
        orders, filter='attributes.name = "com"', retain_acked_messages=True
    )
    publish_all(pubsub, orders)
    pubsub.acknowledge(warehouse, *pubsub.pull_all(warehouse, 1))

    pubsub.subscriber.seek(request={"subscription": warehouse, "time": LONG_AGO})

    received = pubsub.pull_all(warehouse, 1)
    assert data_of(received) == [b"A"]
    pubsub.acknowledge(warehouse, *received)
    assert pubsub.pull_now(warehouse) == []


def test_a_snapshot_of_another_subscription_is_filtered_too(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    everything = pubsub.subscription(orders, "everything")
    warehouse = pubsub.subscription(orders, filter="attributes:lang")
    publish_all(pubsub, orders)
    before = pubsub.snapshot(everything)
    pubsub.acknowledge(warehouse, *pubsub.pull_all(warehouse, 3))

    pubsub.subscriber.seek(request={"subscription": warehouse, "snapshot": before})

    received = pubsub.pull_all(warehouse, 3)
    assert sorted(data_of(received)) == [b"A", b"B", b"C"]
    pubsub.acknowledge(warehouse, *received)
    assert pubsub.pull_now(warehouse) == []


def test_what_does_not_match_leaves_the_backlog_though_nobody_reads(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"RETENTION_INTERVAL_S": "0.1"}
    with (
        Server(tmp_path, database_url, admin=True, settings=settings) as server,
        project_on(server, monkeypatch) as pubsub,
    ):
        orders = pubsub.topic()
        warehouse = pubsub.subscription(orders, filter='attributes.lang = "en"')
        publish_all(pubsub, orders)
        publish_all(pubsub, orders)

        eventually(lambda: server.metric(UNDELIVERED) == 4)

        assert sorted(data_of(pubsub.pull_all(warehouse, 4))) == [b"A", b"A", b"B", b"B"]


def test_a_filter_is_shown_as_it_was_written(pubsub: PubSub) -> None:
    text = ' attributes:name\tAND(-attributes.lang="en") '
    warehouse = pubsub.subscription(pubsub.topic(), filter=text)

    assert pubsub.subscriber.get_subscription(subscription=warehouse).filter == text


@pytest.mark.parametrize("given", ["attributes:other", "attributes:name"])
def test_a_filter_cannot_be_changed(pubsub: PubSub, given: str) -> None:
    warehouse = pubsub.subscription(pubsub.topic(), filter="attributes:name")

    with pytest.raises(exceptions.InvalidArgument):
        pubsub.subscriber.update_subscription(
            request={
                "subscription": {"name": warehouse, "filter": given},
                "update_mask": FieldMask(paths=["filter"]),
            }
        )

    shown = pubsub.subscriber.get_subscription(subscription=warehouse)
    assert shown.filter == "attributes:name"


def test_a_filter_that_does_not_parse_is_refused_and_says_where(pubsub: PubSub) -> None:
    orders = pubsub.topic()

    with pytest.raises(
        exceptions.InvalidArgument,
        match=r"invalid argument to the service \(argument=filter: expected a text in double "
        r"quotes at character 19\)\.",
    ):
        pubsub.subscription(orders, filter="attributes.name = com")

    assert list(pubsub.subscriber.list_subscriptions(project=pubsub.path)) == []
