"""Asking whether a call may be made, before its request has been read whole."""

from __future__ import annotations

from typing import Final, NamedTuple

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from ams_grpc.pb.ams.v1 import access_pb2
from http_bridge.caller import Caller, Metadata


class _Method(NamedTuple):
    path: str
    reply_class: type[Message]


_CHECK: Final = _Method("/ams.v1.Access/CheckAccess", Empty)


async def check_access(
    caller: Caller,
    method: MethodDescriptor,
    named: Message,
    *,
    metadata: Metadata,
    timeout_s: float,
) -> None:
    """Refuse as the method itself would, by who calls and by what ``named`` has of the request.

    Raises RpcFailure.
    """
    asked = access_pb2.CheckAccessRequest(
        method=method.full_name, request=named.SerializeToString()
    )
    await caller(_CHECK, asked, metadata=metadata, timeout_s=timeout_s)
