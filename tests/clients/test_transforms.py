"""Transforms: functions and compression that change messages before storage or before delivery."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.protobuf.field_mask_pb2 import FieldMask
from google.pubsub_v1 import types

from tests.clients.pubsub import Inbox, PubSub, data_of, project_on
from tests.server import Server, eventually

COMPRESS = {"compression": {"compression_algorithm": "ZLIB", "compression_mode": "COMPRESS"}}
DECOMPRESS = {"compression": {"compression_algorithm": "ZLIB", "compression_mode": "DECOMPRESS"}}


def javascript(body: str, name: str = "transform", **fields: Any) -> dict[str, Any]:
    code = f"function {name}(message, metadata) {{ {body} }}"
    return {"javascript_udf": {"function_name": name, "code": code}, **fields}


UPPER = javascript("return {data: message.data.toUpperCase(), attributes: message.attributes}")
DROP_B = javascript("return message.data === 'b' ? null : message", "dropB")
FAIL = javascript("throw new Error('no use')", "fail")


# --- of topics --------------------------------------------------------------------------------------


def test_a_topics_function_changes_messages_before_they_are_stored(pubsub: PubSub) -> None:
    orders = pubsub.topic(message_transforms=[UPPER])
    warehouse = pubsub.subscription(orders)

    [message_id] = pubsub.publish_messages(
        orders, types.PubsubMessage(data=b"caf\xc3\xa9", attributes={"a": "1"}, ordering_key="k")
    )

    [received] = pubsub.pull(warehouse)
    assert received.message.data.decode() == "CAFÉ"
    assert dict(received.message.attributes) == {"a": "1"}
    assert received.message.ordering_key == "k"
    assert received.message.message_id == message_id


def test_a_dropped_message_gets_an_id_and_is_never_seen(pubsub: PubSub) -> None:
    orders = pubsub.topic(message_transforms=[DROP_B])
    warehouse = pubsub.subscription(orders)

    ids = pubsub.publish(orders, b"a", b"b", b"c", b"b") + pubsub.publish(orders, b"b")

    assert len(set(ids)) == 5
    received = pubsub.pull_all(warehouse, 2)
    assert [(each.message.data, each.message.message_id) for each in received] == [
        (b"a", ids[0]),
        (b"c", ids[2]),
    ]
    pubsub.acknowledge(warehouse, *received)
    assert pubsub.pull_now(warehouse) == []


def test_transforms_follow_each_other_in_their_order(pubsub: PubSub) -> None:
    first = javascript("return {data: message.data + '1'}", "first")
    second = javascript("return {data: message.data + '2'}", "second")
    orders = pubsub.topic(message_transforms=[first, {**FAIL, "disabled": True}, second])
    warehouse = pubsub.subscription(orders)

    pubsub.publish(orders, b"x")

    assert data_of(pubsub.pull(warehouse)) == [b"x12"]


def test_a_filter_sees_what_the_topics_transforms_made(pubsub: PubSub) -> None:
    label = javascript("return {data: message.data, attributes: {kind: message.data}}")
    orders = pubsub.topic(message_transforms=[label])
    warehouse = pubsub.subscription(orders, filter='attributes.kind = "b"')

    pubsub.publish(orders, b"a", b"b")

    assert data_of(pubsub.pull(warehouse)) == [b"b"]


@pytest.mark.parametrize(
    "transform, reason",
    [
        (FAIL, "function fail: Error: no use"),
        (javascript("return 5"), "it returned neither null nor an object"),
        (javascript("while (true) {}"), "it runs for more than 500 ms"),
        (DECOMPRESS, "cannot decompress the data"),
    ],
)
def test_a_transform_that_fails_fails_the_whole_publish(
    pubsub: PubSub, transform: dict[str, Any], reason: str
) -> None:
    orders = pubsub.topic(message_transforms=[transform])
    warehouse = pubsub.subscription(orders)

    with pytest.raises(exceptions.InvalidArgument, match=f"Message 1 of the request.*{reason}"):
        pubsub.publish(orders, b"a", b"b")

    assert pubsub.pull_now(warehouse) == []


def test_data_that_is_no_text_cannot_go_through_a_function(pubsub: PubSub) -> None:
    orders = pubsub.topic(message_transforms=[UPPER])

    with pytest.raises(exceptions.InvalidArgument, match=r"Message 2 .* no valid UTF-8"):
        pubsub.publish(orders, b"text", b"\xff\xfe")


def test_a_topics_new_transforms_apply_to_the_next_publish(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders)
    pubsub.publish(orders, b"a")

    for transforms in ([UPPER], []):
        pubsub.publisher.update_topic(
            request={
                "topic": {"name": orders, "message_transforms": transforms},
                "update_mask": FieldMask(paths=["message_transforms"]),
            }
        )
        pubsub.publish(orders, b"a")

    assert data_of(pubsub.pull_all(warehouse, 3)) == [b"a", b"A", b"a"]


# --- of subscriptions -------------------------------------------------------------------------------


def test_a_subscriptions_function_changes_what_it_delivers_and_nothing_else(
    pubsub: PubSub,
) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, message_transforms=[UPPER])
    plain = pubsub.subscription(orders, "plain")

    pubsub.publish(orders, b"a", b"b")

    assert data_of(pubsub.pull_all(warehouse, 2)) == [b"A", b"B"]
    assert data_of(pubsub.pull_all(plain, 2)) == [b"a", b"b"]


def test_a_function_knows_the_id_and_the_time_of_a_message(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    tell = javascript("return {data: JSON.stringify(metadata)}")
    warehouse = pubsub.subscription(orders, message_transforms=[tell])

    [message_id] = pubsub.publish_messages(
        orders, types.PubsubMessage(data=b"a", ordering_key="key")
    )

    [received] = pubsub.pull(warehouse)
    assert json.loads(received.message.data) == {
        "message_id": message_id,
        "publish_time": f"{received.message.publish_time:%Y-%m-%dT%H:%M:%SZ}",
        "ordering_key": "key",
    }
    assert received.message.message_id == message_id


def test_what_a_subscriptions_transforms_drop_is_acknowledged(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, filter="attributes:keep", message_transforms=[DROP_B])
    inbox = Inbox()
    messages = [
        types.PubsubMessage(data=data, attributes=attributes)
        for data, attributes in (
            (b"a", {"keep": ""}),
            (b"b", {"keep": ""}),
            (b"c", {}),
            (b"d", {"keep": ""}),
        )
    ]

    with pubsub.subscribe(warehouse, inbox):
        for _ in range(100):
            pubsub.publish_messages(orders, *messages)
        inbox.wait_for_count(200)

    assert inbox.times == {b"a": 100, b"d": 100}
    assert pubsub.pull_now(warehouse) == []


def test_a_message_that_comes_again_is_transformed_again(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, message_transforms=[UPPER])
    pubsub.publish(orders, b"a")
    pubsub.modify_ack_deadline(warehouse, 0, *pubsub.pull(warehouse))

    assert data_of(pubsub.pull(warehouse)) == [b"A"]


def test_new_transforms_apply_to_what_is_delivered_next(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, message_transforms=[UPPER])
    pubsub.publish(orders, b"a", b"b", b"c")
    assert data_of(pubsub.pull(warehouse, 1)) == [b"A"]

    pubsub.subscriber.update_subscription(
        request={
            "subscription": {"name": warehouse, "message_transforms": [DROP_B]},
            "update_mask": FieldMask(paths=["message_transforms"]),
        }
    )

    assert data_of(pubsub.pull(warehouse)) == [b"c"]


def test_compression_goes_both_ways(pubsub: PubSub) -> None:
    orders = pubsub.topic(message_transforms=[COMPRESS])
    as_stored = pubsub.subscription(orders, "as-stored")
    unpacked = pubsub.subscription(orders, "unpacked", message_transforms=[DECOMPRESS])
    data = b"abc" * 1000

    pubsub.publish_messages(
        orders,
        types.PubsubMessage(data=data, attributes={"a": "1"}),
        types.PubsubMessage(attributes={"only": "attributes"}),
    )

    stored = pubsub.pull_all(as_stored, 2)
    assert zlib.decompress(stored[0].message.data) == data
    received = pubsub.pull_all(unpacked, 2)
    assert data_of(received) == [data, b""]
    assert [dict(each.message.attributes) for each in received] == [
        {"a": "1"},
        {"only": "attributes"},
    ]


# --- what is refused --------------------------------------------------------------------------------


TOO_MANY = (
    "The request exceeds the maximum number of enabled message transforms. Maximum enabled "
    "transforms: 5. Enabled transforms: 6"
)


def named(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [javascript("return message", f"f{i}", **fields) for i in range(count)]


@pytest.mark.parametrize(
    "transforms, text",
    [
        (
            named(6),
            TOO_MANY,
        ),
        ([UPPER, UPPER], "two functions have the name transform"),
        ([javascript("return (", "f")], "function f: SyntaxError"),
        (
            [javascript("", "f") | {"javascript_udf": {"function_name": "g", "code": "1"}}],
            "no function g",
        ),
        ([{"javascript_udf": {"function_name": "", "code": "1"}}], "function_name"),
        ([{"javascript_udf": {"function_name": "f", "code": ""}}], "code is empty"),
        ([javascript("//" + "x" * 20_480, "f")], "the maximum is 20480"),
        ([{}], "a transform is empty"),
        ([{"compression": {"compression_algorithm": "ZLIB"}}], "compression_mode"),
    ],
)
def test_transforms_that_cannot_work_are_refused(
    pubsub: PubSub, transforms: list[dict[str, Any]], text: str
) -> None:
    with pytest.raises(exceptions.InvalidArgument, match=re.escape(text)):
        pubsub.topic("refused", message_transforms=transforms)
    orders = pubsub.topic()
    with pytest.raises(exceptions.InvalidArgument, match=re.escape(text)):
        pubsub.subscription(orders, message_transforms=transforms)
    with pytest.raises(exceptions.InvalidArgument, match=re.escape(text)):
        pubsub.publisher.update_topic(
            request={
                "topic": {"name": orders, "message_transforms": transforms},
                "update_mask": FieldMask(paths=["message_transforms"]),
            }
        )

    assert pubsub.publisher.get_topic(topic=orders) == types.Topic(name=orders)


def test_five_enabled_transforms_and_some_that_are_not_are_allowed(pubsub: PubSub) -> None:
    disabled = [javascript("return message", f"off{i}", disabled=True) for i in range(3)]
    orders = pubsub.topic(message_transforms=[*named(5), *disabled])

    shown = pubsub.publisher.get_topic(topic=orders).message_transforms
    assert [each.javascript_udf.function_name for each in shown] == [
        *(f"f{i}" for i in range(5)),
        *(f"off{i}" for i in range(3)),
    ]
    assert [each.disabled for each in shown] == [False] * 5 + [True] * 3


def test_an_ai_inference_is_refused(pubsub: PubSub) -> None:
    transform = types.MessageTransform(ai_inference={"endpoint": "projects/p/endpoints/e"})

    with pytest.raises(exceptions.MethodNotImplemented, match="ai_inference"):
        pubsub.topic(message_transforms=[transform])


def test_what_a_caller_says_of_enabled_is_shown_and_means_nothing(pubsub: PubSub) -> None:
    transforms = [{**UPPER, "enabled": True}, {**COMPRESS, "disabled": True, "enabled": True}]
    orders = pubsub.topic(message_transforms=transforms)
    warehouse = pubsub.subscription(orders, message_transforms=transforms)
    asked = types.Topic(name=orders, message_transforms=transforms)

    assert pubsub.publisher.get_topic(topic=orders) == asked
    shown = pubsub.subscriber.get_subscription(subscription=warehouse)
    assert shown.message_transforms == asked.message_transforms
    pubsub.publish(orders, b"a")
    assert data_of(pubsub.pull(warehouse)) == [b"A"]


# --- functions that fail on the way out -------------------------------------------------------------

FAIL_B = javascript("if (message.data === 'b') throw new Error('no b'); return message", "failB")


def test_a_message_that_cannot_be_transformed_does_not_hold_up_the_others(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, message_transforms=[FAIL_B])
    inbox = Inbox()

    with pubsub.subscribe(warehouse, inbox):
        pubsub.publish(orders, b"a", b"b", b"c")
        inbox.wait_for_data([b"a", b"c"])

    assert inbox.times == {b"a": 1, b"c": 1}


def test_it_comes_when_the_function_is_mended(pubsub: PubSub) -> None:
    orders = pubsub.topic()
    warehouse = pubsub.subscription(orders, message_transforms=[FAIL_B])
    pubsub.publish(orders, b"a", b"b")
    pubsub.acknowledge(warehouse, *pubsub.pull_all(warehouse, 1))

    pubsub.subscriber.update_subscription(
        request={
            "subscription": {"name": warehouse, "message_transforms": [UPPER]},
            "update_mask": FieldMask(paths=["message_transforms"]),
        }
    )

    assert data_of(pubsub.pull_all(warehouse, 1)) == [b"B"]


def test_a_dead_letter_is_as_it_was_published_and_says_why(pubsub: PubSub) -> None:
    dead = pubsub.topic("dead")
    orders = pubsub.topic()
    letters = pubsub.subscription(dead, "letters")
    warehouse = pubsub.subscription(
        orders,
        message_transforms=[FAIL_B],
        dead_letter_policy={"dead_letter_topic": dead, "max_delivery_attempts": 5},
        retry_policy={"minimum_backoff": {"seconds": 0}, "maximum_backoff": {"seconds": 0}},
    )
    inbox = Inbox()

    with pubsub.subscribe(warehouse, inbox):
        pubsub.publish_messages(orders, types.PubsubMessage(data=b"b", attributes={"mine": "1"}))
        [letter] = pubsub.pull_all(letters, 1)

    assert letter.message.data == b"b"
    attributes = dict(letter.message.attributes)
    assert attributes["mine"] == "1"
    assert attributes["CloudPubSubDeadLetterSourceDeliveryErrorMessage"] == (
        "function failB: Error: no b"
    )
    assert inbox.messages == []


# --- the processes of functions ----------------------------------------------------------------------


def javascript_processes(server: Server) -> list[Path]:
    """The entries in /proc of the server's JavaScript processes."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue  # it has just ended
            if parent == server.pid and b"sandbox.py" in command:
                found.append(entry)
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")
@pytest.mark.parametrize("end", [Server.kill, Server.stop])
def test_javascript_processes_end_with_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: Callable[[Server], object]
) -> None:
    """Whatever storage it has."""
    with Server(tmp_path) as server, project_on(server, monkeypatch) as pubsub:
        orders = pubsub.topic(message_transforms=[UPPER])
        pubsub.publish(orders, b"a")
        processes = javascript_processes(server)
        assert processes

        end(server)

        eventually(lambda: not any(process.exists() for process in processes))
