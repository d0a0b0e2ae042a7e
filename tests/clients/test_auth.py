"""Callers are known: tokens, roles, access lists and policies, as Google's own clients meet them."""

from __future__ import annotations

import itertools
import os
import secrets
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
import requests
from google.api_core import exceptions
from google.cloud import pubsub_v1  # type: ignore[import-untyped]
from google.iam.v1 import (  # type: ignore[import-untyped]
    iam_policy_pb2,
    iam_policy_pb2_grpc,
    policy_pb2,
)
from google.protobuf.json_format import ParseDict
from google.pubsub_v1 import PublisherClient as GeneratedPublisherClient
from google.pubsub_v1 import types
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.access_table import CALLS, DENIED, REACHED, ROLES, Call
from tests.clients.pubsub import PATIENCE_S, Inbox
from tests.clients.test_service import self_signed_certificate
from tests.postgres import PostgresServer
from tests.server import Server, eventually, free_port, run

_DENIED: Final = DENIED[1]
_ROOT_TOKEN: Final = "r" * 64


# --- a server that knows its callers ----------------------------------------------------------------


class Admin:
    """`ams-grpc admin`, on the database of a server."""

    def __init__(self, data: Path, database_url: str | None) -> None:
        self._where = ["--data", str(data)]
        if database_url is not None:
            self._where = ["--database-url", database_url]

    def __call__(self, *arguments: str) -> str:
        """What it says. Raises AssertionError if it fails."""
        done = run("admin", *self._where, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def error(self, *arguments: str) -> str:
        """What it says when it fails."""
        done = run("admin", *self._where, *arguments)
        assert done.returncode != 0, done.stdout
        return done.stderr


class Site:
    """A server with authentication, its first administrator, and users made beforehand."""

    def __init__(self, server: Server, admin: Admin, tokens: dict[str, str]) -> None:
        self.server = server
        self.admin = admin
        self.tokens = tokens

    def make(self, path: str, **record: Any) -> Any:
        """A project or a user, through AMS's API."""
        reply = requests.post(
            f"http://{self.server.ready['ams']}/v1/{path}",
            headers={"x-api-key": _ROOT_TOKEN},
            json=record,
            timeout=PATIENCE_S,
        )
        assert reply.status_code == 200, reply.text
        return reply.json()

    def add_user(
        self, name: str, *, project: str = "", roles: Sequence[str] = (), **rights: Any
    ) -> None:
        """A user, perhaps a member of a project."""
        membership = [{"project": project, "roles": list(roles)}] if project else []
        made = self.make(f"users/{name}", projects=membership, **rights)
        self.tokens[name] = made["token"]

    def channel(self, token: str | None, *, header: str = "authorization") -> grpc.Channel:
        channel = grpc.insecure_channel(self.server.endpoint)
        if token is None:
            return channel
        value = f"Bearer {token}" if header == "authorization" else token
        return grpc.intercept_channel(channel, _Metadata(((header, value),)))

    def publisher(self, user: str) -> pubsub_v1.PublisherClient:
        """Google's client, with the token of a user."""
        return pubsub_v1.PublisherClient(
            transport=PublisherGrpcTransport(channel=self.channel(self.tokens[user]))
        )

    def subscriber(self, user: str) -> pubsub_v1.SubscriberClient:
        return pubsub_v1.SubscriberClient(
            transport=SubscriberGrpcTransport(channel=self.channel(self.tokens[user]))
        )

    def outcome(self, call: Call, project: str, token: str | None) -> tuple[grpc.StatusCode, str]:
        """How a call ends."""
        request = _serialized(call, project)
        with self.channel(token) as channel:
            if call.id == "StreamingPull":
                return self._stream(channel, f"/{call.method}", request)
            try:
                method: Any = channel.unary_unary(f"/{call.method}")
                method(request, timeout=PATIENCE_S)
            except grpc.RpcError as error:
                return error.code(), error.details() or ""
            return grpc.StatusCode.OK, ""

    def _stream(
        self, channel: grpc.Channel, path: str, first: bytes
    ) -> tuple[grpc.StatusCode, str]:
        method: Any = channel.stream_stream(path)
        call = method(iter([first]), timeout=PATIENCE_S)
        with suppress(grpc.RpcError):
            list(call)
        return call.code(), call.details()


_OTHER_REQUESTS: Final = {"CreateTopic": "Topic", "CreateSubscription": "Subscription"}


def _serialized(call: Call, project: str) -> bytes:
    name = _OTHER_REQUESTS.get(call.id, f"{call.id}Request")
    message = getattr(iam_policy_pb2, name, None) or getattr(types, name).pb()
    serialized: bytes = ParseDict(call.of(project), message()).SerializeToString()
    return serialized


class _Metadata(grpc.UnaryUnaryClientInterceptor, grpc.StreamStreamClientInterceptor):
    """Sends metadata with every call: what call credentials do on a channel with TLS."""

    def __init__(self, metadata: Sequence[tuple[str, str]]) -> None:
        self._metadata = list(metadata)

    def intercept_unary_unary(self, proceed: Callable[..., Any], call: Any, request: Any) -> Any:
        return proceed(self._with(call), request)

    def intercept_stream_stream(self, proceed: Callable[..., Any], call: Any, these: Any) -> Any:
        return proceed(self._with(call), these)

    def _with(self, call: Any) -> Any:
        return call._replace(metadata=[*(call.metadata or ()), *self._metadata])


@pytest.fixture(scope="module")
def site(
    database: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    data = tmp_path_factory.mktemp("auth")
    url = None
    if database == "postgresql":
        postgres: PostgresServer = request.getfixturevalue("postgres")
        url = postgres.create_database(f"ams_auth_{secrets.token_hex(4)}")
        assert run("migrate", "--database-url", url).returncode == 0
    arguments = ("--auth", "--google-rest-address", "127.0.0.1:0", "--ams-address", "127.0.0.1:0")
    settings = {"ADMIN_TOKEN": _ROOT_TOKEN}
    with Server(data, url, arguments=arguments, settings=settings, measured=True) as server:
        site = Site(server, Admin(data, url), {})
        for project in ("own", "other"):
            site.make(f"projects/{project}")
        for role in ROLES:
            site.add_user(role, project="own", roles=[role])
            site.add_user(f"every_{role}", service_roles=[role])
        site.add_user("alice", project="own", roles=["project_admin"])
        site.add_user("guest", project="own")
        site.add_user("stranger", project="other", roles=["project_admin"])
        yield site


@pytest.fixture
def orders(site: Site) -> Iterator[str]:
    """A topic of the project `own`."""
    name = f"projects/own/topics/t{secrets.token_hex(4)}"
    publisher = site.publisher("alice")
    publisher.create_topic(name=name)
    yield name
    publisher.delete_topic(topic=name)


@pytest.fixture
def billing(site: Site, orders: str) -> Iterator[str]:
    """A subscription of it."""
    name = f"projects/own/subscriptions/s{secrets.token_hex(4)}"
    subscriber = site.subscriber("alice")
    subscriber.create_subscription(name=name, topic=orders)
    yield name
    subscriber.delete_subscription(subscription=name)


def publish(site: Site, user: str, topic: str, data: bytes = b"x") -> None:
    request = types.PublishRequest(topic=topic, messages=[types.PubsubMessage(data=data)])
    GeneratedPublisherClient.publish(publisher := site.publisher(user), request)
    publisher.transport.close()


def bind(site: Site, user: str, resource: str, role: str, *members: str) -> None:
    client = site.publisher(user)
    policy = client.get_iam_policy(request={"resource": resource})
    policy.bindings.add(role=role, members=members)
    client.set_iam_policy(request={"resource": resource, "policy": policy})


# --- tokens -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.id)
def test_nothing_is_done_for_strangers(site: Site, call: Call) -> None:
    for token in (None, secrets.token_hex(32)):
        assert site.outcome(call, "own", token)[0] is grpc.StatusCode.UNAUTHENTICATED


def test_a_token_comes_in_either_of_two_headers(site: Site, orders: str) -> None:
    for header in ("authorization", "x-api-key"):
        with site.channel(site.tokens["alice"], header=header) as channel:
            client = pubsub_v1.PublisherClient(transport=PublisherGrpcTransport(channel=channel))
            assert client.get_topic(topic=orders).name == orders


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", "")],
        [("authorization", "Bearer ")],
        [("authorization", "Basic cGF0OnBhdA==")],
        [("authorization", "Bearer " + "x" * 1_000_000)],
        [("authorization", "Bearer " + "~' OR 1=1 --")],
        [("x-api-key", "")],
        [("x-api-key", "x" * 64)] * 500,
        [("x-api-key-bin", b"\0\xff" * 32)],
    ],
    ids=lambda headers: f"{headers[0][0]}-{headers[0][1][:12]!r}",
)
def test_hostile_tokens_are_refused(site: Site, headers: list[tuple[str, Any]]) -> None:
    with grpc.insecure_channel(site.server.endpoint) as channel:
        call: Any = channel.unary_unary("/google.pubsub.v1.Publisher/ListTopics")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"\n\x0cprojects/own", metadata=headers, timeout=PATIENCE_S)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_health_and_reflection_are_open(site: Site) -> None:
    with site.channel(None) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING


