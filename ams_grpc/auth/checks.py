"""What AMS asks of names, roles and memberships, in its words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from ams_grpc.auth.ports import Accounts
from ams_grpc.auth.records import Membership
from ams_grpc.auth.roles import check_role
from ams_grpc.broker.errors import InvalidArgument, NotFound

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,255}")


def check_name(name: str, variable: str) -> None:
    """AMS: the pattern of every name; 255 characters are this service's limit.

    Raises InvalidArgument.
    """
    if _NAME.fullmatch(name) is None:
        raise InvalidArgument(f"Invalid {variable} name")


async def check_memberships(
    accounts: Accounts, memberships: Sequence[Membership]
) -> tuple[Membership, ...]:
    """AMS: the ``projects`` of a new or changed user; entries without a project are skipped.

    Raises InvalidArgument.
    """
    kept: dict[str, Membership] = {}
    for each in memberships:
        if not each.project:
            continue
        if each.project in kept:
            raise InvalidArgument(f"duplicate reference of project {each.project}")
        if await accounts.project(each.project) is None:
            raise InvalidArgument(f"invalid project: {each.project}")
        check_roles(each.roles)
        kept[each.project] = Membership(each.project, each.roles)
    return tuple(kept.values())


def check_roles(roles: Sequence[str]) -> None:
    """Raises InvalidArgument."""
    for role in roles:
        check_role(role)


def no_user() -> NotFound:
    return NotFound("User doesn't exist")


def no_project() -> NotFound:
    return NotFound("project doesn't exist")
