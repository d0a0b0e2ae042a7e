"""Settings of where the service listens: what may be reached, by whom, and how."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from ams_grpc.config import Config
from http_bridge.addresses import joined_address, split_address

EVERYWHERE = "0.0.0.0:8443"


def made(**settings: Any) -> Config:
    return Config(**settings)


@pytest.mark.parametrize("setting", ["grpc_address", "google_rest_address", "admin_address"])
def test_what_asks_nobody_who_he_is_listens_on_this_machine_alone(setting: str) -> None:
    with pytest.raises(ValidationError, match="not authenticated"):
        made(**{setting: EVERYWHERE})
    assert made(**{setting: EVERYWHERE, "insecure": True}).effective_profile == "strict"


def test_the_ams_address_may_be_anywhere_since_it_asks_for_a_token() -> None:
    assert made(ams_address=EVERYWHERE).effective_profile == "strict"
    assert made(ams_address="127.0.0.1:8443").effective_profile == "emulator"
    with pytest.raises(ValidationError, match="HOST:PORT"):
        made(ams_address="8443")


@pytest.mark.parametrize(
    "settings, shared",
    [
        ({}, True),
        ({"profile": "strict"}, False),
        ({"auth": True}, False),
        ({"profile": "emulator", "auth": True}, False),
        ({"profile": "emulator", "tls_self_signed": True}, False),
        ({"one_port": False}, False),
        ({"profile": "strict", "one_port": True}, True),
    ],
)
def test_the_port_is_shared_in_development(settings: dict[str, Any], shared: bool) -> None:
    assert made(**settings).effective_one_port is shared


@pytest.mark.parametrize("other", [{"auth": True}, {"tls_self_signed": True}])
def test_a_shared_port_has_neither_tls_nor_tokens(other: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="neither TLS nor auth"):
        made(one_port=True, **other)


def test_a_certificate_is_given_or_made() -> None:
    with pytest.raises(ValidationError, match="go together"):
        made(tls_cert="cert.pem")
    with pytest.raises(ValidationError, match="tls_cert names one"):
        made(tls_cert="cert.pem", tls_key="key.pem", tls_self_signed=True)


@pytest.mark.parametrize("origin", ["ui.example.org", "https://ui.example.org/", "https://", "://"])
def test_an_origin_has_a_scheme_and_a_host_and_no_path(origin: str) -> None:
    with pytest.raises(ValidationError, match="is no origin"):
        made(cors_origins=(origin,))
    assert made(cors_origins=("https://ui.example.org:8443", "*")).cors_origins


def test_requests_have_room_for_the_largest_message_of_ams() -> None:
    with pytest.raises(ValidationError, match="1500000"):
        made(rest_max_bytes=1_499_999)


@pytest.mark.parametrize("address", ["127.0.0.1:8085", "localhost:0", "[::1]:65535", "[::]:1"])
def test_an_address_in_two_parts_is_put_together_as_it_was(address: str) -> None:
    assert joined_address(*split_address(address)) == address
