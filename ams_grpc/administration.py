"""``ams-grpc admin``: accounts and rights from the shell, on the database itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ams_grpc.options import load, make_folder

if TYPE_CHECKING:
    from ams_grpc.auth.records import User
    from ams_grpc.broker.names import SubscriptionName, TopicName
    from ams_grpc.identity import Identity


@click.group()
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file with settings; AMS_CONFIG names one, too.",
)
@click.option("--data", type=Path, help="Folder of the SQLite database; default data.")
@click.option("--database-url", help="postgresql+psycopg://... or sqlite:///...")
@click.pass_context
def admin(context: click.Context, /, **flags: Any) -> None:
    """Projects, users, tokens and access lists, directly in the database.

    The name of a user or project has letters, digits, - and _. With SQLite the server must be
    stopped, since one process at a time can have the database. With PostgreSQL it may run, and
    knows of a change after five seconds.
    """
    context.obj = flags


# --- projects ------------------------------------------------------------------------------------


@admin.command()
@click.argument("project")
@click.option("--description", default="")
@click.pass_obj
def create_project(flags: dict[str, Any], project: str, description: str) -> None:
    """Make a project."""

    async def work(known: Identity) -> str:
        await known.projects.create(_shell(), project, description)
        return f"Created project {project}."

    _run(flags, work)


@admin.command()
@click.argument("project")
@click.argument("new_name")
@click.pass_obj
def rename_project(flags: dict[str, Any], project: str, new_name: str) -> None:
    """Rename a project, with its topics, subscriptions, snapshots and schemas."""

    async def work(known: Identity) -> str:
        await known.projects.update(_shell(), project, new_name=new_name)
        return f"Project {project} is now {new_name}."

    _run(flags, work)


@admin.command()
@click.argument("project")
@click.confirmation_option(prompt="This deletes all topics and subscriptions in it. Go on?")
@click.pass_obj
def delete_project(flags: dict[str, Any], project: str) -> None:
    """Delete a project, with its topics, subscriptions, snapshots and schemas."""

    async def work(known: Identity) -> str:
        await known.projects.delete(_shell(), project)
        return f"Deleted project {project}."

    _run(flags, work)


@admin.command()
@click.pass_obj
def list_projects(flags: dict[str, Any]) -> None:
    """Show all projects, one a line: name, description."""

    async def work(known: Identity) -> str:
        found = await known.projects.list()
        return "\n".join(f"{each.name}\t{each.description}".rstrip() for each in found)

    _run(flags, work)


# --- users ---------------------------------------------------------------------------------------


@admin.command()
@click.argument("user")
@click.option("--email", default="")
@click.option("--service-role", "service_roles", multiple=True, help="May be repeated.")
@click.option("--project", help="Make the user a member of it.")
@click.option("--role", "roles", multiple=True, help="In that project. May be repeated.")
@click.pass_obj
def create_user(
    flags: dict[str, Any],
    user: str,
    email: str,
    service_roles: Sequence[str],
    project: str | None,
    roles: Sequence[str],
) -> None:
    """Make a user, and show the token."""
    if roles and project is None:
        raise click.UsageError("--role needs --project")

    async def work(known: Identity) -> str:
        from ams_grpc.auth.records import Membership, Person
        from ams_grpc.auth.users import UserChanges

        entries = () if project is None else (Membership(project, tuple(roles)),)
        wanted = UserChanges(
            person=Person(email=email), memberships=entries, service_roles=service_roles
        )
        return known.users.token(await known.users.create(_shell(), user, wanted))

    _run(flags, work, about=f"Created user {user}. The token:")


@admin.command()
@click.argument("user")
@click.confirmation_option(prompt="Nobody can use the user's token any more. Go on?")
@click.pass_obj
def delete_user(flags: dict[str, Any], user: str) -> None:
    """Delete a user."""

    async def work(known: Identity) -> str:
        await known.users.delete(_shell(), user)
        return f"Deleted user {user}."

    _run(flags, work)


@admin.command()
@click.option("--project", help="Only its members.")
@click.pass_obj
def list_users(flags: dict[str, Any], project: str | None) -> None:
    """Show users, one a line, newest first: name, service roles, roles by project."""

    async def work(known: Identity) -> str:
        page = await known.users.list(project=project)
        return "\n".join(map(_line, page.users))

    _run(flags, work)


@admin.command()
@click.argument("user")
@click.pass_obj
def token(flags: dict[str, Any], user: str) -> None:
    """Show a user's token."""

    async def work(known: Identity) -> str:
        return known.users.token(await known.users.get(user))

    _run(flags, work)


