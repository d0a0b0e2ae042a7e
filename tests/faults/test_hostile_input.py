"""Whatever is sent to whatever method: a proper status, no secrets in it, and a server that lives.

Requests are made from the descriptors, so a method that is added is attacked, too. Half of the
values are taken from what exists, so that attacks come through the door and not only against it.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import grpc
import pytest
import pytest_asyncio
from google.iam.v1 import iam_policy_pb2  # type: ignore[import-untyped]
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.pb.google.pubsub.v1 import schema_pb2
from ams_grpc.storage.migrate import migrate
from tests.faults.pubsub import PATIENCE_S, Client, data_of
from tests.server import Server

pytestmark = pytest.mark.asyncio(
    loop_scope="session"
)  # gRPC keeps to the loop it was used in first

MEBIBYTE: Final = 1024 * 1024
LARGEST_REQUEST: Final = 20 * MEBIBYTE
ROUNDS: Final = 60
PROPER: Final = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ABORTED,  # a stale etag
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNIMPLEMENTED,
}
TOO_LARGE: Final = PROPER | {grpc.StatusCode.RESOURCE_EXHAUSTED}
TELLTALE: Final = (
    "Traceback",
    'File "',
    ".py",
    "Error:",
    "Exception",
    "sqlite",
    "sqlalchemy",
    "psycopg",
    "SELECT ",
    "INSERT ",
)

SERVICES: Final = [
    *pb.DESCRIPTOR.services_by_name.values(),
    *schema_pb2.DESCRIPTOR.services_by_name.values(),
    *iam_policy_pb2.DESCRIPTOR.services_by_name.values(),
]
METHODS: Final = [method for service in SERVICES for method in service.methods]
UNARY: Final = [method for method in METHODS if not method.client_streaming]
# What is refused before anything is looked up, whatever the database.
on_sqlite = pytest.mark.parametrize("server", ["sqlite"], indirect=True, scope="module")
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)

OTHERS_TOPIC: Final = "projects/other-tenant/topics/orders"
OTHERS_SUBSCRIPTION: Final = "projects/other-tenant/subscriptions/warehouse"

Status = tuple[grpc.StatusCode, str]


# --- the server under attack ------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    url = None
    if request.param == "postgresql":
        postgres = request.getfixturevalue("postgres")
        url = postgres.create_database(f"hostile_{secrets.token_hex(4)}", prepare=migrate)
    with Server(tmp_path_factory.mktemp("hostile"), url, profile="emulator") as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def client(server: Server) -> AsyncIterator[Client]:
    """Around each test: the server serves another tenant as ever, and has met no surprise."""
    process = server.pid
    logged = len(server.log())
    async with Client(server.endpoint, connections=2) as client:
        yield client
        try:
            await check_that_others_are_served(client)
        finally:
            sys.stderr.write(server.log()[logged:])  # shown if the test fails
    assert server.is_running
    assert server.pid == process
    assert "unforeseen" not in server.log()[logged:]
    assert "Traceback" not in server.log()[logged:]


async def check_that_others_are_served(client: Client) -> None:
    topic = pb.Topic(name=OTHERS_TOPIC)
    subscription = pb.Subscription(
        name=OTHERS_SUBSCRIPTION, topic=OTHERS_TOPIC, ack_deadline_seconds=600
    )
    await client.status("Publisher.CreateTopic", topic)  # the first time; then it exists
    await client.status("Subscriber.CreateSubscription", subscription)
    data = secrets.token_bytes(8)
    await client.publish(OTHERS_TOPIC, data)
    received = await client.pull(OTHERS_SUBSCRIPTION)
    assert data_of(received) == [data]
    await client.acknowledge(OTHERS_SUBSCRIPTION, received)


@pytest.fixture
def chance() -> random.Random:
    seed = secrets.randbits(32)
    sys.stderr.write(f"{seed=}\n")  # shown if the test fails
    return random.Random(seed)


async def send(client: Client, method: MethodDescriptor, *requests: bytes) -> Status:
    """How a call with these requests ends. A stream is half-closed after the last."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    if method.client_streaming:
        return await asyncio.to_thread(send_on_stream, client.endpoint, path, requests)
    try:
        await client.raw(path, requests[0], timeout_s=3.0 if method.name == "Pull" else PATIENCE_S)
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


