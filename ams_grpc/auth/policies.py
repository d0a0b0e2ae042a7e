"""Users in IAM policies: stored by uuid, shown by name.

An access list of AMS is the unconditional bindings of one role in the resource's policy, and a
user there is the member ``user:NAME``. What is stored is ``ams:UUID``, so that a new name shows at
once, and whoever gets the name of a deleted user does not get that user's rights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from ams_grpc.auth.ports import Accounts
from ams_grpc.broker import iam
from ams_grpc.broker.errors import invalid_argument
from ams_grpc.broker.iam import Binding, Policy
from ams_grpc.broker.ports import PolicyStore

_STORED: Final = "ams:"


def stored_member(uuid: str) -> str:
    """How a user is stored as a member of a binding."""
    return _STORED + uuid


def stored_uuid(member: str) -> str | None:
    """The uuid of a user stored as a member; None for other members."""
    return member.removeprefix(_STORED) if member.startswith(_STORED) else None


class PoliciesByName:
    """Implements ``broker.ports.PolicyStore`` on another one, which has uuids."""

    def __init__(self, store: PolicyStore, accounts: Accounts) -> None:
        self._store = store
        self._accounts = accounts

    async def policy(self, kind: str, resource_id: int) -> Policy:
        policy = await self._store.policy(kind, resource_id)
        uuids = {uuid for member in _members(policy) if (uuid := stored_uuid(member))}
        if not uuids:
            return policy
        names = await self._accounts.names_of(uuids)
        shown = {stored_member(uuid): iam.user_member(name) for uuid, name in names.items()}
        gone = {stored_member(uuid) for uuid in uuids - names.keys()}
        bindings = (_renamed(binding, shown, gone) for binding in policy.bindings)
        return replace(policy, bindings=tuple(filter(None, bindings)))

    async def set_policy(
        self, kind: str, resource_id: int, policy: Policy, *, instead_of: bytes
    ) -> None:
        """Raises also InvalidArgument for users who do not exist."""
        names = {name for member in _members(policy) if (name := iam.user_name(member))}
        if names:
            uuids = await self._accounts.uuids_of(names)
            for name in sorted(names - uuids.keys()):
                raise invalid_argument(
                    f"policy.bindings: unknown member {iam.user_member(name)}",
                    field="policy.bindings",
                )
            stored = {iam.user_member(name): stored_member(uuid) for name, uuid in uuids.items()}
            bindings = (_renamed(binding, stored, set()) for binding in policy.bindings)
            policy = replace(policy, bindings=tuple(filter(None, bindings)))
        await self._store.set_policy(kind, resource_id, policy, instead_of=instead_of)


def _members(policy: Policy) -> Iterable[str]:
    return (member for binding in policy.bindings for member in binding.members)


def _renamed(binding: Binding, names: Mapping[str, str], gone: set[str]) -> Binding | None:
    """With other names for some members; None if those that are gone were all there were."""
    members = tuple(names.get(each, each) for each in binding.members if each not in gone)
    return replace(binding, members=members) if members or not binding.members else None
