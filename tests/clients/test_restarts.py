"""What survives the end of the process, in whatever way it ends; clients that go on by themselves."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from google.api_core import exceptions
from google.pubsub_v1 import types

from tests.clients.pubsub import PATIENCE_S, Inbox, PubSub, data_of, project_on
from tests.server import Server, eventually


@pytest.fixture
def server(tmp_path: Path, database_url: str) -> Iterator[Server]:
    with Server(tmp_path, database_url) as server:
        yield server


@pytest.fixture
def own(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[PubSub]:
    with project_on(server, monkeypatch) as project:
        yield project


def crash(server: Server) -> None:
    server.kill()
    server.start()


def restart(server: Server) -> None:
    assert server.stop() == 0
    server.start()


End = Callable[[Server], None]
both_ways = pytest.mark.parametrize("end", [crash, restart])
# How clients come back has nothing to do with storage, and takes Google's ten seconds or more.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def test_after_a_crash_published_messages_are_delivered_and_acknowledged_ones_are_not(
    server: Server, own: PubSub
) -> None:
    orders = own.topic()
    warehouse = own.subscription(orders, retain_acked_messages=True)
    ids = own.publish(orders, *(b"%d" % number for number in range(100)))
    received = own.pull_all(warehouse, 50)
    before = own.snapshot(warehouse)
    own.acknowledge(warehouse, *received[::2])

    crash(server)

    again = own.pull_all(warehouse, 75)
    assert own.pull_now(warehouse) == []
    acknowledged = {each.message.message_id for each in received[::2]}
    assert {each.message.message_id for each in again} == set(ids) - acknowledged
    own.subscriber.seek(request={"subscription": warehouse, "snapshot": before})
    assert {each.message.message_id for each in own.pull_all(warehouse, 100)} == set(ids)


def test_after_a_crash_the_ids_of_new_messages_are_new(server: Server, own: PubSub) -> None:
    orders = own.topic()
    before = own.publish(orders, b"1", b"2", b"3")

    crash(server)

    assert not {*before} & {*own.publish(orders, b"4", b"5")}


def test_what_was_delivered_before_a_crash_can_be_acknowledged_after_it(
    server: Server, own: PubSub
) -> None:
    orders = own.topic()
    warehouse = own.subscription(orders)
    own.publish(orders, b"1", b"2")
    first, _ = own.pull_all(warehouse, 2)

    crash(server)
    own.acknowledge(warehouse, first)

    assert data_of(own.pull(warehouse)) == [b"2"]
    assert own.pull_now(warehouse) == []


def test_a_crash_leaves_resources_as_they_were(server: Server, own: PubSub) -> None:
    orders = own.topic(labels={"a": "1"})
    own.subscription(orders, "warehouse", labels={"b": "2"}, expiration_policy={})
    own.publisher.detach_subscription(
        request={"subscription": own.subscription(orders, "detached")}
    )
    own.snapshot(own.subscription(orders, "third"), labels={"c": "3"})
    own.publisher.delete_topic(topic=own.topic("deleted"))

    def everything() -> list[object]:
        lists = (
            own.publisher.list_topics(project=own.path),
            own.subscriber.list_subscriptions(project=own.path),
            own.subscriber.list_snapshots(project=own.path),
        )
        return [*itertools.chain(*lists)]

    before = everything()
    assert len(before) == 5

    crash(server)

    assert everything() == before


# --- leases, attempts and keys ------------------------------------------------------------------------


@both_ways
def test_with_exactly_once_delivery_leases_and_their_ack_ids_outlast_the_process(
    server: Server, own: PubSub, end: End
) -> None:
    orders = own.topic()
    warehouse = own.subscription(
        orders, enable_exactly_once_delivery=True, ack_deadline_seconds=600
    )
    own.publish(orders, *(b"%d" % number for number in range(6)))
    [done] = own.pull(warehouse, 1)
    own.acknowledge(warehouse, done)
    [stale] = own.pull(warehouse, 1)
    own.modify_ack_deadline(warehouse, 0, stale)
    held = own.pull_all(warehouse, 5)

    end(server)

    assert own.pull_now(warehouse) == []
    with pytest.raises(exceptions.InvalidArgument, match="ids in the request were invalid"):
        own.acknowledge(warehouse, stale)
    own.acknowledge(warehouse, *held[:2])
    own.modify_ack_deadline(warehouse, 0, held[2])
    own.modify_ack_deadline(warehouse, 1, held[3])
    again = own.pull_all(warehouse, 2)  # what was refused, and a second later what expired
    assert data_of(again) == data_of(held[2:4])
    with pytest.raises(exceptions.InvalidArgument, match="ids in the request were invalid"):
        own.acknowledge(warehouse, held[2])

    end(server)

    own.acknowledge(warehouse, *again, held[4])
    assert own.pull_now(warehouse) == []


@both_ways
def test_with_exactly_once_delivery_nothing_comes_again_before_its_lease_ends(
    server: Server, own: PubSub, end: End
) -> None:
    orders = own.topic()
    warehouse = own.subscription(orders, enable_exactly_once_delivery=True, ack_deadline_seconds=10)
    own.publish(orders, b"short", b"long")
    leased_at = time.monotonic()
    [short] = own.pull(warehouse, 1)
    [long] = own.pull(warehouse, 1)
    own.modify_ack_deadline(warehouse, 600, long)

    end(server)
    stream = own.stream(warehouse)
    [again] = stream.receive(1)

    assert again.message == short.message
    assert again.ack_id != short.ack_id
    assert time.monotonic() >= leased_at + 10
    with pytest.raises(exceptions.InvalidArgument, match="ids in the request were invalid"):
        own.acknowledge(warehouse, short)
    own.acknowledge(warehouse, again, long)


@both_ways
def test_delivery_attempts_outlast_the_process_and_its_end_is_none(
    server: Server, own: PubSub, end: End
) -> None:
    orders, dead = own.topic(), own.topic("dead")
    warehouse = own.subscription(
        orders, dead_letter_policy={"dead_letter_topic": dead, "max_delivery_attempts": 5}
    )
    morgue = own.subscription(dead, "morgue")
    own.publish(orders, b"0")
    for attempt in (1, 2, 3):
        [received] = own.pull(warehouse)
        assert received.delivery_attempt == attempt
        own.modify_ack_deadline(warehouse, 0, received)
    [held] = own.pull(warehouse)  # it is at a subscriber when the process ends: no failure of it
    own.publish(orders, b"1")
    own.acknowledge(warehouse, *own.pull(warehouse))  # with this on disk the failures are, too

    end(server)

    for attempt in (held.delivery_attempt, 5):
        [received] = own.pull(warehouse)
        assert received.delivery_attempt == attempt
        own.modify_ack_deadline(warehouse, 0, received)
    [forwarded] = own.pull(morgue)
    assert forwarded.message.attributes["CloudPubSubDeadLetterSourceDeliveryCount"] == "5"

    end(server)

    assert own.pull_now(warehouse) == []
    assert data_of(own.pull(morgue, 10)) == [b"0"]
    assert own.pull_now(morgue) == []


@both_ways
def test_what_could_not_be_forwarded_before_the_end_is_forwarded_after_it(
    server: Server, own: PubSub, end: End
) -> None:
    orders, dead = own.topic(), own.topic("dead")
    warehouse = own.subscription(
        orders,
        enable_message_ordering=True,
        dead_letter_policy={"dead_letter_topic": dead, "max_delivery_attempts": 5},
    )
    own.publisher.delete_topic(topic=dead)
    messages = [types.PubsubMessage(data=b"%d" % n, ordering_key="k") for n in range(3)]
    own.publish_messages(orders, *messages)
    for _ in range(6):
        [received] = own.pull(warehouse, 1)
        own.modify_ack_deadline(warehouse, 0, received)
    own.publish(orders, b"x")  # when this is on disk, so are the failures before it
    own.topic("dead")
    morgue = own.subscription(dead, "morgue")

    end(server)

    stream = own.stream(warehouse)  # the key waits for its first, and others do not
    assert sorted(data_of(stream.receive(3))) == [b"1", b"2", b"x"]
    assert data_of(own.pull(morgue)) == [b"0"]


@both_ways
@pytest.mark.parametrize("exactly_once", [False, True], ids=["", "exactly once"])
def test_keys_go_on_in_order_after_the_end(
    server: Server, own: PubSub, end: End, exactly_once: bool
) -> None:
    orders = own.topic()
    warehouse = own.subscription(
        orders,
        enable_message_ordering=True,
        enable_exactly_once_delivery=exactly_once,
        ack_deadline_seconds=600,
    )
    for key in ("a", "b"):
        own.publish_messages(
            orders, *(types.PubsubMessage(data=b"%d" % n, ordering_key=key) for n in range(5))
        )
    held = own.pull_all(warehouse, 10)
    of = {key: [each for each in held if each.message.ordering_key == key] for key in ("a", "b")}
    own.acknowledge(warehouse, *of["a"][:2])

    end(server)
    if exactly_once:  # the leases have outlasted it; so the first of b has to fail by itself
        assert own.pull_now(warehouse) == []
        own.modify_ack_deadline(warehouse, 0, of["a"][2], of["b"][0])
    again = own.pull_all(warehouse, 8)

    came = {
        key: [each.message.data for each in again if each.message.ordering_key == key]
        for key in ("a", "b")
    }
    assert came == {"a": [b"2", b"3", b"4"], "b": [b"0", b"1", b"2", b"3", b"4"]}
    own.acknowledge(warehouse, *again)
    assert own.pull_now(warehouse) == []


# --- clients that go on by themselves -----------------------------------------------------------------


@on_sqlite
@both_ways
def test_publisher_and_subscriber_go_on_by_themselves(
    server: Server, own: PubSub, end: End
) -> None:
    orders = own.topic()
    warehouse = own.subscription(orders)
    inbox = Inbox()
    enough = threading.Event()
    published: list[bytes] = []

    def publish_one_after_the_other() -> None:
        for number in itertools.count():
            if enough.is_set():
                return
            data = b"%d" % number
            own.publisher.publish(orders, data).result(2 * PATIENCE_S)
            published.append(data)

    with own.subscribe(warehouse, inbox) as subscriber:
        publisher = threading.Thread(target=publish_one_after_the_other)
        publisher.start()
        try:
            inbox.wait_for_count(20)
            end(server)
            reached = len(published)
            # The client tries five times at once and then once in ten seconds, perhaps twice.
            eventually(
                lambda: subscriber.done() or len(set(inbox.data)) > reached + 20, timeout_s=60
            )
            assert not subscriber.done(), subscriber.exception()
        finally:
            enough.set()
            publisher.join()
        inbox.wait_for_data(published)


@on_sqlite
@both_ways
def test_a_pull_that_the_end_interrupts_is_tried_again_by_the_client(
    server: Server, own: PubSub, end: End
) -> None:
    orders = own.topic()
    warehouse = own.subscription(orders)
    answers: list[list[types.ReceivedMessage]] = []
    waiting = threading.Thread(target=lambda: answers.append(own.pull(warehouse)))
    waiting.start()
    own.stream(warehouse, max_outstanding_messages=1).response()  # the pull came before

    end(server)
    own.publish(orders, b"hello")

    waiting.join(PATIENCE_S)
    assert data_of(answers[0]) == [b"hello"]
