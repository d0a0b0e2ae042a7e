"""May this call be made? For the bridge, before it reads a large body, or when it cannot read one.

AMS: a body that is none is refused after the caller has been, and for some routes after what the path
names has been looked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message_factory import GetMessageClass

from ams_grpc.broker.errors import InvalidArgument
from ams_grpc.services.ams.guard import LARGE_REQUEST_BYTES
from ams_grpc.services.frame import Context, Served, parse


class Access:
    """``ams.v1.Access``, for the methods of the given services.

    A servicer may have a ``check_<Method>``, which looks for what must be there before the body
    counts.
    """

    def __init__(self, services: Iterable[Served]) -> None:
        self._methods = {
            method.full_name: (method, each) for each in services for method in each.service.methods
        }

    async def CheckAccess(self, request: Any, context: Context) -> Empty:
        """Raises what the method itself would raise before it looks at the body."""
        found = self._methods.get(request.method)
        if found is None:
            raise InvalidArgument(f"There is no method {request.method}.")
        size = len(request.request)
        if size > LARGE_REQUEST_BYTES:
            raise InvalidArgument("A request that only names resources is not so large.")
        method, (_, servicer, guard) = found
        caller = None if guard is None else await guard.identify(context, size)
        named = parse(GetMessageClass(method.input_type), request.request)
        if guard is not None:
            await guard.admit(caller, method, named)
        check = getattr(servicer, f"check_{method.name}", None)
        if check is not None:
            await check(named, context)
        return Empty()
