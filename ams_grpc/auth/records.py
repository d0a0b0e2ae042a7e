"""Projects, users, memberships and registrations as records.

``uuid`` is identity; names can change. ``position`` orders by creation. Moments are microseconds
since 1970 UTC. Tokens are in a record only as ``tokens.Vault`` seals them, and never in its repr.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Project:
    """AMS: a project. The same text is the project of a Pub/Sub name."""

    uuid: str
    name: str
    description: str = ""
    created_us: int = 0
    modified_us: int = 0
    created_by: str = ""
    """The present name of the user who did; empty when that user is gone."""
    position: int = 0


@dataclass(frozen=True, slots=True)
class Membership:
    """What a user is in one project, which is given by its present name.

    ``topics`` and ``subscriptions`` (ids, without the project) are those whose access lists have
    the user; only ``Users.details`` fills them in.
    """

    project: str
    roles: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    subscriptions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Person:
    """What is known about whoever is behind an account. Nothing of it is checked."""

    email: str = ""
    first_name: str = ""
    last_name: str = ""
    organization: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class SealedToken:
    """A token at rest: what it is looked up by, and its encrypted text."""

    digest: bytes = field(repr=False)
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class User:
    """AMS: a user. ``memberships`` has at most one entry for a project."""

    uuid: str
    name: str
    token: SealedToken | None = field(repr=False)
    """None: not for the eyes of whoever asked."""
    person: Person = field(default_factory=Person)
    service_roles: tuple[str, ...] = ()
    memberships: tuple[Membership, ...] = ()
    created_us: int = 0
    modified_us: int = 0
    created_by: str = ""
    """As in ``Project``."""
    position: int = 0

    def membership(self, project: str) -> Membership | None:
        """The user's entry for a project; None for one who is no member."""
        return next((each for each in self.memberships if each.project == project), None)


class RegistrationStatus(StrEnum):
    PENDING = "pending"
    ACCEPTED = "accepted"
    DECLINED = "declined"


@dataclass(frozen=True, slots=True)
class Registration:
    """AMS: a request for an account. The activation token goes with the decision."""

    uuid: str
    name: str
    person: Person
    activation_token: SealedToken | None = field(repr=False)
    status: RegistrationStatus = RegistrationStatus.PENDING
    decline_comment: str = ""
    registered_us: int = 0
    modified_us: int = 0
    modified_by: str = ""
    """As ``created_by`` of a project."""
    position: int = 0
