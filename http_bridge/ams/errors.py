"""gRPC status -> HTTP status and AMS's error body: the only such table."""

from __future__ import annotations

from typing import Final, NamedTuple

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from http_bridge.caller import RpcFailure


class Refusal(NamedTuple):
    """What a request is answered that is not served."""

    http: int
    status: str
    message: str

    @property
    def body(self) -> dict[str, object]:
        """AMS: the envelope of every error."""
        return {"error": {"code": self.http, "message": self.message, "status": self.status}}


_CODE: Final = grpc.StatusCode
_INTERNAL: Final = (500, "INTERNAL_SERVER_ERROR")

_BY_CODE: Final[dict[grpc.StatusCode, tuple[int, str]]] = {
    _CODE.INVALID_ARGUMENT: (400, "INVALID_ARGUMENT"),
    _CODE.OUT_OF_RANGE: (400, "INVALID_ARGUMENT"),
    _CODE.FAILED_PRECONDITION: (409, "CONFLICT"),
    _CODE.UNAUTHENTICATED: (401, "UNAUTHORIZED"),
    _CODE.PERMISSION_DENIED: (403, "FORBIDDEN"),
    _CODE.NOT_FOUND: (404, "NOT_FOUND"),
    _CODE.ALREADY_EXISTS: (409, "ALREADY_EXISTS"),
    _CODE.ABORTED: (409, "CONFLICT"),
    _CODE.RESOURCE_EXHAUSTED: (429, "RESOURCE_EXHAUSTED"),
    _CODE.UNIMPLEMENTED: (501, "UNIMPLEMENTED"),
    _CODE.DEADLINE_EXCEEDED: (504, "TIMEOUT"),
}
_BY_REASON: Final[dict[str, tuple[int, str]]] = {
    "BAD_REQUEST": (400, "BAD_REQUEST"),
    "CONFLICT": (409, "CONFLICT"),
    "ACK_TIMEOUT": (408, "TIMEOUT"),
    "NO_ACK_PENDING": _INTERNAL,
    "WRONG_ACK": _INTERNAL,
    "TOO_LARGE": (413, "INVALID_ARGUMENT"),
    "VERIFICATION_FAILED": (401, "UNAUTHORIZED"),
    "INTERNAL": _INTERNAL,
}
"""AMS: what no code of gRPC stands for."""

INTERNAL: Final = Refusal(*_INTERNAL, "Internal Error")
TOO_LARGE: Final = Refusal(413, "INVALID_ARGUMENT", "Message size is too large")
TOO_SLOW: Final = Refusal(408, "TIMEOUT", "The request did not arrive in time")


def of_call(failure: RpcFailure) -> Refusal:
    """For a call that failed."""
    by_reason = _BY_REASON.get(_reason(failure.details))
    if by_reason is not None:
        return Refusal(*by_reason, failure.message)
    by_code = _BY_CODE.get(failure.code)
    if by_code is not None:
        return Refusal(*by_code, failure.message)
    return Refusal(*_INTERNAL, "Backend Error")


def bad_request(message: str) -> Refusal:
    """For a body or query that cannot be read."""
    status = "BAD_REQUEST" if message == "Invalid Request Body" else "INVALID_ARGUMENT"
    return Refusal(400, status, message)


def _reason(details: bytes) -> str:
    try:
        status = status_pb2.Status.FromString(details)
    except DecodeError:
        return ""
    info = error_details_pb2.ErrorInfo()
    return info.reason if any(each.Unpack(info) for each in status.details) else ""