def test_tokens_are_not_in_the_log(site: Site, orders: str) -> None:
    publish(site, "alice", orders)
    log = site.server.log()
    assert '"alice CreateTopic projects/own/topics/' in log  # the audit log
    assert not [name for name, token in site.tokens.items() if token in log]


def test_the_rest_door_asks_too(site: Site, orders: str) -> None:
    url = f"http://{site.server.ready['google_rest']}/v1/{orders}"
    assert requests.get(url, timeout=PATIENCE_S).status_code == 401
    for user, status in (("alice", 200), ("consumer", 403), ("stranger", 403)):
        headers = {"Authorization": f"Bearer {site.tokens[user]}"}
        assert requests.get(url, headers=headers, timeout=PATIENCE_S).status_code == status


# A process of its own, as gRPC reads the certificates that it trusts once.
TOKEN_OVER_TLS: Final = """
import sys
from google.cloud import pubsub_v1
from google.oauth2.credentials import Credentials

options = {"client_options": {"api_endpoint": sys.argv[1]}, "credentials": Credentials(sys.argv[2])}
publisher = pubsub_v1.PublisherClient(**options)
publisher.create_topic(name="projects/shop/topics/orders")
print(publisher.publish("projects/shop/topics/orders", b"over TLS").result(30))
"""


