"""AMS's REST API: publishing one message and a hundred, pulling a hundred and acknowledging them."""

import base64
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from scripts.benchmark import servers
from scripts.benchmark.figures import Result
from scripts.benchmark.rest_load import TOKEN, Connection, connected, request, timed
from scripts.benchmark.trial import Trial, Workload

_CONNECTIONS: Final = 8
_PUBLISHERS: Final = 64
"""As many as publish-unary has calls in flight."""
_PROJECT: Final = "bench"
_DATA: Final = base64.b64encode(b"x" * 100).decode()


def _ours(trial: Trial, messages: int) -> tuple[servers.Server, str]:
    """The service with its AMS address; and that address."""
    address = servers.free_address()
    plain = servers.ours(None)
    if plain is None:
        raise RuntimeError("the service is not installed")

    def command(grpc_address: str, data: Path) -> Sequence[str]:
        settings = ("env", f"AMS_ADMIN_TOKEN={TOKEN}")
        return [*settings, *plain.command(grpc_address, data), "--ams-address", address]

    return servers.Server(plain.name, command, plain.ready_mark), address


def _floor(trial: Trial, messages: int) -> tuple[servers.Server, str]:
    address = servers.free_address()
    module = [sys.executable, "-m", "scripts.benchmark.rest_floor", address, str(messages)]
    return servers.Server(servers.FLOOR, lambda _address, _data: module, b"ready "), address


@asynccontextmanager
async def _serving(
    trial: Trial, messages: int, subscriptions: int
) -> AsyncIterator[tuple[servers.Running, str]]:
    """A server with a topic and subscriptions, and its AMS address."""
    make = _ours if trial.kind == servers.OURS else _floor
    server, address = make(trial, messages)
    async with servers.start(server, trial.setting.cpus) as running:
        async with connected(address) as connection:
            await connection.ask(request("POST", f"/projects/{_PROJECT}", b"{}"))
            await connection.ask(request("PUT", f"/projects/{_PROJECT}/topics/bench"))
            topic = json.dumps({"topic": f"projects/{_PROJECT}/topics/bench"}).encode()
            for at in range(subscriptions):
                path = f"/projects/{_PROJECT}/subscriptions/s{at}"
                await connection.ask(request("PUT", path, topic))
        yield running, address


def _publish_request(messages: int) -> bytes:
    body = json.dumps({"messages": [{"data": _DATA}] * messages}).encode()
    return request("POST", f"/projects/{_PROJECT}/topics/bench:publish", body)


def _publish(calls: int, messages: int, connections: int) -> Callable[[Trial], Awaitable[Result]]:
    async def measure(trial: Trial) -> Result:
        serialized = _publish_request(messages)
        per_connection = trial.scaled(calls) // connections

        async def work(_number: int, connection: Connection) -> None:
            for _ in range(per_connection):
                await connection.ask(serialized)

        async with _serving(trial, messages, 0) as (running, address):
            return await _measured(running, address, work, connections, per_connection * messages)

    return measure


def _consume(calls: int, messages: int) -> Callable[[Trial], Awaitable[Result]]:
    async def measure(trial: Trial) -> Result:
        per_connection = trial.scaled(calls) // _CONNECTIONS
        pull = json.dumps({"maxMessages": str(messages), "returnImmediately": "true"}).encode()

        async def work(number: int, connection: Connection) -> None:
            path = f"/projects/{_PROJECT}/subscriptions/s{number}"
            pulling = request("POST", f"{path}:pull", pull)
            for _ in range(per_connection):
                received = json.loads(await connection.ask(pulling))["receivedMessages"]
                if len(received) != messages:
                    raise RuntimeError(f"{len(received)} messages pulled instead of {messages}")
                ack = json.dumps({"ackIds": [received[-1]["ackId"]]}).encode()
                await connection.ask(request("POST", f"{path}:acknowledge", ack))

        async with _serving(trial, messages, _CONNECTIONS) as (running, address):
            async with connected(address) as connection:
                for _ in range(per_connection * 2):
                    await connection.ask(_publish_request(messages))
            return await _measured(running, address, work, _CONNECTIONS, per_connection * messages)

    return measure


async def _measured(
    running: servers.Running,
    address: str,
    work: Callable[[int, Connection], Awaitable[None]],
    connections: int,
    messages_per_connection: int,
) -> Result:
    """``work`` on all connections; once to warm up, and once that counts."""
    await timed(address, connections, work)
    before = running.usage()
    seconds = await timed(address, connections, work)
    after = running.usage()
    messages = messages_per_connection * connections
    return Result(
        {
            "cpu_us": (after.cpu_s - before.cpu_s) / messages * 1e6,
            "rate": messages / seconds,
            "peak_rss_mb": after.peak_rss_mb,
        }
    )


_KINDS: Final = (servers.OURS, servers.FLOOR)

WORKLOADS: Final = (
    Workload(
        "rest-publish-1",
        "6,400 requests of 1 x 100 B to AMS's REST API, 64 connections",
        _publish(6400, 1, _PUBLISHERS),
        kinds=_KINDS,
        shared=False,
    ),
    Workload(
        "rest-publish-100",
        "800 requests of 100 x 100 B to AMS's REST API, 8 connections",
        _publish(800, 100, _CONNECTIONS),
        kinds=_KINDS,
        shared=False,
    ),
    Workload(
        "rest-consume-100",
        "400 pulls of 100 x 100 B from AMS's REST API, each acknowledged, 8 subscriptions",
        _consume(400, 100),
        kinds=_KINDS,
        shared=False,
    ),
)
