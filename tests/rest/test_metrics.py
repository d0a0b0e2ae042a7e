"""Metrics, reports, status and version over REST, as AMS shows them."""

from __future__ import annotations

import re
from base64 import b64encode
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.rest.conftest import ROOT_TOKEN, Ams, Town, pulled_by_grpc
from tests.server import Server

SECOND = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
NEVER = "0001-01-01T00:00:00Z"
NOTHING = {
    "va_metrics": {
        "projects_metrics": {
            "projects": [],
            "total_message_count": 0,
            "average_daily_messages": 0,
        },
        "total_users_count": 0,
        "total_topics_count": 0,
        "total_subscriptions_count": 0,
    },
    "operational_metrics": {"metrics": []},
}


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def publish(town: Town, *data: bytes, topic: str = "orders") -> None:
    messages = [{"data": b64encode(each).decode()} for each in data]
    town.ams.ok("POST", town.path(f"/topics/{topic}:publish"), json={"messages": messages})


def make(town: Town, *, topic: str = "orders", subscription: str | None = "billing") -> None:
    town.ams.ok("PUT", town.path(f"/topics/{topic}"))
    if subscription is not None:
        body = {"topic": f"projects/{town.project}/topics/{topic}"}
        town.ams.ok("PUT", town.path(f"/subscriptions/{subscription}"), json=body)


def metrics(town: Town, path: str, token: str) -> list[dict[str, Any]]:
    found = town.ams.ok("GET", town.path(f"{path}:metrics"), token)
    assert list(found) == ["metrics"]
    for metric in found["metrics"]:
        assert list(metric) == [
            "metric",
            "metric_type",
            "value_type",
            "resource_type",
            "resource_name",
            "timeseries",
            "description",
        ]
    return list(found["metrics"])


def values(found: list[dict[str, Any]]) -> list[tuple[str, str, list[float]]]:
    return [
        (each["metric"], each["resource_name"], [point["value"] for point in each["timeseries"]])
        for each in found
    ]


def test_of_a_topic(town: Town) -> None:
    make(town)
    alice = town.tokens["alice"]
    unused = metrics(town, "/topics/orders", alice)
    assert [each["timeseries"] for each in unused[3:]] == [[], [{"timestamp": NEVER, "value": 0}]]

    publish(town, b"a", b"b", b"c")

    found = metrics(town, "/topics/orders", alice)
    size = found[2]["timeseries"][0]["value"]
    assert size > 3
    assert values(found) == [
        ("topic.number_of_subscriptions", "orders", [1]),
        ("topic.number_of_messages", "orders", [3]),
        ("topic.number_of_bytes", "orders", [size]),
        ("topic.number_of_daily_messages", "orders", [3]),
        ("topic.publishing_rate", "orders", [3]),
    ]
    assert [each["timeseries"][0]["timestamp"] for each in found][3] == today()
    for each in (*found[:3], found[4]):
        assert SECOND.fullmatch(each["timeseries"][0]["timestamp"])
    assert {(each["metric_type"], each["value_type"], each["resource_type"]) for each in found} == {
        ("counter", "int64", "topic"),
        ("rate", "float64", "topic"),
    }
    assert [each["description"] for each in found] == [
        "Counter that displays the number of subscriptions belonging to a specific topic",
        "Counter that displays the number of messages published to the specific topic",
        "Counter that displays the total size of data (in bytes) published to the specific topic",
        (
            "A collection of counters that represents the total number of messages published each day to"
            " a specific topic"
        ),
        (
            "A rate that displays how many messages were published per second between the last two "
            "publish events"
        ),
    ]
    missing = (404, "NOT_FOUND", "Topic doesn't exist")
    assert town.ams.refused("GET", town.path("/topics/none:metrics"), alice) == missing
    assert town.ams.refused("GET", town.path("/topics/none:metrics"), town.tokens["pat"])[0] == 403


def test_of_a_subscription(town: Town) -> None:
    make(town)
    alice = town.tokens["alice"]
    unused = metrics(town, "/subscriptions/billing", alice)
    assert [each["timeseries"][0]["value"] for each in unused] == [0, 0, 0]
    assert unused[2]["timeseries"][0]["timestamp"] == NEVER
    publish(town, b"a", b"b", b"c")
    pulled = len(pulled_by_grpc(town, "billing", 2))

    found = metrics(town, "/subscriptions/billing", alice)

    size = found[1]["timeseries"][0]["value"]
    assert size > pulled
    assert values(found) == [
        ("subscription.number_of_messages", "billing", [pulled]),
        ("subscription.number_of_bytes", "billing", [size]),
        ("subscription.consumption_rate", "billing", [pulled]),
    ]
    assert SECOND.fullmatch(found[2]["timeseries"][0]["timestamp"])
    assert [each["description"] for each in found] == [
        "Counter that displays the number of messages consumed from the specific subscription",
        (
            "Counter that displays the total size of data (in bytes) consumed from the specific "
            "subscription"
        ),
        (
            "A rate that displays how many messages were consumed per second between the last two "
            "consume events"
        ),
    ]
    path, carl = town.path("/subscriptions/none:metrics"), town.tokens["carl"]
    assert town.ams.refused("GET", path, alice)[::2] == (404, "Subscription doesn't exist")
    assert town.ams.refused("GET", path, carl)[0] == 403


