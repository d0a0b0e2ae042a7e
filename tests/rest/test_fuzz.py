"""The AMS address, fuzzed from its own OpenAPI document: whatever comes, it answers, and as it says.

What the paths name is there, mostly: a small world, mended after what an odd request did to it.
"""

from __future__ import annotations

import itertools
import re
from functools import cache
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from tests.ams_table import CALLS, AmsCall
from tests.rest.conftest import ROOT_TOKEN, Ams

EXAMPLES_OF_ROOT: Final = 4
EXAMPLES_OF_OTHERS: Final = 2
AMS_OWN: Final = {"no ack pending", "wrong ack"}
"""What AMS itself answers with 500, and its clients rely on."""

MADE_UP: Final = {"projects:create", "projects:createUser", "users:create", "schemas:create"}
"""What they name is to be new."""
MAY_BE_EMPTY: Final = {"subscriptions:delete"}
"""AMS: their replies have a body only if there is something to say, which a document cannot say."""


class World:
    """A project with one of everything."""

    def __init__(self, ams: Ams) -> None:
        self.ams = ams
        self.publisher = ""
        self.names: dict[str, str] = {}
        self._numbers = itertools.count()
        self.mend()

    def mend(self) -> None:
        """Make what is not there, or not any more."""
        self._make("POST", "/projects/fuzzed")
        publisher = self._make("POST", "/projects/fuzzed/members/fuzzed-publisher")
        self.publisher = publisher.get("token", self.publisher)
        member = self._make("POST", "/projects/fuzzed/members/fuzzed-member")
        member = member or self.ams.ok("GET", "/users/fuzzed-member")
        for name, role in (("publisher", "publisher"), ("member", "consumer")):
            path = f"/projects/fuzzed/members/fuzzed-{name}:add"
            self._make("POST", path, roles=[role])
        topic = "/projects/fuzzed/topics/fuzzed"
        self._make("PUT", topic)
        self._make("POST", f"{topic}:modifyAcl", authorized_users=["fuzzed-publisher"])
        self._make("PUT", "/projects/fuzzed/subscriptions/fuzzed", topic=topic.lstrip("/"))
        self._make("POST", "/projects/fuzzed/schemas/fuzzed", type="json", schema={})
        self.names = {
            "project": "fuzzed",
            "topic": "fuzzed",
            "subscription": "fuzzed",
            "schema_id": "fuzzed",
            "user": "fuzzed-member",
            "uuid": member["uuid"],
            "token": member["token"],
        }

    def name(self, variable: str, call: AmsCall) -> str:
        """What there is of a path's variable."""
        if call.path.startswith("/registrations"):
            return self._new_registration()
        return self.names[variable]

    def _new_registration(self) -> str:
        """It can be settled only once."""
        name = f"fuzzed-{next(self._numbers)}"
        made = self.ams.ok("POST", "/registrations", json={"name": name, "email": "f@x.org"})
        uuid: str = made["uuid"]
        return uuid

    def _make(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        reply = self.ams.call(method, path, json=body)
        assert reply.status_code in {200, 409}, reply.text
        return reply.json() if reply.content and reply.ok else {}


@cache
def world_of(ams: Ams) -> World:
    return World(ams)


@cache
def operations(ams: Ams) -> dict[tuple[str, str], Any]:
    """By method and path."""
    document: Any = schemathesis.openapi.from_url(f"http://{ams.address}/openapi.json")
    found = (each.ok() for each in document.get_all_operations())
    return {(each.method.upper(), each.path): each for each in found}


def missing_in(call: AmsCall) -> str:
    """What is said if there is not what a path names."""
    variables = re.findall(r"\{(\w+)\}", call.path)
    kind = variables[-1] if variables else "call"
    return f"{'User' if kind in {'uuid', 'token'} else kind.capitalize()} doesn't exist"


def fuzz(ams: Ams, call: AmsCall, token: str | None, examples: int) -> None:
    """Send odd requests of a caller."""
    world = world_of(ams)
    path = f"/v1{call.path}".replace("{schema}", "{schema_id}")
    operation = operations(ams)[call.method, path]

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(), is_real=st.sampled_from([True, True, False]))
    def send(case: Any, *, is_real: bool) -> None:
        is_real = is_real and call.name not in MADE_UP
        if is_real:
            names = case.path_parameters or {}
            case.path_parameters = {name: world.name(name, call) for name in names}
        elif call.in_project and call.name != "projects:create":
            case.path_parameters["project"] = world.names["project"]
        headers = {"x-api-key": token} if token else {}
        reply = case.call(headers=headers)
        try:
            if reply.status_code >= 500:
                assert reply.json()["error"]["message"] in AMS_OWN, reply.text
            else:
                checks = [status_code_conformance]
                if reply.content or call.name not in MAY_BE_EMPTY:
                    checks.append(response_schema_conformance)
                case.validate_response(reply, checks=checks, headers=headers)
            if is_real:
                assert missing_in(call) not in reply.text
        finally:
            if call.method != "GET" and reply.status_code < 300:
                world.mend()

    send()


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_no_request_is_too_odd(ams: Ams, call: AmsCall) -> None:
    for token, examples in (
        (ROOT_TOKEN, EXAMPLES_OF_ROOT),
        (None, EXAMPLES_OF_OTHERS),
        (world_of(ams).publisher, EXAMPLES_OF_OTHERS),
    ):
        fuzz(ams, call, token, examples)
