"""How busy this process is, and what it runs on."""

from __future__ import annotations

import os
import resource
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

from ams_grpc.broker.figures import NodeUsage


class ThisNode:
    """Measures the process. ``since`` is when it began, in seconds of the monotonic clock."""

    def __init__(self) -> None:
        self._host = socket.gethostname()
        self._began = time.monotonic()
        self._used_s = _used_s()

    def measure(self) -> NodeUsage:
        """Processor time since the start (100: one processor), and memory of this machine's.

        AMS: the processor's share is that of the whole life of the process.
        """
        elapsed_s = max(time.monotonic() - self._began, 0.001)
        cpu = (_used_s() - self._used_s) / elapsed_s
        return NodeUsage(self._host, round(cpu * 100, 1), round(_memory_share() * 100, 1))


def _used_s() -> float:
    used = os.times()
    return used.user + used.system


def _memory_share() -> float:
    """0 where the system does not tell how much memory there is."""
    with suppress(ValueError, OSError):
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return _resident_bytes() / total
    return 0.0


def _resident_bytes() -> int:
    with suppress(OSError):
        pages = Path("/proc/self/statm").read_text("ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    # Without /proc: the most that it ever was. The BSDs count in kilobytes, macOS in bytes.
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
