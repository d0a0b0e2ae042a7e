"""The export of one subscription, on a broker in memory and a clock that stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import NoReturn

import pytest

from ams_grpc.broker.catalog import SubscriptionConfig, TopicConfig
from ams_grpc.broker.errors import NotFound
from ams_grpc.broker.names import SchemaName, SubscriptionName, TopicName
from ams_grpc.broker.policies import (
    AvroFormat,
    DeadLetterPolicy,
    Encoding,
    SchemaSettings,
    StorageExport,
)
from ams_grpc.broker.runtime import SubscriptionRuntime
from ams_grpc.exports.buckets import NOT_FOUND, PERMISSION_DENIED, DestinationError
from ams_grpc.exports.inbox import REFUSED_S
from ams_grpc.exports.records import AvroSchema
from ams_grpc.exports.worker import LONGEST_REST_S
from tests.unit.broker.world import ORDERS, TOPIC
from tests.unit.exports.buckets import MemoryBucket
from tests.unit.exports.world import MINUTE_US, Exporting, settled

GONE = DestinationError("there is no such bucket", NOT_FOUND)


@pytest.fixture
async def exporting(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Exporting]:
    async def at_once(work: Callable[[], bytes]) -> bytes:
        return work()

    # Time stands still here, but threads take some.
    monkeypatch.setattr("ams_grpc.exports.conversion._on_thread", at_once)
    exporting = Exporting()
    yield exporting
    await exporting.kill()


# --- when an object is closed -------------------------------------------------------------------


async def test_an_object_is_complete_after_max_duration_and_not_before(
    exporting: Exporting,
) -> None:
    await exporting.begin()
    await exporting.publish(b"1")
    await exporting.advance(40)
    await exporting.publish(b"2")
    await exporting.advance(19)
    assert exporting.bucket.objects == {}
    assert await exporting.acknowledged() == set()

    await exporting.advance(1)

    assert list(exporting.bucket.objects.values()) == [b"1\n2"]
    assert await exporting.acknowledged() == {b"1", b"2"}


async def test_an_object_is_complete_with_max_messages(exporting: Exporting) -> None:
    await exporting.begin(StorageExport("archive", max_duration_us=MINUTE_US, max_messages=1000))

    await exporting.publish(*(b"%d" % number for number in range(2500)))

    assert [content.count(b"\n") for content in exporting.bucket.objects.values()] == [999, 999]
    assert len(await exporting.acknowledged()) == 2000


async def test_an_object_is_never_longer_than_max_bytes(exporting: Exporting) -> None:
    await exporting.begin(StorageExport("archive", max_duration_us=MINUTE_US, max_bytes=1000))

    await exporting.publish(b"a" * 500, b"b" * 499, b"c" * 500, b"d" * 500, b"e")

    first, second = exporting.bucket.objects.values()
    assert first == b"a" * 500 + b"\n" + b"b" * 499
    assert second == b"c" * 500


async def test_a_message_beyond_max_bytes_has_an_object_of_its_own(exporting: Exporting) -> None:
    await exporting.begin(StorageExport("archive", max_duration_us=MINUTE_US, max_bytes=1000))

    await exporting.publish(b"1", b"2" * 2000, b"3")
    await exporting.advance(60)

    assert list(exporting.bucket.objects.values()) == [b"1", b"2" * 2000, b"3"]


async def test_an_object_has_no_more_messages_than_may_be_leased(exporting: Exporting) -> None:
    exporting.max_messages = 10
    await exporting.begin()

    await exporting.publish(*(b"%d" % number for number in range(25)))
    await exporting.advance(60)

    assert [len(content.split(b"\n")) for content in exporting.bucket.objects.values()] == [
        10,
        10,
        5,
    ]


async def test_messages_of_one_ordering_key_fill_an_object(exporting: Exporting) -> None:
    await exporting.begin(ordered=True)

    for number in range(10):
        await exporting.publish(b"%d" % number, ordering_key="k")
    await exporting.advance(60)

    assert list(exporting.bucket.objects.values()) == [b"0\n1\n2\n3\n4\n5\n6\n7\n8\n9"]


# --- leases -------------------------------------------------------------------------------------


async def test_what_is_in_an_open_object_is_not_delivered_again(exporting: Exporting) -> None:
    export = StorageExport("archive")  # five minutes, at the default ack deadline of ten seconds
    await exporting.begin(export, ack_deadline_s=10)
    await exporting.publish(b"1")

    for _ in range(30):
        await exporting.advance(10)

    assert exporting.bucket.lines == [b"1"]


async def test_an_idle_export_has_no_timer(exporting: Exporting) -> None:
    await exporting.begin()
    await exporting.publish(b"1")
    await exporting.advance(60)
    before = exporting.clock.alarms

    await exporting.advance(7200)  # the lease's own, which did not have to ring

    assert before <= 1
    assert exporting.clock.alarms == 0
    assert exporting.bucket.lines == [b"1"]


# --- a destination that fails -------------------------------------------------------------------


async def test_a_missing_bucket_is_shown_before_there_is_anything_to_write(
    exporting: Exporting,
) -> None:
    exporting.bucket.error = GONE

    await exporting.begin()

    assert (await exporting.subscription()).resource_error == "NOT_FOUND"


async def test_nothing_is_tried_again_while_there_is_nothing_to_write(
    exporting: Exporting,
) -> None:
    exporting.bucket.error = GONE
    await exporting.begin()
    before = exporting.bucket.visits

    await exporting.advance(24 * 3600)

    assert exporting.bucket.visits == before
    assert exporting.clock.alarms == 0


async def test_when_the_bucket_is_there_the_export_goes_on_at_once_and_says_so(
    exporting: Exporting,
) -> None:
    exporting.bucket.error = GONE
    await exporting.begin()
    await exporting.publish(b"1", b"2")
    await exporting.advance(3600)
    assert await exporting.acknowledged() == set()

    exporting.bucket.error = None
    await exporting.advance(LONGEST_REST_S)

    assert exporting.bucket.lines == [b"1", b"2"]  # long before max_duration
    assert (await exporting.subscription()).resource_error == ""


async def test_the_tries_become_rarer(exporting: Exporting) -> None:
    await exporting.begin()
    exporting.bucket.error = GONE
    await exporting.publish(b"1")
    before = exporting.bucket.visits

    for _ in range(3600):
        await exporting.advance(1)

    assert 3600 / LONGEST_REST_S <= exporting.bucket.visits - before < 2 * 3600 / LONGEST_REST_S


async def test_a_destination_that_fails_burns_no_attempt(exporting: Exporting) -> None:
    dead = TopicName("project", "dead")
    await exporting.world.topics.create(dead, TopicConfig())
    await exporting.begin(dead_letter=DeadLetterPolicy(dead, 5))
    exporting.bucket.error = GONE
    await exporting.publish(b"1")
    await exporting.advance(3600)

    exporting.bucket.error = None
    await exporting.advance(LONGEST_REST_S)

    assert exporting.bucket.lines == [b"1"]
    assert (await exporting.world.runtime()).counters.nacked == 0


async def test_an_object_that_cannot_be_completed_is_written_again(exporting: Exporting) -> None:
    await exporting.begin()
    exporting.bucket.fails_to_complete = 1
    await exporting.publish(b"1", b"2")

    await exporting.advance(60)
    assert exporting.bucket.open == []
    assert await exporting.acknowledged() == set()
    await exporting.advance(LONGEST_REST_S)

    assert exporting.bucket.lines == [b"1", b"2"]


async def test_a_failure_without_a_name_shows_no_state(exporting: Exporting) -> None:
    await exporting.begin()
    exporting.bucket.error = DestinationError("the network is down")

    await exporting.publish(b"1")
    await exporting.advance(60)

    assert (await exporting.subscription()).resource_error == ""


async def test_another_failure_is_shown_instead(exporting: Exporting) -> None:
    await exporting.begin()
    exporting.bucket.error = GONE
    await exporting.publish(b"1")
    exporting.bucket.error = DestinationError("read only", PERMISSION_DENIED)
    await exporting.advance(LONGEST_REST_S)

    assert (await exporting.subscription()).resource_error == "PERMISSION_DENIED"


async def test_what_is_shown_is_shown_again_after_a_change_that_came_between(
    exporting: Exporting,
) -> None:
    exporting.bucket.error = GONE
    await exporting.begin()
    assert (await exporting.subscription()).resource_error == "NOT_FOUND"

    await exporting.change(filename_suffix=".txt")  # the stored state goes with the old version

    assert (await exporting.subscription()).resource_error == "NOT_FOUND"


# --- changes and ends ---------------------------------------------------------------------------


async def test_a_change_completes_the_open_object_and_is_followed_by_the_next(
    exporting: Exporting,
) -> None:
    other = MemoryBucket()
    exporting.buckets["other"] = other
    await exporting.begin()
    await exporting.publish(b"1")

    await exporting.change(bucket="other")
    await exporting.publish(b"2")
    await exporting.advance(60)

    assert exporting.bucket.lines == [b"1"]
    assert other.lines == [b"2"]


async def test_a_change_ends_the_rest_after_a_failure(exporting: Exporting) -> None:
    other = MemoryBucket()
    exporting.buckets["other"] = other
    exporting.bucket.error = GONE
    await exporting.begin()
    await exporting.publish(b"1")
    await exporting.advance(3600)

    await exporting.change(bucket="other")
    await exporting.advance(60)

    assert other.lines == [b"1"]
    assert (await exporting.subscription()).resource_error == ""


async def test_closing_completes_and_acknowledges_the_open_object(exporting: Exporting) -> None:
    await exporting.begin()
    await exporting.publish(b"1")

    await exporting.close()

    assert exporting.bucket.lines == [b"1"]
    assert await exporting.acknowledged() == {b"1"}


async def test_draining_completes_and_acknowledges_the_open_object(exporting: Exporting) -> None:
    await exporting.begin()
    runtime = await exporting.world.runtime()
    await exporting.publish(b"1")

    exporting.world.broker.drain()
    await exporting.close()

    assert exporting.bucket.lines == [b"1"]
    assert runtime.floor == 2


async def test_closing_that_is_cancelled_leaves_the_messages_to_the_next(
    exporting: Exporting,
) -> None:
    await exporting.begin()
    await exporting.publish(b"1")
    exporting.bucket.answers.clear()
    closing = asyncio.ensure_future(exporting.close())
    await settled()
    closing.cancel()
    await asyncio.wait([closing])
    exporting.bucket.answers.set()
    assert exporting.bucket.objects == {}
    assert exporting.bucket.open == []

    await exporting.start()
    await exporting.advance(60)

    assert exporting.bucket.lines == [b"1"]


async def test_nothing_is_completed_of_a_deleted_subscription(exporting: Exporting) -> None:
    await exporting.begin()
    await exporting.publish(b"1")

    await exporting.world.subscriptions.delete(ORDERS)
    await exporting.close()

    assert exporting.bucket.objects == {}
    assert exporting.bucket.open == []


async def test_after_a_seek_messages_are_exported_again(exporting: Exporting) -> None:
    await exporting.begin(retain_acked_messages=True)
    start_us = exporting.clock.now_us()
    await exporting.publish(b"1")
    await exporting.advance(60)

    await exporting.world.snapshots.seek_to_time(ORDERS, start_us)
    await settled()
    await exporting.advance(60)

    assert exporting.bucket.lines == [b"1", b"1"]


async def test_an_export_is_in_use_by_what_it_exports_and_not_by_waiting(
    exporting: Exporting,
) -> None:
    await exporting.begin()
    subscription = await exporting.subscription()
    exporting.world.runtimes.take_used()
    assert exporting.world.runtimes.take_used() == set()

    await exporting.publish(b"1")
    await exporting.advance(60)

    assert exporting.world.runtimes.take_used() == {subscription.id}


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a subscription is tried again at once."""
    monkeypatch.setattr("ams_grpc.broker.opening._RETRY_S", 0)


