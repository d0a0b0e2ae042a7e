"""Draining a backlog: deliver and acknowledge as fast as the client reads."""

from collections.abc import Awaitable, Callable
from typing import Final

from scripts.benchmark import servers
from scripts.benchmark.consuming import Acks, Consumed, Order, consume
from scripts.benchmark.figures import Result
from scripts.benchmark.trial import Trial, Workload
from scripts.benchmark.workloads.filling import fill

MESSAGES: Final = 200_000
TIME_LIMIT_S: Final = 15.0


def notes(trial: Trial, consumed: Consumed, messages: int) -> list[str]:
    """What a reader of the figures must know about how they came about."""
    found = [f"{consumed.received / max(1, consumed.responses):.0f} messages per response"]
    if not consumed.complete:
        found.append(f"{consumed.distinct:,} of {messages:,} came in {consumed.seconds:.0f} s")
    if trial.kind != servers.FLOOR and consumed.received > consumed.distinct:
        found.append(f"{consumed.received - consumed.distinct:,} redelivered")
    return found


def _drain(streams: int, acks: Acks) -> Callable[[Trial], Awaitable[Result]]:
    async def measure(trial: Trial) -> Result:
        messages = trial.scaled(MESSAGES)
        async with trial.topic() as (_, topic, [subscription]):
            await fill(trial, topic, messages)
            order = Order(
                subscription,
                messages,
                streams,
                acks,
                time_limit_s=TIME_LIMIT_S,
                distinct=trial.kind != servers.FLOOR,
            )
            before = await trial.usage()
            [consumed] = await consume(trial.server.address, [order])
            after = await trial.usage()
        return Result(
            {
                "cpu_us": (after.cpu_s - before.cpu_s) / max(1, consumed.received) * 1e6,
                "rate": consumed.received / consumed.seconds,
                "peak_rss_mb": after.peak_rss_mb,
            },
            notes(trial, consumed, messages),
        )

    return measure


WORKLOADS: Final = (
    Workload(
        "drain-1-stream",
        "a backlog of 200,000 x 100 B, 1 stream, Acknowledge calls of 1,000 ids",
        _drain(1, Acks.UNARY),
    ),
    Workload(
        "drain-4-streams",
        "a backlog of 200,000 x 100 B, 4 streams, Acknowledge calls of 1,000 ids",
        _drain(4, Acks.UNARY),
    ),
    Workload(
        "drain-stream-acks",
        "a backlog of 200,000 x 100 B, 1 stream, acknowledged on the stream",
        _drain(1, Acks.STREAM),
    ),
)
