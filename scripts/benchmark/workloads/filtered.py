"""Draining a backlog through a filter that leaves one message in a hundred."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import grpc

from scripts.benchmark import servers, wire
from scripts.benchmark.api import Api
from scripts.benchmark.consuming import Order, consume
from scripts.benchmark.figures import Result
from scripts.benchmark.trial import Trial, Workload
from scripts.benchmark.wire import pb
from scripts.benchmark.workloads.drain import MESSAGES, TIME_LIMIT_S, notes

_PER_CALL: Final = 1000
_IN_FLIGHT: Final = 8
_WANTED_OF: Final = 100


def _filtered(text: str) -> Callable[[Trial], Awaitable[Result]]:
    async def measure(trial: Trial) -> Result:
        messages = trial.scaled(MESSAGES)
        wanted = messages // _WANTED_OF
        async with trial.topic(0) as (api, topic, _), _subscription(api, topic, text) as name:
            await _fill(api, topic, messages)
            before = await trial.usage()
            [consumed] = await consume(
                trial.server.address, [Order(name, wanted, time_limit_s=TIME_LIMIT_S)]
            )
            after = await trial.usage()
        return Result(
            {
                "cpu_us": (after.cpu_s - before.cpu_s) / messages * 1e6,
                "rate": messages / consumed.seconds,
                "peak_rss_mb": after.peak_rss_mb,
            },
            notes(trial, consumed, wanted),
        )

    return measure


@asynccontextmanager
async def _subscription(api: Api, topic: str, text: str) -> AsyncIterator[str]:
    name = topic.replace("/topics/", "/subscriptions/")
    request = pb.Subscription(name=name, topic=topic, ack_deadline_seconds=60, filter=text)
    await api.call(wire.CREATE_SUBSCRIPTION, request.SerializeToString())
    try:
        yield name
    finally:
        with suppress(grpc.RpcError):
            gone = pb.DeleteSubscriptionRequest(subscription=name)
            await api.call(wire.DELETE_SUBSCRIPTION, gone.SerializeToString())


async def _fill(api: Api, topic: str, messages: int) -> None:
    """Publish messages of 100 B with three attributes each, one in a hundred of another kind."""
    request = pb.PublishRequest(
        topic=topic,
        messages=[
            pb.PubsubMessage(
                data=b"x" * 100,
                attributes={
                    "kind": "order.cancelled" if i % _WANTED_OF == 0 else "order.created",
                    "region": "eu-west",
                    "customer": str(100_000 + i),
                },
            )
            for i in range(_PER_CALL)
        ],
    ).SerializeToString()
    turns = asyncio.Semaphore(_IN_FLIGHT)

    async def publish() -> None:
        async with turns:
            await api.call(wire.PUBLISH, request)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(messages // _PER_CALL):
            tasks.create_task(publish())


WORKLOADS: Final = (
    Workload(
        "filtered-1-percent",
        "a backlog of 200,000 x 100 B with attributes, of which a filter matches one in a hundred",
        _filtered('attributes.kind = "order.cancelled"'),
        kinds=(servers.OURS,),
    ),
    Workload(
        "filtered-1-percent-negated",
        "the same with a filter for which each message has to be taken apart",
        _filtered('attributes.kind != "order.created"'),
        kinds=(servers.OURS,),
    ),
)
