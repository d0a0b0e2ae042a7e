"""ams.v1.Projects: projects and their members."""

from __future__ import annotations

from typing import Any

from google.protobuf.empty_pb2 import Empty

from ams_grpc.auth.projects import Members, Projects
from ams_grpc.auth.records import Person, Project
from ams_grpc.auth.users import UserChanges, Users
from ams_grpc.pb.ams.v1 import accounts_pb2
from ams_grpc.services.ams.listing import page_limit, page_start, seconds_pb
from ams_grpc.services.ams.people import memberships, page_pb, user_pb
from ams_grpc.services.callers import caller
from ams_grpc.services.frame import Context


class ProjectAccounts:
    """``ams.v1.Projects``, without its metrics."""

    def __init__(self, projects: Projects, members: Members, users: Users) -> None:
        self._projects = projects
        self._members = members
        self._users = users

    async def ListProjects(self, request: Any, context: Context) -> accounts_pb2.ProjectList:
        """All of them."""
        return accounts_pb2.ProjectList(projects=map(_project_pb, await self._projects.list()))

    async def GetProject(self, request: Any, context: Context) -> accounts_pb2.Project:
        """Raises NotFound."""
        return _project_pb(await self._projects.get(request.project))

    async def CreateProject(self, request: Any, context: Context) -> accounts_pb2.Project:
        """Raises AlreadyExists."""
        made = await self._projects.create(caller(), request.project, request.description)
        return _project_pb(made)

    async def UpdateProject(self, request: Any, context: Context) -> accounts_pb2.Project:
        """Raises NotFound, InvalidArgument."""
        changed = await self._projects.update(
            caller(), request.project, new_name=request.name, description=request.description
        )
        return _project_pb(changed)

    async def DeleteProject(self, request: Any, context: Context) -> Empty:
        """Raises NotFound."""
        await self._projects.delete(caller(), request.project)
        return Empty()

    async def check_AddMember(self, request: Any, context: Context) -> None:
        """Raises NotFound."""
        await self._users.get(request.user)

    async def AddMember(self, request: Any, context: Context) -> accounts_pb2.User:
        """Raises NotFound, Conflict, InvalidArgument."""
        return user_pb(
            self._users,
            await self._members.add(caller(), request.project, request.user, request.roles),
        )

    async def RemoveMember(self, request: Any, context: Context) -> Empty:
        """Raises NotFound, PermissionDenied."""
        await self._members.remove(caller(), request.project, request.user)
        return Empty()

    async def GetMember(self, request: Any, context: Context) -> accounts_pb2.User:
        """Raises NotFound."""
        return user_pb(
            self._users, await self._members.get(caller(), request.project, request.user)
        )

    async def CreateMember(self, request: Any, context: Context) -> accounts_pb2.User:
        """Raises AlreadyExists, InvalidArgument."""
        made = await self._members.create(
            caller(), request.project, request.user, _member_changes(request)
        )
        return user_pb(self._users, made)

    async def UpdateMember(self, request: Any, context: Context) -> accounts_pb2.User:
        """Raises NotFound, PermissionDenied, InvalidArgument."""
        changed = await self._members.update(
            caller(), request.project, request.user, _member_changes(request)
        )
        return user_pb(self._users, changed)

    async def ListMembers(self, request: Any, context: Context) -> accounts_pb2.UserPage:
        """Raises InvalidArgument."""
        page = await self._members.list(
            caller(),
            request.project,
            start=page_start(request.page_token),
            limit=page_limit(request.page_size),
            details=request.details,
        )
        return page_pb(self._users, page, details=request.details)


def _project_pb(project: Project) -> accounts_pb2.Project:
    return accounts_pb2.Project(
        name=project.name,
        created_on=seconds_pb(project.created_us),
        modified_on=seconds_pb(project.modified_us),
        created_by=project.created_by,
        description=project.description,
    )


def _member_changes(request: Any) -> UserChanges:
    return UserChanges(
        person=Person(email=request.email), memberships=memberships(request.projects)
    )