@pytest.mark.parametrize("seems", ["gone", "another"])
async def test_a_subscription_that_seems_to_be_gone_for_a_moment_is_exported(
    exporting: Exporting, monkeypatch: pytest.MonkeyPatch, soon: None, seems: str
) -> None:
    subscriptions, runtimes = exporting.world.subscriptions, exporting.world.runtimes
    looks, real_runtime = [], runtimes.runtime

    async def runtime(name: SubscriptionName, *, use: bool = True) -> SubscriptionRuntime:
        looks.append(name)
        if len(looks) <= 2:
            if seems == "gone":
                raise NotFound("gone")
            other = SubscriptionName("project", "other")
            if len(looks) == 1:
                await subscriptions.create(other, TOPIC, SubscriptionConfig())
            return await real_runtime(other)
        return await real_runtime(name, use=use)

    monkeypatch.setattr(runtimes, "runtime", runtime)
    await exporting.begin()
    await exporting.publish(b"1")
    await exporting.advance(60)

    assert len(looks) == 3
    assert exporting.bucket.lines == [b"1"]


async def test_an_export_that_gave_up_begins_again_with_a_change(
    exporting: Exporting, monkeypatch: pytest.MonkeyPatch, soon: None
) -> None:
    async def runtime(*_: object, **__: object) -> NoReturn:
        raise NotFound("gone")

    with monkeypatch.context() as patch:
        patch.setattr(exporting.world.runtimes, "runtime", runtime)
        await exporting.begin()
        assert exporting.worker is not None
        assert exporting.worker._task is not None
        await asyncio.wait([exporting.worker._task])

    await exporting.change(filename_prefix="again")
    await exporting.publish(b"1")
    await exporting.advance(60)

    assert exporting.bucket.lines == [b"1"]


