"""May this call be made? For the bridge, when it cannot read the body of a request.

AMS: a body that is none is refused after the caller has been, and for some routes after what the path
names has been looked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message_factory import GetMessageClass

from ams_grpc.broker.errors import InvalidArgument
from ams_grpc.services.ams.guard import AmsGuard
from ams_grpc.services.frame import Context, parse


class Access:
    """``ams.v1.Access``, for the given methods (by full name) and their servicers.

    A servicer may have a ``check_<Method>``, which looks for what must be there before the body
    counts.
    """

    def __init__(
        self, guard: AmsGuard, methods: Mapping[str, tuple[MethodDescriptor, object]]
    ) -> None:
        self._guard = guard
        self._methods = methods

    async def CheckAccess(self, request: Any, context: Context) -> Empty:
        """Raises what the method itself would raise before it looks at the body."""
        found = self._methods.get(request.method)
        if found is None:
            raise InvalidArgument(f"There is no method {request.method}.")
        method, servicer = found
        named = parse(GetMessageClass(method.input_type), request.request)
        await self._guard.admit(await self._guard.identify(context), method, named)
        check = getattr(servicer, f"check_{method.name}", None)
        if check is not None:
            await check(named, context)
        return Empty()
