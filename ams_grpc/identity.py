"""Accounts and rights, put together: for the server, and for commands on the database."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ams_grpc.auth.access_lists import AccessLists
from ams_grpc.auth.authentication import Authenticator
from ams_grpc.auth.authorization import Authorizer
from ams_grpc.auth.policies import PoliciesByName
from ams_grpc.auth.ports import Accounts, Clock, Housing
from ams_grpc.auth.principals import SHELL
from ams_grpc.auth.projects import Members, Projects
from ams_grpc.auth.registrations import Registrations
from ams_grpc.auth.roles import SERVICE_ADMIN
from ams_grpc.auth.tokens import SealedTexts, Vault, new_token
from ams_grpc.auth.users import UserChanges, Users
from ams_grpc.broker.access import Finder, Policies
from ams_grpc.broker.errors import AlreadyExists
from ams_grpc.broker.names import (
    ResourceName,
    SchemaName,
    SnapshotName,
    SubscriptionName,
    TopicName,
)
from ams_grpc.storage.storage import Storage

_FIRST_ADMIN: Final = "admin"
_OF_PUSHES: Final = "authorization headers of AMS pushes"
_log = logging.getLogger(__name__)


class NobodyHome:
    """Where nothing is kept in memory: implements ``auth.ports.Housing``."""

    async def moved(self, old: str, new: str, subscription_ids: Sequence[int]) -> None:
        """Nobody has to know."""

    async def removed(self, project: str, subscription_ids: Sequence[int]) -> None:
        """Nobody has to know."""


@dataclass(frozen=True, slots=True)
class Identity:
    """All that has to do with who calls and what they may do."""

    accounts: Accounts
    policies: Policies
    users: Users
    projects: Projects
    members: Members
    registrations: Registrations
    access_lists: AccessLists
    authenticator: Authenticator
    authorizer: Authorizer
    vault: Vault = field(repr=False)
    push_secrets: SealedTexts = field(repr=False)


def identity(storage: Storage, clock: Clock, housing: Housing) -> Identity:
    """Everything on one storage. ``housing`` hears of projects that move or go."""
    vault = Vault(storage.server_secret)
    accounts = storage.accounts
    finders = _finders(storage)
    policies = Policies(PoliciesByName(storage.policies, accounts), finders)
    authenticator = Authenticator(accounts, vault, clock.monotonic)
    authorizer = Authorizer(accounts, storage.policies, finders, clock.monotonic)

    def changed() -> None:
        authenticator.forget()
        authorizer.forget()

    users = Users(accounts, vault, clock, changed)
    return Identity(
        accounts=accounts,
        policies=policies,
        users=users,
        projects=Projects(accounts, clock, changed, housing),
        members=Members(accounts, users),
        registrations=Registrations(accounts, users, vault, clock),
        access_lists=AccessLists(policies, accounts, changed),
        authenticator=authenticator,
        authorizer=authorizer,
        vault=vault,
        push_secrets=SealedTexts(vault, _OF_PUSHES),
    )


def _finders(storage: Storage) -> Mapping[type[ResourceName], Finder]:
    return {
        TopicName: storage.catalog.topic,
        SubscriptionName: storage.catalog.subscription,
        SnapshotName: storage.catalog.snapshot,
        SchemaName: storage.schemas.schema,
    }


@dataclass(frozen=True, slots=True)
class FirstAdmin:
    """A service_admin who was made at the start. ``token`` empty: it need not be shown."""

    name: str
    token: str = field(default="", repr=False)


async def first_admin(
    identity: Identity, *, token: str = "", file: Path | None = None
) -> FirstAdmin | None:
    """Make a service_admin if there is none; None if there is one.

    The token is the given one, or a new one. It is written to ``file`` before the user is made, so
    that it cannot get lost. Raises OSError.
    """
    if await identity.accounts.has_service_admin():
        return None
    name, given = _FIRST_ADMIN, token
    namesake = await identity.accounts.user(name)
    if namesake is not None:
        if SERVICE_ADMIN in namesake.service_roles:
            return None
        name = f"{_FIRST_ADMIN}-{new_token()[:8]}"
    token = given or new_token()
    if file is not None:
        _write_private(file, token)
    try:
        await identity.users.create(
            SHELL, name, UserChanges(service_roles=(SERVICE_ADMIN,)), token=token
        )
    except AlreadyExists:  # another node was faster
        if file is not None:
            _remove(file)
        return None
    _log.warning("made the first service_admin, %s", name)
    return FirstAdmin(name, "" if given or file is not None else token)


def _remove(file: Path) -> None:
    file.unlink(missing_ok=True)


def _write_private(file: Path, text: str) -> None:
    """For the owner's eyes alone, also if the file was there before. On disk when this returns."""
    with open(file, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as stream:
        os.fchmod(stream.fileno(), 0o600)
        stream.write(f"{text}\n")
        stream.flush()
        os.fsync(stream.fileno())
