"""What callers see of an error."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]
    BadRequest,
    ErrorInfo,
)
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from ams_grpc.broker import errors
from ams_grpc.services.status import _CODES, code_of, status_of


def subclasses(cls: type[errors.BrokerError]) -> Iterator[type[errors.BrokerError]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


@pytest.mark.parametrize("cls", list(subclasses(errors.BrokerError)))
def test_every_error_of_the_broker_has_a_code(cls: type[errors.BrokerError]) -> None:
    assert any(ancestor in _CODES for ancestor in cls.__mro__)
    assert code_of(cls("text")) is not grpc.StatusCode.INTERNAL


@pytest.mark.parametrize(
    "error, code",
    [
        (errors.InvalidArgument("text"), grpc.StatusCode.INVALID_ARGUMENT),
        (errors.OutOfRange("text"), grpc.StatusCode.OUT_OF_RANGE),
        (errors.NotFound("text"), grpc.StatusCode.NOT_FOUND),
        (errors.AlreadyExists("text"), grpc.StatusCode.ALREADY_EXISTS),
        (errors.FailedPrecondition("text"), grpc.StatusCode.FAILED_PRECONDITION),
        (errors.ResourceExhausted("text"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.Unimplemented("text"), grpc.StatusCode.UNIMPLEMENTED),
        (errors.Aborted("text"), grpc.StatusCode.ABORTED),
        (errors.Unavailable("text"), grpc.StatusCode.UNAVAILABLE),
        (errors.StorageUnavailable("text"), grpc.StatusCode.UNAVAILABLE),
        (errors.ShuttingDown("text"), grpc.StatusCode.UNAVAILABLE),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_callers_get_the_code_and_the_text(
    error: errors.BrokerError, code: grpc.StatusCode
) -> None:
    assert status_of(error) == (code, "text", ())


@pytest.mark.parametrize(
    "error", [ValueError("secret"), KeyError("secret"), errors.BrokerError("secret", field="x")]
)
def test_of_an_unforeseen_error_nothing_gets_out(error: Exception) -> None:
    assert status_of(error) == (grpc.StatusCode.INTERNAL, "internal error", ())


def test_the_field_at_fault_is_a_detail() -> None:
    error = errors.InvalidArgument("Too long.", field="push_config.push_endpoint")

    code, text, metadata = status_of(error)

    assert (code, text) == (grpc.StatusCode.INVALID_ARGUMENT, "Too long.")
    [violation] = bad_request(metadata).field_violations
    assert (violation.field, violation.description) == ("push_config.push_endpoint", "Too long.")


def test_the_details_repeat_code_and_text_as_clients_require() -> None:
    _, _, metadata = status_of(errors.OutOfRange("Too small.", field="max_delivery_attempts"))

    status = details(metadata)

    assert (status.code, status.message) == (11, "Too small.")


def test_what_programs_read_comes_first_among_the_details() -> None:
    info = errors.ErrorInfo("INVALID_JSON_AVRO_MESSAGE", {"message": "ü" * 5_000})
    error = errors.InvalidArgument("Bad data.", field="messages[1].data", info=info)

    _, _, metadata = status_of(error)

    first, second = details(metadata).details
    read = ErrorInfo()
    assert first.Unpack(read)
    assert second.Is(BadRequest.DESCRIPTOR)
    assert (read.reason, read.domain) == ("INVALID_JSON_AVRO_MESSAGE", "pubsub.googleapis.com")
    assert read.metadata["message"].startswith("üüü")
    assert len(read.metadata["message"].encode()) <= 1_000


def test_a_text_that_quotes_a_huge_request_is_cut_to_fit_into_trailers() -> None:
    error = errors.invalid_name("ü" * 1_000_000)
    error.field = "topic"

    _, text, metadata = status_of(error)

    assert text.startswith("Invalid resource name given (name=üüü")
    assert text.endswith("ü...")
    assert len(text.encode()) <= 1_000
    assert len(details(metadata).SerializeToString()) <= 2_200


def details(metadata: tuple[tuple[str, bytes], ...]) -> Status:
    [(key, value)] = metadata
    assert key == "grpc-status-details-bin"
    return Status.FromString(value)


def bad_request(metadata: tuple[tuple[str, bytes], ...]) -> BadRequest:
    [detail] = details(metadata).details
    request = BadRequest()
    assert detail.Unpack(request)
    return request


def test_refused_ack_ids_are_named_in_the_first_detail() -> None:
    """Clients read it only if the code and the text inside are those outside."""
    refused = {
        "old": "PERMANENT_FAILURE_INVALID_ACK_ID",
        "early": "TRANSIENT_FAILURE_UNORDERED_ACK_ID",
    }

    code, text, metadata = status_of(errors.AckIdsRefused(refused))

    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text == (
        "Some acknowledgement ids in the request were invalid. This could be because the "
        "acknowledgement ids have expired or the acknowledgement ids were malformed."
    )
    ((name, serialized),) = metadata
    assert name == "grpc-status-details-bin"
    status = Status.FromString(serialized)
    assert (status.code, status.message) == (code.value[0], text)
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.reason == "EXACTLY_ONCE_ACKID_FAILURE"
    assert info.domain == "pubsub.googleapis.com"
    assert dict(info.metadata) == refused


def test_a_thousand_refused_ack_ids_are_all_named() -> None:
    refused = {f"{number:0>48}": errors.INVALID_ACK_ID for number in range(1000)}

    _, _, ((_, serialized),) = status_of(errors.AckIdsRefused(refused))

    info = ErrorInfo()
    assert Status.FromString(serialized).details[0].Unpack(info)
    assert dict(info.metadata) == refused
