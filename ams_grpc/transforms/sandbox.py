"""The process in which users' JavaScript runs: started as a script, by ``worker``, and isolated.

It imports nothing of the service, has its environment emptied and no file open but its pipes. A job
is a frame with a header, then one frame for each message; a frame is a length (4 bytes, big endian)
and as many bytes of UTF-8. Each message is answered by a letter and a frame:

    R   what came of it: ``null``, or ``[data, [[key, value], ...]]`` as JSON
    E   why nothing came of it

and the job by ``S`` and an empty frame, perhaps before all messages are done: a job has a slice
of time, so that others get their turn. A job without messages only has its code looked at.

The engine interrupts a function that runs for too long, but not inside its own built-in functions,
some of which can be made to run for hours. Then a timer ends this process.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final

from _quickjs import Context, JSException, StackOverflow  # type: ignore[import-not-found]

TIME_LIMIT_S: Final = 0.5
"""Pub/Sub: how long a function may run for one message."""
HARD_LIMIT_S: Final = 1.0
TEXT_LIMIT_S_PER_BYTE: Final = 0.2e-6
"""For reading a message and writing what came of it, which is none of the function's time."""
SLICE_S: Final = 0.1
SLICE_BYTES: Final = 16 << 20
"""Enough came of a job's messages for now."""
MEMORY_LIMIT: Final = 48 << 20
MEMORY_PER_BYTE: Final = 12
"""A message may be there as text, as a value, and as the result of a few steps, twice as wide."""
MAX_CONTEXTS: Final = 16
PROCESS_MEMORY: Final = 512 << 20
"""Of the whole process, whatever the engine does. Half of it is for one function with one message."""
_KEPT_MEMORY: Final = 8 << 20
_MAX_REASON: Final = 500
_UNSAID: Final = "null"  # what the engine throws when there is no memory left for an error
_NICE: Final = 5  # the service itself comes first

Call = Callable[..., Any]


class Contexts:
    """The functions that were used last, ready to be called."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._ready: OrderedDict[tuple[str, str], tuple[Context, Call]] = OrderedDict()

    def get(self, name: str, code: str) -> tuple[Context, Call]:
        """Raises JSException, StackOverflow for code that does not work."""
        found = self._ready.get((name, code))
        if found is None:
            context = Context()
            context.set_memory_limit(MEMORY_LIMIT)
            prepare = context.eval(self._source)
            context.set_time_limit(TIME_LIMIT_S)
            found = self._ready[name, code] = (context, prepare(name, code))
            if len(self._ready) > MAX_CONTEXTS:
                self._ready.popitem(last=False)
        self._ready.move_to_end((name, code))
        return found

    def forget(self, name: str, code: str) -> None:
        self._ready.pop((name, code), None)

    def tidy(self, name: str, code: str) -> None:
        """Forget it if it keeps much memory."""
        found = self._ready.get((name, code))
        if found is not None and found[0].memory()["memory_used_size"] > _KEPT_MEMORY:
            self.forget(name, code)


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Do jobs until there are no more."""
    contexts = Contexts(Path(__file__).with_suffix(".js").read_text())
    _give_up_rights()
    while (header := _read(requests)) is not None:
        count, name, code = header.split("\n", 2)
        messages = [_read(requests) or "" for _ in range(int(count))]
        _do(contexts, name, code, messages, answers)
        answers.write(b"S" + struct.pack(">I", 0))
        answers.flush()


def _do(contexts: Contexts, name: str, code: str, messages: list[str], answers: BinaryIO) -> None:
    started = time.monotonic()
    written = 0
    if not messages:
        kind, text = _attempt(contexts, name, code, None)
        if kind == b"E":
            _write(answers, kind, text)
    for message in messages:
        kind, text = _attempt(contexts, name, code, message)
        written += _write(answers, kind, text)
        answers.flush()  # so that it is known which message it was if the next one is the end
        if written > SLICE_BYTES or time.monotonic() - started > SLICE_S:
            break
    contexts.tidy(name, code)


def _attempt(contexts: Contexts, name: str, code: str, message: str | None) -> tuple[bytes, str]:
    for_text = TEXT_LIMIT_S_PER_BYTE * len(message or "")
    # Of CPU time; SIGPROF then ends the process.
    signal.setitimer(signal.ITIMER_PROF, HARD_LIMIT_S + for_text)
    try:
        context, call = contexts.get(name, code)
        if message is None:
            return b"R", ""
        needed = MEMORY_LIMIT + MEMORY_PER_BYTE * len(message)
        context.set_memory_limit(min(needed, PROCESS_MEMORY // 2))
        context.set_time_limit(TIME_LIMIT_S + for_text)
        call("take", message)
        context.set_time_limit(TIME_LIMIT_S)
        call("run")
        context.set_time_limit(TIME_LIMIT_S + for_text)
        return b"R", call("give")
    except StackOverflow:
        reason = "it calls itself too often"
    except JSException as error:
        text = str(error)
        if (
            not text.startswith("InternalError") and text != _UNSAID
        ):  # the user's own: the context is as good as before
            return b"E", _reason(text)
        reason = _reason(text)
    except MemoryError:
        reason = "it needs too much memory"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    contexts.forget(name, code)  # who knows in what state it is
    return b"E", reason


def _reason(text: str) -> str:
    """The first line: what follows is where it happened."""
    first = text.partition("\n")[0]
    if first == "InternalError: interrupted":
        return f"it runs for more than {TIME_LIMIT_S * 1000:.0f} ms"
    if first in {"InternalError: out of memory", _UNSAID}:
        return "it needs too much memory"
    return first[:_MAX_REASON]


def _give_up_rights() -> None:
    os.nice(_NICE)
    import resource  # noqa: PLC0415 - as late as everything that only this process does

    for what, limit in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 3),
        (resource.RLIMIT_AS, PROCESS_MEMORY),
    ):
        resource.setrlimit(what, (limit, limit))


def _read(requests: BinaryIO) -> str | None:
    """The next frame; None at the end."""
    head = requests.read(4)
    if len(head) < 4:
        return None
    (length,) = struct.unpack(">I", head)
    return requests.read(length).decode()


def _write(answers: BinaryIO, kind: bytes, text: str) -> int:
    # Half of a surrogate pair is no character: it is left to the service to refuse it.
    encoded = text.encode(errors="surrogatepass")
    answers.write(kind + struct.pack(">I", len(encoded)) + encoded)
    return len(encoded)


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
