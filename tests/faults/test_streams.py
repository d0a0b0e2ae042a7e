"""Streams that do not read, streams by the thousand, streams that vanish: bounded, and harmless."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import grpc
import pytest
import pytest_asyncio

from tests.faults.pubsub import PATIENCE_S, Client, Stream, data_of
from tests.server import Server, eventually

pytestmark = pytest.mark.asyncio(
    loop_scope="session"
)  # gRPC keeps to the loop it was used in first

MEBIBYTE: Final = 1024 * 1024
OPEN_STREAMS: Final = "pubsub_subscription_open_streaming_pulls"
TOPIC: Final = "projects/p/topics/orders"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """On SQLite alone: what these tests look at lies above the storage."""
    with Server(tmp_path, admin=True) as server:
        yield server
        assert "Traceback" not in server.log()
        assert "unforeseen" not in server.log()


@pytest_asyncio.fixture(loop_scope="session")
async def client(server: Server) -> AsyncIterator[Client]:
    async with Client(server.endpoint, connections=20) as client:
        await client.create_topic(TOPIC)
        yield client


async def subscription(client: Client, number: int) -> str:
    name = f"projects/p/subscriptions/warehouse-{number}"
    return await client.create_subscription(name, TOPIC, ack_deadline_seconds=600)


# --- slow readers -----------------------------------------------------------------------------------

SLOW_READERS: Final = 40
PUBLISHED_MEBIBYTES: Final = 256


async def test_readers_that_do_not_read_cost_little_and_hold_nobody_up(
    server: Server, client: Client
) -> None:
    """Each slow stream may have two deliveries waiting and one being written, of 1 MiB here.

    With what the transport copies, and the cache of 32 MiB that all share, 10 MiB for each stream
    are plenty. What they have not read is 40 x 256 MiB.
    """
    quick = await client.stream(await subscription(client, 0), stream_ack_deadline_seconds=600)
    await quick.response()
    for number in range(1, SLOW_READERS + 1):
        slow = await client.stream(await subscription(client, number))
        await slow.response()  # and nothing after it
    before = largest = server.resident_bytes
    block = bytes(MEBIBYTE)

    for _ in range(PUBLISHED_MEBIBYTES // 4):
        await client.publish(TOPIC, block, block, block, block)
        received = await quick.receive(4)
        await quick.send(ack_ids=[each.ack_id for each in received])
        largest = max(largest, server.resident_bytes)

    sys.stderr.write(f"{(largest - before) / MEBIBYTE=}\n")
    assert largest - before < 10 * MEBIBYTE * SLOW_READERS


async def test_a_client_that_does_not_read_its_confirmations_is_not_read_any_more(
    server: Server, client: Client
) -> None:
    """Under exactly-once delivery each ack id is owed an answer, however little it names."""
    name = "projects/p/subscriptions/exact"
    exact = await client.create_subscription(name, TOPIC, enable_exactly_once_delivery=True)
    stream = await client.stream(exact)
    await stream.response()  # and nothing after it
    before = server.resident_bytes
    ack_ids = [f"{number:0400d}" for number in range(1000)]

    sent = 0
    with suppress(TimeoutError):
        while sent < 1000:
            async with asyncio.timeout(5):
                await stream.send(ack_ids=ack_ids)
            sent += 1

    assert sent < 1000  # 400 MB in all
    assert server.resident_bytes - before < 64 * MEBIBYTE
    stream.cancel()


async def test_a_slow_reader_does_not_keep_messages_from_a_quick_one(client: Client) -> None:
    shared = await subscription(client, 0)
    slow = await client.stream(shared, stream_ack_deadline_seconds=10)
    quick = await client.stream(shared, stream_ack_deadline_seconds=600)
    await slow.response()  # and nothing after it
    await quick.response()
    block = bytes(MEBIBYTE)

    for _ in range(16):
        await client.publish(TOPIC, block, block, block, block)

    # The slow one has taken a few at most; those come when its leases have ended.
    received: set[str] = set()
    async with asyncio.timeout(PATIENCE_S):
        while len(received) < 64:
            messages = (await quick.response()).received_messages
            received |= {each.message.message_id for each in messages}
            await quick.send(ack_ids=[each.ack_id for each in messages])


async def test_a_reader_that_pauses_gets_everything_when_it_goes_on(client: Client) -> None:
    paused = await client.stream(await subscription(client, 0), stream_ack_deadline_seconds=600)
    await paused.response()
    expected = [b"%d-" % number + bytes(100_000) for number in range(200)]
    for data in expected:
        await client.publish(TOPIC, data)

    assert data_of(await paused.receive(len(expected))) == expected


async def test_readers_that_vanish_in_the_middle_of_a_message_are_no_surprise(
    server: Server, client: Client
) -> None:
    """To the server they look like a failing write; its log, which `server` checks, stays calm."""
    shared = await subscription(client, 0)
    async with Client(server.endpoint, connections=20) as vanishing:
        for _ in range(20):
            stream = await vanishing.stream(shared)
            await stream.response()
        block = bytes(MEBIBYTE)
        for _ in range(10):
            await client.publish(TOPIC, block, block, block, block)

    await asyncio.to_thread(eventually, lambda: server.metric(OPEN_STREAMS) == 0)
    assert server.metric("pubsub_subscription_num_undelivered_messages") == 40


# --- many streams -----------------------------------------------------------------------------------

SUBSCRIPTIONS: Final = 100
STREAMS_EACH: Final = 20


async def open_streams(client: Client) -> list[Stream]:
    """2,000 streams that take one message each, accepted by the server."""
    names = [await subscription(client, number) for number in range(SUBSCRIPTIONS)]
    streams = await asyncio.gather(
        *(
            client.stream(name, max_outstanding_messages=1)
            for name in names
            for _ in range(STREAMS_EACH)
        )
    )
    await asyncio.gather(*(stream.response() for stream in streams))
    return streams


async def heartbeat(stream: Stream) -> None:
    await stream.send()
    response = await stream.response()
    assert not response.received_messages


@pytest.mark.timeout(240)
async def test_two_thousand_streams_are_all_served(server: Server, client: Client) -> None:
    before = server.resident_bytes
    streams = await open_streams(client)
    assert len(streams) == 2_000

    await asyncio.gather(*(heartbeat(stream) for stream in streams))
    ids = set(await client.publish(TOPIC, *(b"%d" % number for number in range(STREAMS_EACH))))
    received = await asyncio.gather(*(stream.receive(1) for stream in streams))

    for start in range(0, len(streams), STREAMS_EACH):  # those of one subscription
        share = received[start : start + STREAMS_EACH]
        assert {each.message.message_id for [each] in share} == ids
    sys.stderr.write(f"{(server.resident_bytes - before) / MEBIBYTE=}\n")
    assert server.resident_bytes - before < 256 * MEBIBYTE  # 128 KiB a stream

    await close(server, streams)
    await another_round_is_served_as_well(server, client)


async def close(server: Server, streams: Sequence[Stream]) -> None:
    """Wait until the server has forgotten them."""
    for stream in streams:
        stream.cancel()
    await asyncio.to_thread(eventually, lambda: server.metric(OPEN_STREAMS) == 0)


async def another_round_is_served_as_well(server: Server, client: Client) -> None:
    """Nothing of the closed streams is left, neither in memory nor in line for messages."""
    grown = server.resident_bytes
    name = "projects/p/subscriptions/later"
    await client.create_subscription(name, TOPIC)
    streams = await asyncio.gather(*(client.stream(name) for _ in range(2_000)))
    await asyncio.gather(*(stream.response() for stream in streams))
    await asyncio.gather(*(heartbeat(stream) for stream in streams))
    await close(server, streams)
    assert server.resident_bytes - grown < 64 * MEBIBYTE
    await client.publish(TOPIC, b"last")
    assert data_of(await client.pull(name)) == [b"last"]


@pytest.mark.timeout(240)
async def test_all_streams_end_with_unavailable_when_the_server_stops(
    server: Server, client: Client
) -> None:
    streams = await open_streams(client)

    server.terminate()

    codes = await asyncio.gather(*(stream.code() for stream in streams))
    assert set(codes) == {grpc.StatusCode.UNAVAILABLE}
    assert await asyncio.to_thread(server.wait) == 0


# Opens streams on connections of their own, says so when each holds a message, and waits to die.
STREAMS_OF_ANOTHER_PROCESS: Final = """
import asyncio, sys
from tests.faults.pubsub import Client

