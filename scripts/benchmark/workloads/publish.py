"""Publishing: one message per call, and batches."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from scripts.benchmark.figures import Result
from scripts.benchmark.publishing import Load
from scripts.benchmark.trial import Trial, Workload

_WARM_UP_SHARE: Final = 10


def _publish(
    calls: int, in_flight: int, per_call: int, byte_size: int
) -> Callable[[Trial], Awaitable[Result]]:
    async def measure(trial: Trial) -> Result:
        async with trial.topic() as (_, topic, _):
            load = Load(topic, trial.scaled(calls), in_flight, per_call, byte_size)
            return await published(trial, load)

    return measure


async def published(trial: Trial, load: Load) -> Result:
    """Publish ``load``, after a tenth of it to warm up."""
    await trial.publish(replace(load, calls=max(1, load.calls // _WARM_UP_SHARE)))
    before = await trial.usage()
    answered = await trial.publish(load)
    after = await trial.usage()
    return Result(
        {
            "cpu_us": (after.cpu_s - before.cpu_s) / load.messages * 1e6,
            "rate": load.messages / answered.seconds,
            "p50_ms": answered.p50_ms,
            "p99_ms": answered.p99_ms,
            "peak_rss_mb": after.peak_rss_mb,
        }
    )


WORKLOADS: Final = (
    Workload(
        "publish-unary",
        "6,000 calls of 1 x 100 B, 64 in flight",
        _publish(6000, 64, 1, 100),
    ),
    Workload(
        "publish-100x100b",
        "2,000 batches of 100 x 100 B, 16 in flight",
        _publish(2000, 16, 100, 100),
    ),
    Workload(
        "publish-1000x100b",
        "1,000 batches of 1,000 x 100 B, 8 in flight",
        _publish(1000, 8, 1000, 100),
    ),
    Workload(
        "publish-1000x1kb",
        "300 batches of 1,000 x 1 KB, 8 in flight",
        _publish(300, 8, 1000, 1000),
    ),
)
