"""What accounts need from outside. ``storage`` implements it.

Every method raises StorageUnavailable when the database does not answer. A ``change`` is called
inside the writing transaction, on another thread, with what is stored; it returns what shall be,
or raises, and then nothing changes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ams_grpc.auth.records import Project, Registration, User


@dataclass(frozen=True, slots=True)
class Grant:
    """A topic or subscription of a project, and the uuids of its access list, in their order."""

    project: str
    kind: str
    id: str
    users: tuple[str, ...]


class Clock(Protocol):
    """Seconds that never go back, and microseconds since 1970 UTC."""

    def monotonic(self) -> float: ...

    def now_us(self) -> int: ...


class Accounts(Protocol):
    """Users, projects and registrations as stored."""

    # --- users

    async def user_by_digest(self, digest: bytes) -> User | None: ...

    async def user(self, name: str) -> User | None: ...

    async def user_by_uuid(self, uuid: str) -> User | None: ...

    async def users(
        self, project: str | None, start: int | None, limit: int | None
    ) -> Sequence[User]:
        """Newest first, from the position ``start`` on; those with an entry for ``project``."""
        ...

    async def count_users(self, project: str | None) -> int: ...

    async def has_service_admin(self) -> bool: ...

    async def names_of(self, uuids: Collection[str]) -> Mapping[str, str]:
        """Names by uuid, of those that exist."""
        ...

    async def uuids_of(self, names: Collection[str]) -> Mapping[str, str]:
        """Uuids by name, of those that exist."""
        ...

    async def members_of(self, project: str, names: Collection[str]) -> Collection[str]:
        """Those of these users who have an entry for the project."""
        ...

    async def create_user(self, user: User, created_by: str) -> User:
        """``created_by`` is a uuid.

        Raises AlreadyExists; InvalidArgument for a membership in a project that does not exist.
        """
        ...

    async def change_user(self, name: str, change: Callable[[User], User]) -> User:
        """Raises NotFound; AlreadyExists when the new name is taken; InvalidArgument as above."""
        ...

    async def delete_user(self, name: str) -> User:
        """Raises NotFound."""
        ...

    async def grants(self, projects: Collection[str]) -> Sequence[Grant]:
        """Access lists that are not empty, of all topics and subscriptions of these projects."""
        ...

    # --- projects

    async def project(self, name: str) -> Project | None: ...

    async def projects(self) -> Sequence[Project]:
        """Oldest first."""
        ...

    async def create_project(self, project: Project, created_by: str) -> Project:
        """Raises AlreadyExists."""
        ...

    async def change_project(
        self, name: str, change: Callable[[Project], Project], *, joins: bool
    ) -> tuple[Project, Sequence[int]]:
        """With a new name, all that is named by it is renamed, too.

        ``joins``: there may be something under the new name already, which the project takes over.
        Returns the ids of the subscriptions that this concerns. Raises NotFound, AlreadyExists.
        """
        ...

    async def delete_project(self, name: str) -> Sequence[int]:
        """With its topics, subscriptions, snapshots and schemas; returns the ids of its subscriptions.

        Raises NotFound.
        """
        ...

    # --- registrations

    async def registration(self, uuid: str) -> Registration | None: ...

    async def registrations(self, filters: Mapping[str, str | bytes]) -> Sequence[Registration]:
        """Oldest first; ``filters`` by field: name, status, email, organization, activation_digest."""
        ...

    async def create_registration(self, registration: Registration) -> Registration: ...

    async def decide(
        self,
        uuid: str,
        change: Callable[[Registration], Registration],
        decided_by: str,
        user: User | None,
    ) -> Registration:
        """``user``: created in the same transaction. Raises NotFound, AlreadyExists."""
        ...

    async def delete_registration(self, uuid: str) -> None:
        """Raises NotFound."""
        ...


class Housing(Protocol):
    """Whoever keeps things by the names of projects in memory."""

    async def moved(self, old: str, new: str, subscription_ids: Sequence[int]) -> None:
        """A project has a new name: what is known under the old one is no more."""
        ...

    async def removed(self, project: str, subscription_ids: Sequence[int]) -> None:
        """A project is gone, and all of its resources."""
        ...
