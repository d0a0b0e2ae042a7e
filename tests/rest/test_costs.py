"""What a request may cost: nothing much before its caller is let in, and not everything afterwards."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import socket
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import urlsplit

import grpc
import orjson
import pytest
from aiohttp import web
from google.protobuf.message import Message

from ams_grpc.pb.ams.v1 import accounts_pb2, pubsub_pb2
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as google_pubsub_pb2
from http_bridge import limits, serving
from http_bridge.ams.app import AmsRest
from http_bridge.caller import Metadata, Method, RpcFailure
from http_bridge.google.app import GoogleRest
from http_bridge.limits import Limits, has_too_many_parts
from tests.rest.conftest import ROOT_TOKEN, Ams, Town

PARTS: Final = limits.MOST_SEPARATORS
LENGTHS: Final = {
    "long": "Content-Length: 19000000",
    "too long": "Content-Length: 99000000",
    "of no length": "Transfer-Encoding: chunked",
    "packed": "Content-Encoding: gzip\r\nContent-Length: 9000",
}


@contextmanager
def begun(address: str, path: str, token: str | None, *headers: str) -> Iterator[socket.socket]:
    """A POST of which only the headers have been sent."""
    url = urlsplit(f"http://{address}/v1{path}")
    lines = [f"POST {url.path} HTTP/1.1", f"Host: {address}", *headers]
    lines += [f"x-api-key: {token}"] if token else []
    assert url.hostname
    assert url.port
    with socket.create_connection((url.hostname, url.port), timeout=30) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        yield connection


# --- before the caller is let in ------------------------------------------------------------------


@pytest.mark.parametrize("headers", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize(
    "caller, topic, code",
    [(None, "orders", b"401"), ("carl", "orders", b"403"), ("alice", "nowhere", b"404")],
)
def test_a_large_body_is_not_waited_for_from_who_is_not_let_in(
    town: Town, headers: str, caller: str | None, topic: str, code: bytes
) -> None:
    town.ams.ok("PUT", town.path("/topics/orders"), json={})
    token = town.tokens[caller] if caller else None
    path = town.path(f"/topics/{topic}:publish")
    with begun(town.ams.address, path, token, headers) as connection:
        assert connection.recv(4096).split()[1] == code


def test_a_large_body_of_who_is_let_in_is_taken(town: Town) -> None:
    topic = town.path("/topics/orders")
    town.ams.ok("PUT", topic, json={})
    body = json.dumps({"messages": [{"data": "aGk="}] * 9000}).encode()
    assert len(body) > limits.LARGE_BODY_BYTES
    for sent, headers in ((body, {}), (gzip.compress(body), {"Content-Encoding": "gzip"})):
        published = town.ams.ok("POST", f"{topic}:publish", body=sent, headers=headers)
        assert len(published["messageIds"]) == 9000
    refused = town.ams.refused("POST", f"{topic}:publish", body=bytes(21 << 20))
    assert refused == (413, "INVALID_ARGUMENT", "Message size is too large")


class Recorder:
    """A caller that writes down what was called, and refuses if it is told to."""

    def __init__(self, refusal: grpc.StatusCode | None = None) -> None:
        self.called: list[str] = []
        self.requests: list[Message] = []
        self.refusal = refusal

    async def __call__(
        self, method: Method, request: Message, *, metadata: Metadata, timeout_s: float
    ) -> Message:
        self.called.append(method.path.rpartition("/")[2])
        self.requests.append(request)
        if self.refusal is not None:
            raise RpcFailure(self.refusal, "Unauthorized")
        return method.reply_class()


SERVICES: Final = [
    accounts_pb2.DESCRIPTOR.services_by_name["Projects"],
    pubsub_pb2.DESCRIPTOR.services_by_name["Topics"],
]
GOOGLE: Final = list(google_pubsub_pb2.DESCRIPTOR.services_by_name.values())
HOST: Final = "127.0.0.1"
_USUAL: Final = Limits()


@asynccontextmanager
async def bridge(caller: Any, limits: Limits = _USUAL) -> AsyncIterator[int]:
    """The port of a bridge in this process."""
    rest = AmsRest(caller, SERVICES, limits=limits)
    async with asyncio.timeout(30), serving.serving(rest.handler, HOST, 0) as port:
        yield port


@asynccontextmanager
async def google_bridge(
    caller: Any, limits: Limits = _USUAL, *, on_loopback: bool = False
) -> AsyncIterator[int]:
    """The port of one that speaks Google's dialect."""
    rest = GoogleRest(caller, GOOGLE, on_loopback=on_loopback, limits=limits)
    async with asyncio.timeout(30), serving.serving(rest.handler, HOST, 0) as port:
        yield port


