"""Publish load: the same ready-made request, over and over, with a fixed number in flight.

h2load does it where it is installed, since it costs far less CPU than the server it loads.
Otherwise :mod:`scripts.benchmark.publish_load` does, in a process of its own.
"""

import asyncio
import json
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.benchmark import wire
from scripts.benchmark.figures import percentile

CONNECTIONS: Final = 4
_LIMIT_S: Final = 180.0
_ROOT: Final = Path(__file__).resolve().parent.parent.parent
_MIN_ID_BYTES: Final = 3  # a field tag, a length and one digit: the least a message id takes
_DATA_BYTES: Final = re.compile(r"\((\d+)\) data")


@dataclass(frozen=True, slots=True)
class Load:
    """``calls`` Publish calls of ``per_call`` messages.

    Each has ``data``, or, where that is empty, any ``byte_size`` bytes.
    """

    topic: str
    calls: int
    in_flight: int
    per_call: int = 1
    byte_size: int = 100
    data: bytes = b""

    @property
    def messages(self) -> int:
        """How many messages this load publishes."""
        return self.calls * self.per_call


@dataclass(frozen=True, slots=True)
class Published:
    """What the client saw: seconds from first request to last answer, and each call's time."""

    seconds: float
    p50_ms: float
    p99_ms: float


async def publish(address: str, load: Load, *, h2load: bool) -> Published:
    """Publish ``load`` and return when every call is answered.

    Raises RuntimeError if any call failed, or if it takes longer than three minutes.
    """
    with tempfile.TemporaryDirectory(prefix="bench-publish-") as folder:
        body = Path(folder) / "body"
        data = load.data or wire.any_data(load.byte_size)
        request = wire.publish_body(load.topic, load.per_call, data)
        body.write_bytes(wire.grpc_frame(request))
        if h2load:
            return await _with_h2load(address, load, body, Path(folder) / "log")
        return await _with_grpcio(address, load, body)


def h2load_found() -> bool:
    """Whether h2load is on the PATH."""
    return shutil.which("h2load") is not None


async def _with_h2load(address: str, load: Load, body: Path, log: Path) -> Published:
    clients = min(CONNECTIONS, load.in_flight, load.calls)
    output = await _run(
        "h2load",
        f"--requests={load.calls}",
        f"--clients={clients}",
        f"--max-concurrent-streams={-(-load.in_flight // clients)}",
        f"--data={body}",
        f"--log-file={log}",
        "--header=content-type: application/grpc",
        "--header=te: trailers",
        f"http://{address}{wire.PUBLISH}",
    )
    rows = _log_rows(log)
    # h2load does not look at grpc-status, but a failed call carries no data.
    found = _DATA_BYTES.search(output)
    least = load.calls * (len(wire.grpc_frame(b"")) + load.per_call * _MIN_ID_BYTES)
    succeeded = sum(status == 200 for _, status, _ in rows)
    if succeeded != load.calls or found is None or int(found[1]) < least:
        raise RuntimeError(f"publish calls failed; h2load said:\n{output}")
    took_ms = [micros / 1e3 for _, _, micros in rows]
    first_us = min(start for start, _, _ in rows)
    last_us = max(start + micros for start, _, micros in rows)
    seconds = (last_us - first_us) / 1e6
    return Published(seconds, percentile(took_ms, 50), percentile(took_ms, 99))


def _log_rows(log: Path) -> list[tuple[int, int, int]]:
    """h2load's log: start in µs since the epoch, HTTP status, µs until the end of the response."""
    rows = (line.split("\t") for line in log.read_text().splitlines())
    return [(int(start), int(status), int(micros)) for start, status, micros, *_ in rows]


async def _with_grpcio(address: str, load: Load, body: Path) -> Published:
    output = await _run(
        *(sys.executable, "-m", "scripts.benchmark.publish_load"),
        *(address, str(body), str(load.calls), str(load.in_flight)),
    )
    return Published(**json.loads(output))


async def _run(*command: str) -> str:
    """The standard output of ``command``. Raises RuntimeError if it fails or takes too long."""
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=_ROOT,
    )
    try:
        output, _ = await asyncio.wait_for(child.communicate(), _LIMIT_S)
    except TimeoutError as error:
        raise RuntimeError(f"{command[0]} took longer than {_LIMIT_S:.0f} s") from error
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    text = output.decode(errors="replace")
    if child.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {child.returncode}:\n{text}")
    return text
