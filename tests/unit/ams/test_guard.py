"""The guard of ams.v1: what it refuses, in AMS's order and words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message_factory import GetMessageClass

from ams_grpc.auth.attempts import BURST, PER_SECOND, SPARE_PER_SECOND
from ams_grpc.auth.authentication import REMEMBERED_S
from ams_grpc.auth.tokens import new_token
from ams_grpc.broker.errors import BrokerError, TooManyAttempts, Unauthenticated
from ams_grpc.pb.ams.v1 import accounts_pb2, metrics_pb2, pubsub_pb2, schemas_pb2
from ams_grpc.services.ams.guard import LARGE_REQUEST_BYTES, AmsGuard, Claim
from ams_grpc.services.frame import Context
from tests.unit.auth.test_authorization import World
from tests.unit.auth.test_guard import Call
from tests.unit.auth.test_tokens import Door

METHODS: dict[str, MethodDescriptor] = {
    method.name: method
    for file in (metrics_pb2, accounts_pb2, pubsub_pb2, schemas_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


class Gate:
    """A guard, and `pat`, who has these roles in `own`, and is on no access list."""

    def __init__(self, *roles: str) -> None:
        self.door = Door(*(roles or ("publisher", "consumer")))
        self.world = World()
        self.guard = AmsGuard(self.door.authenticator, self.world.authorizer)

    async def identify(self, request: Any, token: str) -> Claim:
        call = Call(("x-api-key", token))
        return await self.guard.identify(cast("Context", call), request.ByteSize())

    async def refusal(self, method: str, request: Any, token: str | None = None) -> str:
        """What is said to pat, or to the owner of another token; empty: let in."""
        try:
            claim = await self.identify(request, self.door.token if token is None else token)
            await self.guard.admit(claim, METHODS[method], request)
        except BrokerError as error:
            return error.message
        return ""


@pytest.mark.parametrize("name", ["", "a/b", "a b", "a\n", "a\0", "ä", "a" * 256, "a" * 30_000])
async def test_what_is_no_name_is_refused_before_anything_else(name: str) -> None:
    gate = Gate()
    for variable, method, request in (
        ("topic", "GetTopic", pubsub_pb2.TopicRequest(project="own", topic=name)),
        ("project", "GetTopic", pubsub_pb2.TopicRequest(project=name, topic=name)),
        ("schema", "GetSchema", schemas_pb2.SchemaRequest(project="none", schema_id=name)),
        ("user", "DeleteUser", accounts_pb2.GetUserRequest(user=name)),
        ("token", "GetUserByToken", accounts_pb2.GetUserByTokenRequest(token=name)),
    ):
        assert await gate.refusal(method, request, token="") == f"Invalid {variable} name"


async def test_names_may_be_of_any_length_up_to_their_limit() -> None:
    for name in ("t", "0", "-", "_", "a" * 255):
        request = pubsub_pb2.TopicRequest(project="own", topic=name)
        assert await Gate().refusal("GetTopic", request) == ""


@pytest.mark.parametrize(
    "method, request_class, variable",
    [
        ("Publish", pubsub_pb2.PublishRequest, "topic"),
        ("Pull", pubsub_pb2.PullRequest, "subscription"),
    ],
)
async def test_what_is_missing_is_told_before_the_access_list_is_asked(
    method: str, request_class: Any, variable: str
) -> None:
    forbidden = "Access to this resource is forbidden"
    there = {"topic": "orders", "subscription": "billing"}[variable]
    for name, refusal in ((there, forbidden), ("none", f"{variable.title()} doesn't exist")):
        request = request_class(project="own", **{variable: name})
        assert await Gate().refusal(method, request) == refusal


async def test_who_is_let_in_is_looked_into_once_a_second() -> None:
    gate = Gate("project_admin")
    orders = pubsub_pb2.TopicRequest(project="own", topic="orders")
    clocks = gate.door.clock, gate.world.clock
    for _ in range(100):
        assert await gate.refusal("GetTopic", orders) == ""
    gate.door.roles = ("consumer",)  # changed by another process, which tells nobody
    gate.door.add("pat", gate.door.token)

    for clock in clocks:
        clock.s += REMEMBERED_S - 0.5
    assert await gate.refusal("GetTopic", orders) == ""  # looked into again, by what is remembered
    for clock in clocks:
        clock.s += 0.9
    assert await gate.refusal("GetTopic", orders) == ""
    for clock in clocks:
        clock.s += 0.1
    assert await gate.refusal("GetTopic", orders) == "Access to this resource is forbidden"


async def test_what_this_process_changes_counts_at_once() -> None:
    gate = Gate("project_admin")
    orders = pubsub_pb2.TopicRequest(project="own", topic="orders")
    assert await gate.refusal("GetTopic", orders) == ""
    gate.door.roles = ("consumer",)
    gate.door.add("pat", gate.door.token)
    gate.door.authenticator.forget()
    gate.world.authorizer.forget()

    assert await gate.refusal("GetTopic", orders) == "Access to this resource is forbidden"


async def test_who_is_let_in_for_something_is_not_for_something_else() -> None:
    gate = Gate("publisher")
    orders = pubsub_pb2.TopicRequest(project="own", topic="orders")
    assert await gate.refusal("GetTopic", orders) == ""

    assert await gate.refusal("DeleteTopic", orders) == "Access to this resource is forbidden"
    orders.project = "other"
    assert await gate.refusal("GetTopic", orders) == "Unauthorized"
    orders.project = "none"
    assert await gate.refusal("GetTopic", orders) == "project doesn't exist"
    orders.project = "own"
    assert await gate.refusal("GetTopic", orders, new_token()) == "Unauthorized"
    orders.topic = "a b"
    assert await gate.refusal("GetTopic", orders) == "Invalid topic name"


@pytest.mark.parametrize("method", ["GetTopicMetrics", "GetSubscriptionMetrics"])
async def test_metrics_ask_the_access_list_first(method: str) -> None:
    variable = "topic" if "Topic" in method else "subscription"
    request_class: Any = GetMessageClass(METHODS[method].input_type)
    request = request_class(project="own", **{variable: "none"})
    assert await Gate().refusal(method, request) == "Access to this resource is forbidden"


@pytest.mark.parametrize(
    "token", ["", "x" * 5000, new_token()], ids=["none", "no token", "a stranger's"]
)
async def test_a_large_request_of_a_stranger_is_refused_before_it_is_parsed(token: str) -> None:
    gate = Gate()
    for method, project in (("Publish", "own"), ("Publish", "none"), ("GetVersion", "none")):
        request = pubsub_pb2.PublishRequest(project=project, topic="orders")
        request.messages.add(data="a" * LARGE_REQUEST_BYTES)
        with pytest.raises(Unauthenticated, match=r"^Unauthorized$"):
            await gate.identify(request, token)
        assert await gate.refusal(method, request, token) == "Unauthorized"


async def test_the_owner_of_a_large_request_is_looked_up_once() -> None:
    gate = Gate("project_admin")
    request = pubsub_pb2.PublishRequest(project="own", topic="orders")
    request.messages.add(data="a" * LARGE_REQUEST_BYTES)
    small = pubsub_pb2.PublishRequest(project="own", topic="orders")
    for each in (small, request, request):  # as the bridge asks, and then calls
        assert await gate.refusal("Publish", each) == ""
    assert gate.door.accounts.asked == 1


@pytest.mark.parametrize(
    "tokens", [lambda: "x" * 5000, new_token], ids=["no token", "a stranger's"]
)
async def test_who_guesses_cannot_ask_for_projects_without_end(tokens: Callable[[], str]) -> None:
    gate = Gate()

    def none(number: int) -> pubsub_pb2.TopicRequest:
        return pubsub_pb2.TopicRequest(project=f"none{number}", topic="orders")

    known, late = gate.door.token, gate.door.add("zoe")
    for token in (known, tokens()):
        assert await gate.refusal("GetTopic", none(0), token) == "project doesn't exist"
    asked = gate.world.accounts.asked
    for number in range(500):
        await gate.refusal("GetTopic", none(number), tokens())
    assert gate.world.accounts.asked - asked < BURST + SPARE_PER_SECOND
    assert await gate.refusal("GetTopic", none(0), known) == "project doesn't exist"
    gate.door.clock.s += BURST / PER_SECOND
    for token in (late, tokens()):
        assert await gate.refusal("GetTopic", none(0), token) == "project doesn't exist"


async def test_missing_projects_are_no_failures_of_who_asks_for_them() -> None:
    gate = Gate()
    for number in range(2 * BURST):
        request = pubsub_pb2.TopicRequest(project=f"none{number}", topic="orders")
        assert await gate.refusal("GetTopic", request) == "project doesn't exist"


@pytest.mark.parametrize("method", ["GetStatus", "GetVersion"])
async def test_what_is_open_stays_so_for_those_who_guess(method: str) -> None:
    gate = Gate()
    request = GetMessageClass(METHODS[method].input_type)()
    refusals = {await gate.refusal("GetProfile", Empty(), new_token()) for _ in range(500)}
    assert refusals == {"", "Too many failed authentications. Please try again later."}
    with pytest.raises(TooManyAttempts):
        await gate.door.authenticator.identify(new_token(), "ipv4:192.0.2.1")

    assert await gate.refusal(method, request, new_token()) == ""


@pytest.mark.parametrize(
    "method, field, request_",
    [
        ("CreateTopic", "schema", pubsub_pb2.TopicSchemaRequest(schema="projects/own/schemas/\0")),
        ("ModifyTopicAcl", "authorized_users", pubsub_pb2.ModifyTopicAclRequest(authorized_users=["", "\0"])),
        (
            "CreateSubscription",
            "value",
            pubsub_pb2.CreateSubscriptionRequest(
                subscription="s", push_config={"authorization_header": {"value": "x\0"}}
            ),
        ),
        ("UpdateMember", "roles", accounts_pb2.MemberUserRequest(user="u", projects=[{"roles": ["\0"]}])),
    ],
)  # fmt: skip
async def test_a_text_that_cannot_be_kept_is_refused_to_those_who_may_call(
    method: str, field: str, request_: Any
) -> None:
    for variable in {"project", "topic"} & set(request_.DESCRIPTOR.fields_by_name):
        setattr(request_, variable, getattr(request_, variable) or "own")
    for roles, refusal in (
        (("project_admin",), f"Invalid {field}: NUL is no character of a text"),
        (("publisher",), "Access to this resource is forbidden"),
    ):
        assert await Gate(*roles).refusal(method, request_) == refusal


async def test_numbers_schemas_and_messages_may_have_nul_in_them() -> None:
    for method, request in (
        ("ModifyOffset", pubsub_pb2.ModifyOffsetRequest(project="own", subscription="s", offset=0)),
        (
            "CreateSchema",
            schemas_pb2.CreateSchemaRequest(
                project="own", schema_id="s", schema='{"const": "\\u0000", "minimum": 1}'
            ),
        ),
        (
            "ModifyTopicAcl",
            pubsub_pb2.ModifyTopicAclRequest(project="own", topic="t", authorized_users=["", "a"]),
        ),
        (
            "Publish",
            pubsub_pb2.PublishRequest(
                project="own", topic="orders", messages=[{"data": "\0", "attributes": {"\0": "\0"}}]
            ),
        ),
    ):
        assert await Gate("project_admin").refusal(method, request) == ""
