"""End-to-end latency under light load: 200 single messages per second.

Publisher and consumer share one process and one clock. Latency counts from the moment a message
was *due* to be sent, so that a server which holds the publisher up cannot hide it.
"""

import asyncio
import time
from contextlib import suppress
from typing import Any, Final

import grpc

from scripts.benchmark import servers, wire
from scripts.benchmark.api import Api
from scripts.benchmark.figures import Result, percentile
from scripts.benchmark.trial import Trial, Workload
from scripts.benchmark.wire import pb

_RATE_PER_S: Final = 200
_SECONDS: Final = 6
_QUICK_SECONDS: Final = 3
_WARM_UP: Final = 100  # messages that are not counted
_BYTES: Final = 100
_STAMP_BYTES: Final = 8
_PATIENCE_S: Final = 10.0
_ACK_EVERY_S: Final = 0.1  # as the official clients do


async def _latency(trial: Trial) -> Result:
    seconds = _QUICK_SECONDS if trial.setting.quick else _SECONDS
    count = _WARM_UP + seconds * _RATE_PER_S
    arrived: dict[int, float] = {}
    async with (
        trial.topic() as (api, topic, [subscription]),
        grpc.aio.insecure_channel(trial.server.address, options=wire.CHANNEL_OPTIONS) as channel,
    ):
        call: Any = channel.stream_stream(wire.STREAMING_PULL)()
        await call.write(
            wire.stream_opening(
                subscription, max_outstanding_messages=1000, messages=0, byte_size=0
            )
        )
        reading = asyncio.create_task(_read(call, api, subscription, arrived, count))
        await asyncio.sleep(0.5)
        before = await trial.usage()
        due, answered = await _publish(api, topic, count)
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(reading), _PATIENCE_S)
        after = await trial.usage()
        call.cancel()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    counted = range(_WARM_UP, count)
    end_to_end_ms = [(arrived[i] - due[i]) * 1e3 for i in counted if i in arrived]
    publish_ms = [(answered[i] - due[i]) * 1e3 for i in counted]
    if not end_to_end_ms:
        raise RuntimeError("no message arrived")
    lost = len(counted) - len(end_to_end_ms)
    return Result(
        {
            "p50_ms": percentile(end_to_end_ms, 50),
            "p99_ms": percentile(end_to_end_ms, 99),
            "publish_p50_ms": percentile(publish_ms, 50),
            "publish_p99_ms": percentile(publish_ms, 99),
            "cpu_us": (after.cpu_s - before.cpu_s) / count * 1e6,
        },
        [f"{lost} messages never came"] if lost else [],
    )


async def _publish(api: Api, topic: str, count: int) -> tuple[list[float], list[float]]:
    """Publish numbered messages on time; return when each was due, and when it was answered."""
    started_at = time.perf_counter() + 0.01
    due = [started_at + i / _RATE_PER_S for i in range(count)]
    answered = [0.0] * count

    async def one(number: int) -> None:
        data = number.to_bytes(_STAMP_BYTES, "big").ljust(_BYTES, b"x")
        request = pb.PublishRequest(topic=topic, messages=[pb.PubsubMessage(data=data)])
        await api.call(wire.PUBLISH, request.SerializeToString())
        answered[number] = time.perf_counter()

    async with asyncio.TaskGroup() as tasks:
        for number, moment in enumerate(due):
            await asyncio.sleep(max(0.0, moment - time.perf_counter()))
            tasks.create_task(one(number))
    return due, answered


async def _read(
    call: Any, api: Api, subscription: str, arrived: dict[int, float], count: int
) -> None:
    """Note when each numbered message arrives first, until all have; acknowledge them."""
    ack_ids: list[str] = []
    acked_at = time.perf_counter()
    acking: set[asyncio.Task[bytes]] = set()
    while len(arrived) < count:
        data = await call.read()
        now = time.perf_counter()
        if data is grpc.aio.EOF:
            raise RuntimeError(f"the server ended a stream: {await call.details()}")
        for received in pb.StreamingPullResponse.FromString(data).received_messages:
            number = int.from_bytes(received.message.data[:_STAMP_BYTES], "big")
            arrived.setdefault(number, now)
            ack_ids.append(received.ack_id)
        if now - acked_at >= _ACK_EVERY_S:
            request = pb.AcknowledgeRequest(subscription=subscription, ack_ids=ack_ids)
            task = asyncio.create_task(api.call(wire.ACKNOWLEDGE, request.SerializeToString()))
            acking.add(task)
            ack_ids, acked_at = [], now
    await asyncio.gather(*acking)


WORKLOADS: Final = (
    Workload(
        "latency-200",
        "200 single messages of 100 B per second for 6 s, publisher to consumer",
        _latency,
        kinds=(servers.OURS, servers.EMULATOR),
    ),
)
