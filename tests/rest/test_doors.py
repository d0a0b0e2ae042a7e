"""Where the service listens: one port for gRPC and HTTP, TLS on all of them, pages of other sites."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
import requests

from ams_grpc import shared_port
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2
from tests.server import Server, eventually, free_port

TOKEN: Final = "r" * 64
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
NO_SETTINGS: Final = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
SETTINGS_FRAME: Final = 4
LARGE: Final = bytes(5_000_000)
PAGE: Final = "https://ui.example.org"


# --- one port ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """As it is on a developer's machine."""
    with Server(tmp_path_factory.mktemp("emulator"), profile="emulator") as server:
        yield server
        assert "Traceback" not in server.log()


def call(channel: grpc.Channel, method: str, request: Any, reply: Any) -> Any:
    """One unary call of Pub/Sub."""
    path = f"/google.pubsub.v1.{method}"
    stub = channel.unary_unary(path, type(request).SerializeToString, reply.FromString)
    return stub(request, timeout=30, wait_for_ready=True)


@contextmanager
def channel_to(address: str, credentials: grpc.ChannelCredentials | None = None) -> Iterator[Any]:
    options = [("grpc.max_receive_message_length", -1)]
    opened = (
        grpc.insecure_channel(address, options)
        if credentials is None
        else grpc.secure_channel(address, credentials, options)
    )
    with opened as channel:
        yield channel


def test_the_development_port_speaks_grpc_and_rest(emulator: Server) -> None:
    root = f"http://{emulator.endpoint}"
    assert requests.get(f"{root}/", timeout=30).text == "Ok\n"

    with channel_to(emulator.endpoint) as channel:
        topic = pubsub_pb2.Topic(name="projects/p/topics/orders")
        call(channel, "Publisher/CreateTopic", topic, pubsub_pb2.Topic)
    shown = requests.get(f"{root}/v1/{topic.name}", timeout=30)

    assert shown.json() == {"name": topic.name}


def test_large_messages_pass_through_it_both_ways(emulator: Server) -> None:
    topic, subscription = "projects/p/topics/large", "projects/p/subscriptions/large"
    with channel_to(emulator.endpoint) as channel:
        call(channel, "Publisher/CreateTopic", pubsub_pb2.Topic(name=topic), pubsub_pb2.Topic)
        wanted = pubsub_pb2.Subscription(name=subscription, topic=topic)
        call(channel, "Subscriber/CreateSubscription", wanted, pubsub_pb2.Subscription)
        publish = pubsub_pb2.PublishRequest(topic=topic, messages=[{"data": LARGE}])
        call(channel, "Publisher/Publish", publish, pubsub_pb2.PublishResponse)
        pull = pubsub_pb2.PullRequest(subscription=subscription, max_messages=1)

        [received] = call(
            channel, "Subscriber/Pull", pull, pubsub_pb2.PullResponse
        ).received_messages

    assert received.message.data == LARGE


