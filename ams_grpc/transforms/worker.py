"""One JavaScript process, seen from the service. See ``sandbox`` for what they say to each other."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

_SANDBOX: Final = Path(__file__).with_name("sandbox.py")
_MAX_FRAME: Final = 256 << 20
JOB_LIMIT_S: Final = 30.0
"""A process that is at one job for longer ends itself before that, unless something is wrong with it."""
_HARD_END: Final = "it runs for too long, or has broken its engine"


class Worker:
    """Runs JavaScript in a process, which starts when it is needed, again if it died.

    For one thread at a time.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._busy_since: float | None = None

    def run(self, name: str, code: str, messages: Sequence[str]) -> list[tuple[str | None, str]]:
        """Call the function with messages: for each the result, or None and why there is none.

        Perhaps of the first few alone: a job has a slice of time. Without messages it only looks
        at the code, and there is one answer if it does not work.
        """
        self._busy_since = time.monotonic()
        try:
            return self._run(name, code, messages)
        finally:
            self._busy_since = None

    @property
    def is_busy(self) -> bool:
        """True while a job runs. From any thread."""
        return self._busy_since is not None

    def kill_if_stuck(self) -> None:
        """Let a job that has run for too long end like that. From any thread."""
        since = self._busy_since
        if since is not None and time.monotonic() - since > JOB_LIMIT_S:
            self.kill()

    def _run(self, name: str, code: str, messages: Sequence[str]) -> list[tuple[str | None, str]]:
        process = self._started()
        answers: list[tuple[str | None, str]] = []
        try:
            requests, replies = _pipes(process)
            for frame in (f"{len(messages)}\n{name}\n{code}", *messages):
                encoded = frame.encode()
                requests.write(struct.pack(">I", len(encoded)) + encoded)
            requests.flush()
            for kind, text in _read(replies):
                if kind == b"S":
                    return answers
                answers.append((text, "") if kind == b"R" else (None, text))
        except (OSError, UnicodeDecodeError):
            pass  # it is gone, as it is when its answers end in the middle
        self.close()
        return [*answers, (None, _HARD_END)]

    def kill(self) -> None:
        """Let the job that runs end at once, without its answers. From any thread."""
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """End the process; the next job starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            for pipe in _pipes(process):
                with suppress(OSError):  # what was still to be written has no reader
                    pipe.close()
            process.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(  # noqa: S603 - our own script, with our own Python
                # Isolated: neither the environment nor the directory decides what is imported.
                [sys.executable, "-I", str(_SANDBOX)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={},
                start_new_session=True,  # an interrupt from the keyboard is for the service
            )
        return self._process


def _pipes(process: subprocess.Popen[bytes]) -> tuple[BinaryIO, BinaryIO]:
    if process.stdin is None or process.stdout is None:
        raise BrokenPipeError
    return process.stdin, process.stdout  # type: ignore[return-value]


def _read(replies: BinaryIO) -> Iterator[tuple[bytes, str]]:
    """The answers, as far as they are whole."""
    while len(head := replies.read(5)) == 5:
        (length,) = struct.unpack(">I", head[1:])
        if length > _MAX_FRAME or len(body := replies.read(length)) < length:
            return
        yield head[:1], body.decode()
