"""Our google.pubsub.v1 is the official client's: every message, field, enum, method and route.

The client is loaded here. Ours comes from a process of its own, because one process cannot hold
both (the same names in protobuf's default pool), and is looked at in a pool of its own.

The client writes its types with proto-plus, which shows in two places: a field whose name Python
has taken ends in an underscore (``type_``, while JSON says ``type``), and there are no service
descriptors, so methods are read from the stubs that its transports make.
"""

import importlib.resources
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.api import annotations_pb2  # type: ignore[import-untyped]
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.pubsub_v1 import types
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.schema_service.transports import SchemaServiceGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "google.pubsub.v1"
TYPES: dict[int, str] = {number: name for name, number in FieldDescriptorProto.Type.items()}
TRANSPORTS = [PublisherGrpcTransport, SubscriberGrpcTransport, SchemaServiceGrpcTransport]

# Writes the FileDescriptorSet of what ams_grpc.pb registers, each file after those it imports.
PRINT_OURS = """
import sys
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2, schema_pb2

files = {}

def add(file):
    for dependency in file.dependencies:
        add(dependency)
    files[file.name] = file

add(pubsub_pb2.DESCRIPTOR)
add(schema_pb2.DESCRIPTOR)
everything = FileDescriptorSet()
for file in files.values():
    file.CopyToProto(everything.file.add())
sys.stdout.buffer.write(everything.SerializeToString())
"""


@dataclass(frozen=True)
class Field:
    """What a field is on the wire, in JSON and in generated code."""

    number: int
    type: str
    of: str | None  # full name of the message or enum
    repeated: bool
    packed: bool
    presence: bool
    oneof: str | None
    json_name: str


@dataclass(frozen=True)
class Method:
    """What a method takes and gives."""

    request: str
    response: str
    streams_requests: bool
    streams_responses: bool


@pytest.fixture(scope="module")
def ours() -> list[FileDescriptor]:
    """Our files of the package."""
    printed = subprocess.run(
        [sys.executable, "-c", PRINT_OURS], cwd=ROOT, check=True, stdout=subprocess.PIPE
    )
    everything = FileDescriptorSet.FromString(printed.stdout)
    pool = DescriptorPool()
    for file in everything.file:
        pool.AddSerializedFile(file.SerializeToString())
    return [pool.FindFileByName(file.name) for file in everything.file if file.package == PACKAGE]


@pytest.fixture(scope="module")
def theirs() -> list[FileDescriptor]:
    """The client's files of the package."""
    messages = [getattr(types, name) for name in types.__all__]
    files = {message.pb().DESCRIPTOR.file for message in messages if hasattr(message, "serialize")}
    return sorted(files, key=lambda file: str(file.name))


def test_messages_are_the_clients(ours: list[FileDescriptor], theirs: list[FileDescriptor]) -> None:
    """By full name, nested ones and map entries too; the value says whether it is a map entry."""
    assert messages(ours) == messages(theirs)


def test_fields_are_the_clients(ours: list[FileDescriptor], theirs: list[FileDescriptor]) -> None:
    assert fields(ours) == fields(theirs)


def test_oneofs_are_the_clients(ours: list[FileDescriptor], theirs: list[FileDescriptor]) -> None:
    assert oneofs(ours) == oneofs(theirs)


def test_enums_are_the_clients(ours: list[FileDescriptor], theirs: list[FileDescriptor]) -> None:
    assert enums(ours) == enums(theirs)


def test_each_type_that_the_client_exports_is_ours(ours: list[FileDescriptor]) -> None:
    """Nothing escapes the tests above by being in a file that they do not see."""
    top = {
        name for file in ours for name in [*file.message_types_by_name, *file.enum_types_by_name]
    }

    assert top == set(types.__all__) - {"TimeoutType"}  # an argument of its methods


