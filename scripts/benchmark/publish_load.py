"""Publish load without h2load: raw bytes over gRPC's asyncio client, as a process of its own.

    python -m scripts.benchmark.publish_load HOST:PORT BODY_FILE CALLS IN_FLIGHT

BODY_FILE holds one request with its gRPC frame. Prints the fields of ``publishing.Published`` as
JSON. Its own CPU is as large as an empty server's, so rates measured with it are no upper bound.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any, Final

import grpc

from scripts.benchmark import loops, wire
from scripts.benchmark.figures import percentile

_CALL_LIMIT_S: Final = 60.0


async def load(address: str, request: bytes, calls: int, in_flight: int) -> dict[str, float]:
    """Make ``calls`` Publish calls, ``in_flight`` at once, and return when all are answered."""
    waiting = iter(range(calls))
    took_ms: list[float] = []
    async with grpc.aio.insecure_channel(address, options=wire.CHANNEL_OPTIONS) as channel:
        publish: Any = channel.unary_unary(wire.PUBLISH)

        async def one_after_another() -> None:
            for _ in waiting:
                sent_at = time.perf_counter()
                await publish(request, timeout=_CALL_LIMIT_S)
                took_ms.append((time.perf_counter() - sent_at) * 1e3)

        await channel.channel_ready()
        started_at = time.perf_counter()
        await asyncio.gather(*(one_after_another() for _ in range(in_flight)))
        seconds = time.perf_counter() - started_at
    return {
        "seconds": seconds,
        "p50_ms": percentile(took_ms, 50),
        "p99_ms": percentile(took_ms, 99),
    }


if __name__ == "__main__":
    frame = Path(sys.argv[2]).read_bytes()
    body = frame[len(wire.grpc_frame(b"")) :]
    print(json.dumps(loops.run(load(sys.argv[1], body, int(sys.argv[3]), int(sys.argv[4])))))