def send_on_stream(endpoint: str, path: str, requests: Sequence[bytes]) -> Status:
    """Not with asyncio: there, writing to a stream that the server has ended hides its status."""
    with grpc.insecure_channel(endpoint) as channel:
        method: Any = channel.stream_stream(path)
        call = method(iter(requests), timeout=PATIENCE_S)
        with suppress(grpc.RpcError):
            for _ in call:
                pass
        return call.code(), call.details() or ""


def check(status: Status, request: bytes, allowed: set[grpc.StatusCode] = PROPER) -> None:
    code, text = status
    assert code in allowed, f"{code} {text!r} for {request[:1_000]!r}"
    assert not [word for word in TELLTALE if word in text], f"{code} {text!r}"
    assert len(text) < 3_000


async def attack(
    client: Client, method: MethodDescriptor, requests: list[bytes]
) -> Counter[grpc.StatusCode]:
    """Send them all, many at once, and check each answer."""
    ended: Counter[grpc.StatusCode] = Counter()

    async def one(request: bytes) -> None:
        status = await send(client, method, request)
        check(status, request)
        ended[status[0]] += 1

    for start in range(0, len(requests), 20):
        await asyncio.gather(*(one(request) for request in requests[start : start + 20]))
    return ended


# --- bytes that are no request ----------------------------------------------------------------------


DEEP_OR_ENDLESS: Final = [
    b"",
    b"\x00" * 1_000,
    b"\x7b" * 100_000,  # groups in groups, never closed
    b"\x7b" * 50_000 + b"\x7c" * 50_000,
    b"\x08" + b"\xff" * 100,  # a number without end
    b"\x0a\xff\xff\xff\xff\x07",  # 2 GiB are to follow
    b"\x0a\x02\xff\xfe",  # no UTF-8
]


@on_sqlite
@every_method
async def test_bytes_that_are_no_request_are_answered_properly(
    client: Client, method: MethodDescriptor, chance: random.Random
) -> None:
    sizes = [chance.choice([1, 2, 3, 10, 100, 1_000, 100_000]) for _ in range(ROUNDS)]

    await attack(client, method, [*DEEP_OR_ENDLESS, *map(chance.randbytes, sizes)])


@every_method
async def test_damaged_requests_are_answered_properly(
    client: Client, method: MethodDescriptor, chance: random.Random
) -> None:
    attacker = Attacker(chance)
    requests = []
    for _ in range(ROUNDS):
        whole = bytearray(attacker.request(method))
        for _ in range(chance.choice([0, 1, 5])):
            if whole:
                whole[chance.randrange(len(whole))] = chance.randrange(256)
        requests.append(bytes(whole[: chance.randrange(len(whole) + 1)]))

    await attack(client, method, requests)


# --- requests that are absurd -----------------------------------------------------------------------