def test_what_is_pulled_over_rest_counts_once(town: Town) -> None:
    """AMS: again each time that it is given; bytes are those of data in base64."""
    make(town)
    alice, pull = town.tokens["alice"], town.path("/subscriptions/billing:pull")
    publish(town, b"hello", b"hello", b"hello")

    counted = []
    for most in ("1", "1", "2", "3"):
        town.ams.ok("POST", pull, json={"maxMessages": most})
        found = metrics(town, "/subscriptions/billing", alice)
        counted.append(tuple(each["timeseries"][0]["value"] for each in found[:2]))
    assert counted == [(1, 8), (2, 16), (4, 32), (7, 56)]

    pulled = len(pulled_by_grpc(town, "billing", 3))
    found = metrics(town, "/subscriptions/billing", alice)
    assert found[0]["timeseries"][0]["value"] == 7 + pulled


def test_of_a_project(town: Town) -> None:
    make(town)
    make(town, topic="returns", subscription=None)
    lists = {"/topics/orders": "pat", "/topics/returns": "pat", "/subscriptions/billing": "carl"}
    for path, name in lists.items():
        body = {"authorized_users": [town.names[name]]}
        town.ams.ok("POST", town.path(f"{path}:modifyAcl"), json=body)
    publish(town, b"a")
    publish(town, b"b", b"c", topic="returns")
    town.ams.ok("DELETE", town.path("/topics/returns"))

    found = metrics(town, "", town.tokens["alice"])

    project = town.project
    assert values(found) == [
        ("project.number_of_topics", project, [1]),
        ("project.number_of_subscriptions", project, [1]),
        ("project.user.number_of_topics", f"{project}.{town.names['pat']}", [1]),
        ("project.user.number_of_subscriptions", f"{project}.{town.names['carl']}", [1]),
        ("project.number_of_daily_messages", project, [3]),
    ]
    assert [each["resource_type"] for each in found[1:4]] == ["project", *["project.user"] * 2]
    assert [each["description"] for each in found] == [
        "Counter that displays the number of topics belonging to the specific project",
        "Counter that displays the number of subscriptions belonging to the specific project",
        "Counter that displays the number of topics that a user has access to the specific project",
        (
            "Counter that displays the number of subscriptions that a user has access to the specific "
            "project"
        ),
        (
            "A collection of counters that represents the total number of messages published each day to"
            " all of the project's topics"
        ),
    ]


def test_of_nodes(ams: Ams) -> None:
    """AMS: operational metrics; one pair for each host, however often they are read."""
    ams.ok("GET", "/metrics")
    [cpu, memory] = ams.ok("GET", "/metrics")["metrics"]
    assert (cpu["metric"], memory["metric"]) == ("ams_node.cpu_usage", "ams_node.memory_usage")
    assert cpu["resource_name"] == memory["resource_name"]
    for each, what in ((cpu, "CPU"), (memory, "Memory")):
        assert each["metric_type"] == "percentage"
        assert each["value_type"] == "float64"
        assert each["resource_type"] == "ams_node"
        assert each["timeseries"][0]["value"] > 0
        assert SECOND.fullmatch(each["timeseries"][0]["timestamp"])
        assert each["description"] == (
            f"Percentage value that displays the {what} usage of ams service in the specific node"
        )


