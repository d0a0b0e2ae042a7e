"""What survives the end of the process, in whatever way it ends; clients that go on by themselves."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
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
