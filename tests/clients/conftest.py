"""Servers that many tests share, a project of its own for each test.

`pubsub` is a project on a strict server; `lenient_pubsub` is one on a server with the profile
`emulator`, where deadlines of a second keep tests short. Both run once on each kind of database.
A test that stops, kills or sets up a server asks for `database_url` and makes its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import pytest

# Before gRPC is loaded: its handlers for fork() crash the programs that tests start, now and then.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"

from tests.clients.pubsub import PubSub, project_on
from tests.postgres import PostgresServer
from tests.server import Server


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


@pytest.fixture(scope="session")
def strict_server(
    database: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with _server(database, "strict", request, tmp_path_factory) as server:
        yield server


@pytest.fixture(scope="session")
def lenient_server(
    database: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with _server(database, "emulator", request, tmp_path_factory) as server:
        yield server


@contextmanager
def _server(
    database: str,
    profile: Literal["strict", "emulator"],
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    data = tmp_path_factory.mktemp(f"{profile}-server")
    if database == "sqlite":
        with Server(data, profile=profile) as server:
            yield server
        return
    postgres: PostgresServer = request.getfixturevalue("postgres")
    url = postgres.create_database(f"ams_test_{data.name.replace('-', '_')}_{id(data)}")
    with Server(data, url, profile=profile) as server:
        yield server


@pytest.fixture
def pubsub(strict_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[PubSub]:
    with project_on(strict_server, monkeypatch) as project:
        yield project


@pytest.fixture
def lenient_pubsub(lenient_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[PubSub]:
    with project_on(lenient_server, monkeypatch) as project:
        yield project