def test_googles_credentials_carry_a_token_over_tls(tmp_path: Path) -> None:
    certificate, key = self_signed_certificate(tmp_path)
    admin = Admin(tmp_path, None)
    admin("create-project", "shop")
    token = admin("create-user", "alice", "--project", "shop", "--role", "project_admin")
    arguments = ("--auth", "--tls-cert", str(certificate), "--tls-key", str(key))
    with Server(tmp_path, arguments=arguments) as server:
        environment = dict(os.environ, GRPC_DEFAULT_SSL_ROOTS_FILE_PATH=str(certificate))
        environment.pop("PUBSUB_EMULATOR_HOST", None)
        client = subprocess.run(
            [sys.executable, "-c", TOKEN_OVER_TLS, server.endpoint, token],
            check=False,
            capture_output=True,
            env=environment,
            text=True,
            timeout=60,
        )
    assert client.stdout == "0\n", client.stderr


# --- roles ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_service_role", [False, True], ids=["member", "service"])
@pytest.mark.parametrize("role", ROLES)
def test_every_role_may_call_what_the_table_says(
    site: Site, role: str, is_service_role: bool
) -> None:
    token = site.tokens[f"every_{role}" if is_service_role else role]
    for call, scope in itertools.product(CALLS, ("own", "other", "missing")):
        code, text = site.outcome(call, scope, token)

        refusal = call.refusal(role, scope, is_service_role=is_service_role, scope=scope)
        if refusal is not None:
            assert (code.name, text) == refusal, (call, scope)
        else:
            assert code.name in REACHED, (call, scope, text)


