"""What the protos say of a method of ams.v1: what is done, and to what."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from google.api import annotations_pb2  # type: ignore[import-untyped]
from google.protobuf.descriptor import MethodDescriptor

from ams_grpc.auth.checks import check_name
from ams_grpc.broker.names import ResourceName, SubscriptionName, TopicName
from ams_grpc.pb.ams.v1 import options_pb2

_VARIABLE: Final = re.compile(r"\{([a-z_]+)\}")
_ROUTE: Final[Any] = options_pb2.route  # whose stub has another type than what indexes it
_VERBS: Final = ("get", "put", "post", "delete")


@dataclass(frozen=True, slots=True)
class Action:
    """An action: its name (``topics:publish``), and the fields of the request that are in its path.

    ``open``: everybody may call it; ``token``: but for those without one. ``changes``: it goes into
    the audit log.
    """

    name: str
    variables: tuple[str, ...]
    open: bool
    token: bool
    changes: bool

    def names(self, request: Any) -> tuple[str, ...]:
        """What the path names."""
        return tuple([getattr(request, each) for each in self.variables])

    def check_names(self, request: Any) -> None:
        """AMS: what the path names is looked at by the alphabet. Raises InvalidArgument."""
        for variable in sorted(self.variables):
            check_name(getattr(request, variable), variable.removesuffix("_id"))

    def project(self, request: Any) -> str | None:
        """The project that must exist for the call; None if it concerns none."""
        if "project" in self.variables and self.name != "projects:create":
            return str(request.project)
        return None

    def resource(self, request: Any) -> ResourceName | None:
        """The topic or subscription that the path names."""
        if "topic" in self.variables:
            return TopicName(request.project, request.topic)
        if "subscription" in self.variables:
            return SubscriptionName(request.project, request.subscription)
        return None

    def target(self, request: Any) -> str:
        """What the path names, for the audit log."""
        return "/".join(
            f"{each.removesuffix('_id')}s/{getattr(request, each)}" for each in self.variables
        )


@cache
def action_of(method: MethodDescriptor) -> Action:
    """The action that a method is."""
    options: Any = method.GetOptions()
    route: Any = options.Extensions[_ROUTE]
    rule: Any = options.Extensions[annotations_pb2.http]
    path = next((getattr(rule, verb) for verb in _VERBS if rule.HasField(verb)), "")
    return Action(
        route.name, tuple(_VARIABLE.findall(path)), route.open, route.token, route.changes
    )
