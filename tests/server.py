"""`ams-grpc serve` for tests, as users run it: a process of its own, on a loopback port.

    with Server(tmp_path, database_url) as server:
        ... clients connect to server.endpoint ...
        server.kill()
        server.start()  # the same address, the same data

Leaving the `with` block ends the process, whatever state it is in, and shows what it has logged if
the block failed. Nothing here waits for a time: a server is ready when it says so, and gone when
its process is.
"""

from __future__ import annotations

import http.client
import os
import random
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 40.0

# Ports that no operating system hands out to outgoing connections by default: while a server is
# down, none of the connections that try to reach it can take its port.
_PORTS: Final = range(20_000, 32_000)

_COMMAND: Final = (sys.executable, "-m", "ams_grpc")
_PAGE_BYTES: Final = resource.getpagesize()


class ServerError(AssertionError):
    """A server did not do what its command line promises; the text ends with its log."""


class Server:
    """One server process at a time, with the same address and data each time it is started.

    `arguments` go to `ams-grpc serve` as they are; `settings` are AMS_* variables, such as
    ``{"DRAIN_S": "1"}``. Without a `database_url` it is SQLite, in `data`; a PostgreSQL database
    has its tables already. Only a `measured` server counts for coverage: measuring slows it down,
    and is lost unless it ends in good order, so it is for servers that many tests share.
    """

    def __init__(
        self,
        data: Path,
        database_url: str | None = None,
        *,
        profile: Literal["strict", "emulator"] = "strict",
        admin: bool = False,
        arguments: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
        measured: bool = False,
    ) -> None:
        self.endpoint: Final = f"127.0.0.1:{free_port()}"
        self.admin_endpoint: Final = f"127.0.0.1:{free_port()}" if admin else None
        self.ready: dict[str, str] = {}
        """What the server said when it was ready: `grpc`, `profile` and so on."""
        self._data = data
        self._arguments = [
            *("--grpc-address", self.endpoint, "--profile", profile, "--data", str(data)),
            *(("--database-url", database_url) if database_url else ()),
            *(("--admin-address", self.admin_endpoint) if self.admin_endpoint else ()),
            *arguments,
        ]
        self._environment = _environment(settings or {}, measured=measured)
        self._measured = measured
        self._process: subprocess.Popen[str] | None = None
        self._log = data / f"server-{self.endpoint.rpartition(':')[2]}.log"

    def __enter__(self) -> Self:
        self._data.mkdir(parents=True, exist_ok=True)
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self._measured and self.is_running:
                self.stop()
        finally:
            self.kill()
        if error is not None:
            sys.stderr.write(f"\n--- log of the server at {self.endpoint}\n{self.log()[-20_000:]}")

    # --- starting and ending it ----------------------------------------------------------------

    def start(self) -> None:
        """Start the process and wait until it is ready. Raises ServerError with its log."""
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Start the process, and go on while it gets ready."""
        assert not self.is_running, "the server runs already"
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [*_COMMAND, "serve", *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment,
                start_new_session=True,  # Ctrl-C in a terminal is for the tests; they end it
                text=True,
            )

    def wait_until_ready(self) -> None:
        """Raises ServerError with the log if the process ends instead, or takes too long."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        line = ""
        if select.select([process.stdout], [], [], START_TIMEOUT_S)[0]:
            line = process.stdout.readline()
        word, *facts = line.split() or [""]
        if word != "ready":
            process.kill()
            status = self._reap(process)
            raise ServerError(f"the server is not ready ({line=}, {status=}):\n{self.log()}")
        self.ready = dict(fact.split("=", 1) for fact in facts)

    def kill(self) -> None:
        """End the process at once, with SIGKILL. More than once is harmless."""
        if self._process is not None:
            self._process.kill()
            self._reap(self._process)

    def stop(self) -> int:
        """Drain and end the process, with SIGTERM; gives its exit status."""
        self.terminate()
        return self.wait()

    def terminate(self) -> None:
        """Send SIGTERM, and go on while the server drains."""
        assert self._process is not None, "the server was not started"
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Wait until the process has ended; gives its exit status."""
        assert self._process is not None, "the server was not started"
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise ServerError(f"the server does not stop:\n{self.log()}") from None
        return self._reap(self._process)

    # --- looking at it -------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server was not started"
        return self._process.pid

    @property
    def resident_bytes(self) -> int:
        """How much memory the process uses (RSS)."""
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * _PAGE_BYTES

    @property
    def open_files(self) -> int:
        """How many file descriptors, and so connections, the process has."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a page at the admin address."""
        assert self.admin_endpoint is not None, "ask for admin=True"
        connection = http.client.HTTPConnection(self.admin_endpoint, timeout=START_TIMEOUT_S)
        with closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def metric(self, name: str) -> float:
        """The sum of a metric over all its labels."""
        _, page = self.get("/metrics")
        lines = (line for line in page.splitlines() if line.split("{")[0].split()[0:1] == [name])
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def log(self) -> str:
        """What all processes of this server have said on stderr."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def limit_file_size(self, limit: int) -> None:
        """From now on the process can write no file beyond `limit` bytes: its disk is "full"."""
        _, hard = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (limit, hard))

    # --- the parts of the above ----------------------------------------------------------------

    def _reap(self, process: subprocess.Popen[str]) -> int:
        status = process.wait()
        if process.stdout is not None:
            process.stdout.close()
        return status


def run(*arguments: str, timeout_s: float = START_TIMEOUT_S) -> subprocess.CompletedProcess[str]:
    """Run `ams-grpc` to its end, or kill it after `timeout_s`."""
    return subprocess.run(
        [*_COMMAND, *arguments],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=_environment({}, measured=True),
        text=True,
        timeout=timeout_s,
    )


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on, and that no outgoing connection will take."""
    for _ in range(100):
        port = random.choice(_PORTS)
        with socket.socket() as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port on 127.0.0.1")


def eventually(condition: Callable[[], object], *, timeout_s: float = 20.0) -> None:
    """Wait until `condition()` is true. Raises AssertionError if it does not become so."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {condition}"
        time.sleep(0.01)


def _environment(settings: Mapping[str, str], *, measured: bool) -> dict[str, str]:
    """Ours, without settings of the service that somebody has made here."""
    left_out = ("AMS_",) if measured else ("AMS_", "COVERAGE_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return inherited | {f"AMS_{name}": value for name, value in settings.items()}
