"""Who calls, as far as rights go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ams_grpc.auth.records import User
from ams_grpc.auth.roles import SERVICE_ADMIN


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller who is known. ``by_project``: roles by project, also where there are none."""

    uuid: str
    name: str
    service_roles: frozenset[str] = frozenset()
    by_project: Mapping[str, frozenset[str]] | None = None

    @classmethod
    def of(cls, user: User) -> Principal:
        return cls(
            user.uuid,
            user.name,
            frozenset(user.service_roles),
            {each.project: frozenset(each.roles) for each in user.memberships},
        )

    def roles(self, project: str | None = None) -> frozenset[str]:
        """AMS: the effective roles; without a project, and in others' projects, service roles."""
        own = (self.by_project or {}).get(project or "", frozenset())
        return own | self.service_roles

    def is_member(self, project: str) -> bool:
        """True with an entry for the project, be it without roles."""
        return project in (self.by_project or {})

    @property
    def sees_all(self) -> bool:
        """Whether the caller sees users complete, tokens included: as a service role alone.

        AMS takes service_admin as a project role for enough, which a project_admin can give to
        anybody: then anybody could be added to that project, and show their token.
        """
        return SERVICE_ADMIN in self.service_roles


SHELL = Principal("", "", frozenset({SERVICE_ADMIN}))
"""Whoever runs commands on the database itself."""
