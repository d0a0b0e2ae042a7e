"""The AMS address, fuzzed from its own OpenAPI document: whatever comes, it answers, and as it says."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from tests.ams_table import CALLS
from tests.rest.conftest import ROOT_TOKEN, Ams

EXAMPLES: Final = 6
AMS_OWN: Final = {"no ack pending", "wrong ack"}
"""What AMS itself answers with 500, and its clients rely on."""


@cache
def operations(ams: Ams) -> dict[tuple[str, str], Any]:
    """By method and path."""
    document: Any = schemathesis.openapi.from_url(f"http://{ams.address}/openapi.json")
    found = (each.ok() for each in document.get_all_operations())
    return {(each.method.upper(), each.path): each for each in found}


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_no_request_is_too_odd(ams: Ams, call: Any) -> None:
    path = f"/v1{call.path}".replace("{schema}", "{schema_id}")
    operation = operations(ams)[call.method, path]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def send(case: Any) -> None:
        reply = case.call(headers={"x-api-key": ROOT_TOKEN})
        if reply.status_code >= 500:
            assert reply.json()["error"]["message"] in AMS_OWN, reply.text
        else:
            checks = [response_schema_conformance, status_code_conformance]
            case.validate_response(reply, checks=checks)

    send()
