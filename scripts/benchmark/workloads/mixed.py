"""Publishing and consuming at the same time."""

import asyncio
from typing import Final

from scripts.benchmark import servers
from scripts.benchmark.consuming import Order, consume
from scripts.benchmark.figures import Result
from scripts.benchmark.publishing import Load
from scripts.benchmark.trial import Trial, Workload
from scripts.benchmark.workloads import drain

_CALLS: Final = 2000
_PER_CALL: Final = 100
_IN_FLIGHT: Final = 16


async def _publish_and_consume(trial: Trial) -> Result:
    async with trial.topic() as (_, topic, [subscription]):
        load = Load(topic, trial.scaled(_CALLS), _IN_FLIGHT, _PER_CALL)
        order = Order(
            subscription,
            load.messages,
            time_limit_s=drain.TIME_LIMIT_S,
            distinct=trial.kind != servers.FLOOR,
        )
        before = await trial.usage()
        [consumed], published = await asyncio.gather(
            consume(trial.server.address, [order]), trial.publish(load)
        )
        after = await trial.usage()
    seconds = max(consumed.seconds, published.seconds)
    return Result(
        {
            "cpu_us": (after.cpu_s - before.cpu_s) / max(1, consumed.received) * 1e6,
            "rate": consumed.received / seconds,
            "publish_p50_ms": published.p50_ms,
            "publish_p99_ms": published.p99_ms,
            "peak_rss_mb": after.peak_rss_mb,
        },
        drain.notes(trial, consumed, load.messages),
    )


WORKLOADS: Final = (
    Workload(
        "publish-and-consume",
        "2,000 batches of 100 x 100 B, 16 in flight, while 1 stream reads and acknowledges",
        _publish_and_consume,
    ),
)