async def main():
    client = Client(sys.argv[1], connections=100)
    streams = [
        await client.stream(sys.argv[2], max_outstanding_messages=1) for _ in range(300)
    ]
    await asyncio.gather(*(stream.receive(1) for stream in streams))
    print("holding", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.timeout(240)
async def test_streams_that_vanish_leave_nothing_behind_but_their_leases(
    server: Server, client: Client
) -> None:
    name = await subscription(client, 0)
    ids = set(await client.publish(TOPIC, *(b"%d" % number for number in range(300))))
    connections = server.open_files
    assert server.metric(OPEN_STREAMS) == 0

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", STREAMS_OF_ANOTHER_PROCESS, server.endpoint, name),
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(2 * PATIENCE_S):
            assert await process.stdout.readline() == b"holding\n"
        assert server.open_files >= connections + 100
        assert server.metric(OPEN_STREAMS) == 300
        assert await client.pull(name, now=True) == []
    finally:
        process.kill()
        await process.wait()

    await asyncio.to_thread(eventually, lambda: server.metric(OPEN_STREAMS) == 0)
    await asyncio.to_thread(eventually, lambda: server.open_files <= connections + 5)
    again: set[str] = set()
    async with asyncio.timeout(PATIENCE_S):
        while again != ids:  # after the 10 seconds of their leases
            received = await client.pull(name)
            again |= {each.message.message_id for each in received}
            await client.acknowledge(name, received)