@admin.command()
@click.argument("user")
@click.pass_obj
def refresh_token(flags: dict[str, Any], user: str) -> None:
    """Give a user a new token, and show it. The old one is good for nothing from then on."""

    async def work(known: Identity) -> str:
        return known.users.token(await known.users.refresh_token(_shell(), user))

    _run(flags, work, about=f"The new token of {user}:")


# --- members and access lists --------------------------------------------------------------------


@admin.command()
@click.argument("project")
@click.argument("user")
@click.option("--role", "roles", multiple=True, help="May be repeated.")
@click.pass_obj
def add_member(flags: dict[str, Any], project: str, user: str, roles: Sequence[str]) -> None:
    """Make a user a member of a project."""

    async def work(known: Identity) -> str:
        await known.projects.get(project)
        await known.members.add(_shell(), project, user, roles)
        return f"Added {user} to {project} with {_list(roles)}."

    _run(flags, work)


@admin.command()
@click.argument("project")
@click.argument("user")
@click.pass_obj
def remove_member(flags: dict[str, Any], project: str, user: str) -> None:
    """Take a user out of a project."""

    async def work(known: Identity) -> str:
        await known.members.remove(_shell(), project, user)
        return f"Removed {user} from {project}."

    _run(flags, work)


@admin.command()
@click.argument("user")
@click.argument("resource")
@click.pass_obj
def authorize(flags: dict[str, Any], user: str, resource: str) -> None:
    """Put a user on the access list of projects/P/topics/T or projects/P/subscriptions/S."""

    async def work(known: Identity) -> str:
        await known.access_lists.add(_shell(), _listed(resource), user)
        return f"Authorized {user} on {resource}."

    _run(flags, work)


@admin.command()
@click.argument("user")
@click.argument("resource")
@click.pass_obj
def unauthorize(flags: dict[str, Any], user: str, resource: str) -> None:
    """Take a user off the access list of a topic or subscription."""

    async def work(known: Identity) -> str:
        await known.access_lists.remove(_shell(), _listed(resource), user)
        return f"{user} is not on the access list of {resource}."

    _run(flags, work)


# --- the parts of the above ----------------------------------------------------------------------


def _run(
    flags: dict[str, Any], work: Callable[[Identity], Awaitable[str]], *, about: str = ""
) -> None:
    """Do it on the database, and show what it returns; ``about`` goes to stderr before that.

    So tokens are all that stdout has, and can be taken up by a program.
    """
    from ams_grpc import logs
    from ams_grpc.broker.errors import BrokerError
    from ams_grpc.storage.errors import DatabaseError

    config = load(dict(flags))
    logs.set_up(config.log_format, "warning")
    url = config.effective_database_url.get_secret_value()
    make_folder(url)
    try:
        shown = asyncio.run(_with_database(url, work))
    except (DatabaseError, BrokerError) as error:
        raise click.ClickException(str(error)) from None
    if about:
        click.echo(about, err=True)
    if shown:
        click.echo(shown)


async def _with_database(url: str, work: Callable[[Identity], Awaitable[str]]) -> str:
    from ams_grpc.broker.clock import SystemClock
    from ams_grpc.identity import NobodyHome, identity
    from ams_grpc.storage.storage import open_storage

    clock = SystemClock()
    async with open_storage(url, clock) as storage:
        return await work(identity(storage, clock, NobodyHome()))


def _shell() -> Any:
    from ams_grpc.auth.principals import SHELL

    return SHELL


def _listed(resource: str) -> TopicName | SubscriptionName:
    from ams_grpc.broker.names import SubscriptionName, TopicName, parse_resource

    name = parse_resource(resource)
    if not isinstance(name, TopicName | SubscriptionName):
        raise click.ClickException(f"{resource} is neither a topic nor a subscription")
    return name


def _line(user: User) -> str:
    projects = " ".join(f"{each.project}:{_list(each.roles)}" for each in user.memberships)
    return f"{user.name}\t{_list(user.service_roles)}\t{projects}".rstrip()


def _list(roles: Sequence[str]) -> str:
    return ",".join(roles) or "-"
