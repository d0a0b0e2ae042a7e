"""Every route of AMS, and who may call it: the one table from which the tests of authorization are made.

Written down by hand, so that it can disagree with the protos and the code. Roles that are in brackets
are let in only from the resource's access list.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from tests.access_table import ROLES

__all__ = ["CALLS", "ROLES", "AmsCall"]

_SHORT: Final = {
    "SA": "service_admin",
    "PA": "project_admin",
    "P": "publisher",
    "C": "consumer",
    "PW": "push_worker",
    "M": "metrics_viewer",
    "N": "argo_api_authn",
    "R": "register_admin",
}

_TABLE: Final = """
ams:metrics                       GET     /metrics                                   SA PA M
ams:healthStatus                  GET     /status                                    *
ams:vaMetrics                     GET     /metrics/va_metrics                        SA PA M
users:byToken                     GET     /users:byToken/{token}                     SA PW
users:byUUID                      GET     /users:byUUID/{uuid}                       SA N
users:list                        GET     /users                                     SA PA
users:profile                     GET     /users/profile                             *
users:usageReport                 GET     /users/usageReport                         *
users:show                        GET     /users/{user}                              SA
users:refreshToken                POST    /users/{user}:refreshToken                 SA
users:create                      POST    /users/{user}                              SA
users:update                      PUT     /users/{user}                              SA
users:delete                      DELETE  /users/{user}                              SA
registrations:newUser             POST    /registrations                             SA R
registrations:acceptNewUser       POST    /registrations/{uuid}:accept               SA
registrations:declineNewUser      POST    /registrations/{uuid}:decline              SA
registrations:delete              DELETE  /registrations/{uuid}                      SA
registrations:show                GET     /registrations/{uuid}                      SA
registrations:list                GET     /registrations                             SA
projects:list                     GET     /projects                                  SA
projects:metrics                  GET     /projects/{project}:metrics                SA PA
projects:addUser                  POST    /projects/{project}/members/{user}:add     SA PA
projects:removeUser               POST    /projects/{project}/members/{user}:remove  SA PA
projects:showUser                 GET     /projects/{project}/members/{user}         SA PA
projects:createUser               POST    /projects/{project}/members/{user}         SA PA
projects:updateUser               PUT     /projects/{project}/members/{user}         SA PA
projects:listUsers                GET     /projects/{project}/members                SA PA
projects:show                     GET     /projects/{project}                        SA PA
projects:create                   POST    /projects/{project}                        SA
projects:update                   PUT     /projects/{project}                        SA PA
projects:delete                   DELETE  /projects/{project}                        SA PA
subscriptions:list                GET     .../subscriptions                          SA PA C
subscriptions:listByTopic         GET     .../topics/{topic}/subscriptions           SA PA
subscriptions:offsets             GET     .../subscriptions/{subscription}:offsets            SA PA C
subscriptions:timeToOffset        GET     .../subscriptions/{subscription}:timeToOffset       SA PA C
subscriptions:acl                 GET     .../subscriptions/{subscription}:acl                SA PA
subscriptions:metrics             GET     .../subscriptions/{subscription}:metrics            SA PA (C)
subscriptions:show                GET     .../subscriptions/{subscription}                    SA PA C PW
subscriptions:create              PUT     .../subscriptions/{subscription}                    SA PA
subscriptions:delete              DELETE  .../subscriptions/{subscription}                    SA PA
subscriptions:pull                POST    .../subscriptions/{subscription}:pull               SA PA (C) PW
subscriptions:acknowledge         POST    .../subscriptions/{subscription}:acknowledge        SA PA C PW
subscriptions:verifyPushEndpoint  POST    .../subscriptions/{subscription}:verifyPushEndpoint SA PA
subscriptions:modifyAckDeadline   POST    .../subscriptions/{subscription}:modifyAckDeadline  SA PA C
subscriptions:modifyPushConfig    POST    .../subscriptions/{subscription}:modifyPushConfig   SA PA
subscriptions:modifyOffset        POST    .../subscriptions/{subscription}:modifyOffset       SA PA C
subscriptions:modifyAcl           POST    .../subscriptions/{subscription}:modifyAcl          SA PA
topics:list                       GET     .../topics                                 SA PA P
topics:acl                        GET     .../topics/{topic}:acl                     SA PA
topics:metrics                    GET     .../topics/{topic}:metrics                 SA PA (P)
topics:show                       GET     .../topics/{topic}                         SA PA P
topics:create                     PUT     .../topics/{topic}                         SA PA
topics:delete                     DELETE  .../topics/{topic}                         SA PA
topics:publish                    POST    .../topics/{topic}:publish                 SA PA (P)
topics:modifyAcl                  POST    .../topics/{topic}:modifyAcl               SA PA
topics:attachSchema               POST    .../topics/{topic}:attachSchema            SA PA
topics:detachSchema               POST    .../topics/{topic}:detachSchema            SA PA
schemas:validateMessage           POST    .../schemas/{schema}:validate              SA PA
schemas:create                    POST    .../schemas/{schema}                       SA PA
schemas:show                      GET     .../schemas/{schema}                       SA PA
schemas:list                      GET     .../schemas                                SA PA
schemas:update                    PUT     .../schemas/{schema}                       SA PA
schemas:delete                    DELETE  .../schemas/{schema}                       SA PA
version:list                      GET     /version                                   *
"""


@dataclass(frozen=True, slots=True)
class AmsCall:
    """A route, and the roles that are let in. ``open``: everybody is."""

    name: str
    method: str
    path: str
    roles: frozenset[str]
    listed: frozenset[str]
    open: bool

    @property
    def in_project(self) -> bool:
        return "{project}" in self.path

    def of(self, project: str) -> str:
        """The path, for a project, with names of what there is not."""
        return re.sub(r"\{\w+\}", "none", self.path.replace("{project}", project))

    def code(self, role: str, *, is_service_role: bool, scope: str) -> int | None:
        """The refusal of a caller who holds just this role in a project; None: let in.

        The call concerns a topic or subscription that is missing, if any.
        ``scope``: the call concerns that project (own), another one, or one that is missing.
        """
        if self.open:
            return None
        creates = self.name == "projects:create"
        if scope == "missing" and self.in_project and not creates:
            return 404
        counts = is_service_role or (self.in_project and scope == "own")
        if not counts:
            return 401
        is_told = role in self.listed and not self.name.endswith(":metrics")  # what is missing
        return None if role in self.roles or is_told else 403


def _call(line: str) -> AmsCall:
    name, method, path, *roles = line.split()
    return AmsCall(
        name,
        method,
        path.replace("...", "/projects/{project}"),
        frozenset(_SHORT[role] for role in roles if role in _SHORT),
        frozenset(_SHORT[role.strip("()")] for role in roles if role.startswith("(")),
        "*" in roles,
    )


CALLS: Final = tuple(_call(line) for line in _TABLE.strip().splitlines())
