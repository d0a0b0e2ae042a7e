"""Servers that many tests share, a project of its own for each test.

`pubsub` is a project on a strict server; `lenient_pubsub` is one on a server with the profile
`emulator`, where deadlines of a second keep tests short. Both run once on each kind of database.
A test that stops, kills or sets up a server asks for `database_url` and makes its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

# Before gRPC is loaded: its handlers for fork() crash the programs that tests start, now and then.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"

from tests.clients.pubsub import PubSub, project_on
from tests.server import Server


@pytest.fixture(scope="session")
def strict_server(shared_server: Callable[..., Server]) -> Server:
    return shared_server(profile="strict")


@pytest.fixture(scope="session")
def lenient_server(shared_server: Callable[..., Server]) -> Server:
    return shared_server(profile="emulator")


@pytest.fixture
def pubsub(strict_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[PubSub]:
    with project_on(strict_server, monkeypatch) as project:
        yield project


@pytest.fixture
def lenient_pubsub(lenient_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[PubSub]:
    with project_on(lenient_server, monkeypatch) as project:
        yield project
