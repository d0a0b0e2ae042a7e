"""The process: when it is ready, what it refuses, how it ends; health, reflection, TLS."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from tests.clients.pubsub import PATIENCE_S, PubSub, project_on
from tests.server import Server, free_port, run

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICES = {
    "ams.v1.Access",
    "ams.v1.Projects",
    "ams.v1.Registrations",
    "ams.v1.Schemas",
    "ams.v1.Service",
    "ams.v1.Subscriptions",
    "ams.v1.Topics",
    "ams.v1.Users",
    "google.iam.v1.IAMPolicy",
    "google.pubsub.v1.Publisher",
    "google.pubsub.v1.SchemaService",
    "google.pubsub.v1.Subscriber",
    "grpc.health.v1.Health",
    "grpc.reflection.v1alpha.ServerReflection",
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that the test may end; on SQLite alone, as nothing here is about storage."""
    with Server(tmp_path, admin=True) as server:
        yield server


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.endpoint) as channel:
        yield channel


@pytest.fixture
def own(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[PubSub]:
    """A project on the server that the test may end."""
    with project_on(server, monkeypatch) as project:
        yield project


# --- starting ---------------------------------------------------------------------------------------


def test_the_ready_line_names_the_port_that_was_free(tmp_path: Path) -> None:
    with Server(tmp_path, arguments=["--grpc-address", "127.0.0.1:0"]) as server:
        host, _, port = server.ready["grpc"].rpartition(":")

        assert host == "127.0.0.1"
        assert int(port) > 0
        with grpc.insecure_channel(server.ready["grpc"]) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            assert health.Check(health_pb2.HealthCheckRequest(), timeout=10).status == SERVING


def test_the_ready_line_names_every_address(server: Server) -> None:
    assert server.ready["grpc"] == server.endpoint
    assert server.ready["admin"] == server.admin_endpoint


def test_a_second_server_on_the_same_sqlite_data_is_refused(tmp_path: Path) -> None:
    with Server(tmp_path):
        second = run(
            *("serve", "--grpc-address", f"127.0.0.1:{free_port()}", "--data", str(tmp_path))
        )

    assert second.returncode != 0
    assert "ready" not in second.stdout
    assert "Traceback" not in second.stderr
    assert "in use" in second.stderr or "another server" in second.stderr


def test_the_data_can_be_used_again_after_a_kill(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        server.kill()
        server.start()


def test_a_second_server_on_the_same_port_is_refused(server: Server, tmp_path: Path) -> None:
    second = run("serve", "--grpc-address", server.endpoint, "--data", str(tmp_path / "second"))

    assert second.returncode != 0
    assert f"cannot listen on {server.endpoint}" in second.stderr
    assert "Traceback" not in second.stderr


def test_an_address_that_others_reach_is_refused_without_insecure(tmp_path: Path) -> None:
    everyone = f"0.0.0.0:{free_port()}"

    refused = run("serve", "--grpc-address", everyone, "--data", str(tmp_path))
    asked_for = run("config", "--grpc-address", everyone, "--insecure")

    assert refused.returncode != 0
    assert "--insecure" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert asked_for.returncode == 0


def test_a_postgresql_database_without_tables_is_refused(postgres_url: str, tmp_path: Path) -> None:
    arguments = ("--database-url", postgres_url, "--data", str(tmp_path))

    refused = run("serve", "--grpc-address", f"127.0.0.1:{free_port()}", *arguments)

    assert refused.returncode != 0
    assert "migrate" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert run("migrate", *arguments).returncode == 0
    assert run("migrate", *arguments).returncode == 0  # again is harmless


def test_a_database_that_does_not_answer_is_reported(tmp_path: Path) -> None:
    nobody = f"postgresql+psycopg://user:hidden@127.0.0.1:{free_port()}/none"

    refused = run(
        *("serve", "--grpc-address", f"127.0.0.1:{free_port()}", "--data", str(tmp_path)),
        *("--database-url", nobody),
    )

    assert refused.returncode != 0
    assert "Traceback" not in refused.stderr
    assert "hidden" not in refused.stderr + refused.stdout


# --- ending -----------------------------------------------------------------------------------------


def test_a_stopped_server_ends_its_streams_with_unavailable_and_exits_with_0(
    server: Server, own: PubSub
) -> None:
    warehouse = own.subscription(own.topic())
    streams = [own.stream(warehouse) for _ in range(3)]
    for stream in streams:
        stream.response()

    server.terminate()

    for stream in streams:
        code, _ = stream.error()
        assert code is grpc.StatusCode.UNAVAILABLE
    assert server.wait() == 0


def test_health_turns_to_not_serving_while_the_server_drains(
    server: Server, channel: grpc.Channel
) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    for name in {"", *SERVICES}:
        request = health_pb2.HealthCheckRequest(service=name)
        assert health.Check(request, timeout=PATIENCE_S).status == SERVING
    watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
    assert next(watch).status == SERVING

    server.terminate()

    assert next(watch).status == NOT_SERVING
    watch.cancel()
    assert server.wait() == 0


def test_a_waiting_pull_does_not_hold_up_the_end(server: Server, own: PubSub) -> None:
    warehouse = own.subscription(own.topic())
    call: Any = own.channel.unary_unary("/google.pubsub.v1.Subscriber/Pull")
    name = warehouse.encode()
    waiting = call.future(b"\x0a%c%b\x18\x01" % (len(name), name), timeout=PATIENCE_S)
    stream = own.stream(warehouse)
    stream.response()  # by now the server has seen the pull, which came before

    assert server.stop() == 0

    assert waiting.exception(timeout=PATIENCE_S).code() is grpc.StatusCode.UNAVAILABLE


# --- health, reflection, administration -------------------------------------------------------------


def test_reflection_lists_and_describes_the_services(server: Server, channel: grpc.Channel) -> None:
    reflection = ProtoReflectionDescriptorDatabase(channel)

    assert set(reflection.get_services()) == SERVICES
    publisher = DescriptorPool(reflection).FindServiceByName("google.pubsub.v1.Publisher")
    assert publisher.methods_by_name["Publish"].input_type.name == "PublishRequest"


def test_the_admin_address_tells_whether_the_server_works(server: Server, own: PubSub) -> None:
    orders = own.topic()
    warehouse = own.subscription(orders)
    own.publish(orders, b"1", b"2", b"3")
    own.acknowledge(warehouse, *own.pull(warehouse, max_messages=1))

    assert server.get("/healthz")[0] == 200
    assert server.get("/readyz")[0] == 200
    assert server.metric("pubsub_published_messages_total") == 3
    assert server.metric("pubsub_subscription_num_undelivered_messages") == 2
    assert server.metric("pubsub_topic_published_messages_total") == 3
    assert server.metric("pubsub_topic_num_retained_messages") == 3
    assert server.metric("pubsub_subscription_sent_bytes_total") > 1
    assert 'grpc_service="google.pubsub.v1.Publisher"' in server.get("/metrics")[1]


# --- TLS --------------------------------------------------------------------------------------------


def self_signed_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost and 127.0.0.1, and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName(
                [
                    x509.DNSName("localhost"),
                    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
                ]
            ),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate_file, key_file


# A process of its own, as gRPC reads the certificates that it trusts once.
ONE_MESSAGE_OVER_TLS = """
import sys
from google.auth.credentials import AnonymousCredentials
from google.cloud import pubsub_v1

where = {"client_options": {"api_endpoint": sys.argv[1]}, "credentials": AnonymousCredentials()}
publisher = pubsub_v1.PublisherClient(**where)
subscriber = pubsub_v1.SubscriberClient(**where)
topic, subscription = "projects/p/topics/orders", "projects/p/subscriptions/warehouse"
publisher.create_topic(name=topic)
subscriber.create_subscription(name=subscription, topic=topic)
publisher.publish(topic, b"over TLS").result(30)
[received] = subscriber.pull(subscription=subscription, max_messages=1).received_messages
subscriber.acknowledge(subscription=subscription, ack_ids=[received.ack_id])
print(received.message.data.decode())
"""


def test_the_official_client_connects_over_tls(tmp_path: Path) -> None:
    certificate, key = self_signed_certificate(tmp_path)
    with Server(
        tmp_path / "data", arguments=["--tls-cert", str(certificate), "--tls-key", str(key)]
    ) as server:
        environment = {
            name: value for name, value in os.environ.items() if name != "PUBSUB_EMULATOR_HOST"
        }
        client = subprocess.run(
            [sys.executable, "-c", ONE_MESSAGE_OVER_TLS, server.endpoint],
            check=False,
            capture_output=True,
            env=environment | {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(certificate)},
            text=True,
            timeout=60,
        )

        assert client.stdout == "over TLS\n", client.stderr
        with grpc.insecure_channel(server.endpoint) as channel:
            in_the_clear: Any = channel.unary_unary("/google.pubsub.v1.Publisher/ListTopics")
            with pytest.raises(grpc.RpcError) as refusal:
                in_the_clear(b"", timeout=10)
        assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_certificate_that_is_none_is_refused(tmp_path: Path) -> None:
    _, key = self_signed_certificate(tmp_path)

    refused = run(
        *("serve", "--grpc-address", f"127.0.0.1:{free_port()}", "--data", str(tmp_path)),
        *("--tls-cert", str(key), "--tls-key", str(key)),
    )

    assert refused.returncode != 0
    assert "Traceback" not in refused.stderr
