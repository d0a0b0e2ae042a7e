"""argo-ams-library from PyPI, as it is, over TLS: every public method of it."""

from __future__ import annotations

import inspect
import re
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from argo_ams_library import (  # type: ignore[import-untyped]
    AmsMessage,
    AmsServiceException,
    AmsUser,
    AmsUserProject,
    ArgoMessagingService,
)

from tests.server import Server, free_port

ROOT_TOKEN = "r" * 64

ELSEWHERE = {
    "assign_token", "auth_via_cert",  # another service, which maps certificates to tokens
    "do_get", "do_post", "do_put", "do_delete",  # parts of the others
    "set_pullopt", "get_pullopt",  # no call
}  # fmt: skip


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    data = tmp_path_factory.mktemp("argo")
    address = f"localhost:{free_port()}"
    with (
        pytest.MonkeyPatch.context() as environment,
        Server(
            data,
            arguments=("--ams-address", address, "--tls-self-signed"),
            settings={"ADMIN_TOKEN": ROOT_TOKEN},
        ),
    ):
        environment.setenv("REQUESTS_CA_BUNDLE", str(_authority(data)))
        yield address


def _authority(data: Path) -> Path:
    [found] = data.glob("**/*ca*.pem")
    return found


@pytest.fixture(scope="module")
def ams(address: str) -> Any:
    """The library as root, in a project of its own."""
    project = f"ACME-{secrets.token_hex(4)}"
    library = ArgoMessagingService(address, token=ROOT_TOKEN, project=project)
    assert library.create_project(project, "orders")["name"] == project
    return library


def test_projects(ams: Any) -> None:
    name, renamed = f"P-{secrets.token_hex(4)}", f"Q-{secrets.token_hex(4)}"
    assert ams.create_project(name, "one")["description"] == "one"
    assert ams.get_project(name)["name"] == name
    assert ams.update_project(name, description="two", updated_name=renamed)["name"] == renamed
    ams.delete_project(renamed)

    with pytest.raises(AmsServiceException, match="project doesn't exist") as refused:
        ams.get_project(renamed)
    assert refused.value.code == 404


def test_users(ams: Any) -> None:
    name, project = f"u-{secrets.token_hex(4)}", ams.project
    user = AmsUser(
        name=name, email="u@example.org", projects=[AmsUserProject(project, ["consumer"])]
    )
    made = ams.create_user(user)
    assert (made.name, made.projects[0].roles) == (name, ["consumer"])
    assert ams.get_user(name).uuid == made.uuid
    assert ams.get_user_by_token(made.token).name == name
    assert ams.get_user_by_uuid(made.uuid).name == name
    assert ams.get_user_profile().name == "admin"
    assert name in [each.name for each in ams.list_users().users]
    changed = ams.update_user(
        name,
        first_name="Uwe",
        service_roles=[],
        projects=[AmsUserProject(project, ["publisher"])],
    )
    assert (changed.firstname, changed.projects[0].roles) == ("Uwe", ["publisher"])
    assert ams.refresh_user_token(name).token != made.token
    ams.delete_user(name)
    with pytest.raises(AmsServiceException, match="User doesn't exist"):
        ams.get_user(name)


def test_members(ams: Any) -> None:
    name, project = f"m-{secrets.token_hex(4)}", ams.project
    made = ams.create_project_member(name, project, roles=["consumer"], email="m@example.org")
    assert (made.name, made.email) == (name, "m@example.org")
    assert ams.get_project_member(name, project).projects[0].roles == ["consumer"]
    ams.remove_project_member(name, project)
    assert ams.add_project_member(name, project, roles=["publisher"]).projects[0].roles == [
        "publisher"
    ]


def test_topics_and_subscriptions(ams: Any) -> None:
    topic = ams.topic("t")
    subscription = topic.subscription("s")

    assert ams.topic("t").name == "t"
    assert ams.create_topic("t2")["name"].endswith("/topics/t2")
    assert (ams.has_topic("t"), ams.has_topic("none")) == (True, False)
    assert ams.get_topic("t", retobj=True).name == "t"
    assert {each["name"].rpartition("/")[2] for each in ams.list_topics()["topics"]} == {"t", "t2"}
    assert {each.name for each in ams.iter_topics()} == {"t", "t2"}
    ams.delete_topic("t2")

    assert ams.create_sub("s2", "t", ackdeadline=20)["ackDeadlineSeconds"] == 20
    assert (ams.has_sub("s"), ams.has_sub("none")) == (True, False)
    assert ams.get_sub("s", retobj=True).name == "s"
    assert len(ams.list_subs()["subscriptions"]) == 2
    assert {each.name for each in ams.iter_subs()} == {"s", "s2"}
    assert {each.name for each in topic.iter_subs()} == {"s", "s2"}
    ams.delete_sub("s2")

    subscription.delete()
    topic.delete()
    assert not ams.has_sub("s")


