"""Who may call what: every role, every route, in one's own project, another's and a missing one."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import requests
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from ams_grpc.pb.ams.v1 import access_pb2, accounts_pb2, metrics_pb2, pubsub_pb2, schemas_pb2
from http_bridge.ams.routes import AmsRoute, AmsRouter
from tests.ams_table import CALLS, ROLES, AmsCall
from tests.rest.conftest import ROOT_TOKEN, Ams

ROUTES: dict[str, AmsRoute] = {
    route.options.name: route
    for file in (metrics_pb2, accounts_pb2, pubsub_pb2, schemas_pb2)
    for route in AmsRouter(file.DESCRIPTOR.services_by_name.values()).routes
}
CALL_OF = {call.name: call for call in CALLS}
TEXTS = {
    401: "Unauthorized",
    403: "Access to this resource is forbidden",
    404: "project doesn't exist",
}
CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
}


@dataclass(frozen=True)
class World:
    """Two projects, and a caller for each role: by role, and whether it is a service role."""

    projects: dict[str, str]
    tokens: dict[tuple[str, bool], str]
    names: dict[str, str]
    """Members of one's own project, by their role in it."""


@pytest.fixture(scope="module")
def channel(ams: Ams) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(ams.grpc) as channel:
        yield channel


@pytest.fixture(scope="module")
def world(ams: Ams) -> World:
    suffix = secrets.token_hex(4)
    projects = {scope: f"{scope}-{suffix}" for scope in ("own", "other", "missing")}
    for scope in ("own", "other"):
        ams.ok("POST", f"/projects/{projects[scope]}", json={})
    tokens, names = {}, {}
    for role in ROLES:
        member = {"projects": [{"project": projects["own"], "roles": [role]}]}
        for is_service_role, rights in ((False, member), (True, {"service_roles": [role]})):
            name = f"{role}-{is_service_role}-{suffix}"
            if not is_service_role:
                names[role] = name
            tokens[role, is_service_role] = ams.ok("POST", f"/users/{name}", json=rights)["token"]
    return World(projects, tokens, names)


def cases(call: AmsCall) -> list[tuple[str, bool, str]]:
    """Role, whether it is a service role, and whose project the call concerns."""
    scopes = ("own", "other", "missing") if call.in_project else ("own",)
    # A project that is made or deleted would be missed: see the tests of their own below.
    return [
        (role, is_service_role, scope)
        for role in ROLES
        for is_service_role in (False, True)
        for scope in scopes
        if call.code(role, is_service_role=is_service_role, scope=scope) is not None
        or ((call.name, scope) != ("projects:create", "missing") and call.name != "projects:delete")
    ]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_over_rest(ams: Ams, world: World, call: AmsCall) -> None:
    for role, is_service_role, scope in cases(call):
        token = world.tokens[role, is_service_role]
        reply = ams.call(call.method, call.of(world.projects[scope]), token, body="{}")

        code = call.code(role, is_service_role=is_service_role, scope=scope)
        told = f"{role} {is_service_role=} {scope}: {reply.text}"
        if code is not None:
            assert reply.status_code == code, told
            assert message_of(reply) == TEXTS[code], told
        elif call.open:
            assert reply.status_code == 200, told
        else:
            assert is_let_in(reply), told


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_over_grpc(channel: grpc.Channel, world: World, call: AmsCall) -> None:
    for role, is_service_role, scope in cases(call):
        token = world.tokens[role, is_service_role]
        refusal = outcome(channel, call, world.projects[scope], token)

        code = call.code(role, is_service_role=is_service_role, scope=scope)
        told = f"{role} {is_service_role=} {scope}: {refusal}"
        if code is not None:
            assert refusal == (CODES[code], TEXTS[code]), told
        elif call.open:
            assert refusal is None, told
        else:
            assert refusal is None or is_of_the_method(*refusal), told


@pytest.mark.parametrize("over_grpc", [False, True], ids=["rest", "grpc"])
@pytest.mark.parametrize("is_service_role", [False, True], ids=["member", "service"])
@pytest.mark.parametrize("role", ["project_admin", "service_admin"])
def test_a_project_is_made_and_deleted(
    ams: Ams, channel: grpc.Channel, role: str, is_service_role: bool, over_grpc: bool
) -> None:
    """By those whom the tables let in: each makes and deletes one of its own."""
    make, delete = CALL_OF["projects:create"], CALL_OF["projects:delete"]
    project = f"{role}-{secrets.token_hex(4)}"
    rights: dict[str, Any] = {"service_roles": [role]}
    if not is_service_role:
        ams.ok("POST", make.of(project), json={})
        rights = {"projects": [{"project": project, "roles": [role]}]}
    token = ams.ok("POST", f"/users/{project}", json=rights)["token"]

    for call in (make, delete) if is_service_role else (delete,):
        is_allowed = call.code(role, is_service_role=is_service_role, scope="own") is None
        if over_grpc:
            refusal = outcome(channel, call, project, token)
            assert refusal == (None if is_allowed else (CODES[403], TEXTS[403]))
        else:
            reply = ams.call(call.method, call.of(project), token, body="{}")
            assert reply.status_code == (200 if is_allowed else 403), reply.text
        if not is_allowed:
            ams.ok(call.method, call.of(project), json={})
    assert ams.call("GET", f"/projects/{project}").status_code == 404


