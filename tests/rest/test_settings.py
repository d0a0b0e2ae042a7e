"""Settings of AMS's REST API that change what callers see: one server that has them all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rest.conftest import ROOT_TOKEN, Ams
from tests.server import Server, free_port

PUSH: dict[str, object] = {"type": "http_endpoint", "pushEndpoint": "https://recv.example.org/r"}
SUBSCRIPTION = "/projects/ACME/subscriptions/billing"


@pytest.fixture(scope="module")
def ams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ams]:
    with Server(
        tmp_path_factory.mktemp("settings"),
        arguments=("--ams-address", f"127.0.0.1:{free_port()}"),
        settings={
            "ADMIN_TOKEN": ROOT_TOKEN,
            "PER_RESOURCE_AUTH": "false",
            "PUSH_ENABLED": "false",
            "PROXY_HOSTNAME": "ams.example.org",
            "AMS_PULL_WAIT_S": "0",
        },
        measured=True,
    ) as server:
        found = Ams(server.ready["ams"], server.endpoint)
        found.ok("POST", "/projects/ACME", json={})
        found.ok("PUT", "/projects/ACME/topics/orders")
        found.ok("PUT", SUBSCRIPTION, json={"topic": "projects/ACME/topics/orders"})
        yield found


def member(ams: Ams, role: str) -> str:
    """The token of somebody with a role."""
    rights = {"projects": [{"project": "ACME", "roles": [role]}]}
    token: str = ams.ok("POST", f"/projects/ACME/members/{role}", json=rights)["token"]
    return token


def test_without_per_resource_auth_a_role_is_enough(ams: Ams) -> None:
    message = {"messages": [{"data": "MQ=="}]}
    topic = "/projects/ACME/topics/orders"
    assert ams.ok("POST", f"{topic}:publish", member(ams, "publisher"), json=message)
    pulled = ams.ok("POST", f"{SUBSCRIPTION}:pull", member(ams, "consumer"), json={})
    assert len(pulled["receivedMessages"]) == 1
    ams.ok("POST", f"{SUBSCRIPTION}:modifyOffset", json={"offset": 1})


def test_without_push_there_are_pull_subscriptions_alone(ams: Ams) -> None:
    disabled = (409, "CONFLICT", "Push functionality is currently disabled")
    pushed = {"topic": "projects/ACME/topics/orders", "pushConfig": PUSH}
    assert ams.refused("PUT", "/projects/ACME/subscriptions/hook", json=pushed) == disabled
    modified = {"pushConfig": PUSH}
    assert ams.refused("POST", f"{SUBSCRIPTION}:modifyPushConfig", json=modified) == disabled
    assert ams.refused("POST", f"{SUBSCRIPTION}:verifyPushEndpoint") == disabled
    assert ams.ok("GET", "/status", None) == {"status": "ok", "push_functionality": "disabled"}


def test_the_version_names_the_host_that_callers_know(ams: Ams) -> None:
    assert ams.ok("GET", "/version")["hostname"] == "ams.example.org"


def test_a_pull_waits_as_long_as_the_service_says(ams: Ams) -> None:
    """Here, not at all: with the usual three seconds this would take a minute."""
    for _ in range(20):
        waits = {"returnImmediately": "false"}
        assert ams.ok("POST", f"{SUBSCRIPTION}:pull", json=waits) == {"receivedMessages": []}