def test_access_lists(ams: Any) -> None:
    topic = ams.topic("listed")
    subscription = topic.subscription("listed")
    name = f"l-{secrets.token_hex(4)}"
    ams.create_project_member(name, ams.project, roles=["consumer"])

    topic.acl(users=[name])
    subscription.acl(users=[name])
    assert topic.acl() == subscription.acl() == {"authorized_users": [name]}
    ams.modifyacl_topic("listed", [])
    ams.modifyacl_sub("listed", [])
    assert ams.getacl_topic("listed") == ams.getacl_sub("listed") == {"authorized_users": []}


def test_messages(ams: Any) -> None:
    topic = ams.topic("orders")
    subscription = topic.subscription("billing")
    before = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=1)

    sent = [AmsMessage(data=f"message {at}", attributes={"at": str(at)}) for at in range(100)]
    assert topic.publish(sent)["messageIds"] == [str(at) for at in range(100)]
    assert ams.publish("orders", AmsMessage(data="last"))["messageIds"] == ["100"]

    received = subscription.pull(100, return_immediately=True)
    assert [message.get_data() for _, message in received] == [
        f"message {at}".encode() for at in range(100)
    ]
    assert [message.get_attr() for _, message in received] == [{"at": str(at)} for at in range(100)]
    assert subscription.ack([each for each, _ in received])
    assert subscription.offsets() == {"max": 101, "min": 0, "current": 100}
    assert [each.get_data() for each in subscription.pullack(1)] == [b"last"]

    assert subscription.offsets(move_to=50)["current"] == 50
    assert subscription.time_to_offset(before) == 0
    assert ams.time_to_offset_sub("billing", before.replace(microsecond=0)) == 0
    ams.modifyoffset_sub("billing", 99)
    assert ams.getoffsets_sub("billing", "current") == 99
    [(ack_id, message)] = ams.pull_sub("billing", 1)
    assert message.get_msgid() == "99"
    assert ams.ack_sub("billing", [ack_id])
    assert len(ams.pullack_sub("billing", 10, return_immediately=True)) == 1


def test_push_configurations(ams: Any) -> None:
    subscription = ams.topic("pushed").subscription("hook")

    ams.pushconfig_sub("hook", push_endpoint="https://receiver.example.org/push")
    shown = ams.get_sub("hook")["pushConfig"]
    assert (shown["type"], shown["pushEndpoint"]) == (
        "http_endpoint",
        "https://receiver.example.org/push",
    )
    assert shown["retryPolicy"] == {"type": "linear", "period": 300}
    subscription.pushconfig()
    assert ams.get_sub("hook")["pushConfig"]["type"] == ""


def test_the_service(ams: Any) -> None:
    assert ams.status()["status"] == "ok"
    assert ams.version()["golang"]
    assert [each["metric"] for each in ams.metrics()["metrics"]][:2] == [
        "ams_node.cpu_usage",
        "ams_node.memory_usage",
    ]
    today = datetime.now(UTC).date()
    report = ams.va_metrics(projects=[ams.project], start_date=today, end_date=today)
    assert set(report) == {
        "projects_metrics", "total_users_count", "total_topics_count", "total_subscriptions_count",
    }  # fmt: skip
    usage = ams.usage_report(projects=[ams.project])
    assert set(usage) == {"va_metrics", "operational_metrics"}


def test_the_probe(ams: Any) -> None:
    """A monitoring probe: a hundred messages out, and back in one pull."""
    topic = ams.topic("probe")
    subscription = topic.subscription("probe")
    sent = [AmsMessage(data="x" * 500, attributes={"n": str(at)}) for at in range(100)]
    ams.publish("probe", sent)

    received = ams.pull_sub("probe", 100, True)
    assert [message.get_attr() for _, message in received] == [{"n": str(at)} for at in range(100)]
    assert ams.ack_sub("probe", [each for each, _ in received])
    topic.delete()
    subscription.delete()


def test_no_method_is_left_out() -> None:
    public = {
        name
        for name, _ in inspect.getmembers(ArgoMessagingService, inspect.isfunction)
        if not name.startswith("_")
    }
    called = set(re.findall(r"\bams\.(\w+)\(", Path(__file__).read_text()))

    assert public - ELSEWHERE - called == set()
