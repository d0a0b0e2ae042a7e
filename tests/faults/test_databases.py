"""The database goes away, or its disk is full: calls are answered, and all is well afterwards."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final

import grpc
import pytest
import pytest_asyncio
from google.protobuf.message import Message

from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.storage.migrate import migrate
from tests.faults.pubsub import PATIENCE_S, Client, data_of, grows
from tests.postgres import ThrowAwayPostgres
from tests.server import Server

pytestmark = pytest.mark.asyncio(
    loop_scope="session"
)  # gRPC keeps to the loop it was used in first

UNAVAILABLE: Final = grpc.StatusCode.UNAVAILABLE
TOPIC: Final = "projects/p/topics/orders"
WAREHOUSE: Final = "projects/p/subscriptions/warehouse"
ANSWERED_WITHIN_S: Final = 10.0
MOUNT: Final = shutil.which("mount") or "/bin/mount"
UNMOUNT: Final = shutil.which("umount") or "/bin/umount"
MEBIBYTE: Final = 1024 * 1024
INSIDE: Final = 60_000  # so large a payload is kept in the database, and a larger one beside it
BESIDE: Final = 100_000

Take = Callable[[ThrowAwayPostgres], None]
both_places = pytest.mark.parametrize("byte_size", [INSIDE, BESIDE])
both_ways = pytest.mark.parametrize("take_away", [ThrowAwayPostgres.stop, ThrowAwayPostgres.kill])


@pytest.fixture(scope="module")
def module_postgres() -> Iterator[ThrowAwayPostgres]:
    """One for all tests here: making one takes seconds."""
    with ThrowAwayPostgres() as postgres:
        yield postgres


@pytest.fixture
def postgres_server(module_postgres: ThrowAwayPostgres) -> ThrowAwayPostgres:
    """A PostgreSQL server to take away, running at first."""
    module_postgres.start()
    return module_postgres


@pytest.fixture
def server(tmp_path: Path, postgres_server: ThrowAwayPostgres) -> Iterator[Server]:
    url = postgres_server.create_database(secrets.token_hex(4), prepare=migrate)
    with Server(tmp_path, url) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def client(server: Server) -> AsyncIterator[Client]:
    async with Client(server.endpoint) as client:
        await client.create_topic(TOPIC)
        await client.create_subscription(WAREHOUSE, TOPIC, ack_deadline_seconds=600)
        yield client


async def code_of(client: Client, method: str, request: Message) -> grpc.StatusCode:
    """How a call ends, which it must soon."""
    started = time.monotonic()
    code, text = await client.status(method, request, timeout_s=2 * ANSWERED_WITHIN_S)
    assert time.monotonic() - started < ANSWERED_WITHIN_S, (code, text)
    assert "psycopg" not in text
    return code


def hello(topic: str = TOPIC) -> pb.PublishRequest:
    return pb.PublishRequest(topic=topic, messages=[pb.PubsubMessage(data=b"hello")])


async def publish_until_it_works(client: Client, data: bytes) -> str:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(grpc.aio.AioRpcError):
                [message_id] = await client.publish(TOPIC, data)
                return message_id
            await asyncio.sleep(0.05)


# --- PostgreSQL -------------------------------------------------------------------------------------


@both_ways
async def test_without_its_database_every_call_is_answered_with_unavailable(
    client: Client, server: Server, postgres_server: ThrowAwayPostgres, take_away: Take
) -> None:
    await client.publish(TOPIC, b"1", b"2")
    [held, _] = await client.pull(WAREHOUSE)

    take_away(postgres_server)

    calls: dict[str, Message] = {
        "Publisher.Publish": hello(),
        "Publisher.CreateTopic": pb.Topic(name="projects/p/topics/other"),
        "Publisher.GetTopic": pb.GetTopicRequest(topic=TOPIC),
        "Publisher.ListTopics": pb.ListTopicsRequest(project="projects/p"),
        "Publisher.DeleteTopic": pb.DeleteTopicRequest(topic=TOPIC),
        "Subscriber.CreateSubscription": pb.Subscription(
            name="projects/p/subscriptions/other", topic=TOPIC
        ),
        "Subscriber.GetSubscription": pb.GetSubscriptionRequest(subscription=WAREHOUSE),
        "Subscriber.Pull": pb.PullRequest(
            subscription="projects/p/subscriptions/never-opened", max_messages=1
        ),
        "Subscriber.Acknowledge": pb.AcknowledgeRequest(
            subscription=WAREHOUSE, ack_ids=[held.ack_id]
        ),
        "Subscriber.CreateSnapshot": pb.CreateSnapshotRequest(
            name="projects/p/snapshots/before", subscription=WAREHOUSE
        ),
    }
    codes = {method: await code_of(client, method, request) for method, request in calls.items()}
    assert codes == dict.fromkeys(calls, UNAVAILABLE)

    postgres_server.start()
    await publish_until_it_works(client, b"3")
    for method in ("Publisher.GetTopic", "Subscriber.GetSubscription", "Publisher.ListTopics"):
        assert await code_of(client, method, calls[method]) is grpc.StatusCode.OK


@both_ways
async def test_an_open_stream_goes_on_when_the_database_is_back(
    client: Client, postgres_server: ThrowAwayPostgres, take_away: Take
) -> None:
    stream = await client.stream(WAREHOUSE, stream_ack_deadline_seconds=600)
    await client.publish(TOPIC, b"before")
    assert data_of(await stream.receive(1)) == [b"before"]

    take_away(postgres_server)
    assert await code_of(client, "Publisher.Publish", hello()) is UNAVAILABLE
    await stream.send()
    assert not (await stream.response()).received_messages  # it is there, and answers
    postgres_server.start()
    message_id = await publish_until_it_works(client, b"after")

    [received] = await stream.receive(1)
    assert (received.message.data, received.message.message_id) == (b"after", message_id)


async def test_acknowledgements_of_an_outage_are_not_lost(
    client: Client, server: Server, postgres_server: ThrowAwayPostgres
) -> None:
    await client.publish(TOPIC, b"1", b"2", b"3")
    first, second, third = await client.pull(WAREHOUSE)
    await client.acknowledge(WAREHOUSE, [first])

    postgres_server.kill()
    stream = await client.stream(WAREHOUSE)
    await stream.send(ack_ids=[second.ack_id])  # no answer is due; it counts from here on
    await stream.send()
    await stream.response()
    postgres_server.start()
    await publish_until_it_works(client, b"4")
    await client.acknowledge(WAREHOUSE, [third])

    server.kill()
    server.start()
    assert data_of(await client.pull(WAREHOUSE, wait=True)) == [b"4"]


@pytest.mark.timeout(240)
async def test_nothing_that_was_answered_is_lost_in_many_outages(
    client: Client, postgres_server: ThrowAwayPostgres
) -> None:
    published: dict[str, bytes] = {}
    received: dict[str, bytes] = {}
    acknowledged: set[str] = set()

    async def publish(publisher: int) -> None:
        for number in range(1_000_000):
            data = b"%d-%d" % (publisher, number)
            with suppress(grpc.aio.AioRpcError):
                [message_id] = await client.publish(TOPIC, data)
                published[message_id] = data

    async def subscribe() -> None:
        while True:
            with suppress(grpc.aio.AioRpcError):
                # What a stream has sent when it ends comes again after these 10 seconds.
                stream = await client.stream(WAREHOUSE, stream_ack_deadline_seconds=10)
                while True:
                    messages = list((await stream.response(120)).received_messages)
                    for each in messages:
                        assert each.message.message_id not in acknowledged
                        received[each.message.message_id] = each.message.data
                    if messages:
                        await acknowledge(messages)

    async def acknowledge(messages: list[pb.ReceivedMessage]) -> None:
        with suppress(grpc.aio.AioRpcError):
            await client.acknowledge(WAREHOUSE, messages)
            acknowledged.update(each.message.message_id for each in messages)

    tasks = [asyncio.create_task(each) for each in (publish(1), publish(2), subscribe())]
    try:
        for take_away in (ThrowAwayPostgres.kill, ThrowAwayPostgres.stop, ThrowAwayPostgres.kill):
            await grows(published)
            await asyncio.to_thread(take_away, postgres_server)
            await asyncio.to_thread(postgres_server.start)
        await grows(published)
        for task in tasks[:2]:
            task.cancel()
        async with asyncio.timeout(PATIENCE_S):
            while published.keys() - received.keys():
                assert not tasks[2].done(), tasks[2].exception()
                await asyncio.sleep(0.05)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    assert {message_id: received[message_id] for message_id in published} == published


# --- SQLite -----------------------------------------------------------------------------------------


@asynccontextmanager
async def on_sqlite(data: Path) -> AsyncIterator[tuple[Server, Client]]:
    with Server(data) as server:
        async with Client(server.endpoint) as client:
            await client.create_topic(TOPIC)
            await client.create_subscription(WAREHOUSE, TOPIC, ack_deadline_seconds=600)
            yield server, client


async def fill_up(client: Client, byte_size: int) -> list[str]:
    """Publish until that is refused for good; gives the ids of what was not refused."""
    ids: list[str] = []
    block = os.urandom(byte_size)
    refusals: list[grpc.StatusCode] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(refusals) < 5:  # after the first ones SQLite may tidy up, and find some room
            try:
                ids += await client.publish(TOPIC, block)
                refusals.clear()
            except grpc.aio.AioRpcError as error:
                refusals.append(error.code())
    assert set(refusals) == {UNAVAILABLE}
    return ids


async def check_that_nothing_was_lost(client: Client, ids: list[str]) -> None:
    missing = set(ids)
    while missing:
        messages = await client.pull(WAREHOUSE)
        assert messages, f"{len(missing)} of {len(ids)} messages are lost"
        await client.acknowledge(WAREHOUSE, messages)
        missing -= {each.message.message_id for each in messages}


async def test_a_database_file_that_may_not_grow_makes_publishes_unavailable_for_a_time(
    tmp_path: Path,
) -> None:
    async with on_sqlite(tmp_path) as (server, client):
        server.limit_file_size(2 * MEBIBYTE)
        ids = await fill_up(client, INSIDE)
        assert ids
        get_topic = pb.GetTopicRequest(topic=TOPIC)
        assert await code_of(client, "Publisher.GetTopic", get_topic) is grpc.StatusCode.OK

        server.limit_file_size(1024 * MEBIBYTE)
        ids.append(await publish_until_it_works(client, b"there is room again"))

        await check_that_nothing_was_lost(client, ids)


@both_places
async def test_a_full_disk_makes_publishes_unavailable_until_there_is_room(
    tmp_path: Path, byte_size: int
) -> None:
    with small_disk(tmp_path / "disk", 8 * MEBIBYTE) as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(3 * MEBIBYTE))
        async with on_sqlite(disk / "data") as (_, client):
            ids = await fill_up(client, byte_size)
            assert ids

            ballast.unlink()
            ids.append(await publish_until_it_works(client, b"there is room again"))

            await check_that_nothing_was_lost(client, ids)


@both_places
async def test_a_server_that_crashed_on_a_full_disk_starts_when_there_is_room(
    tmp_path: Path, byte_size: int
) -> None:
    with small_disk(tmp_path / "disk", 8 * MEBIBYTE) as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(3 * MEBIBYTE))
        async with on_sqlite(disk / "data") as (server, client):
            ids = await fill_up(client, byte_size)

            server.kill()
            ballast.unlink()
            server.start()

            await check_that_nothing_was_lost(client, ids)


@contextmanager
def small_disk(at: Path, size: int) -> Iterator[Path]:
    """A file system of `size` bytes in memory; only root may mount one."""
    at.mkdir()
    mounted = subprocess.run(
        [MOUNT, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(at)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system takes root; the limit on file sizes does not")
    try:
        yield at
    finally:
        subprocess.run([UNMOUNT, "--lazy", str(at)], check=True)
