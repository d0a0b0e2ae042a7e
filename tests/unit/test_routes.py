"""Routes of the bridge: from annotations to matches."""

from __future__ import annotations

import pytest

from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2, schema_pb2
from http_bridge.routes import Router, routes_of

SERVICES = [
    *pubsub_pb2.DESCRIPTOR.services_by_name.values(),
    *schema_pb2.DESCRIPTOR.services_by_name.values(),
]
ROUTER = Router(routes_of(SERVICES))


@pytest.mark.parametrize(
    "http_method, path, method, fields",
    [
        ("PUT", "/v1/projects/p/topics/t", "CreateTopic", {"name": "projects/p/topics/t"}),
        ("PATCH", "/v1/projects/p/topics/t", "UpdateTopic", {"topic.name": "projects/p/topics/t"}),
        ("POST", "/v1/projects/p/topics/t:publish", "Publish", {"topic": "projects/p/topics/t"}),
        ("GET", "/v1/projects/p/topics", "ListTopics", {"project": "projects/p"}),
        ("GET", "/v1/projects/a.org:p/topics", "ListTopics", {"project": "projects/a.org:p"}),
        ("GET", "/v1/projects/p/topics/a%25b", "GetTopic", {"topic": "projects/p/topics/a%b"}),
        (
            "GET", "/v1/projects/p/topics/t/subscriptions", "ListTopicSubscriptions",
            {"topic": "projects/p/topics/t"},
        ),
        ("GET", "/v1/projects/p/schemas/s@1234abcd", "GetSchema",
         {"name": "projects/p/schemas/s@1234abcd"}),
        ("DELETE", "/v1/projects/p/schemas/s@1234abcd:deleteRevision", "DeleteSchemaRevision",
         {"name": "projects/p/schemas/s@1234abcd"}),
        ("POST", "/v1/projects/p/schemas:validate", "ValidateSchema", {"parent": "projects/p"}),
    ],
)  # fmt: skip
def test_a_request_finds_its_method(
    http_method: str, path: str, method: str, fields: dict[str, str]
) -> None:
    match = ROUTER.find(http_method, path)

    assert match is not None
    assert match.route.method.name == method
    assert match.fields == fields


@pytest.mark.parametrize(
    "http_method, path",
    [
        ("POST", "/v1/projects/p/topics/t"),
        ("GET", "/v1/projects/p/topics/t:publish"),
        ("GET", "/v1/projects/p/topics/"),
        ("GET", "/v1/projects//topics/t"),
        ("GET", "/v2/projects/p/topics/t"),
        ("GET", "/v1/projects/p/topics/t/more"),
        ("GET", "/v1/projects/p%2Fq/topics/t:x"),
    ],
)
def test_what_is_no_route_finds_nothing(http_method: str, path: str) -> None:
    assert ROUTER.find(http_method, path) is None


def test_every_unary_method_has_a_route() -> None:
    unary = {
        method.name
        for service in SERVICES
        for method in service.methods
        if not method.server_streaming
    }

    assert {route.method.name for route in ROUTER.routes} == unary
