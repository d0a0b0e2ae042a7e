"""Rounds: every server in turn, again and again, so that a slow minute of the machine hits all."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import grpc

from scripts.benchmark import servers
from scripts.benchmark.figures import Result
from scripts.benchmark.trial import Setting, Trial, Workload

_PAUSE_S: Final = 0.3  # between trials: what a server still tidies up belongs to no figure
_TRIAL_LIMIT_S: Final = 600.0


@dataclass(slots=True)
class Outcome:
    """All rounds of one workload: results by server in order of rounds, and failures by server."""

    workload: Workload
    results: dict[str, list[Result]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


async def run(
    workload: Workload, found: Mapping[str, servers.Server], rounds: int, setting: Setting
) -> Outcome:
    """Run ``workload`` on each server it is meant for, ``rounds`` times in turn.

    A server that fails is left out of the remaining rounds of this workload.
    """
    outcome = Outcome(workload)
    kinds = [kind for kind in workload.kinds if kind in found]
    async with AsyncExitStack() as started:
        trials: dict[str, Trial] = {}
        for kind in kinds:
            launch = partial(servers.start, found[kind], setting.cpus)
            trial = Trial(kind, setting, launch)
            try:
                if workload.shared:
                    trial = trial.on(await started.enter_async_context(launch()))
            except RuntimeError as error:
                _failed(outcome, kind, error)
                continue
            trials[kind] = trial
        for number in range(1, rounds + 1):
            for kind, trial in trials.items():
                if kind in outcome.failures:
                    continue
                _say(f"{workload.name}: round {number} of {rounds}, {kind}")
                await asyncio.sleep(_PAUSE_S)
                try:
                    result = await asyncio.wait_for(workload.measure(trial), _TRIAL_LIMIT_S)
                except (
                    RuntimeError,
                    OSError,
                    TimeoutError,
                    grpc.RpcError,
                    ExceptionGroup,
                ) as error:
                    _failed(outcome, kind, error)
                else:
                    outcome.results.setdefault(kind, []).append(result)
    return outcome


async def run_all(
    workloads: Sequence[Workload],
    found: Mapping[str, servers.Server],
    rounds: int,
    setting: Setting,
    outcomes: list[Outcome],
) -> None:
    """Run ``workloads`` one after another; ``outcomes`` grows with each, interrupted or not."""
    for workload in workloads:
        outcomes.append(await run(workload, found, rounds, setting))  # noqa: PERF401 - see above


def _failed(outcome: Outcome, kind: str, error: BaseException) -> None:
    outcome.failures[kind] = _text(error)
    _say(f"{outcome.workload.name}: {kind} FAILED: {_text(error)}")


def _text(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_text(each) for each in error.exceptions)
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return f"{type(error).__name__}: {error}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
