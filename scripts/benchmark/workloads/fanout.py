"""Fan-out: every message goes to ten subscriptions."""

from typing import Final

from scripts.benchmark import servers
from scripts.benchmark.consuming import Order, consume
from scripts.benchmark.figures import Result
from scripts.benchmark.trial import Trial, Workload
from scripts.benchmark.workloads import drain
from scripts.benchmark.workloads.filling import fill

_MESSAGES: Final = 50_000
_SUBSCRIPTIONS: Final = 10
_TIME_LIMIT_S: Final = 30.0


async def _fanout(trial: Trial) -> Result:
    messages = trial.scaled(_MESSAGES)
    async with trial.topic(_SUBSCRIPTIONS) as (_, topic, subscriptions):
        empty = await trial.usage()
        await fill(trial, topic, messages)
        full = await trial.usage()
        orders = [
            Order(
                name,
                messages,
                time_limit_s=_TIME_LIMIT_S,
                distinct=trial.kind != servers.FLOOR,
            )
            for name in subscriptions
        ]
        consumed = await consume(trial.server.address, orders)
        drained = await trial.usage()
    received = sum(each.received for each in consumed)
    figures = {
        "cpu_us": (drained.cpu_s - full.cpu_s) / max(1, received) * 1e6,
        "rate": received / max(each.seconds for each in consumed),
        "peak_rss_mb": drained.peak_rss_mb,
    }
    if trial.kind != servers.FLOOR:
        figures["publish_cpu_us"] = (full.cpu_s - empty.cpu_s) / messages * 1e6
    late = [note for each in consumed for note in drain.notes(trial, each, messages)[1:]]
    return Result(figures, late[:1])


WORKLOADS: Final = (
    Workload(
        "fan-out-10",
        "50,000 x 100 B to 10 subscriptions, 1 stream each, all at once; per message delivered",
        _fanout,
    ),
)
