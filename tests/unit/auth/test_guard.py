"""The guard of calls: where it finds a token, and how long a stream may go on."""

from __future__ import annotations

from typing import Any, cast

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from ams_grpc.broker.errors import (
    BrokerError,
    InvalidArgument,
    PermissionDenied,
    StorageUnavailable,
    Unauthenticated,
)
from ams_grpc.broker.iam import Policy
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.services.frame import Context
from ams_grpc.services.guard import TokenGuard
from tests.unit.auth.test_authorization import BILLING, World, listing
from tests.unit.auth.test_tokens import Door

PULL = pb.DESCRIPTOR.services_by_name["Subscriber"].methods_by_name["StreamingPull"]


class Call:
    """A call from outside: its metadata, and the requests that come."""

    def __init__(self, *metadata: tuple[str, str | bytes], requests: list[bytes] | None = None):
        self.metadata = metadata
        self.requests = requests or []
        self.written: list[bytes] = []

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self.metadata

    def peer(self) -> str:
        return "ipv4:192.0.2.1:4711"

    async def read(self) -> object:
        return self.requests.pop(0) if self.requests else None

    async def write(self, response: bytes) -> None:
        self.written.append(response)


class Gate:
    """A guard, and those whom it asks: pat is on the access lists of the project `own`."""

    def __init__(self) -> None:
        self.door = Door()
        self.world = World(listing("pat"))
        self.world.accounts.is_away = False
        self.guard = TokenGuard(
            self.door.authenticator, self.world.authorizer, self.world.find_subscription
        )

    async def name(self, *metadata: tuple[str, str | bytes]) -> str:
        caller = await self.guard.identify(cast("Context", Call(*metadata)))
        return caller.name

    def stream(self, subscription: str = str(BILLING)) -> Any:
        first = pb.StreamingPullRequest(subscription=subscription).SerializeToString()
        call = Call(("x-api-key", self.door.token), requests=[first, b"", b""])
        return self.guard.stream(PULL, cast("Context", call))

    def forget(self) -> None:
        self.door.authenticator.forget()
        self.world.authorizer.forget()


async def test_a_token_is_found_in_either_header() -> None:
    gate = Gate()
    token = gate.door.token
    assert await gate.name(("authorization", f"Bearer {token}")) == "pat"
    assert await gate.name(("authorization", f"bearer   {token} ")) == "pat"
    assert await gate.name(("x-api-key", token)) == "pat"
    assert await gate.name(("x-api-key", token.encode())) == "pat"
    assert await gate.name(("x-api-key", "nobody's"), ("authorization", f"Bearer {token}")) == "pat"
    assert await gate.name(("authorization", "Basic eA=="), ("x-api-key", token)) == "pat"


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", ""),),
        (("authorization", "Bearer"),),
        (("authorization", "Bearer "),),
        (("x-api-key", ""),),
        (("x-api-key", b"\0\xff\xfe"),),
        (("x-api-key", "x" * 4_000_000),),
        (("x-api-key-bin", b"x"), ("key", "x")),
    ],
)
async def test_who_has_no_token_is_nobody(metadata: tuple[tuple[str, str | bytes], ...]) -> None:
    with pytest.raises(Unauthenticated):
        await Gate().name(*metadata)


async def test_a_stream_asks_with_its_first_request() -> None:
    gate = Gate()
    assert isinstance(await gate.stream().read(), bytes)
    for subscription, error in (
        ("projects/other/subscriptions/billing", PermissionDenied),
        ("projects/missing/subscriptions/billing", PermissionDenied),
        ("nonsense", InvalidArgument),
    ):
        with pytest.raises(error):
            await gate.stream(subscription).read()


@pytest.mark.parametrize("error", [PermissionDenied, Unauthenticated])
async def test_a_stream_says_nothing_more_once_it_may_not(error: type[BrokerError]) -> None:
    gate = Gate()
    stream = gate.stream()
    await stream.read()
    await stream.write(b"before")
    if error is PermissionDenied:
        gate.world.policies.by_name[BILLING] = Policy()
    else:
        gate.door.accounts.by_digest.clear()
    gate.forget()

    with pytest.raises(error):
        await stream.write(b"after")
    with pytest.raises(error):
        await stream.read()
    assert stream._context.written == [b"before"]


async def test_a_stream_goes_on_while_the_database_is_away_but_none_begins() -> None:
    gate = Gate()
    stream = gate.stream()
    await stream.read()
    gate.forget()
    gate.door.accounts.is_away = True

    await stream.write(b"meanwhile")

    assert isinstance(await stream.read(), bytes)
    with pytest.raises(StorageUnavailable):
        await gate.stream().read()


async def test_a_method_that_is_in_no_table_is_refused() -> None:
    file = FileDescriptorProto(name="new.proto", package="new")
    file.message_type.add(name="Nothing")
    service = file.service.add(name="Service")
    service.method.add(name="Method", input_type=".new.Nothing", output_type=".new.Nothing")
    pool = DescriptorPool()
    pool.Add(file)
    method = pool.FindServiceByName("new.Service").methods_by_name["Method"]
    gate = Gate()
    caller = await gate.guard.identify(cast("Context", Call(("x-api-key", gate.door.token))))

    with pytest.raises(PermissionDenied):
        await gate.guard.admit(caller, method, None)