async def test_it_waits_for_a_database_that_does_not_answer(
    exporting: Exporting, soon: None
) -> None:
    exporting.world.reader.failing = True
    await exporting.begin()
    await exporting.publish(b"1")
    await exporting.advance(60)
    assert exporting.bucket.objects == {}

    exporting.world.reader.failing = False
    await exporting.advance(LONGEST_REST_S)
    await exporting.advance(60)

    assert exporting.bucket.lines == [b"1"]


async def test_a_change_makes_it_ask_a_database_that_does_not_answer_only_once(
    exporting: Exporting,
) -> None:
    exporting.world.reader.failing = True
    await exporting.begin()
    before = len(exporting.world.reader.calls)

    await exporting.change(filename_suffix=".txt")
    await settled()

    assert len(exporting.world.reader.calls) <= before + 1


# --- messages that fail -------------------------------------------------------------------------


WITH_SCHEMA = TopicConfig(
    schema_settings=SchemaSettings(SchemaName("project", "numbers"), Encoding.JSON)
)
NUMBER: AvroSchema = {"type": "record", "name": "Number", "fields": [{"name": "n", "type": "int"}]}

NO_NUMBER = b"\xff"  # the first byte of a longer one


async def test_a_message_that_cannot_be_written_fails_and_the_rest_goes_on(
    exporting: Exporting,
) -> None:
    exporting.schemas[""] = NUMBER
    avro = AvroFormat(use_topic_schema=True)
    await exporting.begin(
        StorageExport("archive", max_duration_us=MINUTE_US, avro=avro), topic=WITH_SCHEMA
    )
    json = {"googclient_schemaencoding": "JSON"}

    await exporting.publish(b'{"n": 1}', b'{"n": "no"}', b'{"n": 3}', attributes=json)
    await exporting.advance(60)

    assert await exporting.acknowledged() == {b'{"n": 1}', b'{"n": 3}'}
    assert (await exporting.world.runtime()).counters.nacked >= 1


