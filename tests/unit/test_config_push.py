"""The settings of pushing: what is allowed where only this machine reaches the service."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from pydantic import ValidationError

from ams_grpc.config import Config

PUBLIC = "0.0.0.0:8080"
LOOPBACK = "127.0.0.1:8080"


def made(**settings: Any) -> Config:
    return Config(**settings)


@pytest.mark.parametrize(
    "addresses",
    [
        {},
        {"admin_address": LOOPBACK},
        {"google_rest_address": "[::1]:1", "admin_address": LOOPBACK},
    ],
)
def test_a_service_for_this_machine_alone_is_an_emulator_and_pushes_to_it(
    addresses: dict[str, str],
) -> None:
    config = made(**addresses)

    assert config.effective_profile == "emulator"
    assert config.endpoint_rules.permits("127.0.0.1")


@pytest.mark.parametrize("name", ["grpc_address", "google_rest_address", "admin_address"])
def test_one_public_address_makes_it_a_service_for_others(name: str) -> None:
    config = made(**{name: PUBLIC}, insecure=True)

    assert config.effective_profile == "strict"
    assert not config.endpoint_rules.permits("127.0.0.1")


@pytest.mark.parametrize("name", ["grpc_address", "google_rest_address", "admin_address"])
def test_an_emulator_that_others_reach_does_not_push_to_this_machine(name: str) -> None:
    config = made(**{name: PUBLIC}, insecure=True, profile="emulator")

    assert not config.endpoint_rules.permits("127.0.0.1")


def test_accounts_of_tokens_can_be_listed() -> None:
    rules = made(push_token_accounts=["pusher@a.example"]).endpoint_rules

    assert rules.lends("pusher@a.example")
    assert not rules.lends("root@a.example")


def test_a_list_of_accounts_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValidationError, match="neither the address of an account"):
        made(push_token_accounts=["everybody"])


@pytest.mark.parametrize(
    "settings, taken, source",
    [
        ({}, "127.0.0.1:8085", "127.0.0.1:8085"),
        ({"grpc_address": "127.0.0.1:0"}, "127.0.0.1:4711", "127.0.0.1:4711"),
        ({"ams_address": "ams.example.org:443"}, "ams.example.org:443", "ams.example.org:443"),
        ({"ams_address": "[::1]:0"}, "[::1]:4711", "[::1]:4711"),
        ({"ams_address": PUBLIC}, PUBLIC, f"{socket.gethostname()}:8080"),
        ({"push_source": "ams.example.org:443"}, "127.0.0.1:8085", "ams.example.org:443"),
    ],
)
def test_pushes_of_ams_name_where_they_come_from(
    settings: dict[str, str], taken: str, source: str
) -> None:
    assert made(**settings).effective_push_source(taken) == source


def test_the_token_of_the_push_worker_is_not_shown() -> None:
    assert "secret" not in str(made(push_worker_token="secret").shown())
