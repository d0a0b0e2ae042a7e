"""Arguments in, table out."""

import argparse
import asyncio
import json
import os
import signal
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

from scripts.benchmark import loops, report, runner, servers
from scripts.benchmark.publishing import h2load_found
from scripts.benchmark.trial import Setting, Workload
from scripts.benchmark.workloads import ALL

_ROUNDS: Final = 3
_QUICK_ROUNDS: Final = 1
_MAX_ROUNDS: Final = 20
_INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0, or with ``--check`` 1 if a target is missed.

    Interrupted, it stops what it started and prints what it has, and the answer is 130.
    """
    options = _parser().parse_args(arguments)
    chosen: list[Workload] = options.only or list(ALL)
    if options.list:
        width = max(len(workload.name) for workload in chosen)
        for workload in chosen:
            print(f"{workload.name:{width}}  {workload.about}")
        return 0
    found = _servers(options)
    rounds = options.rounds or (_QUICK_ROUNDS if options.quick else _ROUNDS)
    h2load = h2load_found() and not options.no_h2load
    server_cpus, load_cpus = _split_cpus() if options.pin else (None, None)
    if load_cpus is not None:
        os.sched_setaffinity(0, load_cpus)
    setting = Setting(options.quick, h2load, server_cpus)
    outcomes: list[runner.Outcome] = []
    finished = loops.run(_until_signal(runner.run_all(chosen, found, rounds, setting, outcomes)))
    print(report.heading(found, rounds=rounds, quick=options.quick, h2load=h2load))
    print(report.table(outcomes))
    if options.json is not None:
        text = json.dumps(report.as_json(outcomes, rounds=rounds, quick=options.quick), indent=2)
        options.json.write_text(text + "\n")
    if not finished:
        return _INTERRUPTED
    return 1 if options.check and report.failed_targets(outcomes) else 0


async def _until_signal(work: Coroutine[Any, Any, None]) -> bool:
    """Do ``work``; cancel it, and answer False, on SIGINT or SIGTERM."""
    task = asyncio.create_task(work)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await asyncio.wait([task])
    if task.cancelled():
        return False
    task.result()
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="The same load on the service, on an empty-handler gRPC floor, and on "
        "Google's emulator, in turn. See docs/benchmarks.md.",
    )
    parser.add_argument("--list", action="store_true", help="name the workloads and end")
    parser.add_argument(
        "--only",
        type=_workloads,
        metavar="NAME,...",
        help="these workloads only; the beginning of a name is enough",
    )
    parser.add_argument(
        "--rounds",
        type=_round_count,
        metavar="N",
        help=f"rounds (default {_ROUNDS}, quick {_QUICK_ROUNDS})",
    )
    parser.add_argument("--quick", action="store_true", help="a fifth of the load, one round")
    parser.add_argument(
        "--servers",
        type=_kinds,
        default=list(servers.NAMES),
        metavar="NAME,...",
        help=f"of {', '.join(servers.NAMES)}; default all that are found",
    )
    parser.add_argument(
        "--floor-loop",
        choices=["asyncio", "uvloop"],
        default="asyncio",
        help="event loop of the floor: Python's own (default), or the service's",
    )
    parser.add_argument("--no-emulator", action="store_true", help="leave Google's emulator out")
    parser.add_argument("--emulator-jar", type=_file, metavar="FILE", help="where it is")
    parser.add_argument("--database-url", metavar="URL", help="for the service, instead of SQLite")
    parser.add_argument("--no-h2load", action="store_true", help="publish with grpcio instead")
    parser.add_argument(
        "--pin",
        action="store_true",
        help="servers on the first CPU only, load on the others",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there, too")
    parser.add_argument("--check", action="store_true", help="end with 1 if a target is missed")
    return parser


def _servers(options: argparse.Namespace) -> dict[str, servers.Server]:
    """The servers to measure, as far as they are installed."""
    emulator = None if options.no_emulator else servers.emulator(options.emulator_jar)
    candidates = (servers.ours(options.database_url), servers.floor(options.floor_loop), emulator)
    found = {server.name: server for server in candidates if server is not None}
    return {name: server for name, server in found.items() if name in options.servers}


def _workloads(text: str) -> list[Workload]:
    prefixes = text.split(",")
    for prefix in prefixes:
        if not any(workload.name.startswith(prefix) for workload in ALL):
            raise argparse.ArgumentTypeError(f"no workload begins with {prefix!r}; see --list")
    return [workload for workload in ALL if workload.name.startswith(tuple(prefixes))]


def _kinds(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in servers.NAMES:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(servers.NAMES)}")
    return names


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text} is no file")
    return path


def _round_count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= _MAX_ROUNDS:
        raise argparse.ArgumentTypeError(f"from 1 to {_MAX_ROUNDS}")
    return count


def _split_cpus() -> tuple[frozenset[int], frozenset[int]]:
    """The first CPU for servers, the others for the load; the same one if there is only one."""
    cpus = sorted(os.sched_getaffinity(0))
    return frozenset(cpus[:1]), frozenset(cpus[1:] or cpus[:1])
