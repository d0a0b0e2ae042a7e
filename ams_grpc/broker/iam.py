"""IAM policies as records: who may do what with a topic, a subscription, a snapshot or a schema.

Whoever sets or reads one goes through ``access``. An *etag* names one state of a policy.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ams_grpc.broker.errors import InvalidArgument, invalid_argument


@dataclass(frozen=True, slots=True)
class Condition:
    """When a binding holds: an expression of the Common Expression Language, which is kept."""

    expression: str
    title: str = ""
    description: str = ""
    location: str = ""


@dataclass(frozen=True, slots=True)
class Binding:
    """Gives a role to members."""

    role: str
    members: tuple[str, ...] = ()
    condition: Condition | None = None


NO_POLICY_ETAG: Final = b"\x00\x00\x01"
"""Pub/Sub: names the state of a resource that was never given a policy."""


@dataclass(frozen=True, slots=True)
class Policy:
    """All bindings of a resource, in the order in which they were given."""

    bindings: tuple[Binding, ...] = ()
    etag: bytes = NO_POLICY_ETAG

    @property
    def is_conditional(self) -> bool:
        return any(binding.condition is not None for binding in self.bindings)

    @property
    def version(self) -> int:
        """IAM: 3 with conditions, 1 without; 0 for a resource that has no policy."""
        if self.etag == NO_POLICY_ETAG:
            return 0
        return 3 if self.is_conditional else 1

    def without_conditions(self) -> Policy:
        """The policy for readers that know of no conditions.

        IAM: a binding that has one shows a role that nobody can be given, so that no reader takes
        it for an unconditional one, or writes it back as such.
        """
        if not self.is_conditional:
            return self
        return replace(self, bindings=tuple(map(_without_condition, self.bindings)))


def _without_condition(binding: Binding) -> Binding:
    if binding.condition is None:
        return binding
    digest = hashlib.sha256(repr(binding.condition).encode()).hexdigest()
    return Binding(f"{binding.role}_withcond_{digest[:20]}", binding.members)


# --- what can be set ---------------------------------------------------------------------------

_PERMISSION: Final = re.compile(r"pubsub\.[A-Za-z]+\.[A-Za-z]+")


_VERBS: Final = {
    "topics": "create get list update delete publish attachSubscription detachSubscription",
    "subscriptions": "create get list update delete consume",
    "snapshots": "create get list update delete seek",
    "schemas": "create get list listRevisions commit rollback delete validate attach",
}
PERMISSIONS: Final[Mapping[str, frozenset[str]]] = {
    kind: frozenset(
        f"pubsub.{kind}.{verb}" for verb in (*verbs.split(), "getIamPolicy", "setIamPolicy")
    )
    for kind, verbs in _VERBS.items()
}
"""Pub/Sub: what can be allowed on a resource of each kind."""

ROLES: Final = frozenset(
    {
        *(
            f"roles/pubsub.{each}"
            for each in ("publisher", "subscriber", "viewer", "editor", "admin")
        ),
        *(f"roles/{each}" for each in ("viewer", "editor", "owner")),
    }
)
"""Pub/Sub: the roles that can be given."""

_EMAIL: Final = r"[^\s@:/]+@[^\s@:/?]+"
_USER: Final = re.compile(r"user:([A-Za-z0-9_-]+)")
_MEMBER: Final = re.compile(
    rf"""
    allUsers | allAuthenticatedUsers
    | {_USER.pattern}  # of this service
    | (?:user|group|serviceAccount):{_EMAIL}
    | serviceAccount:[^\s@:\[\]]+\[[^\s/\[\]]+/[^\s/\[\]]+\]  # of Kubernetes
    | domain:[^\s@:/]+
    | project(?:Owner|Editor|Viewer):[^\s/]+
    | (?:deleted:)?principal(?:Set)?://\S+
    | deleted:(?:user|group|serviceAccount):{_EMAIL}\?uid=[0-9]+
    """,
    re.VERBOSE,
)

MAX_MEMBERS: Final = 1500
"""IAM: in all bindings of a policy together, each as often as it is named."""
MAX_TEXT: Final = 250_000
"""Characters of all texts of a policy together."""


def user_member(name: str) -> str:
    """A user of this service as a member; those of Google have an ``@``."""
    return f"user:{name}"


def user_name(member: str) -> str | None:
    """The name of a user of this service; None for other members."""
    match = _USER.fullmatch(member)
    return None if match is None else match[1]


def check_permission(permission: str) -> None:
    """Raises InvalidArgument unless it looks like a permission of this service, and names one."""
    if _PERMISSION.fullmatch(permission) is None:
        raise invalid_argument(f"permissions: {permission}", field="permissions")


def check_version(version: int, field: str) -> None:
    """IAM: 0 (none given), 1 or 3. Raises InvalidArgument."""
    if version not in {0, 1, 3}:
        raise invalid_argument(f"{field} must be 0, 1 or 3", field=field)


def check_bindings(bindings: Sequence[Binding], version: int) -> None:
    """Raises InvalidArgument unless these can be the bindings of a policy of this version."""
    size = 0
    for binding in bindings:
        _check_binding(binding, version)
        size += sum(map(len, _texts(binding)))
    if max(len(bindings), sum(len(binding.members) for binding in bindings)) > MAX_MEMBERS:
        raise _invalid(f"a policy has at most {MAX_MEMBERS} bindings, and as many members")
    if size > MAX_TEXT:
        raise _invalid(f"a policy has at most {MAX_TEXT} characters")


def _check_binding(binding: Binding, version: int) -> None:
    if binding.role not in ROLES:
        raise _invalid(f"unknown role {binding.role}")
    for member in binding.members:
        if _MEMBER.fullmatch(member) is None or not member.isprintable():
            raise _invalid(f"unknown member {member}")
    if binding.condition is None:
        return
    if version != 3:
        raise _invalid("a binding with a condition needs policy.version 3")
    if not binding.condition.expression:
        raise _invalid("a condition needs an expression")


def _texts(binding: Binding) -> Sequence[str]:
    condition = binding.condition or Condition("")
    return (
        binding.role,
        *binding.members,
        condition.expression,
        condition.title,
        condition.description,
        condition.location,
    )


def _invalid(fault: str) -> InvalidArgument:
    return invalid_argument(f"policy.bindings: {fault}", field="policy.bindings")