def test_the_report_on_virtual_access(town: Town) -> None:
    make(town)
    publish(town, b"a", b"b", b"c")
    shown = {
        "project": town.project,
        "message_count": 3,
        "average_daily_messages": 1.5,
        "topics_count": 1,
        "subscriptions_count": 1,
        "users_count": 3,
    }
    tomorrow = date.fromordinal(datetime.now(UTC).date().toordinal() + 1).isoformat()
    period = f"start_date={today()}&end_date={tomorrow}"

    report = town.ams.ok("GET", f"/metrics/va_metrics?{period}&projects={town.project}")

    assert report == {
        "projects_metrics": {
            "projects": [shown],
            "total_message_count": 3,
            "average_daily_messages": 1.5,
        },
        "total_users_count": 3,
        "total_topics_count": 1,
        "total_subscriptions_count": 1,
    }
    everything = town.ams.ok("GET", "/metrics/va_metrics")["projects_metrics"]["projects"]
    days = datetime.now(UTC).date().toordinal() - date(1970, 1, 1).toordinal() + 1
    average = -(-300 // days) / 100
    assert shown | {"average_daily_messages": average} in everything
    past = town.ams.ok("GET", f"/metrics/va_metrics?end_date=2020-01-01&projects={town.project}")
    assert past["projects_metrics"]["projects"] == []


@pytest.mark.parametrize(
    "query, code, text",
    [
        ("start_date=2024-1-1&end_date=x", 400, "Start date is not in valid format"),
        ("start_date=20240101", 400, "Start date is not in valid format"),
        ("end_date=2024-02-30&projects=none", 400, "End date is not in valid format"),
        (
            "start_date=2024-01-02&end_date=2024-01-01&projects=none",
            400,
            "Start date cannot be after the end date",
        ),
        ("start_date=9999-12-31", 400, "Start date cannot be after the end date"),
        ("projects=none,other", 404, "Project none doesn't exist"),
        ("projects={p}, {p}", 404, "Project  {p} doesn't exist"),
    ],
)
def test_a_report_that_cannot_be_made(town: Town, query: str, code: int, text: str) -> None:
    path = f"/metrics/va_metrics?{query.replace('{p}', town.project)}"
    assert town.ams.refused("GET", path)[::2] == (code, text.replace("{p}", town.project))


def test_the_usage_report_is_for_admins_of_projects(town: Town) -> None:
    make(town)
    publish(town, b"a")
    alice, path = town.tokens["alice"], "/users/usageReport"

    report = town.ams.ok("GET", f"{path}?start_date={today()}", alice)

    assert report["va_metrics"]["projects_metrics"]["projects"] == [
        {
            "project": town.project,
            "message_count": 1,
            "average_daily_messages": 1,
            "topics_count": 1,
            "subscriptions_count": 1,
            "users_count": 3,
        }
    ]
    assert [each["metric"] for each in report["operational_metrics"]["metrics"]] == [
        "ams_node.cpu_usage",
        "ams_node.memory_usage",
    ]
    assert town.ams.ok("GET", f"{path}?projects=none", alice) == NOTHING
    assert town.ams.ok("GET", f"{path}?projects=none,{town.project}", alice)["va_metrics"][
        "projects_metrics"
    ]["projects"]
    for other in (town.tokens["pat"], town.tokens["carl"]):
        assert town.ams.ok("GET", path, other) == NOTHING
    assert town.ams.ok("GET", path) == NOTHING  # a service role does not qualify
    refused = (401, "UNAUTHORIZED", "Unauthorized")
    assert town.ams.refused("GET", f"{path}?start_date=x", None) == refused
    assert town.ams.refused("GET", path, "g" * 64) == refused
    assert town.ams.refused("GET", f"{path}?start_date=x", alice)[2] == (
        "Start date is not in valid format"
    )


def test_status(town: Town) -> None:
    ams = town.ams
    shown = {
        "status": "ok",
        "push_servers": [{"endpoint": "ams.example.org:443", "status": "SERVING"}],
    }
    for token in (None, "g" * 64, town.tokens["pat"]):
        assert ams.ok("GET", "/status", token) == shown
    assert ams.ok("GET", "/status?&details=true") == shown
    forbidden = (403, "FORBIDDEN", "Access to this resource is forbidden")
    for token in (None, "g" * 64):
        assert ams.refused("GET", "/status?details=true", token) == forbidden
    unauthorized = (401, "UNAUTHORIZED", "Unauthorized")
    assert ams.refused("GET", "/status?details=true", town.tokens["alice"]) == unauthorized


def test_the_status_names_the_port_that_was_taken(tmp_path: Path) -> None:
    arguments = ("--ams-address", "127.0.0.1:0")
    with Server(tmp_path, arguments=arguments, settings={"ADMIN_TOKEN": ROOT_TOKEN}) as server:
        taken = server.ready["ams"]
        [pusher] = Ams(taken, server.endpoint).ok("GET", "/status", None)["push_servers"]
    assert pusher["endpoint"] == taken


def test_version(town: Town) -> None:
    public = town.ams.ok("GET", "/version", None)
    assert SECOND.fullmatch(public.pop("build_time"))
    assert public["golang"].startswith("python3.")
    assert public["compiler"] == "CPython"
    assert set(public) - {"distro"} == {"golang", "compiler", "os", "architecture"}
    assert all(public.values())
    for token in ("g" * 64, town.tokens["alice"]):
        assert "release" not in town.ams.ok("GET", "/version", token)
    assert re.fullmatch(r"\d+\.\d+\.\d+", town.ams.ok("GET", "/version")["release"])
