"""Projects: made, renamed, removed; and their members."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace

from ams_grpc.auth import audit
from ams_grpc.auth.checks import (
    check_name,
    check_person,
    check_roles,
    check_text,
    no_project,
    no_user,
)
from ams_grpc.auth.ports import Accounts, Clock, Housing
from ams_grpc.auth.principals import Principal
from ams_grpc.auth.records import Membership, Person, Project, User
from ams_grpc.auth.roles import SERVICE_ADMIN
from ams_grpc.auth.users import UserChanges, UserPage, Users, seen_by
from ams_grpc.broker.errors import (
    AlreadyExists,
    Conflict,
    ErrorInfo,
    InvalidArgument,
    PermissionDenied,
)


class Projects:
    """All projects. ``housing`` has things in memory by their names; ``changed`` as for ``Users``."""

    def __init__(
        self, accounts: Accounts, clock: Clock, changed: Callable[[], None], housing: Housing
    ) -> None:
        self._accounts = accounts
        self._clock = clock
        self._changed = changed
        self._housing = housing

    async def get(self, name: str) -> Project:
        """Raises NotFound."""
        project = await self._accounts.project(name)
        if project is None:
            raise no_project()
        return project

    async def list(self) -> Sequence[Project]:
        """Oldest first."""
        return await self._accounts.projects()

    async def create(self, caller: Principal, name: str, description: str = "") -> Project:
        """Raises InvalidArgument, AlreadyExists.

        Topics and subscriptions that are in it already, from a time without accounts, are its own.
        """
        check_name(name, "project")
        check_text(description, "description")
        now_us = self._clock.now_us()
        project = Project(str(uuid.uuid4()), name, description, now_us, now_us)
        project = await self._accounts.create_project(project, caller.uuid)
        self._recorded(caller, "projects:create", name)
        return project

    async def update(
        self, caller: Principal, name: str, *, new_name: str = "", description: str = ""
    ) -> Project:
        """Empty texts leave what there is. A new name also renames all that is in the project.

        Only a service_admin takes over, with the new name, what is there from a time without
        accounts. Raises InvalidArgument, NotFound.
        """
        if new_name:
            check_name(new_name, "project")
        check_text(description, "description")

        def change(project: Project) -> Project:
            return replace(
                project,
                name=new_name or project.name,
                description=description or project.description,
                modified_us=self._clock.now_us(),
            )

        try:
            project, subscription_ids = await self._accounts.change_project(
                name, change, joins=SERVICE_ADMIN in caller.service_roles
            )
        except AlreadyExists:
            raise InvalidArgument("invalid project name change, name already exists") from None
        finally:
            self._changed()
        if project.name != name:
            await self._housing.moved(name, project.name, subscription_ids)
        self._recorded(caller, "projects:update", name, audit.shown(name=new_name))
        return project

    async def delete(self, caller: Principal, name: str) -> None:
        """With its topics, subscriptions, snapshots, schemas and memberships. Raises NotFound."""
        subscription_ids = await self._accounts.delete_project(name)
        self._changed()
        await self._housing.removed(name, subscription_ids)
        self._recorded(caller, "projects:delete", name)

    def _recorded(self, caller: Principal, action: str, name: str, given: str = "") -> None:
        self._changed()
        audit.record(caller, action, name, given)


class Members:
    """Users with an entry for a project. Callers without service_admin see no more of them."""

    def __init__(self, accounts: Accounts, users: Users) -> None:
        self._accounts = accounts
        self._users = users

    async def get(self, caller: Principal, project: str, name: str) -> User:
        """Raises NotFound, also for a user who is no member."""
        user = await self._users.get(name)
        if user.membership(project) is None:
            raise no_user()
        return seen_by(caller, user, project)

    async def list(
        self,
        caller: Principal,
        project: str,
        *,
        start: int | None = None,
        limit: int | None = None,
        details: bool = False,
    ) -> UserPage:
        """As ``Users.list``. Raises NotFound."""
        page = await self._users.list(project=project, start=start, limit=limit, details=details)
        return replace(page, users=[seen_by(caller, user, project) for user in page.users])

    async def add(
        self, caller: Principal, project: str, name: str, roles: Sequence[str] = ()
    ) -> User:
        """Make a user a member. Raises NotFound, Conflict, InvalidArgument."""
        user = await self._users.get(name)
        self._check_no_member(user, project)
        entry = Membership(project, check_roles(roles))

        def change(user: User) -> User:
            self._check_no_member(user, project)
            return replace(user, memberships=(*user.memberships, entry))

        return await self._change(caller, "projects:addUser", project, name, change, entry.roles)

    async def remove(self, caller: Principal, project: str, name: str) -> None:
        """Access lists keep the user, to no effect. Raises NotFound, PermissionDenied."""

        def change(user: User) -> User:
            _check_member(user, project)
            kept = tuple(each for each in user.memberships if each.project != project)
            return replace(user, memberships=kept)

        await self._change(caller, "projects:removeUser", project, name, change)

    async def create(self, caller: Principal, project: str, name: str, wanted: UserChanges) -> User:
        """A new user, who is a member; of ``wanted`` only e-mail and roles in this project count.

        The answer is complete, token included, for any caller. Raises InvalidArgument,
        AlreadyExists.
        """
        await self._users.check_new_name(name)
        entry = Membership(project, check_roles(_roles_in(wanted, project) or ()))
        person = Person(email=wanted.person.email)
        check_person(person)
        user = replace(self._users.new(name, person), memberships=(entry,))
        user = await self._accounts.create_user(user, caller.uuid)
        given = audit.shown(roles=entry.roles)
        self._users.recorded(caller, "projects:createUser", f"{project}/{name}", given)
        return user

    async def update(self, caller: Principal, project: str, name: str, wanted: UserChanges) -> User:
        """Replace a member's roles. Raises NotFound, PermissionDenied, InvalidArgument."""
        user = await self._users.get(name)
        _check_member(user, project)
        roles = _roles_in(wanted, project)
        if roles is None:
            raise _not_a_member()
        entry = Membership(project, check_roles(roles))

        def change(user: User) -> User:
            _check_member(user, project)
            entries = [entry if each.project == project else each for each in user.memberships]
            return replace(user, memberships=tuple(entries))

        return await self._change(caller, "projects:updateUser", project, name, change, entry.roles)

    async def _change(
        self,
        caller: Principal,
        action: str,
        project: str,
        name: str,
        change: Callable[[User], User],
        roles: Sequence[str] = (),
    ) -> User:
        user = await self._accounts.change_user(name, change)
        self._users.recorded(caller, action, f"{project}/{name}", audit.shown(roles=roles))
        return seen_by(caller, (await self._users.details([user]))[0], project)

    @staticmethod
    def _check_no_member(user: User, project: str) -> None:
        if user.membership(project) is not None:
            raise Conflict("User is already a member of the project", info=ErrorInfo("CONFLICT"))


def _roles_in(wanted: UserChanges, project: str) -> Sequence[str] | None:
    """The roles of the entry for this project; None if there is none."""
    entries = (each.roles for each in wanted.memberships or () if each.project == project)
    return next(entries, None)


def _check_member(user: User, project: str) -> None:
    if user.membership(project) is None:
        raise _not_a_member()


def _not_a_member() -> PermissionDenied:
    return PermissionDenied(
        "Access to this resource is forbidden. User is not a member of the project"
    )
