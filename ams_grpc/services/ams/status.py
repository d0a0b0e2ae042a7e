"""ams.v1.Service: whether it works, and what it is. Both are open: they look at the caller."""

from __future__ import annotations

import platform
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from google.protobuf.empty_pb2 import Empty

import ams_grpc
from ams_grpc.auth.principals import Principal
from ams_grpc.auth.roles import SERVICE_ADMIN
from ams_grpc.broker.errors import PermissionDenied, StorageUnavailable, Unauthenticated
from ams_grpc.pb.ams.v1 import metrics_pb2 as pb
from ams_grpc.services.callers import caller
from ams_grpc.services.frame import Context

_SEES_DETAILS: Final = {SERVICE_ADMIN, "admin_viewer"}
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
"""AMS: the words of its compiler."""


class ServiceStatus:
    """``push_endpoint`` gives HOST:PORT of whoever pushes; None: push is disabled.

    ``is_crippled`` tells whether there is push, but no user for it. ``hostname`` is what the service
    is known as from outside; empty: it is not shown.
    """

    def __init__(
        self,
        push_endpoint: Callable[[], str] | None,
        is_crippled: Callable[[], Awaitable[bool]],
        hostname: str = "",
    ) -> None:
        self._push_endpoint = push_endpoint
        self._is_crippled = is_crippled
        self._hostname = hostname

    async def GetStatus(self, request: pb.StatusRequest, _context: Context) -> pb.Status:
        """The details are for some eyes only; push is part of the service, so there are none.

        Raises PermissionDenied, Unauthenticated: AMS has them the other way round.
        """
        if request.details:
            who = _caller()
            if who is None:
                raise PermissionDenied("Access to this resource is forbidden")
            if not _sees_details(who):
                raise Unauthenticated("Unauthorized")
        if self._push_endpoint is None:
            return pb.Status(status="ok", push_functionality="disabled")
        server = pb.PushServer(endpoint=self._push_endpoint(), status="SERVING")
        return pb.Status(status=await self._in_a_word(), push_servers=[server])

    async def _in_a_word(self) -> str:
        """AMS: what the status says is not that of the database."""
        with suppress(StorageUnavailable):
            return "warning" if await self._is_crippled() else "ok"
        return "ok"

    async def GetVersion(self, _request: Empty, _context: Context) -> pb.Version:
        who = _caller()
        machine = platform.machine()
        return pb.Version(
            build_time=_installed(),
            golang=f"python{platform.python_version()}",
            compiler=platform.python_implementation(),
            os=platform.system().lower(),
            architecture=_ARCHITECTURES.get(machine, machine),
            release=version("ams-grpc") if who is not None and _sees_details(who) else "",
            distro=_distribution(),
            hostname=self._hostname,
        )


def _caller() -> Principal | None:
    """The user who calls; None for one who is unknown, or no user."""
    try:
        who = caller()
    except LookupError:
        return None
    return who if who.uuid else None


def _sees_details(who: Principal) -> bool:
    return not _SEES_DETAILS.isdisjoint(who.service_roles)


def _installed() -> str:
    """When the code was put here, which is as near to a build as Python has."""
    changed = Path(ams_grpc.__file__).stat().st_mtime
    return datetime.fromtimestamp(changed, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""
