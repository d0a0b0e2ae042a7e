"""Pushing a backlog to an endpoint on this machine, one request a message."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from scripts.benchmark import servers, wire
from scripts.benchmark.figures import Result
from scripts.benchmark.trial import Trial, Workload
from scripts.benchmark.wire import pb
from scripts.benchmark.workloads.filling import fill

_MESSAGES: Final = 20_000
_TIME_LIMIT_S: Final = 60.0
_ROOT: Final = Path(__file__).resolve().parent.parent.parent.parent


async def _push(trial: Trial) -> Result:
    messages = trial.scaled(_MESSAGES)
    async with trial.topic() as (api, topic, [subscription]), _receiver(messages) as receiver:
        await fill(trial, topic, messages)
        port = (await _line(receiver)).strip()
        request = pb.ModifyPushConfigRequest(
            subscription=subscription,
            push_config=pb.PushConfig(push_endpoint=f"http://127.0.0.1:{port}/"),
        )
        before = await trial.usage()
        await api.call(wire.MODIFY_PUSH_CONFIG, request.SerializeToString())
        seconds = float(await asyncio.wait_for(_line(receiver), _TIME_LIMIT_S))
        after = await trial.usage()
    return Result(
        {
            "cpu_us": (after.cpu_s - before.cpu_s) / messages * 1e6,
            "rate": messages / seconds,
            "peak_rss_mb": after.peak_rss_mb,
        }
    )


@asynccontextmanager
async def _receiver(messages: int) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "scripts.benchmark.receiver", str(messages)),
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
    )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def _line(process: asyncio.subprocess.Process) -> str:
    if process.stdout is None or not (line := await process.stdout.readline()):
        raise RuntimeError("the receiver of pushes has ended")
    return line.decode()


WORKLOADS: Final = (
    Workload(
        "push",
        "a backlog of 20,000 x 100 B, one HTTP request each, to an endpoint that answers at once",
        _push,
        kinds=(servers.OURS, servers.EMULATOR),
    ),
)
