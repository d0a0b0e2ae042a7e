"""The routes of AMS: what the protos say, held against the table that was written by hand."""

from __future__ import annotations

from google.protobuf.descriptor import ServiceDescriptor

from ams_grpc.auth.roles import LISTED, MATRIX, allow
from ams_grpc.pb.ams.v1 import accounts_pb2, metrics_pb2, pubsub_pb2, schemas_pb2
from ams_grpc.services.ams.actions import action_of
from http_bridge.ams.routes import AmsRouter
from tests.ams_table import CALLS, ROLES

SERVICES: list[ServiceDescriptor] = [
    service
    for file in (metrics_pb2, accounts_pb2, pubsub_pb2, schemas_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
]
ROUTER = AmsRouter(SERVICES)


def test_every_route_is_there_and_no_other() -> None:
    declared = {
        (each.options.name, each.http_method, each.template.replace("{schema_id}", "{schema}"))
        for each in ROUTER.routes
    }

    assert declared == {(call.name, call.method, f"/v1{call.path}") for call in CALLS}


def test_each_path_finds_its_own_route() -> None:
    for call in CALLS:
        match = ROUTER.find(call.method, f"/v1{call.of('P')}")
        assert match is not None
        assert match.route.options.name == call.name


def test_roles_allow_what_the_table_says() -> None:
    for call in CALLS:
        if not call.open:
            allowed = {role for role in ROLES if allow([role], call.name)}
            assert allowed == call.roles | call.listed, call.name
            assert {LISTED[call.name]} == call.listed if call.listed else call.name not in LISTED
    assert set(MATRIX) == set(ROLES)


def test_the_audit_log_names_all_that_the_path_names() -> None:
    method = schemas_pb2.DESCRIPTOR.services_by_name["Schemas"].methods_by_name["DeleteSchema"]
    request = schemas_pb2.SchemaRequest(project="shop", schema_id="order")
    assert action_of(method).target(request) == "projects/shop/schemas/order"
