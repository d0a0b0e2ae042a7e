"""Memory that is freed stays with the process for a while, where glibc manages it.

Requests of a megabyte come and go. By default glibc gives their memory back to the system each
time, which then clears and maps the same pages again for the next: a sixth of what such a publish
costs.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Final

_TRIM_THRESHOLD: Final = -1
_TOP_PAD: Final = -2
_MMAP_THRESHOLD: Final = -3
_MIB: Final = 1 << 20


def keep_freed_memory() -> None:
    """Keep up to 32 MiB at the end of a heap. Does nothing with another C library than glibc."""
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, 16 * _MIB)
        mallopt(_TRIM_THRESHOLD, 32 * _MIB)
        mallopt(_TOP_PAD, _MIB)
