"""Users, projects and registrations: implements ``auth.ports.Accounts``.

Reads go to the readers, writes through the group commit. A change reads, changes and writes in one
transaction.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, Select, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from ams_grpc.auth.permissions import LIST_ROLES
from ams_grpc.auth.policies import stored_uuid
from ams_grpc.auth.ports import Grant
from ams_grpc.auth.records import (
    Membership,
    Person,
    Project,
    Registration,
    RegistrationStatus,
    SealedToken,
    User,
)
from ams_grpc.broker.errors import AlreadyExists, InvalidArgument, NotFound
from ams_grpc.storage import houses
from ams_grpc.storage.among import is_among
from ams_grpc.storage.commit import GroupCommit
from ams_grpc.storage.iam import bindings
from ams_grpc.storage.reading import Readers
from ams_grpc.storage.tables import (
    memberships,
    projects,
    registrations,
    subscription_policies,
    subscriptions,
    topic_policies,
    topics,
    users,
)

_LISTS: Final = ((topics, topic_policies), (subscriptions, subscription_policies))


class SqlAccounts:
    def __init__(self, readers: Readers, commits: GroupCommit) -> None:
        self._readers = readers
        self._commits = commits

    # --- users -----------------------------------------------------------------------------------

    async def user_by_digest(self, digest: bytes) -> User | None:
        return await self._user(_users().where(users.c.token_digest == digest))

    async def user(self, name: str) -> User | None:
        return await self._user(_users().where(users.c.name == name))

    async def user_by_uuid(self, uuid: str) -> User | None:
        return await self._user(_users().where(users.c.uuid == uuid))

    async def users(
        self, project: str | None, start: int | None, limit: int | None
    ) -> Sequence[User]:
        query = _of_project(_users(), project).order_by(users.c.id.desc()).limit(limit)
        if start is not None:
            query = query.where(users.c.id <= start)
        return await self._readers.run(partial(_read_users, query))

    async def count_users(self, project: str | None) -> int:
        query = _of_project(select(func.count()).select_from(users), project)
        return await self._readers.run(lambda connection: connection.execute(query).scalar_one())

    async def has_service_admin(self) -> bool:
        query = select(users.c.service_roles).where(users.c.service_roles.like('%"service_admin"%'))
        return await self._readers.run(
            lambda connection: connection.execute(query).first() is not None
        )

    async def names_of(self, uuids: Collection[str]) -> Mapping[str, str]:
        query = select(users.c.uuid, users.c.name).where(users.c.uuid.in_(uuids))
        return {row.uuid: row.name for row in await self._all(query)}

    async def uuids_of(self, names: Collection[str]) -> Mapping[str, str]:
        query = select(users.c.uuid, users.c.name).where(users.c.name.in_(names))
        return {row.name: row.uuid for row in await self._all(query)}

    async def members_of(self, project: str, names: Collection[str]) -> Collection[str]:
        query = _of_project(select(users.c.name), project).where(users.c.name.in_(names))
        return {row.name for row in await self._all(query)}

    async def create_user(self, user: User, created_by: str) -> User:
        return await self._commits.run(partial(_create_user, user, created_by))

    async def change_user(self, name: str, change: Callable[[User], User]) -> User:
        def apply(connection: Connection) -> User:
            query = _users().where(users.c.name == name).with_for_update(of=users)
            found = _read_users(query, connection)
            if not found:
                raise NotFound("User doesn't exist")
            old = found[0]
            new = change(old)
            try:
                connection.execute(
                    update(users).where(users.c.id == old.position).values(_user_row(new))
                )
            except IntegrityError:
                raise AlreadyExists("User already exists") from None
            if new.memberships != old.memberships:
                connection.execute(delete(memberships).where(memberships.c.user_id == old.position))
                _add_memberships(new, old.position, connection)
            return new

        return await self._commits.run(apply)

    async def delete_user(self, name: str) -> User:
        def apply(connection: Connection) -> User:
            found = _read_users(_users().where(users.c.name == name), connection)
            if not found:
                raise NotFound("User doesn't exist")
            connection.execute(delete(users).where(users.c.id == found[0].position))
            return found[0]

        return await self._commits.run(apply)

    async def grants(self, projects: Collection[str]) -> Sequence[Grant]:
        found: list[Grant] = []
        for resources, policies in _LISTS:
            query = (
                select(resources.c.project, resources.c.name, policies.c.bindings)
                .select_from(resources.join(policies))
                .where(
                    is_among(resources.c.project, projects),
                    resources.c.name.is_not(None),
                    policies.c.bindings.like('%"ams:%'),
                )
                .order_by(resources.c.id)
            )
            found += (_grant(resources.name, row) for row in await self._all(query))
        return found

    # --- projects --------------------------------------------------------------------------------

    async def project(self, name: str) -> Project | None:
        rows = await self._all(_projects().where(projects.c.name == name))
        return _project(rows[0]) if rows else None

    async def projects(self) -> Sequence[Project]:
        return [_project(row) for row in await self._all(_projects().order_by(projects.c.id))]

    async def create_project(self, project: Project, created_by: str) -> Project:
        row = _project_row(project) | {
            "uuid": project.uuid,
            "created_us": project.created_us,
            "created_by": created_by,
        }

        def apply(connection: Connection) -> Project:
            try:
                connection.execute(insert(projects), row)
            except IntegrityError:
                raise AlreadyExists("Project already exists") from None
            query = _projects().where(projects.c.name == project.name)
            return _project(connection.execute(query).one())

        return await self._commits.run(apply)

    async def change_project(
        self, name: str, change: Callable[[Project], Project], *, joins: bool
    ) -> tuple[Project, Sequence[int]]:
        def apply(connection: Connection) -> tuple[Project, Sequence[int]]:
            old = _stored_project(name, connection)
            new = change(old)
            try:
                connection.execute(
                    update(projects).where(projects.c.id == old.position).values(_project_row(new))
                )
                moved: Sequence[int] = ()
                if new.name != old.name:
                    if not joins and houses.is_inhabited(new.name, connection):
                        raise AlreadyExists("Project already exists")
                    moved = houses.move(old.name, new.name, connection)
            except IntegrityError:
                raise AlreadyExists("Project already exists") from None
            return new, moved

        return await self._commits.run(apply, first=partial(houses.lock, name))

    async def delete_project(self, name: str) -> Sequence[int]:
        def apply(connection: Connection) -> Sequence[int]:
            project = _stored_project(name, connection)
            connection.execute(delete(projects).where(projects.c.id == project.position))
            return houses.clear(name, connection)

        return await self._commits.run(apply, first=partial(houses.lock, name))

    # --- registrations ---------------------------------------------------------------------------

    async def registration(self, uuid: str) -> Registration | None:
        rows = await self._all(_registrations().where(registrations.c.uuid == uuid))
        return _registration(rows[0]) if rows else None

    async def registrations(self, filters: Mapping[str, str | bytes]) -> Sequence[Registration]:
        query = _registrations().order_by(registrations.c.id)
        for field, value in filters.items():
            query = query.where(registrations.c[field] == value)
        return [_registration(row) for row in await self._all(query)]

    async def create_registration(self, registration: Registration) -> Registration:
        row = _registration_row(registration) | {
            "uuid": registration.uuid,
            "name": registration.name,
            **asdict(registration.person),
            "registered_us": registration.registered_us,
            "modified_by": "",
        }
        await self._commits.run(lambda connection: connection.execute(insert(registrations), row))
        return registration

    async def decide(
        self,
        uuid: str,
        change: Callable[[Registration], Registration],
        decided_by: str,
        user: User | None,
    ) -> Registration:
        def apply(connection: Connection) -> Registration:
            query = _registrations().where(registrations.c.uuid == uuid)
            row = connection.execute(query.with_for_update(of=registrations)).one_or_none()
            if row is None:
                raise _no_registration()
            new = change(_registration(row))
            connection.execute(
                update(registrations)
                .where(registrations.c.id == row.id)
                .values(_registration_row(new) | {"modified_by": decided_by})
            )
            if user is not None:
                _create_user(user, decided_by, connection)
            return new

        return await self._commits.run(apply)

    async def delete_registration(self, uuid: str) -> None:
        def apply(connection: Connection) -> None:
            gone = delete(registrations).where(registrations.c.uuid == uuid)
            if connection.execute(gone).rowcount != 1:
                raise _no_registration()

        await self._commits.run(apply)

    # --- reading ---------------------------------------------------------------------------------

    async def _all(self, query: Select[Any]) -> Sequence[Any]:
        return await self._readers.run(lambda connection: connection.execute(query).all())

    async def _user(self, query: Select[Any]) -> User | None:
        found = await self._readers.run(partial(_read_users, query))
        return found[0] if found else None


# --- users ---------------------------------------------------------------------------------------


def _name_of(uuid: Any) -> Any:
    """The present name of whoever did something; NULL when that user is gone."""
    someone = users.alias("someone")
    return select(someone.c.name).where(someone.c.uuid == uuid).scalar_subquery()


def _users() -> Select[Any]:
    return select(users, _name_of(users.c.created_by).label("creator"))


def _of_project(query: Select[Any], project: str | None) -> Select[Any]:
    if project is None:
        return query
    return query.where(
        users.c.id.in_(
            select(memberships.c.user_id)
            .select_from(memberships.join(projects))
            .where(projects.c.name == project)
        )
    )


def _read_users(query: Select[Any], connection: Connection) -> list[User]:
    rows = connection.execute(query).all()
    entries: dict[int, list[Membership]] = {}
    of_users = (
        select(memberships, projects.c.name)
        .select_from(memberships.join(projects))
        .where(is_among(memberships.c.user_id, [row.id for row in rows]))
        .order_by(memberships.c.user_id, memberships.c.place)
    )
    for row in connection.execute(of_users) if rows else ():
        entry = Membership(row.name, tuple(json.loads(row.roles)))
        entries.setdefault(row.user_id, []).append(entry)
    return [
        User(
            uuid=row.uuid,
            name=row.name,
            token=SealedToken(bytes(row.token_digest), bytes(row.sealed_token)),
            person=_person(row),
            service_roles=tuple(json.loads(row.service_roles)),
            memberships=tuple(entries.get(row.id, ())),
            created_us=row.created_us,
            modified_us=row.modified_us,
            created_by=row.creator or "",
            position=row.id,
        )
        for row in rows
    ]


def _create_user(user: User, created_by: str, connection: Connection) -> User:
    row = _user_row(user) | {
        "uuid": user.uuid,
        "created_us": user.created_us,
        "created_by": created_by,
    }
    try:
        user_id = connection.execute(insert(users).returning(users.c.id), row).scalar_one()
    except IntegrityError:
        raise AlreadyExists("User already exists") from None
    _add_memberships(user, user_id, connection)
    return _read_users(_users().where(users.c.id == user_id), connection)[0]


def _add_memberships(user: User, user_id: int, connection: Connection) -> None:
    for place, each in enumerate(user.memberships):
        project_id = houses.held(each.project, connection)
        if project_id is None:
            raise InvalidArgument(f"invalid project: {each.project}")
        row = {
            "user_id": user_id,
            "project_id": project_id,
            "place": place,
            "roles": json.dumps(each.roles),
        }
        connection.execute(insert(memberships), row)


def _user_row(user: User) -> dict[str, Any]:
    """What can change. Whoever writes has read the whole record."""
    token = user.token
    assert token is not None  # noqa: S101 - only what is shown has none
    return {
        "name": user.name,
        **asdict(user.person),
        "service_roles": json.dumps(user.service_roles),
        "token_digest": token.digest,
        "sealed_token": token.sealed,
        "modified_us": user.modified_us,
    }


def _person(row: Any) -> Person:
    return Person(row.email, row.first_name, row.last_name, row.organization, row.description)


def _grant(kind: str, row: Any) -> Grant:
    listed = [
        uuid
        for each in bindings(row.bindings)
        if each.role == LIST_ROLES[kind] and each.condition is None
        for member in each.members
        if (uuid := stored_uuid(member)) is not None
    ]
    return Grant(row.project, kind, row.name.rpartition("/")[2], tuple(listed))


# --- projects and registrations ------------------------------------------------------------------


def _projects() -> Select[Any]:
    return select(projects, _name_of(projects.c.created_by).label("creator"))


def _stored_project(name: str, connection: Connection) -> Project:
    query = _projects().where(projects.c.name == name).with_for_update(of=projects)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound("project doesn't exist")
    return _project(row)


def _project(row: Any) -> Project:
    return Project(
        row.uuid,
        row.name,
        row.description,
        row.created_us,
        row.modified_us,
        row.creator or "",
        row.id,
    )


def _project_row(project: Project) -> dict[str, Any]:
    return {
        "name": project.name,
        "description": project.description,
        "modified_us": project.modified_us,
    }


def _registrations() -> Select[Any]:
    return select(registrations, _name_of(registrations.c.modified_by).label("decider"))


def _registration(row: Any) -> Registration:
    token = None
    if row.sealed_activation_token is not None:
        token = SealedToken(bytes(row.activation_digest), bytes(row.sealed_activation_token))
    return Registration(
        uuid=row.uuid,
        name=row.name,
        person=_person(row),
        activation_token=token,
        status=RegistrationStatus(row.status),
        decline_comment=row.decline_comment,
        registered_us=row.registered_us,
        modified_us=row.modified_us,
        modified_by=row.decider or "",
        position=row.id,
    )


def _registration_row(registration: Registration) -> dict[str, Any]:
    token = registration.activation_token
    return {
        "status": registration.status.value,
        "activation_digest": None if token is None else token.digest,
        "sealed_activation_token": None if token is None else token.sealed,
        "decline_comment": registration.decline_comment,
        "modified_us": registration.modified_us,
    }


def _no_registration() -> NotFound:
    return NotFound("User registration doesn't exist")
