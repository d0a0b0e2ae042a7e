"""The official Python client end to end; see :mod:`scripts.benchmark.official`."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Final

from scripts.benchmark import servers
from scripts.benchmark.figures import Result
from scripts.benchmark.trial import Trial, Workload

_MESSAGES: Final = 50_000
_BYTES: Final = 100
_TIME_LIMIT_S: Final = 60
_SHUTDOWN_LIMIT_S: Final = 60
_ROOT: Final = Path(__file__).resolve().parent.parent.parent.parent


async def _official(trial: Trial) -> Result:
    messages = trial.scaled(_MESSAGES)
    async with trial.topic() as (_, topic, [subscription]):
        before = await trial.usage()
        came = await _run(trial.server.address, topic, subscription, messages)
        after = await trial.usage()
    notes = []
    if came["published"] < messages:
        notes.append(f"{came['published']:,} of {messages:,} publish futures succeeded")
    if came["distinct"] < messages:
        notes.append(f"{came['distinct']:,} of {messages:,} came in {came['seconds']:.0f} s")
    if came["received"] > came["distinct"]:
        notes.append(f"{came['received'] - came['distinct']:,} redelivered")
    return Result(
        {
            "rate": came["distinct"] / max(came["seconds"], 1e-9),
            "cpu_us": (after.cpu_s - before.cpu_s) / max(1, came["received"]) * 1e6,
            "peak_rss_mb": after.peak_rss_mb,
        },
        notes,
    )


async def _run(address: str, topic: str, subscription: str, messages: int) -> dict[str, float]:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "scripts.benchmark.official"),
        *(topic, subscription, str(messages), str(_BYTES), str(_TIME_LIMIT_S)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=_ROOT,
        env={**os.environ, "PUBSUB_EMULATOR_HOST": address},
    )
    try:
        output, errors = await asyncio.wait_for(
            child.communicate(), _TIME_LIMIT_S + _SHUTDOWN_LIMIT_S
        )
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode != 0:
        raise RuntimeError(f"the official client failed:\n{errors.decode(errors='replace')}")
    figures: dict[str, float] = json.loads(output)
    return figures


WORKLOADS: Final = (
    Workload(
        "official-client",
        "google-cloud-pubsub with default settings, 50,000 x 100 B, first publish to last receipt",
        _official,
        kinds=(servers.OURS, servers.EMULATOR),
    ),
)
