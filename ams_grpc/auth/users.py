"""Users: made, changed, looked at.

Who may call what is decided before (``authorization``); the checks here are AMS's own, in its
order. Whoever changes something says who did it, for the audit log and ``created_by``.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace

from ams_grpc.auth import audit
from ams_grpc.auth.checks import (
    check_memberships,
    check_name,
    check_person,
    check_roles,
    no_user,
)
from ams_grpc.auth.ports import Accounts, Clock
from ams_grpc.auth.principals import Principal
from ams_grpc.auth.records import Membership, Person, User
from ams_grpc.auth.tokens import Vault, is_plausible, new_token
from ams_grpc.broker.errors import AlreadyExists, InvalidArgument, NotFound


@dataclass(frozen=True, slots=True)
class UserChanges:
    """What shall be changed. Empty texts, and None, leave what there is."""

    name: str = ""
    person: Person = field(default_factory=Person)
    memberships: Sequence[Membership] | None = None
    service_roles: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class UserPage:
    """Users, newest first. ``next_start`` None: there are no more. ``total`` of all pages."""

    users: Sequence[User]
    next_start: int | None
    total: int


class Users:
    """All users. ``changed`` is called after each change, so that nobody works with old rights."""

    def __init__(
        self, accounts: Accounts, vault: Vault, clock: Clock, changed: Callable[[], None]
    ) -> None:
        self._accounts = accounts
        self._vault = vault
        self._clock = clock
        self._changed = changed

    # --- looking ---------------------------------------------------------------------------------

    async def get(self, name: str) -> User:
        """With the access lists that have the user. Raises NotFound."""
        return await self._found(await self._accounts.user(name))

    async def by_uuid(self, identity: str) -> User:
        """Raises NotFound."""
        return await self._found(await self._accounts.user_by_uuid(identity))

    async def by_token(self, token: str) -> User:
        """Raises NotFound."""
        if not is_plausible(token):
            raise no_user()
        return await self._found(await self._accounts.user_by_digest(self._vault.digest(token)))

    async def check_listed(self, project: str | None) -> None:
        """Whether users can be listed by this project, or by none. Raises NotFound."""
        if project is not None and await self._accounts.project(project) is None:
            raise NotFound("ProjectUUID doesn't exist")

    async def list(
        self,
        *,
        project: str | None = None,
        start: int | None = None,
        limit: int | None = None,
        details: bool = False,
    ) -> UserPage:
        """A page of at most ``limit`` users, of all or of those with an entry for a project.

        ``start`` is the ``next_start`` of the page before; ``details`` fills in access lists.
        Raises NotFound for the project.
        """
        await self.check_listed(project)
        found = await self._accounts.users(project, start, None if limit is None else limit + 1)
        page = found if limit is None else found[:limit]
        more = found[len(page)].position if len(found) > len(page) else None
        return UserPage(
            await self.details(page) if details else page,
            more,
            await self._accounts.count_users(project),
        )

    async def details(self, users: Sequence[User]) -> Sequence[User]:
        """The same, with the topics and subscriptions whose access lists have them."""
        projects = {each.project for user in users for each in user.memberships}
        listed: dict[tuple[str, str, str], list[str]] = {}
        for grant in await self._accounts.grants(projects) if projects else ():
            for identity in dict.fromkeys(grant.users):
                listed.setdefault((identity, grant.project, grant.kind), []).append(grant.id)

        def filled(user: User, membership: Membership) -> Membership:
            at = (user.uuid, membership.project)
            return replace(
                membership,
                topics=tuple(listed.get((*at, "topics"), ())),
                subscriptions=tuple(listed.get((*at, "subscriptions"), ())),
            )

        return [
            replace(user, memberships=tuple(filled(user, each) for each in user.memberships))
            for user in users
        ]

    def token(self, user: User) -> str:
        """The user's token in clear; empty if it was taken out of the record."""
        return "" if user.token is None else self._vault.open(user.token, user.uuid)

    # --- changing --------------------------------------------------------------------------------

    async def create(
        self, caller: Principal, name: str, wanted: UserChanges, *, token: str = ""
    ) -> User:
        """A new user, with a new token unless one is given.

        Raises InvalidArgument, AlreadyExists.
        """
        await self.check_new_name(name)
        memberships = await check_memberships(self._accounts, wanted.memberships or ())
        service_roles = check_roles(wanted.service_roles or ())
        check_person(wanted.person)
        user = self.new(name, wanted.person, token=token)
        user = replace(user, memberships=memberships, service_roles=service_roles)
        user = await self._accounts.create_user(user, caller.uuid)
        self.recorded(caller, "users:create", name, _rights(memberships, service_roles))
        return user

    async def update(self, caller: Principal, name: str, wanted: UserChanges) -> User:
        """Raises InvalidArgument, NotFound."""
        memberships = None
        if wanted.memberships is not None:
            memberships = await check_memberships(self._accounts, wanted.memberships)
        service_roles = check_roles(wanted.service_roles or ())
        check_person(wanted.person)
        if wanted.name:
            check_name(wanted.name, "user")

        def change(user: User) -> User:
            return replace(
                user,
                name=wanted.name or user.name,
                person=_merged(user.person, wanted.person),
                memberships=user.memberships if memberships is None else memberships,
                service_roles=user.service_roles if wanted.service_roles is None else service_roles,
                modified_us=self._clock.now_us(),
            )

        try:
            user = await self._accounts.change_user(name, change)
        except AlreadyExists:
            raise InvalidArgument("invalid user name change, name already exists") from None
        given = f"{audit.shown(name=wanted.name)} {_rights(memberships or (), service_roles)}"
        self.recorded(caller, "users:update", name, given.strip())
        return (await self.details([user]))[0]

    async def refresh_token(self, caller: Principal, name: str) -> User:
        """Give the user a new token; the old one is nobody's from now on. Raises NotFound."""
        token = new_token()

        def change(user: User) -> User:
            return replace(user, token=self._vault.seal(token, user.uuid))

        user = await self._accounts.change_user(name, change)
        self.recorded(caller, "users:refreshToken", name)
        return (await self.details([user]))[0]

    async def delete(self, caller: Principal, name: str) -> None:
        """Raises NotFound."""
        await self._accounts.delete_user(name)
        self.recorded(caller, "users:delete", name)

    # --- for the neighbours ----------------------------------------------------------------------

    async def check_new_name(self, name: str) -> None:
        """Raises InvalidArgument, AlreadyExists."""
        check_name(name, "user")
        if await self._accounts.user(name) is not None:
            raise AlreadyExists("User already exists")

    def new(self, name: str, person: Person, *, token: str = "") -> User:
        """A user without any rights, not stored yet."""
        identity, now_us = str(uuid.uuid4()), self._clock.now_us()
        sealed = self._vault.seal(token or new_token(), identity)
        return User(identity, name, sealed, person, created_us=now_us, modified_us=now_us)

    def recorded(self, caller: Principal, action: str, resource: str, given: str = "") -> None:
        """Something has changed: others must know."""
        self._changed()
        audit.record(caller, action, resource, given)

    async def _found(self, user: User | None) -> User:
        if user is None:
            raise no_user()
        return (await self.details([user]))[0]


def seen_by(caller: Principal, user: User, project: str | None = None) -> User:
    """AMS: the user as the caller may see it, on a path with or without a project."""
    if caller.sees_all:
        return user
    membership = user.membership(project) if project is not None else None
    return replace(
        user,
        token=None,
        created_by="",
        service_roles=(),
        memberships=() if membership is None else (membership,),
    )


def _rights(memberships: Sequence[Membership], service_roles: Sequence[str]) -> str:
    """For the audit log."""
    in_projects = [f"{each.project}:{'+'.join(each.roles)}" for each in memberships]
    return audit.shown(service_roles=service_roles, projects=in_projects)


def _merged(old: Person, new: Person) -> Person:
    given = {each.name: value for each in fields(new) if (value := getattr(new, each.name))}
    return replace(old, **given)
