"""Exceptions -> gRPC status: the only such table."""

from __future__ import annotations

from typing import Final

import grpc
from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]
    BadRequest,
    ErrorInfo,
)
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from ams_grpc.broker import errors

Metadata = tuple[tuple[str, bytes], ...]

_CODES: Final[dict[type[BaseException], grpc.StatusCode]] = {
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.OutOfRange: grpc.StatusCode.OUT_OF_RANGE,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unimplemented: grpc.StatusCode.UNIMPLEMENTED,
    errors.Aborted: grpc.StatusCode.ABORTED,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.TooManyAttempts: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
}

_DETAILS: Final = "grpc-status-details-bin"
_DOMAIN: Final = "pubsub.googleapis.com"
_MAX_TEXT_BYTES: Final = 1_000


def code_of(error: BaseException) -> grpc.StatusCode:
    """The status for an error; INTERNAL for one that nobody foresaw."""
    known = (_CODES[cls] for cls in type(error).__mro__ if cls in _CODES)
    return next(known, grpc.StatusCode.INTERNAL)


def status_of(error: BaseException) -> tuple[grpc.StatusCode, str, Metadata]:
    """Code, text and trailing metadata for an error.

    The metadata has what the error says beside its text: a reason for programs, the request field
    at fault. The text of an unforeseen error stays inside.
    """
    code = code_of(error)
    if not isinstance(error, errors.BrokerError) or code is grpc.StatusCode.INTERNAL:
        return code, "internal error", ()
    text = _shorten(error.message)
    return code, text, _details(code, text, error)


def _details(code: grpc.StatusCode, text: str, error: errors.BrokerError) -> Metadata:
    """What ``google.rpc`` clients read: the same status, with an ErrorInfo first if there is one."""
    number, _ = code.value
    status = Status(code=number, message=text)
    if error.info is not None:
        metadata = {key: _shorten(value) for key, value in error.info.metadata.items()}
        status.details.add().Pack(
            ErrorInfo(reason=error.info.reason, domain=_DOMAIN, metadata=metadata)
        )
    if error.field:
        violation = BadRequest.FieldViolation(field=error.field, description=text)
        status.details.add().Pack(BadRequest(field_violations=[violation]))
    return ((_DETAILS, status.SerializeToString()),) if status.details else ()


def _shorten(text: str) -> str:
    """Cut a text that quotes too much of its request.

    Clients refuse trailers beyond 8 KiB, and would see that in place of this error. Here a text
    comes to at most 3 bytes a byte, and twice more, as it is, in the details.
    """
    encoded = text.encode(errors="replace")
    if len(encoded) <= _MAX_TEXT_BYTES:
        return text
    return encoded[: _MAX_TEXT_BYTES - 3].decode(errors="ignore") + "..."
