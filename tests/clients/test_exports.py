"""Subscriptions whose messages are written to objects of a bucket, as users set them up."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import fastavro
import grpc
import pytest
from google.api_core.exceptions import FailedPrecondition, InvalidArgument
from google.pubsub_v1 import types

from tests.clients.pubsub import PubSub, project_on
from tests.server import Server, eventually

SOON = timedelta(seconds=1)
NOT_PULLED = "This method is not supported for this subscription type."


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of all buckets."""
    root = tmp_path / "buckets"
    root.mkdir()
    return root


@pytest.fixture
def bucket(root: Path) -> Path:
    bucket = root / "archive"
    bucket.mkdir()
    return bucket


@pytest.fixture
def server(tmp_path: Path, root: Path, database_url: str) -> Iterator[Server]:
    settings = {"EXPORT_ROOT": str(root)}
    with Server(tmp_path, database_url, profile="emulator", settings=settings) as server:
        yield server


@pytest.fixture
def own(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[PubSub]:
    with project_on(server, monkeypatch) as project:
        yield project


# What is exported has little to do with where it was stored.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def export(own: PubSub, topic: str, name: str = "archive", **config: Any) -> str:
    """A new subscription that exports, at once or a second later."""
    storage = types.CloudStorageConfig({"bucket": "archive", "max_duration": SOON} | config)
    return own.subscription(topic, name, cloud_storage_config=storage)


def objects(bucket: Path) -> list[Path]:
    """What can be seen in a bucket, in the order of their writing."""
    found = [
        path
        for path in bucket.rglob("*")
        if path.is_file() and ".incomplete" not in path.relative_to(bucket).parts
    ]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns)


def lines(bucket: Path) -> list[bytes]:
    return list(itertools.chain(*(path.read_bytes().split(b"\n") for path in objects(bucket))))


def records(bucket: Path) -> list[dict[str, Any]]:
    files = (fastavro.reader(io.BytesIO(path.read_bytes())) for path in objects(bucket))
    return [record for file in files for record in file if isinstance(record, dict)]


def state(own: PubSub, subscription: str) -> tuple[str, str]:
    """The state of a subscription, and of its export."""
    shown = own.subscriber.get_subscription(subscription=subscription)
    return shown.state.name, shown.cloud_storage_config.state.name


def test_messages_become_lines_of_an_object(own: PubSub, bucket: Path) -> None:
    orders = own.topic()
    archive = export(own, orders, filename_prefix="orders/", filename_suffix=".txt")

    own.publish(orders, b"1", b"2", b"3")

    eventually(lambda: len(lines(bucket)) == 3)
    assert lines(bucket) == [b"1", b"2", b"3"]
    (path,) = objects(bucket)
    assert re.fullmatch(
        r"orders/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00_[0-9a-f]+\.txt",
        str(path.relative_to(bucket)),
    )
    assert state(own, archive) == ("ACTIVE", "ACTIVE")


def test_the_default_configuration_is_accepted_and_shown(pubsub: PubSub) -> None:
    archive = pubsub.subscription(pubsub.topic(), cloud_storage_config={"bucket": "archive"})

    config = pubsub.subscriber.get_subscription(subscription=archive).cloud_storage_config

    assert config.max_duration == timedelta(minutes=5)
    assert "text_config" in config
    assert (config.max_bytes, config.max_messages) == (0, 0)


@on_sqlite
def test_avro_with_metadata_has_all_there_is(own: PubSub, bucket: Path) -> None:
    orders = own.topic()
    archive = export(own, orders, avro_config={"write_metadata": True})

    message = types.PubsubMessage(data=b"1", attributes={"a": "b"}, ordering_key="k")
    (message_id,) = own.publish_messages(orders, message)

    eventually(lambda: records(bucket))
    (record,) = records(bucket)
    assert record.pop("publish_time").year >= 2024
    assert record == {
        "subscription_name": archive,
        "message_id": message_id,
        "attributes": {"a": "b", "ordering_key": "k"},
        "data": b"1",
    }


@on_sqlite
def test_avro_without_metadata_has_the_data(own: PubSub, bucket: Path) -> None:
    orders = own.topic()
    export(own, orders, avro_config={})

    own.publish(orders, b"1", b"2")

    eventually(lambda: len(records(bucket)) == 2)
    assert records(bucket) == [{"data": b"1"}, {"data": b"2"}]


@on_sqlite
def test_an_object_has_no_more_than_max_messages(own: PubSub, bucket: Path) -> None:
    orders = own.topic()
    export(own, orders, max_messages=3)

    own.publish(orders, *(b"%d" % number for number in range(7)))

    eventually(lambda: len(lines(bucket)) == 7)
    assert [len(path.read_bytes().split(b"\n")) for path in objects(bucket)] == [3, 3, 1]


def test_without_its_bucket_it_waits_and_says_so_and_goes_on_by_itself(
    own: PubSub, root: Path
) -> None:
    orders = own.topic()
    dead = own.topic("dead")
    archive = own.subscription(
        orders,
        "archive",
        cloud_storage_config={"bucket": "later", "max_duration": SOON},
        dead_letter_policy={"dead_letter_topic": dead, "max_delivery_attempts": 5},
    )
    eventually(lambda: state(own, archive) == ("RESOURCE_ERROR", "NOT_FOUND"))

    own.publish(orders, b"1")
    (root / "later").mkdir()

    eventually(lambda: lines(root / "later") == [b"1"], timeout_s=90)
    eventually(lambda: state(own, archive) == ("ACTIVE", "ACTIVE"))