# --- access lists and policies ------------------------------------------------------------------------


def test_messages_go_from_a_listed_publisher_to_a_listed_consumer(
    site: Site, orders: str, billing: str
) -> None:
    with pytest.raises(exceptions.PermissionDenied, match=_DENIED):
        publish(site, "publisher", orders)
    with pytest.raises(exceptions.PermissionDenied, match=_DENIED):
        site.subscriber("consumer").pull(subscription=billing, max_messages=1)
    bind(site, "alice", orders, "roles/pubsub.publisher", "user:publisher")
    bind(site, "alice", billing, "roles/pubsub.subscriber", "user:consumer")

    inbox, subscriber = Inbox(), site.subscriber("consumer")
    future = subscriber.subscribe(billing, inbox)
    client = site.publisher("publisher")
    client.publish(orders, b"hello").result(timeout=PATIENCE_S)

    inbox.wait_for_data([b"hello"])
    future.cancel()
    future.result(timeout=PATIENCE_S)
    client.stop()


def listed_topics(site: Site, user: str, page_size: int) -> list[list[str]]:
    """The names on each page."""
    pages = site.publisher(user).list_topics(
        request={"project": "projects/own", "page_size": page_size}
    )
    return [[each.name.rpartition("/")[2] for each in page.topics] for page in pages.pages]


def listed_subscriptions(site: Site, user: str, page_size: int) -> list[list[str]]:
    """The names on each page."""
    pages = site.subscriber(user).list_subscriptions(
        request={"project": "projects/own", "page_size": page_size}
    )
    return [[each.name.rpartition("/")[2] for each in page.subscriptions] for page in pages.pages]


def test_lists_show_listed_users_what_they_are_listed_for(site: Site) -> None:
    """Page by page, as if there was nothing else."""
    publisher, subscriber = site.publisher("alice"), site.subscriber("alice")
    for number in range(6):
        topic = f"projects/own/topics/on{number}"
        subscription = f"projects/own/subscriptions/on{number}"
        publisher.create_topic(name=topic)
        subscriber.create_subscription(name=subscription, topic=topic)
        if number in {1, 2, 5}:
            bind(site, "alice", topic, "roles/pubsub.publisher", "user:publisher")
            bind(site, "alice", subscription, "roles/pubsub.subscriber", "user:consumer")
    everything = [f"on{number}" for number in range(6)]

    for listed, user in ((listed_topics, "publisher"), (listed_subscriptions, "consumer")):
        assert listed(site, user, 0) == [["on1", "on2", "on5"]]
        assert listed(site, user, 1) == [["on1"], ["on2"], ["on5"]]
        assert listed(site, user, 2) == [["on1", "on2"], ["on5"]]
        assert listed(site, user, 3) == [["on1", "on2", "on5"]]
        assert listed(site, f"every_{user}", 2) == [[]]  # a service role, on no list
        for admin in ("alice", "every_service_admin"):
            assert everything == [name for page in listed(site, admin, 4) for name in page]

    for name in everything:
        subscriber.delete_subscription(subscription=f"projects/own/subscriptions/{name}")
        publisher.delete_topic(topic=f"projects/own/topics/{name}")
    assert listed_topics(site, "publisher", 0) == listed_subscriptions(site, "consumer", 0) == [[]]


