"""Exports to an object store that speaks like S3."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.clients.pubsub import PubSub, project_on
from tests.s3 import FakeS3
from tests.server import Server, eventually

SECRET = f"secret-{secrets.token_hex(8)}"

# What is exported has little to do with where it was stored.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def s3() -> Iterator[FakeS3]:
    with FakeS3() as s3:
        s3.buckets["archive"] = {}
        yield s3


@pytest.fixture
def server(tmp_path: Path, database_url: str, s3: FakeS3) -> Iterator[Server]:
    options = {
        "endpoint": s3.endpoint,
        "region": "eu-west-1",
        "access_key_id": "somebody",
        "secret_access_key": SECRET,
    }
    settings = {
        "EXPORT_URL": "s3://{bucket}",
        "EXPORT_OPTIONS": json.dumps(options),
    }
    with Server(tmp_path, database_url, profile="emulator", settings=settings) as server:
        yield server


@pytest.fixture
def own(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[PubSub]:
    with project_on(server, monkeypatch) as project:
        yield project


def export(own: PubSub, topic: str, **config: Any) -> str:
    """A new subscription that exports a second later."""
    config = {"bucket": "archive", "max_duration": timedelta(seconds=1)} | config
    return own.subscription(topic, "archive", cloud_storage_config=config, ack_deadline_seconds=600)


def lines(s3: FakeS3) -> list[bytes]:
    contents = list(s3.buckets.get("archive", {}).values())
    return [line for content in contents for line in content.split(b"\n")]


def test_messages_become_lines_of_an_object(own: PubSub, s3: FakeS3) -> None:
    orders = own.topic()
    export(own, orders)

    own.publish(orders, b"1", b"2")

    eventually(lambda: lines(s3) == [b"1", b"2"])
    assert all("Credential=somebody/" in sent for sent in s3.authorizations)


def test_a_long_object_is_sent_in_parts_and_seen_as_a_whole(own: PubSub, s3: FakeS3) -> None:
    orders = own.topic()
    archive = export(own, orders, max_duration=timedelta(minutes=10), max_messages=12)
    *published, last = [bytes([65 + number]) * 1_000_000 for number in range(12)]
    for data in published:
        own.publish(orders, data)
    eventually(lambda: any(s3.uploads.values()))
    assert lines(s3) == []

    own.publish(orders, last)

    eventually(lambda: lines(s3) == [*published, last])
    assert s3.uploads == {}
    shown = own.subscriber.get_subscription(subscription=archive)
    assert shown.state.name == "ACTIVE"


@pytest.mark.parametrize("problem", ["NOT_FOUND", "PERMISSION_DENIED"])
def test_a_problem_is_shown_and_survived(
    own: PubSub, server: Server, s3: FakeS3, problem: str
) -> None:
    orders = own.topic()
    if problem == "NOT_FOUND":
        del s3.buckets["archive"]
    else:
        s3.denied = True
    archive = export(own, orders)
    own.publish(orders, b"1")

    def state() -> str:
        shown = own.subscriber.get_subscription(subscription=archive)
        assert (shown.state.name == "ACTIVE") == (shown.cloud_storage_config.state.name == "ACTIVE")
        return str(shown.cloud_storage_config.state.name)

    eventually(lambda: state() == problem)
    s3.buckets["archive"] = {}
    s3.denied = False

    eventually(lambda: lines(s3) == [b"1"], timeout_s=90)
    eventually(lambda: state() == "ACTIVE")
    assert "archive" in server.log()
    assert SECRET not in server.log()