@on_sqlite
def test_a_change_of_the_bucket_is_followed_at_once(own: PubSub, bucket: Path) -> None:
    orders = own.topic()
    archive = own.subscription(orders, "archive", cloud_storage_config={"bucket": "nowhere"})
    eventually(lambda: state(own, archive) == ("RESOURCE_ERROR", "NOT_FOUND"))
    own.publish(orders, b"1")

    own.subscriber.update_subscription(
        request={
            "subscription": {
                "name": archive,
                "cloud_storage_config": {"bucket": "archive", "max_duration": SOON},
            },
            "update_mask": {"paths": ["cloud_storage_config"]},
        }
    )

    eventually(lambda: lines(bucket) == [b"1"])
    eventually(lambda: state(own, archive) == ("ACTIVE", "ACTIVE"))


@on_sqlite
def test_when_the_export_is_taken_off_subscribers_pull_again(own: PubSub, bucket: Path) -> None:
    orders = own.topic()
    archive = export(own, orders)
    own.publish(orders, b"1")
    eventually(lambda: lines(bucket) == [b"1"])

    own.subscriber.update_subscription(
        request={
            "subscription": {"name": archive},
            "update_mask": {"paths": ["cloud_storage_config"]},
        }
    )
    own.publish(orders, b"2")

    assert [each.message.data for each in own.pull(archive)] == [b"2"]


def test_what_was_not_exported_before_a_crash_is_exported_after_it(
    server: Server, own: PubSub, bucket: Path
) -> None:
    orders = own.topic()
    export(own, orders, name="exported", max_messages=7, filename_prefix="exported-")
    published = [b"%d" % number for number in range(400)]
    for start in range(0, 400, 20):
        own.publish(orders, *published[start : start + 20])
        if start % 100 == 0:
            eventually(lambda: objects(bucket))
            server.kill()
            server.start()

    eventually(lambda: set(lines(bucket)) >= set(published))
    assert set(lines(bucket)) == set(published)


def test_a_restart_closes_the_open_object_and_exports_nothing_twice(
    server: Server, own: PubSub, bucket: Path
) -> None:
    orders = own.topic()
    export(own, orders, max_duration=timedelta(minutes=5))
    own.publish(orders, b"1", b"2")
    eventually(lambda: list((bucket / ".incomplete").glob("*")))

    assert server.stop() == 0

    assert lines(bucket) == [b"1", b"2"]
    server.start()
    own.publish(orders, b"3")
    eventually(lambda: list((bucket / ".incomplete").glob("*")))
    assert server.stop() == 0
    assert lines(bucket) == [b"1", b"2", b"3"]


def test_nobody_can_pull_what_is_exported(lenient_pubsub: PubSub) -> None:
    orders = lenient_pubsub.topic()
    archive = export(lenient_pubsub, orders)
    lenient_pubsub.publish(orders, b"1")

    with pytest.raises(FailedPrecondition, match=NOT_PULLED):
        lenient_pubsub.subscriber.pull(subscription=archive, max_messages=1)
    with pytest.raises(FailedPrecondition, match=NOT_PULLED):
        lenient_pubsub.subscriber.acknowledge(subscription=archive, ack_ids=["an id"])
    with pytest.raises(FailedPrecondition, match=NOT_PULLED):
        lenient_pubsub.subscriber.modify_ack_deadline(
            subscription=archive, ack_ids=["an id"], ack_deadline_seconds=10
        )
    assert lenient_pubsub.stream(archive).error() == (
        grpc.StatusCode.FAILED_PRECONDITION,
        NOT_PULLED,
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"cloud_storage_config": {"bucket": "gs://archive"}},
        {"cloud_storage_config": {"bucket": ".."}},
        {"cloud_storage_config": {"bucket": "archive", "filename_prefix": "../"}},
        {"cloud_storage_config": {"bucket": "archive", "filename_suffix": "/"}},
        {"cloud_storage_config": {"bucket": "archive", "filename_datetime_format": "YYYY"}},
        {"cloud_storage_config": {"bucket": "archive", "max_duration": timedelta(seconds=61)}},
        {"cloud_storage_config": {"bucket": "archive", "max_bytes": 1}},
        {"cloud_storage_config": {"bucket": "archive"}, "enable_exactly_once_delivery": True},
        {
            "cloud_storage_config": {"bucket": "archive"},
            "push_config": {"push_endpoint": "https://example.com/"},
        },
        {
            "cloud_storage_config": {
                "bucket": "archive",
                "avro_config": {"use_topic_schema": True},
            }
        },
    ],
)
def test_what_cannot_be_exported_is_refused(lenient_pubsub: PubSub, fields: dict[str, Any]) -> None:
    orders = lenient_pubsub.topic()

    with pytest.raises(InvalidArgument):
        lenient_pubsub.subscription(orders, **fields)
