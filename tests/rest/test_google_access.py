"""Google's REST API when it asks who calls: the same table of rights as over gRPC."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final

import pytest
import requests
from google.iam.v1 import iam_policy_pb2  # type: ignore[import-untyped]

from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2, schema_pb2
from http_bridge.app import GoogleRest
from http_bridge.routes import Route
from tests.access_table import CALLS, REACHED, ROLES
from tests.rest.conftest import ROOT_TOKEN, Ams
from tests.rest.test_costs import Recorder
from tests.server import Server

CALL_OF: Final = {call.method.replace("/", "."): call for call in CALLS}
SERVICES: Final = [
    service
    for file in (pubsub_pb2, schema_pb2, iam_policy_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
]
ROUTES: Final = GoogleRest(Recorder(), SERVICES, on_loopback=True)._router.routes
VARIABLE: Final = re.compile(r"\{([\w.]+)=[^}]*\}")


@dataclass(frozen=True, slots=True)
class Site:
    """A server with `--auth`, two projects, and a caller for each role."""

    google: str
    tokens: dict[tuple[str, bool], str]
    session: requests.Session

    def call(
        self, method: str, path: str, token: str | None = ROOT_TOKEN, **options: Any
    ) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        url = f"http://{self.google}{path}"
        return self.session.request(method, url, headers=headers, timeout=30, **options)

    def outcome(self, route: Route, project: str, token: str | None) -> tuple[str, str]:
        """How a call of a route ends: code and text."""
        reply = self.call(*sent(route, project), token, json=body(route, project))
        if reply.status_code == 200:
            return "OK", ""
        error = reply.json()["error"]
        assert error["code"] == reply.status_code
        return error["status"], error["message"]


def sent(route: Route, project: str) -> tuple[str, str]:
    """The HTTP method and the path of a route, for what the table's call names."""
    request = CALL_OF[route.method.full_name].of(project)

    def value(variable: re.Match[str]) -> str:
        return str(reduce(dict.__getitem__, variable[1].split("."), request))

    return route.http_method, VARIABLE.sub(value, route.template)


def body(route: Route, project: str) -> Any:
    """What the table's call has beside the path."""
    request = CALL_OF[route.method.full_name].of(project)
    if route.body == "*":
        return request
    return request.get(route.body, {}) if route.body else None


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    arguments = ("--auth", "--google-rest-address", "127.0.0.1:0", "--ams-address", "127.0.0.1:0")
    with (
        Server(
            tmp_path_factory.mktemp("auth"),
            arguments=arguments,
            settings={"ADMIN_TOKEN": ROOT_TOKEN},
            measured=True,
        ) as server,
        requests.Session() as session,
    ):
        ams = Ams(server.ready["ams"], server.endpoint)
        for project in ("own", "other"):
            ams.ok("POST", f"/projects/{project}", json={})
        tokens = {}
        for role in ROLES:
            member = {"projects": [{"project": "own", "roles": [role]}]}
            for is_service_role, rights in ((False, member), (True, {"service_roles": [role]})):
                made = ams.ok("POST", f"/users/{role}_{is_service_role}", json=rights)
                tokens[role, is_service_role] = made["token"]
        yield Site(server.ready["google_rest"], tokens, session)


every_route = pytest.mark.parametrize(
    "route", ROUTES, ids=[f"{each.http_method} {each.template}" for each in ROUTES]
)


def test_every_unary_method_has_a_route() -> None:
    streaming = {"google.pubsub.v1.Subscriber.StreamingPull"}
    assert {route.method.full_name for route in ROUTES} == CALL_OF.keys() - streaming


@every_route
def test_every_role_may_call_what_the_table_says(site: Site, route: Route) -> None:
    call = CALL_OF[route.method.full_name]
    for (role, is_service_role), token in site.tokens.items():
        for scope in ("own", "other", "missing"):
            outcome = site.outcome(route, scope, token)

            refusal = call.refusal(role, scope, is_service_role=is_service_role, scope=scope)
            told = f"{role} {is_service_role=} {scope}: {outcome}"
            if refusal is not None:
                assert outcome == refusal, told
            else:
                assert outcome[0] in REACHED, told


@every_route
def test_nothing_is_done_for_strangers(site: Site, route: Route) -> None:
    code, text = site.outcome(route, "own", None)
    assert code == "UNAUTHENTICATED"
    assert text.startswith("The request does not have valid authentication credentials")
    assert site.outcome(route, "own", "nobody's") == ("UNAUTHENTICATED", "Unauthorized")


@pytest.mark.parametrize(
    "role, resource, binding, verb, request_body",
    [
        ("publisher", "topics/listed", "publisher", "publish", {"messages": [{"data": "eA=="}]}),
        (
            "consumer",
            "subscriptions/listed",
            "subscriber",
            "pull",
            {"maxMessages": 1, "returnImmediately": True},
        ),
    ],
)
def test_an_access_list_lets_in_whoever_is_on_it(
    site: Site, role: str, resource: str, binding: str, verb: str, request_body: dict[str, Any]
) -> None:
    topic = "projects/own/topics/listed"
    site.call("PUT", f"/v1/{topic}")
    site.call("PUT", "/v1/projects/own/subscriptions/listed", json={"topic": topic})
    path = f"/v1/projects/own/{resource}"
    listed = {"role": f"roles/pubsub.{binding}", "members": [f"user:{role}_False"]}
    for bindings in ([], [listed], []):
        policy = {"policy": {"bindings": bindings}}
        assert site.call("POST", f"{path}:setIamPolicy", json=policy).status_code == 200
        reply = site.call("POST", f"{path}:{verb}", site.tokens[role, False], json=request_body)
        assert reply.status_code == (200 if bindings else 403), reply.text
