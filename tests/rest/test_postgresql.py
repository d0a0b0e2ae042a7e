"""What one database does not store is refused before it gets there, and not as a failure."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from ams_grpc.storage.migrate import migrate
from tests.postgres import PostgresServer
from tests.rest.conftest import ROOT_TOKEN, Ams
from tests.server import Server, free_port

NUL = "a\0b"


@pytest.fixture(scope="module")
def on_postgresql(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ams]:
    url = postgres.create_database(f"ams_rest_{secrets.token_hex(4)}", prepare=migrate)
    address = f"127.0.0.1:{free_port()}"
    settings = {"ADMIN_TOKEN": ROOT_TOKEN, "PUSH_WORKER_TOKEN": "nobody's " * 8}
    with Server(
        tmp_path_factory.mktemp("postgresql"),
        url,
        arguments=("--ams-address", address),
        settings=settings,
    ) as server:
        ams = Ams(address, server.endpoint)
        ams.ok("POST", "/projects/P", json={})
        ams.ok("PUT", "/projects/P/topics/t")
        ams.ok("POST", "/registrations", json={"name": "pat", "email": "x@example.org"})
        yield ams


@pytest.mark.parametrize(
    "method, path, body, code",
    [
        ("POST", "/users/new", {"description": NUL}, 400),
        ("POST", "/users/new", {"service_roles": [NUL]}, 400),
        ("PUT", "/users/admin", {"name": NUL}, 400),
        ("POST", "/projects/new", {"description": NUL}, 400),
        ("PUT", "/projects/P", {"name": NUL}, 400),
        ("POST", "/registrations", {"name": "x", "email": NUL}, 400),
        ("GET", "/users?project=%00", None, 400),
        ("GET", "/registrations?email=%00", None, 400),
        ("GET", "/metrics/va_metrics?projects=%00", None, 400),
        ("POST", "/projects/P/topics/t:modifyAcl", {"authorized_users": [NUL]}, 400),
        ("POST", "/projects/P/topics/t:modifyAcl", {"authorized_users": ["x" * 9000]}, 404),
        ("POST", "/projects/P/topics/t:modifyAcl", {"authorized_users": ["x"] * 150_000}, 413),
        ("POST", "/projects/P/topics/t:attachSchema", {"schema": "projects/P/schemas/\0"}, 400),
        ("PUT", "/projects/P/subscriptions/s", {"topic": "projects/P/topics/\0"}, 400),
        ("PUT", "/projects/P/subscriptions/s", {"topic": f"projects/P/topics/{'x' * 9000}"}, 404),
        ("PUT", f"/projects/P/topics/{'x' * 7000}", None, 400),
        ("PUT", f"/projects/P/topics/{'x' * 255}", None, 200),
        ("POST", f"/projects/P/schemas/{NUL}", {"type": "json", "schema": {}}, 400),
        ("POST", "/projects/P/schemas/s", {"type": "json", "schema": {"const": NUL}}, 200),
        (
            "POST",
            "/projects/P/topics/t:publish",
            {"messages": [{"data": NUL, "attributes": {NUL: NUL}}]},
            200,
        ),
    ],
)
def test_what_cannot_be_stored_is_refused(
    on_postgresql: Ams, method: str, path: str, body: object, code: int
) -> None:
    path = path.replace("\0", "%00")
    reply = on_postgresql.call(method, path, json=body)

    assert reply.status_code == code, reply.text


def test_the_status_warns_of_a_push_worker_who_is_nobody(on_postgresql: Ams) -> None:
    assert on_postgresql.ok("GET", "/status", None)["status"] == "warning"
