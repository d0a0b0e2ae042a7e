"""Access to resources: setting, reading and asking for IAM policies.

A policy is kept for a resource's id, not its name: one that is deleted and created again starts
without. Policies are kept and shown here; whether they let a caller in is decided elsewhere
(``auth.authorization``), and only where callers are known.

Callers read, change and write back with the etag that they read; when somebody else was faster the
write is refused, and they begin again.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from ams_grpc.broker import iam
from ams_grpc.broker.errors import Aborted, NotFound, invalid_argument, not_found
from ams_grpc.broker.iam import Binding, Policy
from ams_grpc.broker.names import ResourceName
from ams_grpc.broker.ports import PolicyStore
from ams_grpc.broker.updates import until_unchanged


class Identified(Protocol):
    """A record of a resource."""

    @property
    def id(self) -> int: ...


Finder = Callable[[Any], Awaitable[Identified]]
"""Looks up a resource by its name; raises NotFound."""


class Policies:
    """The policies of all resources. ``finders`` has one entry for each kind of resource."""

    def __init__(self, store: PolicyStore, finders: Mapping[type[ResourceName], Finder]) -> None:
        self._store = store
        self._finders = finders

    async def get(self, name: ResourceName, version: int = 0) -> Policy:
        """The policy as a reader of ``version`` (0, 1 or 3) understands it.

        Raises InvalidArgument, NotFound.
        """
        iam.check_version(version, "options.requested_policy_version")
        policy = await self._store.policy(name.kind, await self._id_of(name))
        return policy if version == 3 else policy.without_conditions()

    async def set(
        self,
        name: ResourceName,
        bindings: Sequence[Binding] | None,
        *,
        version: int = 0,
        etag: bytes = b"",
    ) -> Policy:
        """Replace the policy; None leaves the bindings as they are. Returns the new policy.

        Without ``etag`` it overwrites whatever is there. Raises InvalidArgument; NotFound; Aborted
        when ``etag`` is not that of the present policy.
        """
        iam.check_version(version, "policy.version")
        iam.check_bindings(bindings or (), version)

        async def attempt() -> Policy:
            resource_id = await self._id_of(name)
            stored = await self._store.policy(name.kind, resource_id)
            if etag and etag != stored.etag:
                raise Aborted(_CONCURRENT)
            if etag and stored.is_conditional and version < 3:
                raise invalid_argument(
                    "policy.version must be 3, since the present policy has conditions",
                    field="policy.version",
                )
            policy = Policy(
                stored.bindings if bindings is None else tuple(bindings), secrets.token_bytes(9)
            )
            await self._store.set_policy(name.kind, resource_id, policy, instead_of=stored.etag)
            return policy

        if not etag:
            return await until_unchanged(name, attempt)
        try:
            return await attempt()
        except Aborted:
            raise Aborted(_CONCURRENT) from None

    async def test(self, name: ResourceName, permissions: Sequence[str]) -> Sequence[str]:
        """Those of ``permissions`` that an unknown caller has: all there are for such a resource.

        Raises InvalidArgument. Pub/Sub: on a missing resource nobody has any.
        """
        for permission in permissions:
            iam.check_permission(permission)
        try:
            await self._id_of(name)
        except NotFound:
            return ()
        return [each for each in permissions if each in iam.PERMISSIONS[name.kind]]

    async def _id_of(self, name: ResourceName) -> int:
        finder = self._finders.get(type(name))
        if finder is None:
            raise not_found(name)
        return (await finder(name)).id


_CONCURRENT: Final = (
    "There were concurrent policy changes. "
    "Please retry the whole read-modify-write with exponential backoff."
)