def test_the_answer_about_permissions_is_true(site: Site, orders: str) -> None:
    def allowed(user: str) -> list[str]:
        asked = ["pubsub.topics.publish", "pubsub.topics.get", "pubsub.topics.delete"]
        with site.channel(site.tokens[user]) as channel:
            stub = iam_policy_pb2_grpc.IAMPolicyStub(channel)
            request = iam_policy_pb2.TestIamPermissionsRequest(resource=orders, permissions=asked)
            return list(stub.TestIamPermissions(request, timeout=PATIENCE_S).permissions)

    assert allowed("alice") == [
        "pubsub.topics.publish",
        "pubsub.topics.get",
        "pubsub.topics.delete",
    ]
    assert allowed("publisher") == ["pubsub.topics.get"]
    assert allowed("guest") == allowed("stranger") == []
    bind(site, "alice", orders, "roles/pubsub.publisher", "user:guest", "user:stranger")
    assert allowed("guest") == ["pubsub.topics.publish"]
    assert allowed("stranger") == []  # not a member
    bind(site, "alice", orders, "roles/pubsub.viewer", "allAuthenticatedUsers")
    assert allowed("stranger") == ["pubsub.topics.get"]


def test_a_stream_ends_when_its_right_does(site: Site, orders: str, billing: str) -> None:
    bind(site, "alice", billing, "roles/pubsub.subscriber", "user:guest")
    inbox, subscriber = Inbox(), site.subscriber("guest")
    future = subscriber.subscribe(billing, inbox)
    publish(site, "alice", orders, b"before")
    inbox.wait_for_data([b"before"])

    site.publisher("alice").set_iam_policy(
        request={"resource": billing, "policy": policy_pb2.Policy()}
    )
    publish(site, "alice", orders, b"after")

    with pytest.raises(exceptions.PermissionDenied, match=_DENIED):
        future.result(timeout=PATIENCE_S)
    assert b"after" not in inbox.data


def test_nothing_of_another_project_is_reached_through_ones_own(
    site: Site, orders: str, billing: str
) -> None:
    mine = "projects/other/topics/mine"
    publisher, subscriber = site.publisher("stranger"), site.subscriber("stranger")
    publisher.create_topic(name=mine)
    spy = "projects/other/subscriptions/spy"
    with pytest.raises(exceptions.PermissionDenied):
        subscriber.create_subscription(name=spy, topic=orders)
    with pytest.raises(exceptions.PermissionDenied):
        subscriber.create_subscription(
            request=types.Subscription(
                name=spy,
                topic=mine,
                dead_letter_policy=types.DeadLetterPolicy(dead_letter_topic=orders),
            )
        )
    with pytest.raises(exceptions.PermissionDenied):
        subscriber.create_snapshot(name="projects/other/snapshots/spy", subscription=billing)
    publisher.delete_topic(topic=mine)


def test_who_has_a_topic_gets_rid_of_a_subscription_that_another_project_has_on_it(
    site: Site, orders: str
) -> None:
    foreign = "projects/other/subscriptions/foreign"
    owner, guest = site.publisher("alice"), site.subscriber("stranger")
    bind(site, "alice", orders, "roles/pubsub.subscriber", "allAuthenticatedUsers")
    guest.create_subscription(name=foreign, topic=orders)
    owner.set_iam_policy(request={"resource": orders, "policy": policy_pb2.Policy()})
    publish(site, "alice", orders)
    assert guest.pull(subscription=foreign, max_messages=1).received_messages

    for user in ("publisher", "consumer", "guest"):
        with pytest.raises(exceptions.PermissionDenied, match=_DENIED):
            site.publisher(user).detach_subscription(request={"subscription": foreign})
    with pytest.raises(exceptions.PermissionDenied, match=_DENIED):
        site.subscriber("alice").delete_subscription(subscription=foreign)
    with pytest.raises(exceptions.PermissionDenied, match=_DENIED):
        owner.detach_subscription(request={"subscription": f"{foreign}-missing"})

    owner.detach_subscription(request={"subscription": foreign})

    with pytest.raises(exceptions.FailedPrecondition, match="Subscription is detached"):
        guest.pull(subscription=foreign, max_messages=1)
    assert list(owner.list_topic_subscriptions(topic=orders)) == []
    guest.delete_subscription(subscription=foreign)


