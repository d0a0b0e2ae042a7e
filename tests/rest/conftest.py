"""AMS's REST API against a server process: one for all tests of a worker, a fresh project for each."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import grpc
import pytest
import requests
from google.protobuf import empty_pb2

from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2
from tests.server import Server, free_port

ROOT_TOKEN: Final = "r" * 64
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Ams:
    """A server's AMS address, and what tests do with it."""

    address: str
    grpc: str

    def call(
        self,
        method: str,
        path: str,
        token: str | None = ROOT_TOKEN,
        *,
        body: bytes | str | None = None,
        **options: Any,
    ) -> requests.Response:
        """One request, as root unless another token is given; None: none."""
        headers = {"x-api-key": token} if token is not None else {}
        headers |= options.pop("headers", {})
        return requests.request(
            method,
            f"http://{self.address}/v1{path}",
            headers=headers,
            data=body,
            timeout=30,
            allow_redirects=False,
            **options,
        )

    def ok(self, method: str, path: str, token: str | None = ROOT_TOKEN, **options: Any) -> Any:
        """The JSON of a reply with status 200; None for an empty one."""
        reply = self.call(method, path, token, **options)
        assert reply.status_code == 200, reply.text
        return reply.json() if reply.content else None

    def refused(
        self, method: str, path: str, token: str | None = ROOT_TOKEN, **options: Any
    ) -> tuple[int, str, str]:
        """Code, status and message of a refusal, in AMS's envelope."""
        reply = self.call(method, path, token, **options)
        [(key, error)] = reply.json().items()
        assert key == "error"
        assert list(error) == ["code", "message", "status"]
        assert error["code"] == reply.status_code
        return error["code"], error["status"], error["message"]


@dataclass(frozen=True, slots=True)
class Town:
    """A fresh project with a user for each role: AMS's usual cast."""

    ams: Ams
    project: str
    tokens: dict[str, str]
    names: dict[str, str]

    def path(self, rest: str) -> str:
        return f"/projects/{self.project}{rest}"


@pytest.fixture(scope="session")
def ams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ams]:
    address = f"127.0.0.1:{free_port()}"
    with Server(
        tmp_path_factory.mktemp("ams"),
        arguments=("--ams-address", address),
        settings={
            "ADMIN_TOKEN": ROOT_TOKEN,
            "PUSH_ALLOWED_HOSTS": '["127.0.0.1"]',
            "PUSH_VERIFY_TLS": "false",
            "PUSH_WORKER_TOKEN": ROOT_TOKEN,
            "PUSH_SOURCE": "ams.example.org:443",
        },
        measured=True,
    ) as server:
        assert server.ready["ams"] == address
        yield Ams(address, server.endpoint)


@pytest.fixture
def town(ams: Ams) -> Town:
    number = next(_numbers)
    project = f"ACME-{number}-{secrets.token_hex(3)}"
    ams.ok("POST", f"/projects/{project}", json={"description": "orders"})
    tokens, names = {}, {}
    for name, role in (("alice", "project_admin"), ("pat", "publisher"), ("carl", "consumer")):
        names[name] = f"{name}-{project}"
        made = ams.ok(
            "POST",
            f"/projects/{project}/members/{names[name]}",
            json={"projects": [{"project": project, "roles": [role]}], "email": "x@example.org"},
        )
        tokens[name] = made["token"]
    return Town(ams, project, tokens, names)


def pulled_by_grpc(town: Town, subscription: str, count: int) -> list[pubsub_pb2.PubsubMessage]:
    """The messages of a subscription, as Pub/Sub gives them, acknowledged."""
    name = f"projects/{town.project}/subscriptions/{subscription}"
    found: list[pubsub_pb2.PubsubMessage] = []
    with grpc.insecure_channel(town.ams.grpc) as channel:
        pull = channel.unary_unary(
            "/google.pubsub.v1.Subscriber/Pull",
            request_serializer=pubsub_pb2.PullRequest.SerializeToString,
            response_deserializer=pubsub_pb2.PullResponse.FromString,
        )
        acknowledge = channel.unary_unary(
            "/google.pubsub.v1.Subscriber/Acknowledge",
            request_serializer=pubsub_pb2.AcknowledgeRequest.SerializeToString,
            response_deserializer=empty_pb2.Empty.FromString,
        )
        while len(found) < count:
            got = pull(
                pubsub_pb2.PullRequest(subscription=name, max_messages=1000), timeout=30
            ).received_messages
            found += [each.message for each in got]
            acknowledge(
                pubsub_pb2.AcknowledgeRequest(
                    subscription=name, ack_ids=[each.ack_id for each in got]
                ),
                timeout=30,
            )
    return sorted(found, key=lambda message: int(message.message_id))
