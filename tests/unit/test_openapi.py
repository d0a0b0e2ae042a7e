"""The OpenAPI documents say what the routes, the messages and the options of the protos say."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from google.iam.v1 import iam_policy_pb2  # type: ignore[import-untyped]
from google.protobuf.descriptor import ServiceDescriptor

from ams_grpc.pb.ams.v1 import accounts_pb2, metrics_pb2, schemas_pb2
from ams_grpc.pb.ams.v1 import pubsub_pb2 as ams_pb2
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2, schema_pb2
from http_bridge.ams.openapi import AMS
from http_bridge.google.openapi import GOOGLE
from http_bridge.openapi import document, path_of
from http_bridge.routes import routes_of


def services(*files: Any) -> list[ServiceDescriptor]:
    return [each for file in files for each in file.DESCRIPTOR.services_by_name.values()]


AMS_SERVICES = services(accounts_pb2, metrics_pb2, ams_pb2, schemas_pb2)
GOOGLE_SERVICES = services(pubsub_pb2, schema_pb2, iam_policy_pb2)


@pytest.fixture(scope="module")
def ams() -> dict[str, Any]:
    return document(routes_of(AMS_SERVICES), AMS)


@pytest.fixture(scope="module")
def google() -> dict[str, Any]:
    return document(routes_of(GOOGLE_SERVICES), GOOGLE)


@pytest.mark.parametrize("name", ["ams", "google"])
def test_a_document_is_valid_and_has_each_route_once(
    name: str, request: pytest.FixtureRequest
) -> None:
    made = request.getfixturevalue(name)
    served = {"ams": AMS_SERVICES, "google": GOOGLE_SERVICES}[name]

    schema = schemathesis.openapi.from_dict(made)

    schema.validate()
    assert made["openapi"] == "3.1.0"
    operations = [each for path in made["paths"].values() for each in path.values()]
    assert len(operations) == len(list(routes_of(served)))
    ids = [each["operationId"] for each in operations]
    assert len(set(ids)) == len(ids)


def test_what_the_path_has_is_not_in_the_body(ams: dict[str, Any]) -> None:
    publish = ams["paths"]["/v1/projects/{project}/topics/{topic}:publish"]["post"]

    in_path = [each["name"] for each in publish["parameters"] if each["in"] == "path"]
    assert in_path == ["project", "topic"]
    assert list(body(publish)["properties"]) == ["messages"]
    assert publish["requestBody"]["required"]
    assert publish["responses"]["400"]["description"] == "Invalid Message Arguments"


def test_a_publish_may_have_an_idempotency_key(ams: dict[str, Any], google: dict[str, Any]) -> None:
    for made in (ams, google):
        [path] = [each for each in made["paths"] if each.endswith(":publish")]
        last = made["paths"][path]["post"]["parameters"][-1]
        assert (last["name"], last["in"]) == ("Idempotency-Key", "header")


def test_what_refuses_those_without_a_token_says_so(ams: dict[str, Any]) -> None:
    without = {
        path.removeprefix("/v1/")
        for path, operations in ams["paths"].items()
        for operation in operations.values()
        if {} in operation["security"]
    }
    assert without == {"status", "version"}


def test_a_definition_of_a_schema_is_the_caller_s_own_document(ams: dict[str, Any]) -> None:
    schema = "/v1/projects/{project}/schemas/{schema_id}"

    create = body(ams["paths"][schema]["post"])
    assert create["properties"].keys() == {"type", "schema", "attributes"}
    validate = ams["paths"][f"{schema}:validate"]["post"]
    assert validate["requestBody"]["required"]
    assert "properties" not in body(validate)


def test_a_get_has_the_rest_of_its_request_in_the_query(ams: dict[str, Any]) -> None:
    users = ams["paths"]["/v1/users"]["get"]

    in_query = {each["name"] for each in users["parameters"] if each["in"] == "query"}
    assert in_query == {"project", "details", "pageSize", "pageToken"}
    assert "requestBody" not in users


def test_keys_and_numbers_are_those_of_each_dialect(
    ams: dict[str, Any], google: dict[str, Any]
) -> None:
    user = ams["components"]["schemas"]["User"]["properties"]
    assert {"uuid", "first_name", "service_roles"} <= user.keys()
    offsets = ams["components"]["schemas"]["Offsets"]["properties"]
    assert offsets["max"] == {"type": "integer", "format": "int64"}
    aws = google["components"]["schemas"]["CloudStorageConfig"]["properties"]
    assert aws["maxBytes"] == {"type": "string", "format": "int64"}
    message = google["components"]["schemas"]["PubsubMessage"]["properties"]
    assert message["data"] == {"type": "string", "contentEncoding": "base64"}
    assert "orderingKey" in message


def test_ams_says_which_keys_are_always_there(ams: dict[str, Any]) -> None:
    """``omit_empty`` ones are not, and neither are those of messages that are sent, too."""
    assert ams["components"]["schemas"]["Topic"]["required"] == ["name"]
    assert "required" not in ams["components"]["schemas"]["Message"]
    acl = ams["paths"]["/v1/projects/{project}/topics/{topic}:modifyAcl"]["post"]
    assert body(acl)["required"] == ["authorized_users"]


def test_a_pull_of_ams_has_texts_for_values(ams: dict[str, Any]) -> None:
    pull = ams["paths"]["/v1/projects/{project}/subscriptions/{subscription}:pull"]["post"]

    assert {key: each["type"] for key, each in body(pull)["properties"].items()} == {
        "maxMessages": "string",
        "returnImmediately": "string",
    }


def test_ams_needs_a_token_except_where_it_is_open(ams: dict[str, Any]) -> None:
    assert {} not in ams["paths"]["/v1/users"]["get"]["security"]
    assert {} in ams["paths"]["/v1/version"]["get"]["security"]
    schemes = ams["components"]["securitySchemes"].values()
    assert {(each["in"], each["name"]) for each in schemes} == {
        ("header", "x-api-key"),
        ("query", "key"),
    }


def test_an_empty_reply_of_ams_has_a_body_only_where_it_says_so(ams: dict[str, Any]) -> None:
    delete = ams["paths"]["/v1/projects/{project}/topics/{topic}"]["delete"]
    acknowledge = ams["paths"]["/v1/projects/{project}/subscriptions/{subscription}:acknowledge"]

    assert "content" not in delete["responses"]["200"]
    assert "content" in acknowledge["post"]["responses"]["200"]


@pytest.mark.parametrize(
    "template, path",
    [
        ("/v1/users/{user}:refreshToken", "/v1/users/{user}:refreshToken"),
        (
            "/v1/{topic=projects/*/topics/*}:publish",
            "/v1/projects/{project}/topics/{topic}:publish",
        ),
        (
            "/v1/{snapshot.name=projects/*/snapshots/*}",
            "/v1/projects/{project}/snapshots/{snapshot}",
        ),
        ("/v1/{resource=**}:setIamPolicy", "/v1/{resource}:setIamPolicy"),
    ],
)
def test_paths_of_annotations_become_paths_of_openapi(template: str, path: str) -> None:
    assert path_of(template) == path


def body(operation: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = operation["requestBody"]["content"]["application/json"]["schema"]
    return schema
