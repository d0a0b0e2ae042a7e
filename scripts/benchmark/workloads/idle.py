"""Idle streams: 1,000 topics, 1,000 subscriptions, 1,000 open streams, nothing to deliver."""

import asyncio
import time
from typing import Any, Final

import grpc

from scripts.benchmark import servers, wire
from scripts.benchmark.api import Api
from scripts.benchmark.figures import Result
from scripts.benchmark.trial import Trial, Workload
from scripts.benchmark.wire import pb, subscription_path, topic_path

_STREAMS: Final = 1000
_CHANNELS: Final = 10
_SETTLE_S: Final = 3.0
_MEASURED_S: Final = 10.0
_QUICK_MEASURED_S: Final = 5.0
_PROBED_EVERY: Final = 100  # one stream in so many is shown to be alive
_PROBE_LIMIT_S: Final = 10.0


async def _idle(trial: Trial) -> Result:
    measured_s = _QUICK_MEASURED_S if trial.setting.quick else _MEASURED_S
    count = trial.scaled(_STREAMS)
    topics = [topic_path(f"idle-{i}") for i in range(count)]
    subscriptions = [subscription_path(f"idle-{i}") for i in range(count)]
    async with trial.launch() as server, Api(server.address) as api:
        channels = [
            grpc.aio.insecure_channel(server.address, options=wire.CHANNEL_OPTIONS)
            for _ in range(_CHANNELS)
        ]
        try:
            started_at = time.perf_counter()
            await asyncio.gather(
                *(
                    api.create(topic, [name])
                    for topic, name in zip(topics, subscriptions, strict=True)
                )
            )
            calls: list[Any] = [
                channels[i % _CHANNELS].stream_stream(wire.STREAMING_PULL)() for i in range(count)
            ]
            await asyncio.gather(
                *(_open(call, name) for call, name in zip(calls, subscriptions, strict=True))
            )
            open_s = time.perf_counter() - started_at
            await asyncio.sleep(_SETTLE_S)
            before = server.usage()
            began_at = time.perf_counter()
            await asyncio.sleep(measured_s)
            after = server.usage()
            took_s = time.perf_counter() - began_at
            if trial.kind != servers.FLOOR:
                await _probe(api, topics[::_PROBED_EVERY], calls[::_PROBED_EVERY])
            for call in calls:
                call.cancel()
        finally:
            for channel in channels:
                await channel.close()
    return Result(
        {
            "idle_cpu_percent": (after.cpu_s - before.cpu_s) / took_s * 100,
            "open_s": open_s,
            "rss_mb": after.rss_mb,
        }
    )


async def _open(call: Any, subscription: str) -> None:
    await call.write(
        wire.stream_opening(subscription, max_outstanding_messages=1000, messages=0, byte_size=0)
    )


async def _probe(api: Api, topics: list[str], calls: list[Any]) -> None:
    """Publish to some topics and see each message come out of its stream."""
    for topic, call in zip(topics, calls, strict=True):
        await api.call(wire.PUBLISH, wire.publish_body(topic, 1, wire.any_data(100)))
        await asyncio.wait_for(_message(call), _PROBE_LIMIT_S)


async def _message(call: Any) -> None:
    """Read responses until one carries a message; the first may only describe the subscription."""
    while (data := await call.read()) is not grpc.aio.EOF:
        if pb.StreamingPullResponse.FromString(data).received_messages:
            return
    raise RuntimeError(f"the server ended an idle stream: {await call.details()}")


WORKLOADS: Final = (
    Workload(
        "idle-1000-streams",
        "1,000 topics, 1,000 subscriptions, 1,000 open streams, nothing published for 10 s",
        _idle,
        shared=False,
    ),
)
