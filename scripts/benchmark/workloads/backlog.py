"""What a large backlog costs: the same drain from 10 thousand, 100 thousand and 1 million messages.

Each size has a fresh server. The one stream may have 3,000 messages outstanding, so that what the
server has done for messages not yet read stays small beside what is measured. The smallest backlog
is filled again each time it is empty, until as much has been drained as from the others.
"""

from typing import Final

from scripts.benchmark import servers
from scripts.benchmark.consuming import Order, consume
from scripts.benchmark.figures import Result
from scripts.benchmark.trial import Trial, Workload
from scripts.benchmark.workloads import drain
from scripts.benchmark.workloads.filling import fill

_SIZES: Final = {"10k": 10_000, "100k": 100_000, "1m": 1_000_000}
_DRAINED: Final = 50_000
_OUTSTANDING: Final = 3000


async def _backlog(trial: Trial) -> Result:
    result = Result()
    rss_mb: dict[str, float] = {}
    for label, size in _SIZES.items():
        async with trial.launch() as server:
            on_it = trial.on(server)
            cpu_us = await _drain_from(on_it, size, result.notes)
            result.figures[f"cpu_us_{label}"] = cpu_us
            rss_mb[label] = (await on_it.usage()).rss_mb
    figures = result.figures
    figures["cpu_1m_to_10k"] = figures["cpu_us_1m"] / max(figures["cpu_us_10k"], 1e-9)
    figures["rss_mb"] = rss_mb["1m"]
    figures["rss_growth_mb"] = rss_mb["1m"] - rss_mb["10k"]
    return result


async def _drain_from(trial: Trial, size: int, notes: list[str]) -> float:
    """Drain 50,000 messages from a backlog of ``size``; the server's CPU µs for each."""
    part = min(size, _DRAINED)
    cpu_s = 0.0
    received = 0
    complete = True
    async with trial.topic() as (_, topic, [subscription]):
        for _ in range(_DRAINED // part):
            await fill(trial, topic, size)
            order = Order(
                subscription,
                part,
                max_outstanding=_OUTSTANDING,
                time_limit_s=drain.TIME_LIMIT_S / (_DRAINED // part),
            )
            before = await trial.usage()
            [consumed] = await consume(trial.server.address, [order])
            cpu_s += (await trial.usage()).cpu_s - before.cpu_s
            received += consumed.received
            complete = complete and consumed.complete
    if not complete:
        notes.append(f"at {size:,}: {received:,} of {_DRAINED:,} came in time")
    return cpu_s / max(1, received) * 1e6


WORKLOADS: Final = (
    Workload(
        "backlog",
        "50,000 x 100 B drained from backlogs of 10k, 100k and 1M, each on a fresh server",
        _backlog,
        kinds=(servers.OURS, servers.EMULATOR),
        shared=False,
    ),
)
