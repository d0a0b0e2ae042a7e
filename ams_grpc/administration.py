"""``ams-grpc admin``: accounts and rights from the shell, on the database itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial, wraps
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


def _on_database(
    *, about: str = ""
) -> Callable[[Callable[..., Awaitable[str]]], Callable[..., None]]:
    """Make a command of a function: it is done on the database, and what it returns is shown.

    ``about``, filled in from the options, goes to stderr before that. So tokens are all that stdout
    has, and can be taken up by a program.
    """

    def decorate(work: Callable[..., Awaitable[str]]) -> Callable[..., None]:
        @wraps(work)
        def command(flags: dict[str, Any], /, **options: Any) -> None:
            _run(flags, partial(work, **options), about.format(**options))

        return click.pass_obj(command)

    return decorate


# --- projects ------------------------------------------------------------------------------------


@admin.command()
@click.argument("project")
@click.option("--description", default="")
@_on_database()
async def create_project(known: Identity, project: str, description: str) -> str:
    """Make a project."""
    await known.projects.create(_shell(), project, description)
    return f"Created project {project}."


@admin.command()
@click.argument("project")
@click.argument("new_name")
@_on_database()
async def rename_project(known: Identity, project: str, new_name: str) -> str:
    """Rename a project, with its topics, subscriptions, snapshots and schemas."""
    await known.projects.update(_shell(), project, new_name=new_name)
    return f"Project {project} is now {new_name}."


@admin.command()
@click.argument("project")
@click.confirmation_option(prompt="This deletes all topics and subscriptions in it. Go on?")
@_on_database()
async def delete_project(known: Identity, project: str) -> str:
    """Delete a project, with its topics, subscriptions, snapshots and schemas."""
    await known.projects.delete(_shell(), project)
    return f"Deleted project {project}."


@admin.command()
@_on_database()
async def list_projects(known: Identity) -> str:
    """Show all projects, one a line: name, description."""
    found = await known.projects.list()
    return "\n".join(f"{each.name}\t{each.description}".rstrip() for each in found)


# --- users ---------------------------------------------------------------------------------------


@admin.command()
@click.argument("user")
@click.option("--email", default="")
@click.option("--service-role", "service_roles", multiple=True, help="May be repeated.")
@click.option("--project", help="Make the user a member of it.")
@click.option("--role", "roles", multiple=True, help="In that project. May be repeated.")
@_on_database(about="Created user {user}. The token:")
async def create_user(
    known: Identity,
    user: str,
    email: str,
    service_roles: Sequence[str],
    project: str | None,
    roles: Sequence[str],
) -> str:
    """Make a user, and show the token."""
    if roles and project is None:
        raise click.UsageError("--role needs --project")
    from ams_grpc.auth.records import Membership, Person
    from ams_grpc.auth.users import UserChanges

    entries = () if project is None else (Membership(project, tuple(roles)),)
    wanted = UserChanges(
        person=Person(email=email), memberships=entries, service_roles=service_roles
    )
    return known.users.token(await known.users.create(_shell(), user, wanted))


@admin.command()
@click.argument("user")
@click.confirmation_option(prompt="Nobody can use the user's token any more. Go on?")
@_on_database()
async def delete_user(known: Identity, user: str) -> str:
    """Delete a user."""
    await known.users.delete(_shell(), user)
    return f"Deleted user {user}."


@admin.command()
@click.option("--project", help="Only its members.")
@_on_database()
async def list_users(known: Identity, project: str | None) -> str:
    """Show users, one a line, newest first: name, service roles, roles by project."""
    page = await known.users.list(project=project)
    return "\n".join(map(_line, page.users))


@admin.command()
@click.argument("user")
@_on_database()
async def token(known: Identity, user: str) -> str:
    """Show a user's token."""
    return known.users.token(await known.users.get(user))


@admin.command()
@click.argument("user")
@_on_database(about="The new token of {user}:")
async def refresh_token(known: Identity, user: str) -> str:
    """Give a user a new token, and show it. The old one is good for nothing from then on."""
    return known.users.token(await known.users.refresh_token(_shell(), user))


# --- members and access lists --------------------------------------------------------------------


@admin.command()
@click.argument("project")
@click.argument("user")
@click.option("--role", "roles", multiple=True, help="May be repeated.")
@_on_database()
async def add_member(known: Identity, project: str, user: str, roles: Sequence[str]) -> str:
    """Make a user a member of a project."""
    await known.projects.get(project)
    await known.members.add(_shell(), project, user, roles)
    return f"Added {user} to {project} with {_list(roles)}."


@admin.command()
@click.argument("project")
@click.argument("user")
@_on_database()
async def remove_member(known: Identity, project: str, user: str) -> str:
    """Take a user out of a project."""
    await known.members.remove(_shell(), project, user)
    return f"Removed {user} from {project}."


@admin.command()
@click.argument("user")
@click.argument("resource")
@_on_database()
async def authorize(known: Identity, user: str, resource: str) -> str:
    """Put a user on the access list of projects/P/topics/T or projects/P/subscriptions/S."""
    await known.access_lists.add(_shell(), _listed(resource), user)
    return f"Authorized {user} on {resource}."


@admin.command()
@click.argument("user")
@click.argument("resource")
@_on_database()
async def unauthorize(known: Identity, user: str, resource: str) -> str:
    """Take a user off the access list of a topic or subscription."""
    await known.access_lists.remove(_shell(), _listed(resource), user)
    return f"{user} is not on the access list of {resource}."


# --- the parts of the above ----------------------------------------------------------------------


def _run(flags: dict[str, Any], work: Callable[[Identity], Awaitable[str]], about: str) -> None:
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