DOORS: Final[tuple[Callable[..., AbstractAsyncContextManager[int]], ...]] = (
    bridge,
    google_bridge,
)


async def answer(port: int, request: bytes) -> bytes:
    """All that comes until the other side hangs up, or until the answer is whole."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(request)
    head = await reader.read(1 << 16)
    writer.close()
    return head


def publish(body: bytes, length: int | None = None) -> bytes:
    length = len(body) if length is None else length
    return (
        b"POST /v1/projects/p/topics/t:publish HTTP/1.1\r\nHost: x\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (length, body)
    )


def packed(body: bytes, encoding: str, path: str = "/v1/projects/p/topics/t:publish") -> bytes:
    """The same, of a body that has been packed."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Encoding: {encoding}\r\n"
    return b"%bContent-Length: %d\r\n\r\n%b" % (head.encode(), len(body), body)


async def test_a_small_body_costs_one_call_and_a_large_one_two() -> None:
    caller = Recorder()
    async with bridge(caller) as port:
        small = b'{"messages": []}'
        assert b"messageIds" in await answer(port, publish(small))
        assert caller.called == ["Publish"]
        caller.called.clear()
        large = b'{"messages": []%b}' % (b" " * limits.LARGE_BODY_BYTES)
        assert b"messageIds" in await answer(port, publish(large))
        assert caller.called == ["CheckAccess", "Publish"]


async def test_a_small_body_that_comes_after_its_headers_costs_no_more() -> None:
    """As many clients send it, in two pieces."""
    body = b'{"messages": []}'
    head = publish(b"", len(body)).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    for door in DOORS:
        caller = Recorder()
        async with door(caller) as port:
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(head)
            assert (await reader.readuntil(b"\r\n\r\n")).split()[1] == b"100"  # it is waited for
            writer.write(body)
            assert (await reader.readuntil(b"\r\n\r\n")).split()[1] == b"200"
            writer.close()
        assert caller.called == ["Publish"]


async def test_a_limit_counts_for_small_bodies_too() -> None:
    body = b'{"messages": []}'
    for door in DOORS:
        for most, code in ((len(body), b"200"), (len(body) - 1, b"413")):
            async with door(Recorder(), Limits(max_bytes=most)) as port:
                assert (await answer(port, publish(body))).split()[1] == code


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


PACKERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "gzip": gzip.compress,
    "X-GZIP": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": raw_deflate,
    "identity": bytes,
}


@pytest.mark.parametrize("encoding", PACKERS)
async def test_a_packed_body_is_unpacked_once_its_caller_is_let_in(encoding: str) -> None:
    caller = Recorder()
    for door in DOORS:
        async with door(caller) as port:
            got = await answer(port, packed(PACKERS[encoding](b'{"messages": []}'), encoding))
        assert got.split()[1] == b"200"
        assert caller.called == ["CheckAccess", "Publish"]
        caller.called.clear()


UNREADABLE: Final = {
    "no gzip": (b"abcd", "gzip"),
    "no deflate": (b"abcd", "deflate"),
    "broken off": (gzip.compress(b'{"messages": []}')[:-9], "gzip"),
    "with more behind it": (gzip.compress(b"{}") + b"{}", "gzip"),
    "unknown": (b"{}", "br"),
    "packed twice": (gzip.compress(gzip.compress(b"{}")), "gzip, gzip"),
}


@pytest.mark.parametrize("case", UNREADABLE)
async def test_what_cannot_be_unpacked_is_a_bad_body(
    case: str, caplog: pytest.LogCaptureFixture
) -> None:
    for door in DOORS:
        for refusal, code in ((None, b"400"), (grpc.StatusCode.UNAUTHENTICATED, b"401")):
            async with door(Recorder(refusal)) as port:
                got = await answer(port, packed(*UNREADABLE[case]))
            assert got.split()[1] == code
    assert not caplog.records


