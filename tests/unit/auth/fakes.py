"""Accounts and policies in memory, as far as deciding needs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ams_grpc.auth.records import Project, User
from ams_grpc.broker.errors import StorageUnavailable, not_found
from ams_grpc.broker.iam import Policy
from ams_grpc.broker.names import ResourceName


class Clock:
    """Seconds, which the test moves."""

    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


class KnownAccounts:
    """Projects and tokens that exist. Counts what it is asked."""

    def __init__(self, *projects: str) -> None:
        self.names = set(projects)
        self.by_digest: dict[bytes, User] = {}
        self.asked = 0
        self.is_away = False
        self.meanwhile: Callable[[], None] = lambda: None
        """Happens after a user is read, and before its reader has it."""

    async def project(self, name: str) -> Project | None:
        self._visit()
        return Project(f"uuid of {name}", name) if name in self.names else None

    async def user_by_digest(self, digest: bytes) -> User | None:
        self._visit()
        found = self.by_digest.get(digest)
        self.meanwhile()
        return found

    def _visit(self) -> None:
        self.asked += 1
        if self.is_away:
            raise StorageUnavailable("away")


@dataclass(frozen=True)
class Identified:
    id: int


class KnownPolicies:
    """Policies of resources that exist, by name. Its finders know no others."""

    def __init__(self, policies: Mapping[ResourceName, Policy]) -> None:
        self._names = list(policies)
        self.by_name = dict(policies)
        self.asked = 0
        self.meanwhile: Callable[[], None] = lambda: None
        """Happens after a policy is read, and before its reader has it."""

    async def policy(self, _kind: str, resource_id: int) -> Policy:
        self.asked += 1
        found = self.by_name[self._names[resource_id]]
        self.meanwhile()
        return found

    async def set_policy(self, *_arguments: Any, **_options: Any) -> None:
        raise NotImplementedError

    async def find(self, name: ResourceName) -> Identified:
        if name not in self.by_name:
            raise not_found(name)
        return Identified(self._names.index(name))
