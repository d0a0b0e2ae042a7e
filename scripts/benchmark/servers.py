"""Servers under test: subprocesses on loopback, each with a data directory of its own."""

import asyncio
import os
import shutil
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from scripts.benchmark import process

OURS: Final = "ours"
FLOOR: Final = "floor"
EMULATOR: Final = "emulator"
NAMES: Final = (OURS, FLOOR, EMULATOR)

FORK_SUPPORT: Final = "GRPC_ENABLE_FORK_SUPPORT"
_READY_LIMIT_S: Final = 60.0
_STOP_LIMIT_S: Final = 10.0
_LOG_LINES_KEPT: Final = 40
_ROOT: Final = Path(__file__).resolve().parent.parent.parent

_EMULATOR_HOMES: Final = (
    "/usr/lib/google-cloud-sdk",
    "/usr/share/google-cloud-sdk",
    "/usr/local/google-cloud-sdk",
    "/opt/google-cloud-sdk",
    "/google-cloud-sdk",
    "/snap/google-cloud-cli/current",
    "~/google-cloud-sdk",
)


@dataclass(frozen=True, slots=True)
class Server:
    """One way to answer google.pubsub.v1, and how to start it.

    ``command`` gets an address (host:port) and an empty directory; the server is ready when it
    prints a line that contains ``ready_mark``.
    """

    name: str
    command: Callable[[str, Path], Sequence[str]]
    ready_mark: bytes


@dataclass(frozen=True, slots=True)
class Running:
    """A started server. ``ready_s``: seconds from exec to its ready line."""

    name: str
    address: str
    pid: int
    ready_s: float

    def usage(self) -> process.Usage:
        """What its processes have used so far."""
        return process.usage(self.pid)


def ours(database_url: str | None) -> Server | None:
    """The service, by its console script beside this Python, or from this checkout without one.

    None if there is neither.
    """
    script = Path(sys.executable).parent / "ams-grpc"
    program = [str(script)] if script.exists() else [sys.executable, "-m", "ams_grpc"]
    if not script.exists() and not (_ROOT / "ams_grpc" / "__main__.py").exists():
        return None

    def command(address: str, data: Path) -> list[str]:
        line = [*program, "serve", "--grpc-address", address, "--data", str(data)]
        line += ["--admin-address", free_address(), "--no-one-port"]
        return line if database_url is None else [*line, "--database-url", database_url]

    return Server(OURS, command, b"ready ")


def floor(loop: str) -> Server:
    """The empty-handler floor of :mod:`scripts.benchmark.floor`, on ``asyncio`` or ``uvloop``."""
    module = [sys.executable, "-m", "scripts.benchmark.floor"]
    return Server(FLOOR, lambda address, _: [*module, address, loop], b"ready ")


def emulator(jar: Path | None) -> Server | None:
    """Google's emulator, from ``jar`` or a usual place; None where it or Java is missing."""
    java = shutil.which("java")
    found = jar or _emulator_jar()
    if java is None or found is None:
        return None

    def command(address: str, _: Path) -> list[str]:
        host, port = address.split(":")
        return [java, "-jar", str(found), f"--host={host}", f"--port={port}"]

    return Server(EMULATOR, command, b"Server started, listening on")


def _emulator_jar() -> Path | None:
    homes = [Path(home).expanduser() for home in _EMULATOR_HOMES]
    gcloud = shutil.which("gcloud")
    if gcloud is not None:
        homes.insert(0, Path(gcloud).resolve().parent.parent)
    for home in homes:
        jars = sorted(home.glob("platform/pubsub-emulator/lib/cloud-pubsub-emulator-*-all.jar"))
        if jars:
            return jars[-1]
    return None


def environment() -> dict[str, str]:
    """This process's environment, without what scripts/bench set for itself alone."""
    return {name: value for name, value in os.environ.items() if name != FORK_SUPPORT}


def free_address() -> str:
    """A loopback host:port that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@dataclass(slots=True)
class _Output:
    """Reads what a server prints, so that its pipe never fills; keeps the end for error texts."""

    ready_mark: bytes
    ready_at: asyncio.Future[float]
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=_LOG_LINES_KEPT))

    async def read(self, child: asyncio.subprocess.Process) -> None:
        while child.stdout is not None and (line := await child.stdout.readline()):
            if self.ready_mark in line and not self.ready_at.done():
                self.ready_at.set_result(time.perf_counter())
            self.tail.append(line.decode(errors="replace").rstrip())
        if not self.ready_at.done():
            self.ready_at.set_exception(RuntimeError("it ended before it was ready"))


@asynccontextmanager
async def start(server: Server, cpus: frozenset[int] | None) -> AsyncIterator[Running]:
    """Start ``server``, on ``cpus`` only if given; stop it and remove its data on the way out.

    Raises RuntimeError, with the end of its output, if it is not ready in time.
    """
    with tempfile.TemporaryDirectory(prefix=f"bench-{server.name}-") as data:
        address = free_address()
        command = server.command(address, Path(data))
        started_at = time.perf_counter()
        with process.started_on(cpus):
            child = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                limit=1 << 20,
                cwd=_ROOT,
                env=environment(),
            )
        output = _Output(server.ready_mark, asyncio.get_running_loop().create_future())
        reading = asyncio.create_task(output.read(child))
        try:
            try:
                ready_at = await asyncio.wait_for(output.ready_at, _READY_LIMIT_S)
            except (TimeoutError, RuntimeError) as error:
                text = "\n".join(output.tail)
                raise RuntimeError(f"{server.name} did not start: {error}\n{text}") from error
            yield Running(server.name, address, child.pid, ready_at - started_at)
        finally:
            await _stop(child)
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading


async def _stop(child: asyncio.subprocess.Process) -> None:
    if child.returncode is not None:
        return
    child.terminate()
    try:
        await asyncio.wait_for(child.wait(), _STOP_LIMIT_S)
    except TimeoutError:
        child.kill()
        await child.wait()