def exchange(address: str, *parts: bytes) -> bytes:
    """What comes first as an answer to bytes that come in parts."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            connection.sendall(part)
        return connection.recv(4096)


@pytest.mark.parametrize(
    "first",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"\0\r\n\r\n", b"PRI \r\n\r\n"],
    ids=["TLS", "zero", "nearly HTTP/2"],
)
def test_what_is_neither_is_refused(emulator: Server, first: bytes) -> None:
    assert exchange(emulator.endpoint, first).startswith(b"HTTP/1.0 400 ")
    assert requests.get(f"http://{emulator.endpoint}/", timeout=30).ok


def test_first_bytes_may_come_one_by_one(emulator: Server) -> None:
    apart = [bytes([each]) for each in PREFACE]
    assert exchange(emulator.endpoint, *apart, NO_SETTINGS)[3] == SETTINGS_FRAME

    assert exchange(
        emulator.endpoint,
        b"P",
        b"UT /v1/projects/p/topics/slow",
        b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ).startswith(b"HTTP/1.1 200 ")


def test_connections_that_vanish_leave_nothing_behind(emulator: Server) -> None:
    host, port = emulator.endpoint.split(":")
    requests.get(f"http://{emulator.endpoint}/", timeout=30)
    before = emulator.open_files
    for start in (b"", PREFACE[:9], PREFACE, PREFACE + NO_SETTINGS, b"GET / HT"):
        for _ in range(10):
            connection = socket.create_connection((host, int(port)), timeout=30)
            connection.sendall(start)
            if start.startswith(PREFACE):
                assert connection.recv(1)  # gRPC has it
            # Closing resets it.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.close()
    # Whoever came earlier has been let in by now.
    requests.get(f"http://{emulator.endpoint}/", timeout=30)

    eventually(lambda: emulator.open_files <= before)


async def test_who_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nowhere(*_: object) -> Any:
        raise AssertionError("nothing was said")

    monkeypatch.setattr(shared_port, "_FIRST_BYTES_S", 0.05)
    server = await shared_port.listen("127.0.0.1", 0, nowhere, nowhere)
    async with server, asyncio.timeout(30):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(PREFACE[:10])

        assert await reader.read() == b""
        writer.close()


def requests_until(stopped: threading.Event, first: Any) -> Iterator[Any]:
    """What a client says that keeps its stream open."""
    yield first
    stopped.wait(60)


def test_streams_through_it_end_as_others_do_when_the_server_stops(tmp_path: Path) -> None:
    """UNAVAILABLE: subscribers connect again on that."""
    with Server(tmp_path, profile="emulator") as server, channel_to(server.endpoint) as channel:
        topic, subscription = "projects/p/topics/orders", "projects/p/subscriptions/warehouse"
        call(channel, "Publisher/CreateTopic", pubsub_pb2.Topic(name=topic), pubsub_pb2.Topic)
        wanted = pubsub_pb2.Subscription(name=subscription, topic=topic)
        call(channel, "Subscriber/CreateSubscription", wanted, pubsub_pb2.Subscription)
        publish = pubsub_pb2.PublishRequest(topic=topic, messages=[{"data": b"hello"}])
        call(channel, "Publisher/Publish", publish, pubsub_pb2.PublishResponse)
        open_stream = channel.stream_stream(
            "/google.pubsub.v1.Subscriber/StreamingPull",
            pubsub_pb2.StreamingPullRequest.SerializeToString,
            pubsub_pb2.StreamingPullResponse.FromString,
        )
        first = pubsub_pb2.StreamingPullRequest(
            subscription=subscription, stream_ack_deadline_seconds=60
        )
        stopped = threading.Event()
        stream = open_stream(requests_until(stopped, first))
        received = (each for response in stream for each in response.received_messages)
        assert next(received).message.data == b"hello"

        status = server.stop()

        with pytest.raises(grpc.RpcError):
            next(received)
        stopped.set()
        assert (stream.code(), status) == (grpc.StatusCode.UNAVAILABLE, 0)


@pytest.mark.parametrize("arguments", [(), ("--auth",)], ids=["strict", "auth"])
def test_a_server_in_production_speaks_grpc_alone(tmp_path: Path, arguments: Sequence[str]) -> None:
    settings = {"ADMIN_TOKEN": TOKEN}
    with Server(tmp_path, profile="strict", arguments=arguments, settings=settings) as server:
        assert not exchange(server.endpoint, b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1")


# --- REST: limits, documents, pages of other sites -------------------------------------------------


class Doors:
    """A server with both REST APIs."""

    def __init__(self, data: Path, *arguments: str, **settings: str) -> None:
        self.data: Final = data
        self.ams: Final = f"127.0.0.1:{free_port()}"
        self.google: Final = f"127.0.0.1:{free_port()}"
        self.server: Final = Server(
            data,
            arguments=(
                *("--ams-address", self.ams, "--google-rest-address", self.google),
                *arguments,
            ),
            settings={"ADMIN_TOKEN": TOKEN} | settings,
        )


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    doors = Doors(
        tmp_path_factory.mktemp("plain"),
        CORS_ORIGINS=f'["{PAGE}"]',
        REST_MAX_BYTES="1500000",
        REST_TIMEOUT_S="1.5",
    )
    with doors.server:
        yield doors


def test_a_request_has_a_largest_size_and_a_longest_time(plain: Doors) -> None:
    headers = {"x-api-key": TOKEN}
    for method, path in (("POST", "projects/p"), ("PUT", "projects/p/topics/ttt")):
        url = f"http://{plain.ams}/v1/{path}"
        assert requests.request(method, url, headers=headers, json={}, timeout=30).ok
    for address in (plain.ams, plain.google):
        url = f"http://{address}/v1/projects/p/topics/ttt:publish"
        assert requests.post(url, bytes(1_500_001), headers=headers, timeout=30).status_code == 413

        with closing(http.client.HTTPConnection(address, timeout=30)) as connection:
            connection.putrequest("POST", "/v1/projects/p/topics/ttt:publish")
            connection.putheader("x-api-key", TOKEN)
            connection.putheader("Content-Length", "2")
            connection.endheaders(b"{")
            assert connection.getresponse().status == 408


@pytest.mark.parametrize("door", ["ams", "google"])
def test_each_rest_api_shows_what_it_has(plain: Doors, door: str) -> None:
    root = f"http://{getattr(plain, door)}"
    document = requests.get(f"{root}/openapi.json", timeout=30).json()
    page = requests.get(f"{root}/docs", timeout=30)

    assert document["openapi"] == "3.1.0"
    assert len(document["paths"]) > 20
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    for name in ("explorer.js", "explorer.css"):
        assert f'"/docs/{name}"' in page.text
        assert requests.get(f"{root}/docs/{name}", timeout=30).ok
    assert page.text.count("http") == 0  # nothing comes from elsewhere


def preflight(address: str, **headers: str) -> requests.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.options(f"http://{address}/v1/projects/p", headers=named, timeout=30)


@pytest.mark.parametrize("door", ["ams", "google"])
def test_pages_of_a_listed_origin_may_call(plain: Doors, door: str) -> None:
    address = getattr(plain, door)

    asked = preflight(
        address,
        Origin=PAGE,
        Access_Control_Request_Method="PUT",
        Access_Control_Request_Headers="content-type, x-api-key",
    )

    assert (asked.status_code, asked.content) == (200, b"")
    assert asked.headers["Access-Control-Allow-Origin"] == PAGE
    assert asked.headers["Access-Control-Allow-Methods"] == "PUT"
    patch = preflight(address, Origin=PAGE, Access_Control_Request_Method="PATCH")
    assert patch.status_code == {"ams": 405, "google": 200}[door]
    assert asked.headers["Access-Control-Allow-Headers"] == "content-type,x-api-key"
    headers = {"Origin": PAGE, "x-api-key": TOKEN}
    got = requests.get(f"http://{address}/v1/projects/ppp/topics", headers=headers, timeout=30)
    assert got.headers["Access-Control-Allow-Origin"] == PAGE
    assert got.status_code == {"ams": 404, "google": 200}[door]


def test_preflights_are_refused_as_ams_does(plain: Doors) -> None:
    method = "Access_Control_Request_Method"
    asked = [
        preflight(plain.ams),
        preflight(plain.ams, Origin=PAGE),
        preflight(plain.ams, Origin=PAGE, **{method: "TRACE"}),
        preflight(plain.ams, Origin=PAGE, **{method: "GET"}, Access_Control_Request_Headers="x-y"),
    ]
    assert [each.status_code for each in asked] == [200, 400, 405, 403]


def test_pages_of_other_origins_may_not(plain: Doors) -> None:
    other = "https://evil.example.org"
    for address in (plain.ams, plain.google):
        asked = preflight(address, Origin=other, Access_Control_Request_Method="PUT")
        assert "Access-Control-Allow-Origin" not in asked.headers
    got = requests.get(
        f"http://{plain.google}/v1/projects/ppp/topics", headers={"Origin": other}, timeout=30
    )
    assert got.status_code == 403


# --- TLS --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    doors = Doors(tmp_path_factory.mktemp("secure"), "--tls-self-signed")
    with doors.server:
        yield doors


def authority(doors: Doors) -> Path:
    return doors.data / "tls" / "ca.pem"


def test_one_authority_is_enough_for_all_doors(secure: Doors) -> None:
    ca = str(authority(secure))
    for address in (secure.ams, secure.google):
        for host in ("127.0.0.1", "localhost"):
            url = f"https://{host}:{address.partition(':')[2]}"
            reply = requests.get(
                f"{url}/v1/projects/ppp/topics",
                headers={"x-api-key": TOKEN},
                verify=ca,
                timeout=30,
            )
            assert reply.status_code in {200, 404}
    trusted = grpc.ssl_channel_credentials(authority(secure).read_bytes())
    with channel_to(secure.server.endpoint, trusted) as channel:
        topic = pubsub_pb2.Topic(name="projects/p/topics/orders")
        assert call(channel, "Publisher/CreateTopic", topic, pubsub_pb2.Topic) == topic


def test_without_tls_nothing_is_said(secure: Doors) -> None:
    for address in (secure.ams, secure.google, secure.server.endpoint):
        with suppress(ConnectionResetError):
            assert b"HTTP" not in exchange(address, b"GET / HTTP/1.1\r\n\r\n")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_versions_of_tls_are_refused(secure: Doors) -> None:
    old = ssl.create_default_context(cafile=authority(secure))
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    for address in (secure.ams, secure.google, secure.server.endpoint):
        host, port = address.split(":")
        with (
            socket.create_connection((host, int(port)), timeout=30) as connection,
            pytest.raises((ssl.SSLError, OSError)),
        ):
            old.wrap_socket(connection, server_hostname="localhost")


def test_private_keys_are_for_the_service_alone(secure: Doors) -> None:
    for name in ("ca.key", "server.key"):
        mode = (secure.data / "tls" / name).stat().st_mode
        assert stat.S_IMODE(mode) == 0o600


# --- the bridge on its own ---------------------------------------------------------------------------


def test_a_bridge_on_its_own_speaks_both_dialects_over_tls(secure: Doors) -> None:
    """In front of a server with TLS, with a certificate of its own: here, the same."""
    ams, google = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    folder = secure.data / "tls"
    command = [
        *(sys.executable, "-m", "http_bridge", "--target", secure.server.endpoint),
        *("--ca", str(folder / "ca.pem"), "--ams-address", ams, "--google-rest-address", google),
        *("--tls-cert", str(folder / "server.pem"), "--tls-key", str(folder / "server.key")),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as bridge:
        try:
            assert bridge.stdout is not None
            ready = bridge.stdout.readline()
            assert f"google_rest={google} ams={ams} " in ready
            for address, path in ((ams, "/v1/projects"), (google, "/v1/projects/ppp/topics")):
                reply = requests.get(
                    f"https://{address}{path}",
                    headers={"x-api-key": TOKEN},
                    verify=str(folder / "ca.pem"),
                    timeout=30,
                )
                assert reply.status_code == 200, reply.text
                for name, odd in (
                    ("authorization", "Bearer é"),
                    ("x-api-key", "é"),
                    ("x-api-key", "a\tb"),
                ):
                    refused = requests.get(
                        f"https://{address}{path}",
                        headers={name: odd.encode("latin-1")},
                        verify=str(folder / "ca.pem"),
                        timeout=30,
                    )
                    # There everybody may call, and such a token is none.
                    assert refused.status_code == (401 if address == ams else 200), name
        finally:
            bridge.terminate()
