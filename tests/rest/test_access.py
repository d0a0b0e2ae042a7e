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
from tests.rest.conftest import Ams

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


@pytest.fixture(scope="module")
def world(ams: Ams) -> World:
    suffix = secrets.token_hex(4)
    projects = {scope: f"{scope}-{suffix}" for scope in ("own", "other", "missing")}
    for scope in ("own", "other"):
        ams.ok("POST", f"/projects/{projects[scope]}", json={})
    tokens = {}
    for role in ROLES:
        member = {"projects": [{"project": projects["own"], "roles": [role]}]}
        for is_service_role, rights in ((False, member), (True, {"service_roles": [role]})):
            name = f"{role}-{is_service_role}-{suffix}"
            tokens[role, is_service_role] = ams.ok("POST", f"/users/{name}", json=rights)["token"]
    return World(projects, tokens)


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
        elif not call.open:
            assert reply.status_code == 200 or message_of(reply) not in TEXTS.values(), told


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


def message_of(reply: requests.Response) -> str:
    """The text of a refusal."""
    return str(reply.json()["error"]["message"])


def test_without_a_token_nothing_is_told(ams: Ams, world: World) -> None:
    for call in CALLS:
        if call.name not in {"ams:healthStatus", "version:list"}:
            refusal = ams.refused(call.method, call.of(world.projects["own"]), None, body="{}")
            assert refusal == (401, "UNAUTHORIZED", "Unauthorized"), call.name


@pytest.mark.parametrize("method", ["ListTopics", "GetTopic", "Publish"])
def test_a_call_of_grpc_itself_is_asked_the_same(ams: Ams, world: World, method: str) -> None:
    """The methods themselves, not only what is told of them."""
    with grpc.insecure_channel(ams.grpc) as channel:
        call: Any = channel.unary_unary(f"/ams.v1.Topics/{method}")
        with pytest.raises(grpc.RpcError) as refused:
            call(b"\x0a\x04none", timeout=30)

    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
