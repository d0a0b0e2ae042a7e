"""Google's REST API when it asks who calls: the same table of rights as over gRPC."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import reduce
from http.client import HTTPConnection
from typing import Any, Final

import grpc
import pytest
import requests
from google.iam.v1 import iam_policy_pb2  # type: ignore[import-untyped]

from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2, schema_pb2
from http_bridge import limits, serving
from http_bridge.google.app import GoogleRest
from http_bridge.routes import Route
from tests.access_table import CALLS, REACHED, ROLES
from tests.rest.conftest import ROOT_TOKEN, Ams
from tests.rest.test_costs import HOST, LENGTHS, Recorder, answer, begun, publish
from tests.server import Server, free_port

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
    ams: Ams
    tokens: dict[tuple[str, bool], str]
    connection: HTTPConnection
    """To Google's REST API. There are thousands of calls: ``requests`` would take seconds."""

    def call(
        self, method: str, path: str, token: str | None = ROOT_TOKEN, json_body: Any = None
    ) -> tuple[int, Any]:
        """Status and JSON of the answer."""
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        text = None if json_body is None else json.dumps(json_body)
        self.connection.request(method, path, text, headers)
        reply = self.connection.getresponse()
        return reply.status, json.loads(reply.read())

    def outcome(self, route: Route, project: str, token: str | None) -> tuple[str, str]:
        """How a call of a route ends: code and text."""
        status, reply = self.call(*sent(route, project), token, body(route, project))
        if status == 200:
            return "OK", ""
        error = reply["error"]
        assert error["code"] == status
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
    with Server(
        tmp_path_factory.mktemp("auth"),
        arguments=arguments,
        settings={"ADMIN_TOKEN": ROOT_TOKEN},
        measured=True,
    ) as server:
        ams = Ams(server.ready["ams"], server.endpoint)
        for project in ("own", "other"):
            ams.ok("POST", f"/projects/{project}", json={})
        tokens = {}
        for role in ROLES:
            member = {"projects": [{"project": "own", "roles": [role]}]}
            for is_service_role, rights in ((False, member), (True, {"service_roles": [role]})):
                made = ams.ok("POST", f"/users/{role}_{is_service_role}", json=rights)
                tokens[role, is_service_role] = made["token"]
        google = server.ready["google_rest"]
        with closing(HTTPConnection(google, timeout=30)) as connection:
            yield Site(google, ams, tokens, connection)


