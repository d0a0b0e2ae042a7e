"""Users of the domain <-> messages of ams.v1."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ams_grpc.auth.records import Membership, Person, User
from ams_grpc.auth.users import UserPage, Users
from ams_grpc.pb.ams.v1 import accounts_pb2
from ams_grpc.services.ams.listing import page_token, seconds_pb


def user_pb(users: Users, user: User) -> accounts_pb2.User:
    """A user with whatever the record has: it was made for the caller's eyes."""
    return accounts_pb2.User(
        uuid=user.uuid,
        projects=map(_membership_pb, user.memberships),
        name=user.name,
        **person_fields(user.person),
        token=users.token(user),
        service_roles=user.service_roles,
        created_on=seconds_pb(user.created_us),
        modified_on=seconds_pb(user.modified_us),
        created_by=user.created_by,
    )


def page_pb(users: Users, page: UserPage, *, details: bool) -> accounts_pb2.UserPage:
    """AMS: lists show projects only with details."""
    shown = accounts_pb2.UserPage(
        users=(user_pb(users, each) for each in page.users),
        next_page_token=page_token(page.next_start),
        total_size=page.total,
    )
    if not details:
        for user in shown.users:
            user.ClearField("projects")
    return shown


def _membership_pb(membership: Membership) -> accounts_pb2.Membership:
    return accounts_pb2.Membership(
        project=membership.project,
        roles=membership.roles,
        topics=membership.topics,
        subscriptions=membership.subscriptions,
    )


def person(request: Any) -> Person:
    return Person(
        email=request.email,
        first_name=request.first_name,
        last_name=request.last_name,
        organization=request.organization,
        description=request.description,
    )


def person_fields(person: Person) -> dict[str, Any]:
    return {
        "email": person.email,
        "first_name": person.first_name,
        "last_name": person.last_name,
        "organization": person.organization,
        "description": person.description,
    }


def memberships(entries: Iterable[Any]) -> Sequence[Membership]:
    return [Membership(each.project, tuple(each.roles)) for each in entries]
