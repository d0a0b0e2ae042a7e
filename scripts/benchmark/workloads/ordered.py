"""What ordering costs: the same backlog drained with few and with many keys, and without ordering.

A topic has two subscriptions, one with ordering and one without, so that both drain the same
messages. Acks go back in the order in which the messages came, so each key is acknowledged in order.
"""

import asyncio
from typing import Any, Final

import grpc

from scripts.benchmark import servers, wire
from scripts.benchmark.consuming import Order, consume
from scripts.benchmark.figures import Result
from scripts.benchmark.trial import Trial, Workload
from scripts.benchmark.wire import pb
from scripts.benchmark.workloads import drain

_KEYS: Final = {"1": 1, "100": 100, "100k": 100_000}
_LONGEST_RUN: Final = 20
"""Messages of one key in a row, where there are several keys: those of one Publish call."""
_IN_FLIGHT: Final = 64


async def _ordered(trial: Trial) -> Result:
    result = Result()
    figures = result.figures
    messages = trial.scaled(drain.MESSAGES)
    for label, number in _KEYS.items():
        keys = number if number <= _LONGEST_RUN * 100 else trial.scaled(number)
        async with trial.launch() as server:
            on_it = trial.on(server)
            async with on_it.topic() as (api, topic, [plain]):
                ordered = f"{plain}-ordered"
                await api.create_subscription(ordered, topic, enable_message_ordering=True)
                await _fill(server.address, topic, messages, keys)
                if label == "1":
                    figures["cpu_us_plain"] = await _drain(on_it, plain, messages, result.notes)
                figures[f"cpu_us_keys_{label}"] = await _drain(
                    on_it, ordered, messages, result.notes
                )
                figures["rss_mb"] = (await on_it.usage()).rss_mb
    return result


async def _fill(address: str, topic: str, messages: int, keys: int) -> None:
    """Publish in turn to each key, as many messages in a call as its share allows."""
    run = 1000 if keys == 1 else min(_LONGEST_RUN, messages // keys)
    bodies = (
        pb.PublishRequest(
            topic=topic,
            messages=[pb.PubsubMessage(data=b"x" * 100, ordering_key=f"key-{call % keys}")] * run,
        ).SerializeToString()
        for call in range(messages // run)
    )
    async with grpc.aio.insecure_channel(address, options=wire.CHANNEL_OPTIONS) as channel:
        publish: Any = channel.unary_unary(wire.PUBLISH)

        async def one_after_another() -> None:
            for body in bodies:
                await publish(body)

        await asyncio.gather(*(one_after_another() for _ in range(_IN_FLIGHT)))


async def _drain(trial: Trial, subscription: str, messages: int, notes: list[str]) -> float:
    """The server's CPU µs for each message delivered and acknowledged."""
    order = Order(subscription, messages, time_limit_s=drain.TIME_LIMIT_S)
    before = await trial.usage()
    [consumed] = await consume(trial.server.address, [order])
    cpu_s = (await trial.usage()).cpu_s - before.cpu_s
    if not consumed.complete or consumed.received > consumed.distinct:
        notes += drain.notes(trial, consumed, messages)
    return cpu_s / max(1, consumed.received) * 1e6


WORKLOADS: Final = (
    Workload(
        "ordered-consume",
        "a backlog of 200,000 x 100 B with 1, 100 and 100,000 ordering keys, and without ordering",
        _ordered,
        kinds=(servers.OURS, servers.EMULATOR),
        shared=False,
    ),
)
