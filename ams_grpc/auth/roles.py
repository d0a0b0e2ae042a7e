"""Roles, and what each may do: AMS's matrix as data. Actions carry the names of AMS's routes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from ams_grpc.broker.errors import InvalidArgument

SERVICE_ADMIN: Final = "service_admin"
PROJECT_ADMIN: Final = "project_admin"
PUBLISHER: Final = "publisher"
CONSUMER: Final = "consumer"

_OF_PROJECT_ADMINS: Final = {
    "ams": "metrics vaMetrics",
    "users": "list",
    "projects": (
        "metrics addUser removeUser showUser createUser updateUser listUsers show update delete"
    ),
    "subscriptions": (
        "list listByTopic offsets timeToOffset acl metrics show create delete pull acknowledge "
        "verifyPushEndpoint modifyAckDeadline modifyPushConfig modifyOffset modifyAcl"
    ),
    "topics": "list acl metrics show create delete publish modifyAcl attachSchema detachSchema",
    "schemas": "validateMessage create show list update delete",
}
_OF_SERVICE_ADMINS_ALONE: Final = {
    "ams": "healthStatus",
    "users": "byToken byUUID show refreshToken create update delete",
    "registrations": "newUser acceptNewUser declineNewUser delete show list",
    "projects": "list create",
}


def _actions(routes: Mapping[str, str]) -> frozenset[str]:
    return frozenset(f"{kind}:{verb}" for kind, verbs in routes.items() for verb in verbs.split())


MATRIX: Final[Mapping[str, frozenset[str]]] = {
    SERVICE_ADMIN: _actions(_OF_PROJECT_ADMINS) | _actions(_OF_SERVICE_ADMINS_ALONE),
    PROJECT_ADMIN: _actions(_OF_PROJECT_ADMINS),
    PUBLISHER: _actions({"topics": "list show metrics publish"}),
    CONSUMER: _actions(
        {
            "subscriptions": (
                "list show metrics pull acknowledge offsets timeToOffset modifyOffset "
                "modifyAckDeadline"
            )
        }
    ),
    "push_worker": _actions({"users": "byToken", "subscriptions": "show pull acknowledge"}),
    "metrics_viewer": _actions({"ams": "metrics vaMetrics"}),
    "argo_api_authn": _actions({"users": "byUUID"}),
    "register_admin": _actions({"registrations": "newUser"}),
    "admin_viewer": _actions({"ams": "healthStatus"}),
}
"""AMS: the role to route matrix, with the row for registrations:delete that was forgotten there."""

ACTIONS: Final = MATRIX[SERVICE_ADMIN]
"""All actions that need a role."""

LISTED: Final[Mapping[str, str]] = {
    "topics:publish": PUBLISHER,
    "topics:metrics": PUBLISHER,
    "subscriptions:pull": CONSUMER,
    "subscriptions:metrics": CONSUMER,
}
"""AMS: whoever holds this role, whatever else they hold, must be in the resource's access list."""

FOUND_FIRST: Final = frozenset({"topics:publish", "subscriptions:pull"})
"""AMS: of these, the actions that tell everybody that there is no such resource."""


def allow(roles: Iterable[str], action: str) -> bool:
    """True if one of the roles includes the action."""
    return any(action in MATRIX.get(role, ()) for role in roles)


def check_role(role: str) -> None:
    """Raises InvalidArgument for a role that there is not."""
    if role not in MATRIX:
        raise InvalidArgument(f"invalid role: {role}")
