"""gRPC status -> HTTP status and Google's error body: the only such table."""

from __future__ import annotations

from typing import Any, Final

import grpc
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from http_bridge.caller import RpcFailure
from http_bridge.google.transcode import BadJson

_CODE: Final = grpc.StatusCode
_HTTP: Final[dict[grpc.StatusCode, int]] = {
    _CODE.OK: 200,
    _CODE.INVALID_ARGUMENT: 400,
    _CODE.FAILED_PRECONDITION: 400,
    _CODE.OUT_OF_RANGE: 400,
    _CODE.UNAUTHENTICATED: 401,
    _CODE.PERMISSION_DENIED: 403,
    _CODE.NOT_FOUND: 404,
    _CODE.ALREADY_EXISTS: 409,
    _CODE.ABORTED: 409,
    _CODE.RESOURCE_EXHAUSTED: 429,
    _CODE.CANCELLED: 499,
    _CODE.UNKNOWN: 500,
    _CODE.INTERNAL: 500,
    _CODE.DATA_LOSS: 500,
    _CODE.UNIMPLEMENTED: 501,
    _CODE.UNAVAILABLE: 503,
    _CODE.DEADLINE_EXCEEDED: 504,
}


def of_call(failure: RpcFailure) -> tuple[int, dict[str, Any]]:
    """HTTP status and body for a call that failed."""
    return _body(_HTTP[failure.code], failure.message, failure.code.name, _details(failure.details))


def of_request(fault: BadJson) -> tuple[int, dict[str, Any]]:
    """HTTP status and body for a request that is none."""
    violation = {"description": fault.message}
    if fault.field:
        violation["field"] = fault.field
    bad_request = {
        "@type": f"type.googleapis.com/{error_details_pb2.BadRequest.DESCRIPTOR.full_name}",
        "fieldViolations": [violation],
    }
    return _body(400, fault.message, _CODE.INVALID_ARGUMENT.name, [bad_request])


def no_route() -> tuple[int, dict[str, Any]]:
    """HTTP status and body where there is nothing."""
    return _body(404, "Not found.", _CODE.NOT_FOUND.name, [])


def foreign() -> tuple[int, dict[str, Any]]:
    """HTTP status and body for a call that a page of another site makes."""
    text = "Calls from pages of other sites are not accepted."
    return _body(403, text, _CODE.PERMISSION_DENIED.name, [])


def too_large(limit: int) -> tuple[int, dict[str, Any]]:
    """HTTP status and body for a request of more than ``limit`` bytes."""
    text = f"Request payload size exceeds the limit: {limit} bytes."
    return _body(413, text, _CODE.INVALID_ARGUMENT.name, [])


def too_slow() -> tuple[int, dict[str, Any]]:
    """HTTP status and body for a request whose body does not come."""
    return _body(408, "The request did not arrive in time.", _CODE.DEADLINE_EXCEEDED.name, [])


def internal() -> tuple[int, dict[str, Any]]:
    """HTTP status and body for a fault of ours."""
    return _body(500, "Internal error.", _CODE.INTERNAL.name, [])


def _body(
    code: int, message: str, status: str, details: list[dict[str, Any]]
) -> tuple[int, dict[str, Any]]:
    error: dict[str, Any] = {"code": code, "message": message, "status": status}
    if details:
        error["details"] = details
    return code, {"error": error}


def _details(serialized: bytes) -> list[dict[str, Any]]:
    try:
        details = status_pb2.Status.FromString(serialized).details
        return [json_format.MessageToDict(detail) for detail in details]
    except (DecodeError, TypeError):  # a type that is not known here
        return []