class Attacker:
    """Makes messages of any type whose values are legal on the wire and absurd otherwise."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def request(self, method: MethodDescriptor) -> bytes:
        """One for `method`, and below the size that no method takes."""
        while True:
            request = self._message(method.input_type).SerializeToString()
            if len(request) < LARGEST_REQUEST:
                return request

    def _message(self, descriptor: Descriptor, depth: int = 0) -> Message:
        message = GetMessageClass(descriptor)()
        for field in descriptor.fields:
            if self._chance.random() < (0.7 if depth == 0 else 0.3):
                self._fill(message, field, depth)
        return message

    def _fill(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        kind = field.message_type
        target = getattr(message, field.name)
        if kind is not None and depth > 4:
            return
        if kind is not None and kind.GetOptions().map_entry:
            for _ in range(self._chance.choice([1, 1, 3, 70, 110])):
                if kind.fields_by_name["value"].message_type is not None:
                    target[self._text()].SetInParent()
                else:
                    target[self._text()] = self._text()
        elif field.is_repeated:
            for _ in range(self._chance.choice([1, 1, 2, 5, 1_001 if depth == 0 else 10])):
                if kind is not None:
                    target.add().CopyFrom(self._message(kind, depth + 1))
                else:
                    target.append(self._scalar(field))
        elif kind is not None:
            target.SetInParent()
            target.CopyFrom(self._message(kind, depth + 1))
        else:
            setattr(message, field.name, self._scalar(field))

    def _scalar(self, field: FieldDescriptor) -> object:
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
                return self._chance.randbytes(self._chance.choice([0, 1, 1_000]))
            case FieldDescriptor.CPPTYPE_STRING:
                return self._text()
            case FieldDescriptor.CPPTYPE_BOOL:
                return self._chance.random() < 0.5
            case FieldDescriptor.CPPTYPE_INT32 | FieldDescriptor.CPPTYPE_ENUM:
                return self._chance.choice([0, 1, -1, 2, 10, 600, 601, 1_000, 2**31 - 1, -(2**31)])
            case FieldDescriptor.CPPTYPE_INT64:
                return self._chance.choice([0, 1, -1, 10**9, 2**53 + 1, 2**63 - 1, -(2**63)])
            case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
                return self._chance.choice([0.0, -1.0, float("nan"), float("inf"), 1e38])
            case kind:
                raise AssertionError(f"how to attack a field of the kind {kind}?")

    def _text(self) -> str:
        tools: list[Callable[[], str]] = [
            lambda: self._chance.choice(EXISTING),
            lambda: self._chance.choice(EXISTING),
            lambda: self._chance.choice(EXISTING),
            lambda: self._chance.choice(ABSURD),
            lambda: "".join(map(chr, self._chance.choices(range(0xD800), k=20))),
            lambda: "x" * self._chance.choice([1, 63, 64, 255, 256, 1_025, 5_000]),
        ]
        return self._chance.choice(tools)()


EXISTING: Final = [
    "projects/p",
    "projects/p/topics/orders",
    "projects/p/subscriptions/warehouse",
    "projects/p/snapshots/before",
    "orders",
    "warehouse",
    "labels",
    "ack_deadline_seconds",
    "expiration_policy",
    "expire_time",
]
ABSURD: Final = [
    "",
    "\0",
    "projects/p/topics/orders\0",
    "projects/\0/topics/orders",
    "projects/p\n/topics/orders",
    "projects/../topics/orders",
    "projects/p/topics/" + "a" * 100_000,
    "projects/" + "p" * 100_000 + "/topics/orders",
    "projects/p'; DROP TABLE topics; --/topics/orders",
    "projects/%s%n{0}{name}/subscriptions/warehouse",
    "projects/\U0001f600/topics/orders",
    "projects/\ufffe\uffff/subscriptions/warehouse",
    "\u202eprojects/p/topics/orders",
    "*",
    "9" * 400,
    "A" * 48,
    "%00",
    "{}",
]


@every_method
async def test_absurd_requests_are_answered_properly(
    client: Client, method: MethodDescriptor, chance: random.Random
) -> None:
    await make_what_exists(client)
    attacker = Attacker(chance)

    await attack(
        client,
        method,
        [attacker.request(method) for _ in range(ROUNDS)],
    )


async def make_what_exists(client: Client) -> None:
    """Again for each test: attacks may have deleted it."""
    requests: dict[str, Message] = {
        "Publisher.CreateTopic": pb.Topic(name="projects/p/topics/orders"),
        "Subscriber.CreateSubscription": pb.Subscription(
            name="projects/p/subscriptions/warehouse", topic="projects/p/topics/orders"
        ),
        "Subscriber.CreateSnapshot": pb.CreateSnapshotRequest(
            name="projects/p/snapshots/before", subscription="projects/p/subscriptions/warehouse"
        ),
    }
    for method, request in requests.items():
        check(await client.status(method, request), request.SerializeToString())


async def test_absurd_sequences_on_a_stream_are_answered_properly(
    client: Client, chance: random.Random
) -> None:
    await make_what_exists(client)
    method = pb.DESCRIPTOR.services_by_name["Subscriber"].methods_by_name["StreamingPull"]
    attacker = Attacker(chance)
    first = pb.StreamingPullRequest(
        subscription="projects/p/subscriptions/warehouse", stream_ack_deadline_seconds=10
    ).SerializeToString()

    async def one() -> None:
        later = [attacker.request(method) for _ in range(5)]
        later.insert(chance.randrange(5), chance.randbytes(20))
        check(await send(client, method, first, *later), b"".join(later))

    await asyncio.gather(*(one() for _ in range(ROUNDS)))


@on_sqlite
@pytest.mark.parametrize("method", UNARY, ids=lambda method: method.name)
async def test_oversized_requests_are_answered_properly(
    client: Client, method: MethodDescriptor
) -> None:
    for size in (1 * MEBIBYTE, LARGEST_REQUEST + 1):
        unknown_field = b"\x9a\x3f" + varint(size) + bytes(size)

        status = await send(client, method, unknown_field)

        check(status, b"", TOO_LARGE)
        assert status[0] is not grpc.StatusCode.OK  # no method takes an empty name


def varint(number: int) -> bytes:
    parts = bytearray()
    while number >= 0x80:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


@on_sqlite
async def test_many_oversized_requests_leave_no_memory_behind(
    server: Server, client: Client
) -> None:
    topic = await fresh_topic(client)
    request = pb.PublishRequest(
        topic=topic, messages=[pb.PubsubMessage(data=bytes(15 * MEBIBYTE))]
    ).SerializeToString()
    method = pb.DESCRIPTOR.services_by_name["Publisher"].methods_by_name["Publish"]
    before = server.resident_bytes

    for _ in range(5):
        ended = await attack(client, method, [request] * 10)
        assert ended == {grpc.StatusCode.INVALID_ARGUMENT: 10}

    # What ten at a time leave in the pools of the allocator. All 50, each with its parsed copy, would
    # be four times as much.
    assert server.resident_bytes < before + 350 * MEBIBYTE


async def fresh_topic(client: Client) -> str:
    return await client.create_topic(f"projects/p/topics/topic-{secrets.token_hex(4)}")


# --- beneath gRPC -----------------------------------------------------------------------------------


@on_sqlite
async def test_connections_that_talk_nonsense_or_nothing_disturb_nobody(
    server: Server, client: Client, chance: random.Random
) -> None:
    host, port = server.endpoint.split(":")
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    openings = [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chance.randbytes(200),  # TLS
        preface,
        preface + chance.randbytes(1_000),
        preface + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + chance.randbytes(10_000),
        preface + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",  # a frame of 16 MiB that never comes
        chance.randbytes(10_000),
    ]

    connections = []
    for opening in openings * 10:
        connection = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
        connections.append(connection)
        with suppress(OSError):  # it may be thrown out before it has finished
            connection.sendall(opening)
    await check_that_others_are_served(client)
    for connection in connections:
        connection.close()


@on_sqlite
async def test_strange_metadata_disturbs_nobody(client: Client) -> None:
    show: Any = client.channels[0].unary_unary("/google.pubsub.v1.Publisher/ListTopics")
    request = pb.ListTopicsRequest(project="projects/p").SerializeToString()
    for metadata in (
        [("x-goog-request-params", "topic=%00%ff%zz&=&&&")],
        [("authorization", "Bearer " + "x" * 100_000)],
        [("x-bin", bytes(range(256)))],
        [(f"x-{number}", "y" * 100) for number in range(500)],
    ):
        assert await show(request, metadata=metadata, timeout=PATIENCE_S) is not None


@on_sqlite
async def test_a_path_of_any_kind_is_unimplemented(client: Client) -> None:
    for path in (
        "/",
        "/x",
        "/google.pubsub.v1.Publisher/",
        "/google.pubsub.v1.Publisher/publish",
        "/google.pubsub.v1.Publisher/Publish/",
        "/google.pubsub.v1.Publisher/../Subscriber/Pull",
        "/" + "x" * 10_000,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await client.raw(path, b"")
        assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED
