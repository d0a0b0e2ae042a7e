"""AMS's access lists: the bindings of one role in a resource's IAM policy, seen as names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ams_grpc.auth import audit
from ams_grpc.auth.permissions import LIST_ROLES
from ams_grpc.auth.ports import Accounts
from ams_grpc.auth.principals import Principal
from ams_grpc.broker import iam
from ams_grpc.broker.access import Policies
from ams_grpc.broker.errors import InvalidArgument, NotFound
from ams_grpc.broker.iam import Binding, Policy
from ams_grpc.broker.names import ResourceName, SubscriptionName, TopicName
from ams_grpc.broker.updates import until_unchanged

MAX_USERS: Final = iam.MAX_MEMBERS


class AccessLists:
    """Of topics and subscriptions. ``policies`` has users by name; ``changed`` as for ``Users``."""

    def __init__(self, policies: Policies, accounts: Accounts, changed: Callable[[], None]) -> None:
        self._policies = policies
        self._accounts = accounts
        self._changed = changed

    async def get(self, name: TopicName | SubscriptionName) -> Sequence[str]:
        """Names of users, in the order of the last change. Raises NotFound."""
        policy = await self._policies.get(name, version=3)
        return [user for each in policy.bindings for user in _listed(each, name)]

    async def replace(
        self, caller: Principal, name: TopicName | SubscriptionName, users: Sequence[str]
    ) -> None:
        """Exactly these users, who are members (``check_members``). Raises NotFound."""
        await self._write(caller, name, lambda _old: users)

    async def check_members(self, project: str, users: Sequence[str]) -> None:
        """Raises NotFound for users who are no members of the project; InvalidArgument for a crowd."""
        if len(users) > MAX_USERS:
            raise InvalidArgument(f"An access list has at most {MAX_USERS} users")
        members = await self._accounts.members_of(project, set(users))
        missing = [each for each in users if each not in members]
        if missing:
            raise NotFound(f"User(s): {', '.join(missing)} do not exist")

    async def add(self, caller: Principal, name: TopicName | SubscriptionName, user: str) -> None:
        """This user, too. Raises NotFound for a user who is no member, and for the resource."""
        await self.check_members(name.project, [user])
        await self._write(caller, name, lambda old: old if user in old else [*old, user])

    async def remove(
        self, caller: Principal, name: TopicName | SubscriptionName, user: str
    ) -> None:
        """Not this user any more. Raises NotFound for the resource."""
        await self._write(caller, name, lambda old: [each for each in old if each != user])

    async def _write(
        self,
        caller: Principal,
        name: TopicName | SubscriptionName,
        change: Callable[[Sequence[str]], Sequence[str]],
    ) -> None:
        users: Sequence[str] = ()

        async def attempt() -> Policy:
            nonlocal users
            policy = await self._policies.get(name, version=3)
            old = [user for each in policy.bindings for user in _listed(each, name)]
            users = list(dict.fromkeys(change(old)))
            bindings = _with_list(policy.bindings, name, users)
            return await self._policies.set(name, bindings, version=3, etag=policy.etag)

        try:
            await until_unchanged(name, attempt)
        finally:
            self._changed()
        given = audit.shown(users=users) or "users="
        audit.record(caller, f"{name.kind}:modifyAcl", name, given)


def _is_list(binding: Binding, name: ResourceName) -> bool:
    return binding.role == LIST_ROLES[name.kind] and binding.condition is None


def _listed(binding: Binding, name: ResourceName) -> list[str]:
    if not _is_list(binding, name):
        return []
    return [user for member in binding.members if (user := iam.user_name(member)) is not None]


def _with_list(
    bindings: Sequence[Binding], name: ResourceName, users: Sequence[str]
) -> list[Binding]:
    """These bindings with these users for the list; its other members stay."""
    others = [each for each in bindings if not _is_list(each, name)]
    kept = [
        member
        for each in bindings
        if _is_list(each, name)
        for member in each.members
        if iam.user_name(member) is None
    ]
    members = (*kept, *map(iam.user_member, users))
    return [*others, Binding(LIST_ROLES[name.kind], members)] if members else others
