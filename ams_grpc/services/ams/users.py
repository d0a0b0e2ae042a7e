"""ams.v1.Users: accounts of people and programs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from google.protobuf.empty_pb2 import Empty

from ams_grpc.auth.users import UserChanges, Users, seen_by
from ams_grpc.broker.errors import NotFound, Unauthenticated
from ams_grpc.pb.ams.v1 import accounts_pb2
from ams_grpc.services.ams.listing import page_limit, page_start
from ams_grpc.services.ams.people import memberships, page_pb, person, user_pb
from ams_grpc.services.callers import caller
from ams_grpc.services.frame import Context


class UserAccounts:
    """``ams.v1.Users``, without its reports."""

    def __init__(self, users: Users) -> None:
        self._users = users

    async def GetUserByToken(self, request: Any, context: Context) -> accounts_pb2.User:
        """Raises NotFound."""
        return user_pb(self._users, await self._users.by_token(request.token))

    async def GetUserByUuid(self, request: Any, context: Context) -> accounts_pb2.User:
        """Raises NotFound."""
        return user_pb(self._users, await self._users.by_uuid(request.uuid))

    async def check_ListUsers(self, request: Any, context: Context) -> None:
        """Raises NotFound."""
        await self._users.check_listed(request.project or None)

    async def ListUsers(self, request: Any, context: Context) -> accounts_pb2.UserPage:
        """AMS: who does not see all sees of a user's projects the one that was asked for.

        Raises NotFound, InvalidArgument.
        """
        await self.check_ListUsers(request, context)
        page = await self._users.list(
            project=request.project or None,
            start=page_start(request.page_token),
            limit=page_limit(request.page_size),
            details=request.details,
        )
        seen = [seen_by(caller(), each, request.project or None) for each in page.users]
        return page_pb(self._users, replace(page, users=seen), details=request.details)

    async def GetProfile(self, request: Any, context: Context) -> accounts_pb2.User:
        """Raises Unauthenticated."""
        try:
            return user_pb(self._users, await self._users.by_uuid(caller().uuid))
        except (LookupError, NotFound):
            raise Unauthenticated("Unauthorized") from None

    async def GetUser(self, request: Any, context: Context) -> accounts_pb2.User:
        """Raises NotFound."""
        return user_pb(self._users, await self._users.get(request.user))

    async def RefreshToken(self, request: Any, context: Context) -> accounts_pb2.User:
        """Raises NotFound."""
        return user_pb(self._users, await self._users.refresh_token(caller(), request.user))

    async def CreateUser(self, request: Any, context: Context) -> accounts_pb2.User:
        """Raises AlreadyExists, InvalidArgument."""
        wanted = UserChanges(
            person=person(request),
            memberships=memberships(request.projects),
            service_roles=tuple(request.service_roles),
        )
        return user_pb(self._users, await self._users.create(caller(), request.user, wanted))

    async def UpdateUser(self, request: Any, context: Context) -> accounts_pb2.User:
        """Raises NotFound, InvalidArgument."""
        replaced = set(request.update_mask.paths)
        wanted = UserChanges(
            name=request.name,
            person=person(request),
            memberships=memberships(request.projects)
            if request.projects or "projects" in replaced
            else None,
            service_roles=tuple(request.service_roles)
            if request.service_roles or "service_roles" in replaced
            else None,
        )
        return user_pb(self._users, await self._users.update(caller(), request.user, wanted))

    async def DeleteUser(self, request: Any, context: Context) -> Empty:
        """Raises NotFound."""
        await self._users.delete(caller(), request.user)
        return Empty()
