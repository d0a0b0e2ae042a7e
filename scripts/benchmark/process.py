"""CPU time and memory of a process and its descendants, from /proc (Linux)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process family has used so far.

    ``cpu_s`` is user plus system time in seconds, in steps of one clock tick (usually 10 ms).
    Resident memory is in MB of 10^6 bytes, now and at its highest.
    """

    cpu_s: float
    rss_mb: float
    peak_rss_mb: float


def usage(pid: int) -> Usage:
    """The usage of ``pid`` and all its descendants, ended ones included in the CPU time."""
    family = [pid, *_descendants(pid)]
    cpu_s = 0.0
    rss_mb = 0.0
    peak_rss_mb = 0.0
    for member in family:
        stat = _stat(member)
        if stat is None:
            continue
        # After the command name, fields count from 3: utime 14, stime 15, cutime 16, cstime 17.
        cpu_s += sum(int(stat[field - 3]) for field in (14, 15, 16, 17)) / _TICKS_PER_S
        memory = _memory_mb(member)
        rss_mb += memory.get("VmRSS", 0.0)
        peak_rss_mb += memory.get("VmHWM", 0.0)
    return Usage(cpu_s, rss_mb, peak_rss_mb)


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))) is not None:
            children.setdefault(int(stat[1]), []).append(int(entry.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third (state) on; None if the process is gone."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def _memory_mb(pid: int) -> dict[str, float]:
    try:
        lines = (_PROC / str(pid) / "status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    fields = (line.partition(":") for line in lines if line.startswith(("VmRSS", "VmHWM")))
    return {name: int(value.split()[0]) * 1024 / 1e6 for name, _, value in fields}


@contextmanager
def started_on(cpus: frozenset[int] | None) -> Iterator[None]:
    """Processes that this thread starts inside the block run on ``cpus`` only; None: anywhere."""
    if cpus is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