@pytest.mark.parametrize("path", ["/v1/projects/p/topics/t:publish", "/docs"])
async def test_nothing_is_unpacked_for_a_stranger_nor_more_than_the_limit_for_others(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    most: list[int] = []
    real = zlib.decompressobj

    def recorded(*arguments: Any) -> Any:
        unpacker = real(*arguments)

        def decompress(data: bytes, max_length: int) -> bytes:
            most.append(max_length)
            return unpacker.decompress(data, max_length)

        return SimpleNamespace(decompress=decompress)

    monkeypatch.setattr(zlib, "decompressobj", recorded)
    bomb = gzip.compress(bytes(64 << 20))
    for door in DOORS:
        async with door(Recorder(grpc.StatusCode.UNAUTHENTICATED)) as port:
            await answer(port, packed(bomb, "gzip", path))
        assert not most
        async with door(Recorder()) as port:
            got = await answer(port, packed(bomb, "gzip"))
        assert got.split()[1] == b"413"
        assert most.pop() == Limits().max_bytes + 1


@pytest.mark.parametrize(
    "refusal, code", [(None, b"408"), (grpc.StatusCode.UNAUTHENTICATED, b"401")]
)
async def test_who_is_not_let_in_is_told_so_also_when_the_body_does_not_come(
    refusal: grpc.StatusCode | None, code: bytes
) -> None:
    async with bridge(Recorder(refusal), Limits(timeout_s=0.1)) as port:
        assert (await answer(port, publish(b"{", length=2))).split()[1] == code


@pytest.mark.parametrize(
    "refusal, told", [(None, b"100"), (grpc.StatusCode.UNAUTHENTICATED, b"401")]
)
async def test_a_body_that_waits_to_be_asked_for_is_asked_for_once_its_caller_is_let_in(
    refusal: grpc.StatusCode | None, told: bytes
) -> None:
    """As curl has it with large ones."""
    body = b'{"messages": []%b}' % (b" " * limits.LARGE_BODY_BYTES)
    head = publish(b"", len(body)).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    async with bridge(Recorder(refusal)) as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(head)
        first = await reader.readuntil(b"\r\n\r\n")
        assert first.split()[1] == told
        if told == b"100":
            writer.write(body)
            assert (await reader.readuntil(b"\r\n\r\n")).split()[1] == b"200"
        writer.close()


async def test_a_connection_ends_on_which_a_body_was_announced_and_not_asked_for() -> None:
    head = publish(b"", 100_000)[:-2]
    expecting = head + b"Expect: 100-continue\r\n"
    elsewhere = expecting.replace(b"/v1/", b"/v2/")
    for door in DOORS:
        async with door(Recorder(grpc.StatusCode.UNAUTHENTICATED)) as port:
            for each, ends in ((expecting, True), (elsewhere, True), (head, False)):
                got = await answer(port, each + b"\r\n")
                assert (b"\r\nConnection: close\r\n" in got) is ends


async def test_one_on_which_a_body_was_asked_for_goes_on() -> None:
    head = publish(b"", 100_000)[:-2] + b"Expect: 100-continue\r\n\r\n"
    async with bridge(Recorder()) as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        for _ in range(2):
            writer.write(head)
            assert b" 100 " in await reader.readuntil(b"\r\n\r\n")
            writer.write(b'{"messages": []}' + b" " * (100_000 - 16))
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            await reader.readuntil(b"}")
        writer.close()


async def test_other_expectations_are_passed_over() -> None:
    request = publish(b"{}").replace(b"\r\n\r\n", b"\r\nExpect: a-miracle\r\n\r\n")
    for door in DOORS:
        async with door(Recorder()) as port:
            assert (await answer(port, request)).split()[1] == b"200"


@pytest.mark.parametrize("start", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nX-A: b\r\n"])
async def test_a_connection_without_a_whole_request_is_closed(
    start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "IDLE_S", 0.1)
    async with bridge(Recorder()) as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(start)
        assert await reader.read() == b""
        writer.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system cannot tell")
async def test_a_connection_is_closed_whose_client_takes_no_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving, "IDLE_S", 0.1)
    ended = asyncio.Event()

    async def much(request: web.BaseRequest) -> web.StreamResponse:
        try:
            answer = web.StreamResponse()
            await answer.prepare(request)
            while True:
                await answer.write(bytes(1 << 20))
        finally:
            ended.set()

    async with asyncio.timeout(30), serving.serving(much, HOST, 0) as port:
        with socket.create_connection((HOST, port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await ended.wait()


# --- after it -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method, path, body",
    [
        (
            "POST",
            "/topics/orders:publish",
            {"messages": [{"data": "", "attributes": dict.fromkeys(map(str, range(PARTS)), "")}]},
        ),
        ("POST", "/topics/orders:publish", {"messages": [{}] * (PARTS + 1)}),
        ("POST", "/schemas/order", {"type": "json", "schema": {"enum": [1] * (PARTS + 1)}}),
        ("POST", "/topics/orders:modifyAcl", {"authorized_users": [""] * (PARTS + 1)}),
    ],
    ids=["attributes", "messages", "numbers", "names"],
)
def test_a_body_of_very_many_parts_is_refused(
    town: Town, method: str, path: str, body: Any
) -> None:
    town.ams.ok("PUT", town.path("/topics/orders"), json={})
    refused = town.ams.refused(method, town.path(path), json=body)
    assert refused == (413, "INVALID_ARGUMENT", "Message size is too large")


@pytest.mark.parametrize(
    "verb, body",
    [
        (
            "topics/t:publish",
            {"messages": [{"attributes": dict.fromkeys(map(str, range(PARTS)), "")}]},
        ),
        ("topics/t:publish", {"messages": [{}] * (PARTS + 1)}),
        ("subscriptions/t:acknowledge", {"ackIds": [""] * (PARTS + 1)}),
    ],
    ids=["attributes", "messages", "texts"],
)
async def test_nor_is_one_parsed_for_google_s_api(
    verb: str, body: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orjson, "loads", None)
    text = json.dumps(body).encode()
    head = f"POST /v1/projects/p/{verb} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(text)}\r\n\r\n"
    async with google_bridge(Recorder()) as port:
        got = await answer(port, head.encode() + text)
    assert got.split()[1] == b"400"
    assert b"More than 100000 parts" in got


async def test_google_s_api_asks_who_calls_before_it_converts_what_takes_long() -> None:
    """As it does with many small messages."""
    caller = Recorder(grpc.StatusCode.UNAUTHENTICATED)
    async with google_bridge(caller) as port:
        got = await answer(port, publish(b'{"messages": [' + b"{}," * 2000 + b"{}]}"))
    assert got.split()[1] == b"401"
    assert caller.called == ["CheckAccess"]


@pytest.mark.parametrize(
    "body, is_too_much",
    [
        (b"[" + b"1," * PARTS + b"1]", True),
        (b"[" + b"1," * (PARTS - 1) + b"1]", False),
        (b'["' + b",:[" * PARTS + b'"]', False),
        (b'["' + b'\\",' * PARTS + b'"]', False),
        (b'["\\\\"' + b',"\\\\"' * PARTS + b"]", True),
        (b'["' + b"\\\\" * PARTS + b'"' + b",1" * PARTS + b"]", True),
        (b'["' + b"\\\\" * PARTS + b'\\"' + b",1" * PARTS + b'"]', False),
    ],
    ids=["many", "fewer", "in texts", "quoted", "escapes", "a long escape", "an odd escape"],
)
@pytest.mark.parametrize("piece", [7, 8, 64 * 1024])
def test_only_what_is_outside_of_texts_is_a_part(
    body: bytes, is_too_much: bool, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_PIECE_BYTES", piece)
    assert has_too_many_parts(body) is is_too_much


def test_texts_may_have_any_number_of_commas(town: Town) -> None:
    topic = town.path("/topics/orders")
    town.ams.ok("PUT", topic, json={})
    message = {"data": "", "attributes": {"csv": "1,2;" * PARTS}}
    assert town.ams.ok("POST", f"{topic}:publish", json={"messages": [message]})


# --- odd requests ---------------------------------------------------------------------------------


class Faulty:
    """A caller with a fault of its own."""

    async def __call__(self, *_: object, **__: object) -> bytes:
        raise RuntimeError("of our own making")


async def test_a_fault_of_ours_is_ams_s_error_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR):
        async with bridge(Faulty()) as port:
            got = await answer(port, publish(b"{}"))
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 ")
    assert json.loads(body)["error"] == {
        "code": 500,
        "message": "Internal Error",
        "status": "INTERNAL_SERVER_ERROR",
    }
    [record] = caplog.records
    assert record.exc_info is not None


async def test_a_fault_of_ours_is_google_s_error_over_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR):
        async with google_bridge(Faulty()) as port:
            got = await answer(port, b"GET /v1/projects/p/topics HTTP/1.1\r\nHost: x\r\n\r\n")
    error = {"code": 500, "message": "Internal error.", "status": "INTERNAL"}
    assert json.loads(got.partition(b"\r\n\r\n")[2]) == {"error": error}
    [record] = caplog.records
    assert record.exc_info is not None


async def test_a_body_that_breaks_off_is_nobody_s_fault(caplog: pytest.LogCaptureFixture) -> None:
    chunked = b"POST /v1/projects/p/topics/t:publish HTTP/1.1\r\nHost: x\r\n%b\r\n\r\nzz\r\n"
    for door in DOORS:
        async with door(Recorder()) as port:
            got = await answer(port, chunked % b"Transfer-Encoding: chunked")
        assert got.split()[1] == b"400"
    assert not caplog.records


BROKEN_OFF: Final = (
    publish(b"{", length=2),
    publish(b"{", length=100_000),
    b"POST /v1/projects/p/topics/t:publish HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n",
)


@pytest.mark.parametrize("request_", BROKEN_OFF, ids=["small", "large", "chunked"])
async def test_a_client_that_hangs_up_is_nobody_s_fault(
    request_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    for door in DOORS:
        async with door(Recorder()) as port:
            _, writer = await asyncio.open_connection(HOST, port)
            writer.write(request_)
            writer.close()
            await writer.wait_closed()
            await answer(port, b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n")
    assert not caplog.records


@pytest.mark.parametrize(
    "head", ["Host: x\r\nOrigin: http://[x", "Host: [x\r\nOrigin: http://y", "Host: [x"]
)
async def test_who_names_itself_by_no_url_is_foreign_to_google_s_api(
    head: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with google_bridge(Recorder(), on_loopback=True) as port:
        got = await answer(port, f"GET / HTTP/1.1\r\n{head}\r\n\r\n".encode())
    assert got.split()[1] == b"403"
    assert not caplog.records


@pytest.mark.parametrize("name", ["a%0ab", "%0d", "%ED%A0%80", "a:b", "a" * 256])
@pytest.mark.parametrize(
    "body, encoding",
    [(b"{}", "identity"), (b"{", "identity"), (b"{" * 99_999, "identity"), (b"{", "gzip")],
    ids=["good", "bad", "large", "packed"],
)
def test_a_bad_name_comes_before_all_else(ams: Ams, name: str, body: bytes, encoding: str) -> None:
    path, headers = f"/projects/p/topics/{name}:publish", {"Content-Encoding": encoding}
    refused = ams.refused("POST", path, None, body=body, headers=headers)
    assert refused == (400, "INVALID_ARGUMENT", "Invalid topic name")


@pytest.mark.parametrize(
    "target, location",
    [
        ("/v1//projects?key=a%20b&x=", "/v1/projects?key=a%20b&x="),
        ("http://example.org/v1//projects?key=1", "/v1/projects?key=1"),
        ("/v1/a/../projects", "/v1/projects"),
    ],
)
async def test_a_redirection_keeps_the_query(target: str, location: str) -> None:
    async with bridge(Recorder()) as port:
        got = await answer(port, f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert got.split()[1] == b"301"
    assert f"\r\nLocation: {location}\r\n".encode() in got


def test_the_whole_url_is_a_target_too(ams: Ams) -> None:
    host, port = ams.address.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        request = f"GET http://{ams.address}/v1/status HTTP/1.1\r\nHost: {ams.address}\r\n\r\n"
        connection.sendall(request.encode())
        assert connection.recv(4096).split()[1] == b"200"


@pytest.mark.parametrize("size", ["1_0", " 2", "+2", "2 ", "٣", "1.0", "0x1", "9" * 5000])
def test_a_page_size_is_digits(ams: Ams, size: str) -> None:
    refused = ams.refused("GET", "/users", ROOT_TOKEN, params={"pageSize": size})
    assert refused[0] == 400


@pytest.mark.parametrize("size", ["9" * 11, "-" + "9" * 11])
def test_a_page_may_be_asked_to_be_of_any_size(ams: Ams, size: str) -> None:
    assert ams.ok("GET", "/users", ROOT_TOKEN, params={"pageSize": size})["users"]


def test_long_paths_are_not_remembered() -> None:
    rest = AmsRest(Recorder(), SERVICES)
    router = rest._router
    for path in ("/v1/projects/p", "/v1/projects/" + "p" * 5000):
        assert router.find("GET", path) is not None
    assert router._remembered.cache_info().currsize == 1
