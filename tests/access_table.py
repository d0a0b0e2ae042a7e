"""Who may call what: the one table from which the tests of authorization are made.

Written down by hand from what the roles promise, so that it can disagree with the code. Requests
are dictionaries, in which ``{p}`` stands for a project: the tests build messages of them with
whatever protobuf modules their process has.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

ROLES: Final = (
    "service_admin",
    "project_admin",
    "publisher",
    "consumer",
    "push_worker",
    "metrics_viewer",
    "argo_api_authn",
    "register_admin",
    "admin_viewer",
)

_ADMINS: Final = frozenset({"service_admin", "project_admin"})
_PUBLISHERS: Final = _ADMINS | {"publisher"}
_CONSUMERS: Final = _ADMINS | {"consumer"}
_READERS_OF_SUBSCRIPTIONS: Final = _CONSUMERS | {"push_worker"}


DENIED: Final = ("PERMISSION_DENIED", "User not authorized to perform this action.")
NO_PROJECT: Final = ("NOT_FOUND", "Resource not found (resource={project}).")
REACHED: Final = frozenset(
    {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION"}
)
"""How calls end that a method itself has answered."""


@dataclass(frozen=True, slots=True)
class Call:
    """A method, a request, and the roles of a project that are let in.

    ``listed``: the role that is let in only from the resource's access list.
    """

    method: str
    request: dict[str, Any]
    roles: frozenset[str]
    listed: str = ""

    def of(self, project: str) -> dict[str, Any]:
        """The request for a project."""
        made: dict[str, Any] = json.loads(json.dumps(self.request).replace("{p}", project))
        return made

    def refusal(
        self, role: str, project: str, *, is_service_role: bool, scope: str
    ) -> tuple[str, str] | None:
        """Code and text for a caller who holds just this role; None: let in.

        ``scope``: ``project`` is where the role is held (own), another one, or missing.
        """
        if self.id == "TestIamPermissions":  # it answers what the caller may do
            return None
        if is_service_role and scope == "missing" and role in self.roles | {self.listed}:
            return NO_PROJECT[0], NO_PROJECT[1].format(project=project)
        counts = scope == "own" or (is_service_role and scope == "other")
        return None if counts and role in self.roles else DENIED

    @property
    def id(self) -> str:
        return self.method.rpartition("/")[2]


_TOPIC: Final = "projects/{p}/topics/orders"
_SUBSCRIPTION: Final = "projects/{p}/subscriptions/billing"
_SNAPSHOT: Final = "projects/{p}/snapshots/before"
_SCHEMA: Final = "projects/{p}/schemas/order"
_PROJECT: Final = "projects/{p}"
_PUBSUB: Final = "google.pubsub.v1"
_IAM: Final = "google.iam.v1.IAMPolicy"

CALLS: Final = (
    Call(f"{_PUBSUB}.Publisher/CreateTopic", {"name": _TOPIC}, _ADMINS),
    Call(f"{_PUBSUB}.Publisher/UpdateTopic", {"topic": {"name": _TOPIC}}, _ADMINS),
    Call(
        f"{_PUBSUB}.Publisher/Publish",
        {"topic": _TOPIC, "messages": [{"data": "eA=="}]},
        _ADMINS,
        listed="publisher",
    ),
    Call(f"{_PUBSUB}.Publisher/GetTopic", {"topic": _TOPIC}, _PUBLISHERS),
    Call(f"{_PUBSUB}.Publisher/ListTopics", {"project": _PROJECT}, _PUBLISHERS),
    Call(f"{_PUBSUB}.Publisher/ListTopicSubscriptions", {"topic": _TOPIC}, _ADMINS),
    Call(f"{_PUBSUB}.Publisher/ListTopicSnapshots", {"topic": _TOPIC}, _ADMINS),
    Call(f"{_PUBSUB}.Publisher/DetachSubscription", {"subscription": _SUBSCRIPTION}, _ADMINS),
    Call(f"{_PUBSUB}.Publisher/DeleteTopic", {"topic": _TOPIC}, _ADMINS),
    Call(
        f"{_PUBSUB}.Subscriber/CreateSubscription",
        {"name": _SUBSCRIPTION, "topic": _TOPIC},
        _ADMINS,
    ),
    Call(
        f"{_PUBSUB}.Subscriber/GetSubscription",
        {"subscription": _SUBSCRIPTION},
        _READERS_OF_SUBSCRIPTIONS,
    ),
    Call(
        f"{_PUBSUB}.Subscriber/UpdateSubscription",
        {"subscription": {"name": _SUBSCRIPTION, "topic": _TOPIC}},
        _ADMINS,
    ),
    Call(f"{_PUBSUB}.Subscriber/ListSubscriptions", {"project": _PROJECT}, _CONSUMERS),
    Call(
        f"{_PUBSUB}.Subscriber/ModifyAckDeadline",
        {"subscription": _SUBSCRIPTION, "ackIds": ["x"]},
        _CONSUMERS,
    ),
    Call(
        f"{_PUBSUB}.Subscriber/Acknowledge",
        {"subscription": _SUBSCRIPTION, "ackIds": ["x"]},
        _READERS_OF_SUBSCRIPTIONS,
    ),
    Call(
        f"{_PUBSUB}.Subscriber/Pull",
        {"subscription": _SUBSCRIPTION, "maxMessages": 1, "returnImmediately": True},
        _ADMINS | {"push_worker"},
        listed="consumer",
    ),
    Call(
        f"{_PUBSUB}.Subscriber/StreamingPull",
        {"subscription": _SUBSCRIPTION, "streamAckDeadlineSeconds": 10},
        _ADMINS | {"push_worker"},
        listed="consumer",
    ),
    Call(
        f"{_PUBSUB}.Subscriber/ModifyPushConfig",
        {"subscription": _SUBSCRIPTION, "pushConfig": {}},
        _ADMINS,
    ),
    Call(
        f"{_PUBSUB}.Subscriber/Seek",
        {"subscription": _SUBSCRIPTION, "time": "2030-01-01T00:00:00Z"},
        _CONSUMERS,
    ),
    Call(
        f"{_PUBSUB}.Subscriber/CreateSnapshot",
        {"name": _SNAPSHOT, "subscription": _SUBSCRIPTION},
        _ADMINS,
    ),
    Call(f"{_PUBSUB}.Subscriber/GetSnapshot", {"snapshot": _SNAPSHOT}, _READERS_OF_SUBSCRIPTIONS),
    Call(f"{_PUBSUB}.Subscriber/ListSnapshots", {"project": _PROJECT}, _CONSUMERS),
    Call(f"{_PUBSUB}.Subscriber/UpdateSnapshot", {"snapshot": {"name": _SNAPSHOT}}, _ADMINS),
    Call(f"{_PUBSUB}.Subscriber/DeleteSnapshot", {"snapshot": _SNAPSHOT}, _ADMINS),
    Call(f"{_PUBSUB}.Subscriber/DeleteSubscription", {"subscription": _SUBSCRIPTION}, _ADMINS),
    Call(f"{_PUBSUB}.SchemaService/CreateSchema", {"parent": _PROJECT}, _ADMINS),
    Call(f"{_PUBSUB}.SchemaService/GetSchema", {"name": _SCHEMA}, _ADMINS),
    Call(f"{_PUBSUB}.SchemaService/ListSchemas", {"parent": _PROJECT}, _ADMINS),
    Call(f"{_PUBSUB}.SchemaService/ListSchemaRevisions", {"name": _SCHEMA}, _ADMINS),
    Call(f"{_PUBSUB}.SchemaService/CommitSchema", {"name": _SCHEMA}, _ADMINS),
    Call(f"{_PUBSUB}.SchemaService/RollbackSchema", {"name": _SCHEMA}, _ADMINS),
    Call(f"{_PUBSUB}.SchemaService/DeleteSchemaRevision", {"name": f"{_SCHEMA}@12345678"}, _ADMINS),
    Call(f"{_PUBSUB}.SchemaService/DeleteSchema", {"name": _SCHEMA}, _ADMINS),
    Call(f"{_PUBSUB}.SchemaService/ValidateSchema", {"parent": _PROJECT}, _ADMINS),
    Call(
        f"{_PUBSUB}.SchemaService/ValidateMessage", {"parent": _PROJECT, "name": _SCHEMA}, _ADMINS
    ),
    Call(f"{_IAM}/SetIamPolicy", {"resource": _TOPIC, "policy": {}}, _ADMINS),
    Call(f"{_IAM}/GetIamPolicy", {"resource": _SUBSCRIPTION}, _ADMINS),
    Call(f"{_IAM}/TestIamPermissions", {"resource": _TOPIC}, frozenset(ROLES)),
)
