"""The generated code in ``ams_grpc.pb``: up to date, reachable, and routed."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from google.api import annotations_pb2  # type: ignore[import-untyped]
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor

from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2, schema_pb2

ROOT = Path(__file__).resolve().parents[2]
GENERATOR = ROOT / "scripts" / "generate_protos"
GENERATED = ROOT / "ams_grpc" / "pb"

TOPIC = "projects/*/topics/*"
SUBSCRIPTION = "projects/*/subscriptions/*"
SNAPSHOT = "projects/*/snapshots/*"
SCHEMA = "projects/*/schemas/*"

# What a call looks like over HTTP: method -> verb, path, and what the body is, if there is one.
ROUTES = {
    "Publisher.CreateTopic": ("put", f"/v1/{{name={TOPIC}}}", "*"),
    "Publisher.UpdateTopic": ("patch", f"/v1/{{topic.name={TOPIC}}}", "*"),
    "Publisher.Publish": ("post", f"/v1/{{topic={TOPIC}}}:publish", "*"),
    "Publisher.GetTopic": ("get", f"/v1/{{topic={TOPIC}}}", ""),
    "Publisher.ListTopics": ("get", "/v1/{project=projects/*}/topics", ""),
    "Publisher.ListTopicSubscriptions": ("get", f"/v1/{{topic={TOPIC}}}/subscriptions", ""),
    "Publisher.ListTopicSnapshots": ("get", f"/v1/{{topic={TOPIC}}}/snapshots", ""),
    "Publisher.DeleteTopic": ("delete", f"/v1/{{topic={TOPIC}}}", ""),
    "Publisher.DetachSubscription": ("post", f"/v1/{{subscription={SUBSCRIPTION}}}:detach", ""),
    "Subscriber.CreateSubscription": ("put", f"/v1/{{name={SUBSCRIPTION}}}", "*"),
    "Subscriber.GetSubscription": ("get", f"/v1/{{subscription={SUBSCRIPTION}}}", ""),
    "Subscriber.UpdateSubscription": ("patch", f"/v1/{{subscription.name={SUBSCRIPTION}}}", "*"),
    "Subscriber.ListSubscriptions": ("get", "/v1/{project=projects/*}/subscriptions", ""),
    "Subscriber.DeleteSubscription": ("delete", f"/v1/{{subscription={SUBSCRIPTION}}}", ""),
    "Subscriber.ModifyAckDeadline": (
        "post",
        f"/v1/{{subscription={SUBSCRIPTION}}}:modifyAckDeadline",
        "*",
    ),
    "Subscriber.Acknowledge": ("post", f"/v1/{{subscription={SUBSCRIPTION}}}:acknowledge", "*"),
    "Subscriber.Pull": ("post", f"/v1/{{subscription={SUBSCRIPTION}}}:pull", "*"),
    "Subscriber.ModifyPushConfig": (
        "post",
        f"/v1/{{subscription={SUBSCRIPTION}}}:modifyPushConfig",
        "*",
    ),
    "Subscriber.GetSnapshot": ("get", f"/v1/{{snapshot={SNAPSHOT}}}", ""),
    "Subscriber.ListSnapshots": ("get", "/v1/{project=projects/*}/snapshots", ""),
    "Subscriber.CreateSnapshot": ("put", f"/v1/{{name={SNAPSHOT}}}", "*"),
    "Subscriber.UpdateSnapshot": ("patch", f"/v1/{{snapshot.name={SNAPSHOT}}}", "*"),
    "Subscriber.DeleteSnapshot": ("delete", f"/v1/{{snapshot={SNAPSHOT}}}", ""),
    "Subscriber.Seek": ("post", f"/v1/{{subscription={SUBSCRIPTION}}}:seek", "*"),
    "SchemaService.CreateSchema": ("post", "/v1/{parent=projects/*}/schemas", "schema"),
    "SchemaService.GetSchema": ("get", f"/v1/{{name={SCHEMA}}}", ""),
    "SchemaService.ListSchemas": ("get", "/v1/{parent=projects/*}/schemas", ""),
    "SchemaService.ListSchemaRevisions": ("get", f"/v1/{{name={SCHEMA}}}:listRevisions", ""),
    "SchemaService.CommitSchema": ("post", f"/v1/{{name={SCHEMA}}}:commit", "*"),
    "SchemaService.RollbackSchema": ("post", f"/v1/{{name={SCHEMA}}}:rollback", "*"),
    "SchemaService.DeleteSchemaRevision": ("delete", f"/v1/{{name={SCHEMA}}}:deleteRevision", ""),
    "SchemaService.DeleteSchema": ("delete", f"/v1/{{name={SCHEMA}}}", ""),
    "SchemaService.ValidateSchema": ("post", "/v1/{parent=projects/*}/schemas:validate", "*"),
    "SchemaService.ValidateMessage": (
        "post",
        "/v1/{parent=projects/*}/schemas:validateMessage",
        "*",
    ),
}


def generate(out: Path) -> None:
    """Run ``scripts/generate_protos --out OUT``."""
    subprocess.run([sys.executable, str(GENERATOR), "--out", str(out)], check=True)


def files(directory: Path) -> dict[str, str]:
    """The text of all Python files and stubs below ``directory``, by relative path."""
    return {
        path.relative_to(directory).as_posix(): path.read_text(encoding="utf-8")
        for suffix in ("*.py", "*.pyi")
        for path in directory.rglob(suffix)
    }


def methods(*described: FileDescriptor) -> dict[str, MethodDescriptor]:
    """All methods of the services in some files, as ``Service.Method``."""
    return {
        f"{service.name}.{method.name}": method
        for file in described
        for service in file.services_by_name.values()
        for method in service.methods
    }


PUBSUB = methods(pubsub_pb2.DESCRIPTOR, schema_pb2.DESCRIPTOR)


def test_the_checked_in_code_is_what_the_generator_makes_of_the_protos(tmp_path: Path) -> None:
    generate(tmp_path)

    assert files(GENERATED) == files(tmp_path), "run scripts/generate_protos"


def test_generating_again_changes_nothing(tmp_path: Path) -> None:
    generate(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    generate(tmp_path)

    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_generating_removes_modules_whose_proto_is_gone_and_nothing_else(tmp_path: Path) -> None:
    stale = [tmp_path / "old" / name for name in ("__init__.py", "gone_pb2.py", "gone_pb2.pyi")]
    other = tmp_path / "old" / "notes.txt"
    other.parent.mkdir()
    for path in [*stale, other]:
        path.write_text("")

    generate(tmp_path)

    assert not any(path.exists() for path in stale)
    assert other.exists()


@pytest.mark.parametrize("service", ["Publisher", "Subscriber", "SchemaService"])
def test_a_service_is_found_under_its_public_name(service: str) -> None:
    """Reflection over gRPC answers from this pool, with these file names."""
    found = descriptor_pool.Default().FindServiceByName(f"google.pubsub.v1.{service}")

    assert found.file.name in {"google/pubsub/v1/pubsub.proto", "google/pubsub/v1/schema.proto"}


def test_a_message_can_be_pickled() -> None:
    """Its class says where it really is, which is not where its .proto file says."""
    message = pubsub_pb2.PubsubMessage(data=b"hello", attributes={"k": "v"})

    assert pickle.loads(pickle.dumps(message)) == message  # noqa: S301


def test_every_unary_method_is_in_the_table_of_routes() -> None:
    unary = {
        name
        for name, method in PUBSUB.items()
        if not (method.client_streaming or method.server_streaming)
    }

    assert unary == set(ROUTES)


@pytest.mark.parametrize("name", ROUTES)
def test_a_unary_method_has_its_http_route(name: str) -> None:
    rule = PUBSUB[name].GetOptions().Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern")

    assert verb is not None
    assert (verb, getattr(rule, verb), rule.body) == ROUTES[name]
    assert not rule.additional_bindings


def test_a_streaming_method_has_no_http_route() -> None:
    options = PUBSUB["Subscriber.StreamingPull"].GetOptions()

    assert not options.HasExtension(annotations_pb2.http)