@pytest.fixture(scope="module")
def bridge(site: Site) -> Iterator[str]:
    """The address of a bridge of its own in front of the server."""
    address = f"{HOST}:{free_port()}"
    command = [sys.executable, "-m", "http_bridge", "--target", site.ams.grpc]
    with subprocess.Popen(
        [*command, "--google-rest-address", address], stdout=subprocess.PIPE, env=os.environ
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(b"ready ")
            yield address
        finally:
            process.terminate()


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
    site.call("PUT", "/v1/projects/own/subscriptions/listed", json_body={"topic": topic})
    path = f"/v1/projects/own/{resource}"
    listed = {"role": f"roles/pubsub.{binding}", "members": [f"user:{role}_False"]}
    for bindings in ([], [listed], []):
        policy = {"policy": {"bindings": bindings}}
        assert site.call("POST", f"{path}:setIamPolicy", json_body=policy)[0] == 200
        status, reply = site.call("POST", f"{path}:{verb}", site.tokens[role, False], request_body)
        assert status == (200 if bindings else 403), reply


@pytest.mark.parametrize(
    "role, kind, method",
    [
        ("publisher", "topics", "Publisher/ListTopics"),
        ("consumer", "subscriptions", "Subscriber/ListSubscriptions"),
    ],
)
def test_every_door_lists_the_same(site: Site, role: str, kind: str, method: str) -> None:
    """To somebody whose only role is subject to access lists."""
    for name in ("shown", "hidden"):
        topic = {"topic": f"projects/own/topics/{name}"}
        site.call("PUT", f"/v1/projects/own/topics/{name}")
        site.call("PUT", f"/v1/projects/own/subscriptions/{name}", json_body=topic)
    site.ams.ok(
        "POST",
        f"/projects/own/{kind}/shown:modifyAcl",
        json={"authorized_users": [f"{role}_False"]},
    )
    token = site.tokens[role, False]
    path = f"/projects/own/{kind}"

    of_ams = site.ams.ok("GET", path, token)
    _, of_google = site.call("GET", f"/v1{path}", token)
    with grpc.insecure_channel(site.ams.grpc) as channel:
        call: Any = channel.unary_unary(f"/google.pubsub.v1.{method}")
        of_grpc = call(b"\n\x0cprojects/own", metadata=(("x-api-key", token),), timeout=30)

    assert [each["name"] for each in of_ams[kind]] == [f"{path}/shown"]
    assert [each["name"] for each in of_google[kind]] == [f"{path}/shown"[1:]]
    assert b"shown" in of_grpc
    assert b"hidden" not in of_grpc


# --- large bodies -----------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("role", [None, "nobody", "consumer"])
@pytest.mark.parametrize("alone", [False, True], ids=["in the server", "on its own"])
def test_a_large_body_is_not_waited_for_from_who_is_not_let_in(
    site: Site, bridge: str, headers: str, role: str | None, alone: bool
) -> None:
    token = site.tokens.get((role, False), "nobodys") if role else None
    [route] = [each for each in ROUTES if each.method.name == "Publish"]
    address = bridge if alone else site.google
    with begun(address, "/projects/own/topics/orders:publish", token, headers) as connection:
        head, _, body = connection.recv(1 << 16).partition(b"\r\n\r\n")

    assert head.split()[1] == (b"403" if role == "consumer" else b"401")
    error = json.loads(body)["error"]
    assert (error["status"], error["message"]) == site.outcome(route, "own", token)


@pytest.mark.parametrize("alone", [False, True], ids=["in the server", "on its own"])
def test_a_large_body_of_who_is_let_in_is_taken(site: Site, bridge: str, alone: bool) -> None:
    """Also where the body says what the call concerns, so that nobody can tell before."""
    topic = f"projects/own/topics/large-{alone}"
    url = f"http://{bridge if alone else site.google}/v1/"
    padding = " " * limits.LARGE_BODY_BYTES
    made = {
        topic: {"labels": {"a": "b"}},
        topic.replace("topics", "subscriptions"): {"topic": topic},
    }
    for name, resource in made.items():
        text = json.dumps(resource) + padding
        for role, status in (("consumer", 403), ("project_admin", 200)):
            headers = {"x-api-key": site.tokens[role, False]}
            reply = requests.put(url + name, text, headers=headers, timeout=30)
            assert reply.status_code == status, reply.text


@pytest.mark.parametrize(
    "asks_first, size, refusal, called",
    [
        (True, 0, None, ["Publish"]),
        (True, limits.LARGE_BODY_BYTES, None, ["CheckAccess", "Publish"]),
        (True, limits.LARGE_BODY_BYTES, grpc.StatusCode.UNAVAILABLE, ["CheckAccess"]),
        # A server that does not know the question; it then refuses the call itself.
        (
            True,
            limits.LARGE_BODY_BYTES,
            grpc.StatusCode.UNIMPLEMENTED,
            ["CheckAccess", "Publish"],
        ),
        (False, limits.LARGE_BODY_BYTES, None, ["Publish"]),
    ],
    ids=["small", "large", "unavailable", "unknown", "open mode"],
)
async def test_only_large_bodies_cost_a_question(
    asks_first: bool, size: int, refusal: grpc.StatusCode | None, called: list[str]
) -> None:
    caller = Recorder(refusal)
    rest = GoogleRest(caller, SERVICES, on_loopback=False, asks_first=asks_first)
    async with serving.serving(rest.handler, HOST, 0) as port:
        got = await answer(port, publish(b'{"messages": []%b}' % (b" " * size)))
    assert caller.called == called
    assert (got.split()[1] == b"200") is (refusal is None)
