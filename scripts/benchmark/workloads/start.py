"""Starting: from exec to the ready line with an empty data directory, and memory at rest."""

import asyncio
from typing import Final

from scripts.benchmark.figures import Result
from scripts.benchmark.trial import Trial, Workload

_REST_S: Final = 2.0


async def _start(trial: Trial) -> Result:
    async with trial.launch() as server:
        await asyncio.sleep(_REST_S)
        used = server.usage()
    return Result({"ready_s": server.ready_s, "rss_mb": used.rss_mb})


WORKLOADS: Final = (
    Workload(
        "start",
        "exec to ready with empty data, then resident memory after 2 s of rest",
        _start,
        shared=False,
    ),
)
