"""google.iam.v1.IAMPolicy: translates, and decides nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from google.iam.v1 import iam_policy_pb2 as pb  # type: ignore[import-untyped]
from google.iam.v1 import policy_pb2
from google.type import expr_pb2  # type: ignore[import-untyped]

from ams_grpc.broker.access import Policies
from ams_grpc.broker.errors import invalid_argument
from ams_grpc.broker.iam import Binding, Condition, Policy
from ams_grpc.broker.names import ResourceName, parse_resource
from ams_grpc.services.frame import Context

Allowed = Callable[[Context, ResourceName, Sequence[str]], Awaitable[Sequence[str]]]
"""Those of some permissions on a resource that the caller has."""

_MASKABLE: Final = {"bindings", "etag", "version"}


class IamPolicy:
    """Policies of topics, subscriptions, snapshots and schemas."""

    def __init__(self, policies: Policies, allowed: Allowed | None = None) -> None:
        """``allowed`` knows what the caller may do; without it, everybody may do everything."""
        self._policies = policies
        self._allowed = allowed

    async def SetIamPolicy(
        self, request: pb.SetIamPolicyRequest, _context: Context
    ) -> policy_pb2.Policy:
        name = parse_resource(request.resource)
        mask = set(request.update_mask.paths) or _MASKABLE
        if not mask <= _MASKABLE:  # audit_configs among them: nothing is audited here
            raise invalid_argument("update_mask", field="update_mask")
        given = request.policy
        policy = await self._policies.set(
            name,
            [_binding(each) for each in given.bindings] if "bindings" in mask else None,
            version=given.version,
            etag=given.etag,
        )
        return _policy_pb(policy)

    async def GetIamPolicy(
        self, request: pb.GetIamPolicyRequest, _context: Context
    ) -> policy_pb2.Policy:
        name = parse_resource(request.resource)
        version = request.options.requested_policy_version
        return _policy_pb(await self._policies.get(name, version))

    async def TestIamPermissions(
        self, request: pb.TestIamPermissionsRequest, context: Context
    ) -> pb.TestIamPermissionsResponse:
        name = parse_resource(request.resource)
        if self._allowed is None:
            permissions = await self._policies.test(name, request.permissions)
        else:
            permissions = await self._allowed(context, name, request.permissions)
        return pb.TestIamPermissionsResponse(permissions=permissions)


def _binding(binding: policy_pb2.Binding) -> Binding:
    condition = binding.condition
    return Binding(
        binding.role,
        tuple(binding.members),
        Condition(condition.expression, condition.title, condition.description, condition.location)
        if binding.HasField("condition")
        else None,
    )


def _binding_pb(binding: Binding) -> policy_pb2.Binding:
    condition = binding.condition
    return policy_pb2.Binding(
        role=binding.role,
        members=binding.members,
        condition=None
        if condition is None
        else expr_pb2.Expr(
            expression=condition.expression,
            title=condition.title,
            description=condition.description,
            location=condition.location,
        ),
    )


def _policy_pb(policy: Policy) -> policy_pb2.Policy:
    return policy_pb2.Policy(
        version=policy.version, bindings=map(_binding_pb, policy.bindings), etag=policy.etag
    )