# --- from the shell -----------------------------------------------------------------------------------


def test_the_first_administrator_finds_its_token_in_a_private_file(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    file = tmp_path / "token"
    with Server(tmp_path, arguments=("--auth", "--admin-token-file", str(file))) as server:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        token = file.read_text().strip()
        assert token not in server.log()
        site = Site(server, Admin(tmp_path, None), {})
        missing = Call(
            "google.pubsub.v1.Publisher/GetTopic", {"topic": "projects/p/topics/ttt"}, frozenset()
        )
        assert site.outcome(missing, "", token)[0] is grpc.StatusCode.NOT_FOUND
        server.stop()
        file.unlink()
        server.start()  # there is one: no other is made
        assert not file.exists()
        assert site.outcome(missing, "", token)[0] is grpc.StatusCode.NOT_FOUND


def test_the_first_token_is_shown_once_or_comes_from_the_environment(tmp_path: Path) -> None:
    with Server(tmp_path / "a", arguments=("--auth",)) as server:
        assert server.log().count("shown this once") == 1
        server.stop()
        server.start()
        assert server.log().count("shown this once") == 1
    token = "a-token-of-my-own-with-enough-characters"
    settings = {"ADMIN_TOKEN": token}
    with Server(tmp_path / "b", arguments=("--auth",), settings=settings) as server:
        assert "shown this once" not in server.log()
        call = Call("google.pubsub.v1.Publisher/ListTopics", {"project": "projects/p"}, frozenset())
        outcome = Site(server, Admin(tmp_path, None), {}).outcome(call, "", token)
        assert outcome[0] is grpc.StatusCode.NOT_FOUND
        assert token not in server.log()


def test_a_token_file_that_cannot_be_written_keeps_the_server_from_starting(
    tmp_path: Path,
) -> None:
    file = tmp_path / "missing" / "token"
    refused = run(
        "serve",
        "--auth",
        "--data",
        str(tmp_path),
        "--grpc-address",
        "127.0.0.1:0",
        "--admin-token-file",
        str(file),
    )
    assert refused.returncode != 0
    assert f"cannot write the token to {file}" in refused.stderr


def test_only_authentication_lets_a_server_out_of_its_machine(tmp_path: Path) -> None:
    public = f"0.0.0.0:{free_port()}"
    refused = run("serve", "--data", str(tmp_path), "--grpc-address", public)
    assert "callers are not authenticated" in refused.stderr
    shown = run("config", "--auth", "--grpc-address", public)
    assert shown.returncode == 0
    assert "auth = true" in shown.stdout
    assert 'profile = "strict"' in shown.stdout
    unprotected = run("config", "--auth", "--admin-address", public)
    assert "callers are not authenticated" in unprotected.stderr
    short = run("config", "--auth", "--grpc-address", public, "--admin-token-file", os.devnull)
    assert short.returncode == 0


def test_commands_say_what_they_did_and_what_is_wrong(tmp_path: Path) -> None:
    admin = Admin(tmp_path, None)
    assert admin("create-project", "shop", "--description", "parcels") == "Created project shop."
    token = admin("create-user", "pat", "--project", "shop", "--role", "publisher")
    assert len(token) == 64
    assert admin("token", "pat") == token
    assert admin("refresh-token", "pat") != token
    admin("create-user", "zoe")
    admin("add-member", "shop", "zoe", "--role", "consumer", "--role", "publisher")
    assert admin("list-users").splitlines() == [
        "zoe\t-\tshop:consumer,publisher",
        "pat\t-\tshop:publisher",
    ]
    assert admin("remove-member", "shop", "zoe") == "Removed zoe from shop."
    assert admin("list-users", "--project", "shop") == "pat\t-\tshop:publisher"
    assert "User already exists" in admin.error("create-user", "pat")
    assert "invalid role: boss" in admin.error("create-user", "x", "--service-role", "boss")
    assert "User(s): zoe do not exist" in admin.error(
        "authorize", "zoe", "projects/shop/topics/orders"
    )
    assert "not found" in admin.error("authorize", "pat", "projects/shop/topics/orders")
    assert "project doesn't exist" in admin.error("add-member", "none", "pat")
    admin("rename-project", "shop", "store")
    assert admin("list-projects") == "store\tparcels"
    admin("delete-project", "store", "--yes")
    admin("delete-user", "zoe", "--yes")
    assert admin("list-users") == "pat\t-"


def test_with_sqlite_the_server_must_be_stopped_first(tmp_path: Path) -> None:
    admin = Admin(tmp_path, None)
    with Server(tmp_path, arguments=("--auth",)):
        assert "is in use by another process" in admin.error("create-project", "shop")
    assert admin("create-project", "shop")


def test_with_postgresql_a_change_from_the_shell_counts_soon(site: Site, database: str) -> None:
    if database != "postgresql":
        pytest.skip("SQLite is for one process")
    token = site.admin("create-user", "late", "--project", "own", "--role", "project_admin")
    call = Call("google.pubsub.v1.Publisher/ListTopics", {"project": "projects/own"}, frozenset())
    assert site.outcome(call, "", token)[0] is grpc.StatusCode.OK
    site.admin("refresh-token", "late")
    eventually(lambda: site.outcome(call, "", token)[0] is grpc.StatusCode.UNAUTHENTICATED)


def test_with_postgresql_nothing_is_made_in_a_project_that_was_deleted_elsewhere(
    site: Site, database: str, orders: str, billing: str
) -> None:
    """By the shell, here. The server remembers the project and its members for some seconds."""
    if database != "postgresql":
        pytest.skip("SQLite is for one process")
    site.make("projects/gone")
    rights = [{"project": each, "roles": ["project_admin"]} for each in ("own", "gone")]
    token = site.make("users/mover", projects=rights)["token"]
    ams = f"http://{site.server.ready['ams']}/v1/projects/gone"

    def ask(method: str, path: str, token: str = token, **body: Any) -> requests.Response:
        headers = {"x-api-key": token}
        return requests.request(method, ams + path, headers=headers, json=body, timeout=PATIENCE_S)

    assert ask("GET", "/topics").status_code == 200
    site.admin("delete-project", "gone", "--yes")

    refusal = ask("PUT", "/topics/late").json()["error"]
    assert (refusal["code"], refusal["message"]) == (404, "project doesn't exist")
    for method, made in (
        ("Publisher/CreateTopic", {"name": "projects/{p}/topics/late"}),
        (
            "Subscriber/CreateSubscription",
            {"name": "projects/{p}/subscriptions/late", "topic": orders},
        ),
        (
            "Subscriber/CreateSnapshot",
            {"name": "projects/{p}/snapshots/late", "subscription": billing},
        ),
        (
            "SchemaService/CreateSchema",
            {
                "parent": "projects/{p}",
                "schemaId": "late",
                "schema": {"type": "AVRO", "definition": '"string"'},
            },
        ),
    ):
        call = Call(f"google.pubsub.v1.{method}", made, frozenset())
        # The latter once the server has forgotten that the caller was a member.
        assert site.outcome(call, "gone", token)[0].name in {"NOT_FOUND", "PERMISSION_DENIED"}, call

    site.make("projects/gone")  # another one
    for kind in ("topics", "subscriptions", "schemas"):
        assert ask("GET", f"/{kind}", _ROOT_TOKEN).json()[kind] == []
    root = site.subscriber("every_service_admin")
    assert list(root.list_snapshots(project="projects/gone")) == []
