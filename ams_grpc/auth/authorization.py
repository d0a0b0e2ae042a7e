"""May this caller do that? One answer for all doors.

Either a role of the caller includes the action (``roles.MATRIX``), or a binding of the resource's
IAM policy gives the caller the permission. Publishers and consumers need a binding in any case:
that is their access list.

A binding names a user (``user:NAME``), and then counts as long as that user is a member of the
project, or everybody who is authenticated (``allAuthenticatedUsers``, ``allUsers``). One with a
condition never counts, since conditions are not evaluated. E-mail addresses of users are
checked by nobody, so members that are given by theirs are nobody here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from ams_grpc.auth import roles
from ams_grpc.auth.authentication import REMEMBERED_S
from ams_grpc.auth.memory import Memory
from ams_grpc.auth.permissions import ACTION_OF, IAM_ROLES
from ams_grpc.auth.policies import stored_member
from ams_grpc.auth.ports import Accounts
from ams_grpc.auth.principals import Principal
from ams_grpc.broker import iam
from ams_grpc.broker.access import Finder
from ams_grpc.broker.errors import (
    NotFound,
    PermissionDenied,
    Unauthenticated,
    not_authorized,
    not_found,
)
from ams_grpc.broker.iam import Policy
from ams_grpc.broker.names import ResourceName
from ams_grpc.broker.ports import PolicyStore

_EVERYBODY: Final = frozenset({"allUsers", "allAuthenticatedUsers"})


@dataclass(frozen=True, slots=True)
class ProjectName:
    """``projects/{project}``, where a call names no more than that."""

    project: str

    def __str__(self) -> str:
        return f"projects/{self.project}"


Target = ResourceName | ProjectName


class _Answer(Enum):
    YES = 1
    NO = 2
    NO_SUCH_PROJECT = 3
    """Told only to those who would be allowed in any project."""


class Authorizer:
    """Decides. ``policies`` has users by uuid; ``finders`` as for ``broker.access.Policies``.

    Decisions are remembered for some seconds; see ``forget``.
    """

    def __init__(
        self,
        accounts: Accounts,
        policies: PolicyStore,
        finders: Mapping[type[ResourceName], Finder],
        now: Callable[[], float],
    ) -> None:
        self._accounts = accounts
        self._policies = policies
        self._finders = finders
        self._now = now
        self._memories: list[Memory[Any, Any]] = []
        # By the principal itself, not its name: another one has other roles.
        self._decided: Memory[tuple[int, str, str, Target], tuple[_Answer, Principal]]
        self._listed: Memory[tuple[int, str, ResourceName], Principal]
        self._projects: Memory[str, bool]
        self._decided = self.memory(REMEMBERED_S)
        self._listed = self.memory(REMEMBERED_S)
        self._projects = self.memory(REMEMBERED_S)

    async def check(
        self, principal: Principal, permission: str, target: Target, action: str = ""
    ) -> None:
        """Raises PermissionDenied; NotFound for the project, to those who may know of it.

        ``action`` is that of AMS; without one, the action that stands for the permission.
        """
        key = (id(principal), permission, action, target)
        remembered = self._decided.get(key)
        if remembered is not None and remembered[1] is principal:
            answer = remembered[0]
        else:
            generation = self._decided.generation
            answer = await self._decide(
                principal, permission, target, action or ACTION_OF[permission]
            )
            self._decided.keep(key, (answer, principal), generation)
        if answer is _Answer.NO:
            raise not_authorized()
        if answer is _Answer.NO_SUCH_PROJECT:
            raise not_found(target.project)

    async def exists(self, project: str) -> bool:
        """Whether there is such a project."""
        if self._projects.get(project):
            return True
        generation = self._projects.generation
        if not await self._exists(project):
            return False
        self._projects.keep(project, True, generation)
        return True

    def forget(self) -> None:
        """Rights have changed, or resources have come or gone."""
        for memory in self._memories:
            memory.forget()

    def memory(self, seconds: float) -> Memory[Any, Any]:
        """One more memory of what is decided, which ``forget`` empties as well."""
        memory: Memory[Any, Any] = Memory(self._now, seconds)
        self._memories.append(memory)
        return memory

    async def permissions(
        self, principal: Principal, name: ResourceName, asked: Sequence[str]
    ) -> Sequence[str]:
        """Those of ``asked`` that the caller has. Raises InvalidArgument.

        Pub/Sub: on a missing resource nobody has any.
        """
        for permission in asked:
            iam.check_permission(permission)
        try:
            await self._id_of(name)
        except NotFound:
            return ()
        existing = iam.PERMISSIONS[name.kind]
        return [
            each for each in asked if each in existing and await self._has(principal, each, name)
        ]

    async def check_action(self, principal: Principal, action: str, project: str | None) -> None:
        """AMS: the role test of a route, without access lists.

        Raises Unauthenticated for a caller without any role there; PermissionDenied.
        """
        held = principal.roles(project)
        if not held:
            raise Unauthenticated("Unauthorized")
        if not roles.allow(held, action):
            raise PermissionDenied("Access to this resource is forbidden")

    async def check_list(self, principal: Principal, action: str, name: ResourceName) -> None:
        """AMS: the access list's test, for holders of the role that is subject to it.

        Raises PermissionDenied. AMS: when there is no such resource, too, but for some actions
        (``roles.FOUND_FIRST``), which raise NotFound then.
        """
        role = roles.LISTED.get(action)
        if role is None or role not in principal.roles(name.project):
            return
        key = (id(principal), action, name)
        if self._listed.get(key) is not principal:
            generation = self._listed.generation
            if not await self._is_bound(principal, _PERMISSION_OF_LISTS[name.kind], name):
                if action in roles.FOUND_FIRST:
                    await self._id_of(name)
                raise PermissionDenied("Access to this resource is forbidden")
            self._listed.keep(key, principal, generation)

    async def _has(self, principal: Principal, permission: str, name: ResourceName) -> bool:
        try:
            await self.check(principal, permission, name)
        except (PermissionDenied, NotFound):
            return False
        return True

    async def _decide(
        self, principal: Principal, permission: str, target: Target, action: str
    ) -> _Answer:
        held = principal.roles(target.project)
        if roles.allow(held, action):
            if not principal.is_member(target.project) and not await self._exists(target.project):
                return _Answer.NO_SUCH_PROJECT
            if roles.LISTED.get(action) not in held:
                return _Answer.YES
        if isinstance(target, ProjectName):
            return _Answer.NO
        return _Answer.YES if await self._is_bound(principal, permission, target) else _Answer.NO

    async def _exists(self, project: str) -> bool:
        return await self._accounts.project(project) is not None

    async def _is_bound(self, principal: Principal, permission: str, name: ResourceName) -> bool:
        try:
            policy = await self._policies.policy(name.kind, await self._id_of(name))
        except NotFound:
            return False
        return _binds(policy, principal, permission, name.project)

    async def _id_of(self, name: ResourceName) -> int:
        finder = self._finders.get(type(name))
        if finder is None:
            raise not_found(name)
        return (await finder(name)).id


_PERMISSION_OF_LISTS: Final = {
    "topics": "pubsub.topics.publish",
    "subscriptions": "pubsub.subscriptions.consume",
}


def _binds(policy: Policy, principal: Principal, permission: str, project: str) -> bool:
    counting = set(_EVERYBODY)
    if principal.uuid and (principal.is_member(project) or principal.service_roles):
        counting.add(stored_member(principal.uuid))
    return any(
        binding.condition is None
        and permission in IAM_ROLES.get(binding.role, ())
        and not counting.isdisjoint(binding.members)
        for binding in policy.bindings
    )
