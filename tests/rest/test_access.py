"""Who may call what: every role, every route, in one's own project, another's and a missing one."""

from __future__ import annotations

import secrets
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
    # To delete a project, or to make one, is what some of these are allowed to do.
    return [
        (role, is_service_role, scope)
        for role in ROLES
        for is_service_role in (False, True)
        for scope in scopes
        if call.code(role, is_service_role=is_service_role, scope=scope) is not None
        or call.name not in {"projects:delete", "projects:create"}
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
def test_over_grpc(ams: Ams, world: World, call: AmsCall) -> None:
    """Asked of the service that tells what a call would be answered: nothing is done."""
    route = ROUTES[call.name]
    with grpc.insecure_channel(ams.grpc) as channel:
        check: Any = channel.unary_unary("/ams.v1.Access/CheckAccess")
        for role, is_service_role, scope in cases(call):
            named: Any = GetMessageClass(route.method.input_type)()
            for variable in route.pattern.groupindex:
                setattr(named, variable, "none")
            if call.in_project:
                named.project = world.projects[scope]
            asked = access_pb2.CheckAccessRequest(
                method=route.method.full_name, request=named.SerializeToString()
            )
            metadata = (("x-api-key", world.tokens[role, is_service_role]),)
            code = call.code(role, is_service_role=is_service_role, scope=scope)
            told = f"{role} {is_service_role=} {scope}"
            refusal = told_by(check, asked, metadata)
            if code is not None:
                assert refusal == (CODES[code], TEXTS[code]), told
            elif refusal is not None:
                assert refusal[1] not in TEXTS.values(), told


def told_by(check: Any, asked: Message, metadata: object) -> tuple[grpc.StatusCode, str] | None:
    """Code and text of a refusal; None: the call may be made."""
    try:
        check(asked.SerializeToString(), metadata=metadata, timeout=30)
    except grpc.RpcError as error:
        refusal: Any = error
        return refusal.code(), refusal.details()
    return None


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


@pytest.mark.parametrize("method", ["ListTopics", "GetTopic", "Publish"])
def test_a_call_of_grpc_itself_is_asked_the_same(ams: Ams, world: World, method: str) -> None:
    """The methods themselves, not only what is told of them."""
    with grpc.insecure_channel(ams.grpc) as channel:
        call: Any = channel.unary_unary(f"/ams.v1.Topics/{method}")
        with pytest.raises(grpc.RpcError) as refused:
            call(b"\x0a\x04none\x12\x04none", timeout=30)

    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("name", ["", "a/b c\n", "a" * 256, "a" * 200_000])
def test_grpc_makes_nothing_that_the_path_could_not_name(ams: Ams, world: World, name: str) -> None:
    request = pubsub_pb2.TopicSchemaRequest(project=world.projects["own"], topic=name)
    with grpc.insecure_channel(ams.grpc) as channel:
        call: Any = channel.unary_unary("/ams.v1.Topics/CreateTopic")
        refusal = told_by(call, request, (("x-api-key", ROOT_TOKEN),))

    assert refusal == (grpc.StatusCode.INVALID_ARGUMENT, "Invalid topic name")


def test_names_end_somewhere_over_rest_too(ams: Ams, world: World) -> None:
    topics = f"/projects/{world.projects['own']}/topics"
    assert ams.refused("PUT", f"{topics}/{'a' * 256}", None, body="x")[2] == "Invalid topic name"
    ams.ok("PUT", f"{topics}/{'a' * 255}")