def test_methods_are_the_clients(
    ours: list[FileDescriptor], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The client's logging comes between stub and channel, and would open the one late.
    monkeypatch.setattr(grpc, "intercept_channel", lambda channel, *interceptors: channel)

    assert methods(ours) == {
        path: method for transport in TRANSPORTS for path, method in stubs(transport).items()
    }


def test_services_are_the_clients(ours: list[FileDescriptor]) -> None:
    """Against the client's own table of contents, so that no transport is forgotten above."""
    metadata = importlib.resources.files("google.pubsub_v1") / "gapic_metadata.json"
    contents = json.loads(metadata.read_text(encoding="utf-8"))["services"]

    assert set(methods(ours)) == {
        f"/{PACKAGE}.{service}/{method}"
        for service, about in contents.items()
        for method in about["clients"]["grpc"]["rpcs"]
    }


@pytest.mark.parametrize(
    "service, module",
    [
        ("Publisher", "publisher"),
        ("Subscriber", "subscriber"),
        ("SchemaService", "schema_service"),
    ],
)
def test_http_routes_are_the_clients(service: str, module: str, ours: list[FileDescriptor]) -> None:
    assert routes(ours, service) == rest_routes(service, module)


# --- what descriptors say -----------------------------------------------------------------------


def every_message(files: Iterable[FileDescriptor]) -> Iterator[Descriptor]:
    """All messages in some files, with the nested ones."""
    for file in files:
        yield from with_nested(file.message_types_by_name.values())


def with_nested(several: Iterable[Descriptor]) -> Iterator[Descriptor]:
    """Messages, and those inside them, at any depth."""
    for message in several:
        yield message
        yield from with_nested(message.nested_types)


def messages(files: Iterable[FileDescriptor]) -> dict[str, bool]:
    return {message.full_name: message.GetOptions().map_entry for message in every_message(files)}


def fields(files: Iterable[FileDescriptor]) -> dict[str, Field]:
    return {
        f"{message.full_name}.{field.name.removesuffix('_')}": field_of(field)
        for message in every_message(files)
        for field in message.fields
    }


def field_of(field: FieldDescriptor) -> Field:
    of = field.message_type or field.enum_type
    return Field(
        number=field.number,
        type=TYPES[field.type],
        of=of.full_name if of else None,
        repeated=field.is_repeated,
        packed=field.is_packed,
        presence=field.has_presence,
        oneof=field.containing_oneof.name if field.containing_oneof else None,
        json_name=field.json_name,
    )


def oneofs(files: Iterable[FileDescriptor]) -> dict[str, set[str]]:
    return {
        oneof.full_name: {field.name for field in oneof.fields}
        for message in every_message(files)
        for oneof in message.oneofs
    }


def enums(files: Iterable[FileDescriptor]) -> dict[str, list[tuple[str, int]]]:
    files = list(files)
    found: list[EnumDescriptor] = [
        enum for file in files for enum in file.enum_types_by_name.values()
    ]
    found += [enum for message in every_message(files) for enum in message.enum_types]
    return {enum.full_name: [(value.name, value.number) for value in enum.values] for enum in found}


def methods(files: Iterable[FileDescriptor]) -> dict[str, Method]:
    return {
        f"/{service.full_name}/{method.name}": Method(
            request=method.input_type.full_name,
            response=method.output_type.full_name,
            streams_requests=method.client_streaming,
            streams_responses=method.server_streaming,
        )
        for file in files
        for service in file.services_by_name.values()
        for method in service.methods
    }


def routes(files: Iterable[FileDescriptor], service: str) -> dict[str, list[dict[str, str]]]:
    """The google.api.http annotations of a service, in the form of the client's REST transport."""
    [found] = [file.services_by_name[service] for file in files if service in file.services_by_name]
    return {
        method.name: [
            route_of(binding)
            for rule in [method.GetOptions().Extensions[annotations_pb2.http]]
            for binding in [rule, *rule.additional_bindings]
            if binding.WhichOneof("pattern")
        ]
        for method in found.methods
    }


def route_of(rule: Any) -> dict[str, str]:
    verb = rule.WhichOneof("pattern")
    route = {"method": verb, "uri": getattr(rule, verb)}
    return {**route, "body": rule.body} if rule.body else route


# --- what the client's transports say -----------------------------------------------------------


class Recorder(grpc.Channel):
    """A channel that calls nothing, and remembers which of our methods it was asked for."""

    def __init__(self) -> None:
        self.methods: dict[str, Method] = {}

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        return self._record(*args, streaming=(False, False), **kwargs)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        return self._record(*args, streaming=(False, True), **kwargs)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        return self._record(*args, streaming=(True, False), **kwargs)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        return self._record(*args, streaming=(True, True), **kwargs)

    def subscribe(self, callback: Any, try_to_connect: bool | None = False) -> None: ...

    def unsubscribe(self, callback: Any) -> None: ...

    def close(self) -> None: ...

    def __exit__(self, *exc: object) -> None: ...

    def _record(
        self,
        method: str,
        request_serializer: Any,
        response_deserializer: Any,
        *_: Any,
        streaming: tuple[bool, bool],
        **__: Any,
    ) -> Any:
        if method.startswith(f"/{PACKAGE}."):  # the others are google.iam.v1.IAMPolicy's
            self.methods[method] = Method(
                full_name(request_serializer.__self__),  # both are methods of a message's class
                full_name(response_deserializer.__self__),
                *streaming,
            )
        return lambda *args, **kwargs: None


def full_name(message: Any) -> str:
    """The protobuf name of a message class, plain or proto-plus."""
    plain = message.pb() if hasattr(message, "pb") else message
    return str(plain.DESCRIPTOR.full_name)


def stubs(transport: Any) -> dict[str, Method]:
    """The methods that a client's transport can call."""
    recorder = Recorder()
    made = transport(channel=recorder)
    for name, member in vars(transport).items():
        if isinstance(member, property):
            getattr(made, name)  # makes the stub
    return recorder.methods


def rest_routes(service: str, module: str) -> dict[str, list[dict[str, str]]]:
    """The routes of a service in the client's REST transport, without those of IAM policies."""
    base = importlib.import_module(f"google.pubsub_v1.services.{module}.transports.rest_base")
    transport = getattr(base, f"_Base{service}RestTransport")
    return {
        name.removeprefix("_Base"): (
            member._get_http_options() if hasattr(member, "_get_http_options") else []
        )
        for name, member in vars(transport).items()
        if name.startswith("_Base") and not name.endswith(("IamPolicy", "IamPermissions"))
    }
