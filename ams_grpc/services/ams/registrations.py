"""ams.v1.Registrations: requests for accounts."""

from __future__ import annotations

from typing import Any

from google.protobuf.empty_pb2 import Empty

from ams_grpc.auth.records import Registration
from ams_grpc.auth.registrations import Registrations
from ams_grpc.auth.users import Users
from ams_grpc.pb.ams.v1 import accounts_pb2
from ams_grpc.services.ams.listing import seconds_pb
from ams_grpc.services.ams.people import person, person_fields, user_pb
from ams_grpc.services.callers import caller
from ams_grpc.services.frame import Context


class RegistrationDesk:
    """``ams.v1.Registrations``."""

    def __init__(self, registrations: Registrations, users: Users) -> None:
        self._registrations = registrations
        self._users = users

    async def CreateRegistration(self, request: Any, context: Context) -> accounts_pb2.Registration:
        """Raises AlreadyExists, InvalidArgument."""
        filed = await self._registrations.file(caller(), request.name, person(request))
        return self._pb(filed)

    async def AcceptRegistration(self, request: Any, context: Context) -> accounts_pb2.User:
        """Raises NotFound, AlreadyExists."""
        return user_pb(self._users, await self._registrations.accept(caller(), request.uuid))

    async def check_DeclineRegistration(self, request: Any, context: Context) -> None:
        """Raises NotFound."""
        await self._registrations.pending(request.uuid)

    async def DeclineRegistration(self, request: Any, context: Context) -> Empty:
        """Raises NotFound."""
        await self._registrations.decline(caller(), request.uuid, request.comment)
        return Empty()

    async def DeleteRegistration(self, request: Any, context: Context) -> Empty:
        """Raises NotFound."""
        await self._registrations.delete(caller(), request.uuid)
        return Empty()

    async def GetRegistration(self, request: Any, context: Context) -> accounts_pb2.Registration:
        """Raises NotFound."""
        return self._pb(await self._registrations.get(request.uuid))

    async def ListRegistrations(
        self, request: Any, context: Context
    ) -> accounts_pb2.RegistrationList:
        """Those that fit."""
        found = await self._registrations.list(
            activation_token=request.activation_token,
            name=request.name,
            status=request.status,
            email=request.email,
            organization=request.organization,
        )
        return accounts_pb2.RegistrationList(user_registrations=map(self._pb, found))

    def _pb(self, registration: Registration) -> accounts_pb2.Registration:
        shown = accounts_pb2.Registration(
            uuid=registration.uuid,
            name=registration.name,
            **person_fields(registration.person),
            status=registration.status.value,
            decline_comment=registration.decline_comment,
            activation_token=self._registrations.activation_token(registration),
            registered_at=seconds_pb(registration.registered_us),
            modified_by=registration.modified_by,
        )
        if registration.modified_us:
            shown.modified_at.CopyFrom(seconds_pb(registration.modified_us))
        return shown