async def test_a_message_that_cannot_be_written_is_not_tried_all_the_time(
    exporting: Exporting,
) -> None:
    exporting.schemas[""] = NUMBER
    avro = AvroFormat(use_topic_schema=True)
    await exporting.begin(
        StorageExport("archive", max_duration_us=MINUTE_US, avro=avro), topic=WITH_SCHEMA
    )

    await exporting.publish(NO_NUMBER)
    for _ in range(600):
        await exporting.advance(1)

    runtime = await exporting.world.runtime()
    assert 0 < runtime.counters.nacked <= 600 / REFUSED_S


async def test_after_its_last_attempt_it_is_a_dead_letter(exporting: Exporting) -> None:
    dead = TopicName("project", "dead")
    await exporting.world.topics.create(dead, TopicConfig())
    exporting.schemas[""] = NUMBER
    export = StorageExport(
        "archive", max_duration_us=MINUTE_US, avro=AvroFormat(use_topic_schema=True)
    )
    await exporting.begin(export, topic=WITH_SCHEMA, dead_letter=DeadLetterPolicy(dead, 5))

    await exporting.publish(NO_NUMBER)
    for _ in range(20):
        await exporting.advance(REFUSED_S)

    assert await exporting.acknowledged() == {NO_NUMBER}
    assert exporting.bucket.objects == {}


async def test_without_the_topics_schema_it_waits(exporting: Exporting) -> None:
    avro = AvroFormat(use_topic_schema=True)
    await exporting.begin(
        StorageExport("archive", max_duration_us=MINUTE_US, avro=avro), topic=WITH_SCHEMA
    )
    await exporting.publish(b"\x02")
    await exporting.advance(60)
    assert (await exporting.subscription()).resource_error == "SCHEMA_MISMATCH"

    exporting.schemas[""] = NUMBER
    await exporting.advance(LONGEST_REST_S)

    assert await exporting.acknowledged() == {b"\x02"}
    assert (await exporting.subscription()).resource_error == ""
