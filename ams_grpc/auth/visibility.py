"""Whose lists show everything, and whose only what their access lists allow. For all doors.

AMS: publishers and consumers who are no administrators see what they are listed for.
"""

from __future__ import annotations

from collections.abc import Collection

from ams_grpc.auth.ports import Accounts
from ams_grpc.auth.principals import Principal
from ams_grpc.auth.roles import CONSUMER, PROJECT_ADMIN, PUBLISHER, SERVICE_ADMIN


class Visibility:
    """What callers see in lists of a project."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    async def topics(self, caller: Principal, project: str) -> Collection[str] | None:
        """Ids of topics; None: all."""
        return await self._listed(caller, project, "topics", PUBLISHER)

    async def subscriptions(self, caller: Principal, project: str) -> Collection[str] | None:
        """Ids of subscriptions; None: all."""
        return await self._listed(caller, project, "subscriptions", CONSUMER)

    async def _listed(
        self, caller: Principal, project: str, kind: str, role: str
    ) -> Collection[str] | None:
        held = caller.roles(project)
        if role not in held or not held.isdisjoint({PROJECT_ADMIN, SERVICE_ADMIN}):
            return None
        grants = await self._accounts.grants([project])
        return {each.id for each in grants if each.kind == kind and caller.uuid in each.users}
