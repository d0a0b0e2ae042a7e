"""What AMS asks of names, roles and memberships, in its words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields
from typing import Final

from ams_grpc.auth.ports import Accounts
from ams_grpc.auth.records import Membership, Person
from ams_grpc.auth.roles import check_role
from ams_grpc.broker.errors import InvalidArgument, NotFound

MAX_TEXT_CHARS: Final = 4096
"""Of each text that describes somebody or something: lists show many of them."""
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
        kept[each.project] = Membership(each.project, check_roles(each.roles))
    return tuple(kept.values())


def check_roles(roles: Sequence[str]) -> tuple[str, ...]:
    """The roles, each once. Raises InvalidArgument."""
    distinct = tuple(dict.fromkeys(roles))
    for role in distinct:
        check_role(role)
    return distinct


def check_person(person: Person) -> None:
    """Raises InvalidArgument."""
    for each in fields(person):
        check_text(getattr(person, each.name), each.name)


def check_text(text: str, name: str) -> None:
    """Raises InvalidArgument for a text that is too long."""
    if len(text) > MAX_TEXT_CHARS:
        raise InvalidArgument(f"Invalid {name}: it has more than {MAX_TEXT_CHARS} characters")


def no_user() -> NotFound:
    return NotFound("User doesn't exist")


def no_project() -> NotFound:
    return NotFound("project doesn't exist")
