"""Registrations: requests for an account, filed by a front end, decided by an administrator."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace

from ams_grpc.auth.checks import check_person, check_text
from ams_grpc.auth.ports import Accounts, Clock
from ams_grpc.auth.principals import Principal
from ams_grpc.auth.records import Person, Registration, RegistrationStatus, User
from ams_grpc.auth.tokens import Vault, new_token
from ams_grpc.auth.users import Users
from ams_grpc.broker.errors import NotFound


class Registrations:
    """All registrations, whatever became of them."""

    def __init__(self, accounts: Accounts, users: Users, vault: Vault, clock: Clock) -> None:
        self._accounts = accounts
        self._users = users
        self._vault = vault
        self._clock = clock

    async def file(self, caller: Principal, name: str, person: Person) -> Registration:
        """A new request, which waits. Raises InvalidArgument, AlreadyExists."""
        await self._users.check_new_name(name)
        check_person(person)
        identity = str(uuid.uuid4())
        registration = Registration(
            identity,
            name,
            person,
            self._vault.seal(new_token(), identity),
            registered_us=self._clock.now_us(),
        )
        registration = await self._accounts.create_registration(registration)
        self._users.recorded(caller, "registrations:newUser", identity)
        return registration

    async def accept(self, caller: Principal, identity: str) -> User:
        """Make the user. Raises NotFound (also when it is decided), AlreadyExists."""
        registration = await self.pending(identity)
        await self._users.check_new_name(registration.name)
        user = self._users.new(registration.name, registration.person)
        await self._decide(caller, identity, RegistrationStatus.ACCEPTED, "", user)
        self._users.recorded(caller, "registrations:acceptNewUser", identity)
        return await self._users.by_uuid(user.uuid)

    async def decline(self, caller: Principal, identity: str, comment: str = "") -> None:
        """Raises NotFound, also when it is decided; InvalidArgument."""
        check_text(comment, "comment")
        await self._decide(caller, identity, RegistrationStatus.DECLINED, comment, None)
        self._users.recorded(caller, "registrations:declineNewUser", identity)

    async def get(self, identity: str) -> Registration:
        """Raises NotFound."""
        registration = await self._accounts.registration(identity)
        if registration is None:
            raise _no_registration()
        return registration

    async def pending(self, identity: str) -> Registration:
        """One that waits for its decision. Raises NotFound."""
        registration = await self.get(identity)
        _check_pending(registration)
        return registration

    async def list(self, *, activation_token: str = "", **filters: str) -> Sequence[Registration]:
        """Oldest first. Filters (name, status, email, organization) are exact; empty ones none."""
        wanted: dict[str, str | bytes] = {key: value for key, value in filters.items() if value}
        if activation_token:
            wanted["activation_digest"] = self._vault.digest(activation_token)
        return await self._accounts.registrations(wanted)

    async def delete(self, caller: Principal, identity: str) -> None:
        """Raises NotFound."""
        await self._accounts.delete_registration(identity)
        self._users.recorded(caller, "registrations:delete", identity)

    def activation_token(self, registration: Registration) -> str:
        """In clear; empty once it is decided."""
        token = registration.activation_token
        return "" if token is None else self._vault.open(token, registration.uuid)

    async def _decide(
        self,
        caller: Principal,
        identity: str,
        status: RegistrationStatus,
        comment: str,
        user: User | None,
    ) -> Registration:
        def change(registration: Registration) -> Registration:
            _check_pending(registration)
            return replace(
                registration,
                status=status,
                decline_comment=comment,
                activation_token=None,
                modified_us=self._clock.now_us(),
            )

        return await self._accounts.decide(identity, change, caller.uuid, user)


def _check_pending(registration: Registration) -> None:
    if registration.status is not RegistrationStatus.PENDING:
        raise _no_registration()


def _no_registration() -> NotFound:
    return NotFound("User registration doesn't exist")