@pytest.mark.parametrize(
    "name", ["projects:show", "topics:publish", "subscriptions:pull", "users:profile", "users:list"]
)
def test_whoever_asks_beforehand_is_told_the_same(
    channel: grpc.Channel, world: World, name: str
) -> None:
    """What the REST API asks before it reads a large body, and after one that it cannot read."""
    call = CALL_OF[name]
    check: Any = channel.unary_unary("/ams.v1.Access/CheckAccess")
    method = ROUTES[name].method.full_name
    for (role, is_service_role), token in world.tokens.items():
        for scope, project in world.projects.items():
            told_before = told_by(
                check,
                access_pb2.CheckAccessRequest(
                    method=method, request=named_in(call, project).SerializeToString()
                ),
                token,
            )
            assert told_before == outcome(channel, call, project, token), (
                role,
                is_service_role,
                scope,
            )


def outcome(
    channel: grpc.Channel, call: AmsCall, project: str, token: str
) -> tuple[grpc.StatusCode, str] | None:
    """Code and text of the refusal, when the method itself is called; None: it is answered."""
    method = ROUTES[call.name].method
    path = f"/{method.containing_service.full_name}/{method.name}"
    return told_by(channel.unary_unary(path), named_in(call, project), token)


def named_in(call: AmsCall, project: str) -> Message:
    """The request that has what the path names, and no more."""
    route = ROUTES[call.name]
    request: Any = GetMessageClass(route.method.input_type)()
    for variable in route.pattern.groupindex:
        setattr(request, variable, project if variable == "project" else "none")
    return request  # type: ignore[no-any-return]


def told_by(call: Any, request: Message, token: str) -> tuple[grpc.StatusCode, str] | None:
    """Code and text of a refusal; None: there is none."""
    try:
        call(request.SerializeToString(), metadata=(("x-api-key", token),), timeout=30)
    except grpc.RpcError as error:
        refusal: Any = error
        return refusal.code(), refusal.details()
    return None


def is_of_the_method(code: grpc.StatusCode, text: str) -> bool:
    """Whether a refusal is that of a method which was reached, and does not like the request."""
    return text not in TEXTS.values() and code in {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.PERMISSION_DENIED,
    }


def is_let_in(reply: requests.Response) -> bool:
    """Whether an answer comes from the method itself, which may not like the request."""
    return reply.status_code == 200 or (
        reply.status_code < 500 and message_of(reply) not in TEXTS.values()
    )


def message_of(reply: requests.Response) -> str:
    """The text of a refusal."""
    return str(reply.json()["error"]["message"])


@pytest.mark.parametrize(
    "call", [each for each in CALLS if each.listed], ids=lambda call: call.name
)
def test_a_role_in_brackets_is_let_in_from_the_access_list_alone(
    ams: Ams, world: World, call: AmsCall
) -> None:
    project = world.projects["own"]
    topic = f"/projects/{project}/topics/there"
    subscription = f"/projects/{project}/subscriptions/there"
    if ams.call("PUT", topic).status_code == 200:
        ams.ok("PUT", subscription, json={"topic": topic[1:]})
    path = call.of(project).replace("none", "there")
    [role] = call.listed
    resource = topic if "/topics/" in path else subscription
    for users in ([], [world.names[role]], []):
        ams.ok("POST", f"{resource}:modifyAcl", json={"authorized_users": users})
        reply = ams.call(call.method, path, world.tokens[role, False], body="{}")
        assert reply.status_code == (200 if users else 403), reply.text
    assert ams.call(call.method, path, world.tokens["project_admin", False]).status_code != 403


def test_without_a_token_nothing_is_told(ams: Ams, world: World) -> None:
    for call in CALLS:
        if call.name in {"ams:healthStatus", "version:list"}:
            assert ams.call(call.method, call.of(""), None).status_code == 200, call.name
        else:
            refusal = ams.refused(call.method, call.of(world.projects["own"]), None, body="{}")
            assert refusal == (401, "UNAUTHORIZED", "Unauthorized"), call.name


def test_without_a_token_nothing_is_told_over_grpc(channel: grpc.Channel, world: World) -> None:
    for call in CALLS:
        refusal = outcome(channel, call, world.projects["own"], "")
        if call.name in {"ams:healthStatus", "version:list"}:
            assert refusal is None, call.name
        else:
            assert refusal == (grpc.StatusCode.UNAUTHENTICATED, "Unauthorized"), call.name


@pytest.mark.parametrize("name", ["", "a/b c\n", "a" * 256, "a" * 200_000])
def test_grpc_makes_nothing_that_the_path_could_not_name(
    channel: grpc.Channel, world: World, name: str
) -> None:
    request = pubsub_pb2.TopicSchemaRequest(project=world.projects["own"], topic=name)
    call: Any = channel.unary_unary("/ams.v1.Topics/CreateTopic")

    refusal = told_by(call, request, ROOT_TOKEN)

    assert refusal == (grpc.StatusCode.INVALID_ARGUMENT, "Invalid topic name")


def test_names_end_somewhere_over_rest_too(ams: Ams, world: World) -> None:
    topics = f"/projects/{world.projects['own']}/topics"
    assert ams.refused("PUT", f"{topics}/{'a' * 256}", None, body="x")[2] == "Invalid topic name"
    ams.ok("PUT", f"{topics}/{'a' * 255}")
