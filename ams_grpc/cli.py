"""The command line: arguments in, ``server`` out."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import click

from ams_grpc.administration import admin
from ams_grpc.options import load, make_folder

_log = logging.getLogger(__name__)
_EXAMPLE: Final = """
  Python, with Google's own client (pip install google-cloud-pubsub):

    export PUBSUB_EMULATOR_HOST={endpoint}
    python - <<'END'
    from google.cloud import pubsub_v1
    publisher, subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
    topic, subscription = "projects/demo/topics/hello", "projects/demo/subscriptions/hello"
    publisher.create_topic(name=topic)
    subscriber.create_subscription(name=subscription, topic=topic)
    print("published", publisher.publish(topic, b"Hello!", language="en").result())
    received = subscriber.pull(subscription=subscription, max_messages=1).received_messages[0]
    print("received", received.message.data, dict(received.message.attributes))
    subscriber.acknowledge(subscription=subscription, ack_ids=[received.ack_id])
    END
"""


_FIRST_ADMIN: Final = """
  There was no service_admin, so one was made: {name}. Its token, shown this once:

    {token}
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ams-grpc")
def main() -> None:
    """A durable messaging service that speaks the Google Pub/Sub API."""


def _settings(command: Any) -> Any:
    """The options that several commands share."""
    for option in reversed(
        (
            click.option(
                "--config",
                type=click.Path(exists=True, dir_okay=False, path_type=Path),
                help="TOML file with settings; AMS_CONFIG names one, too.",
            ),
            click.option("--grpc-address", metavar="HOST:PORT", help="Default 127.0.0.1:8085."),
            click.option(
                "--admin-address", metavar="HOST:PORT", help="/metrics, /healthz and /readyz."
            ),
            click.option(
                "--google-rest-address", metavar="HOST:PORT", help="Google's REST API of Pub/Sub."
            ),
            click.option(
                "--one-port/--no-one-port",
                default=None,
                help="Google's REST API at the gRPC address, too; default: with profile emulator.",
            ),
            click.option("--ams-address", metavar="HOST:PORT", help="The REST API of AMS."),
            click.option("--data", type=Path, help="Folder of the SQLite database; default data."),
            click.option("--database-url", help="postgresql+psycopg://... or sqlite:///..."),
            click.option("--profile", type=click.Choice(["strict", "emulator"])),
            click.option("--tls-cert", type=Path, help="PEM file."),
            click.option("--tls-key", type=Path, help="PEM file."),
            click.option(
                "--tls-self-signed",
                is_flag=True,
                default=None,
                help="TLS for development: make a certificate in the data folder.",
            ),
            click.option(
                "--insecure",
                is_flag=True,
                default=None,
                help="Listen on a public address without authentication.",
            ),
            click.option(
                "--auth",
                is_flag=True,
                default=None,
                help="Callers need a token; without, everybody may do everything.",
            ),
            click.option(
                "--admin-token-file",
                type=click.Path(dir_okay=False, path_type=Path),
                help="Where the first service_admin's token is written, when there is none yet.",
            ),
            click.option("--log-format", type=click.Choice(["auto", "json", "console"])),
            click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"])),
        )
    ):
        command = option(command)
    return command


@main.command()
@_settings
def serve(**flags: Any) -> None:
    """Run the service in the foreground until SIGTERM or SIGINT."""
    from ams_grpc import logs
    from ams_grpc.heap import keep_freed_memory
    from ams_grpc.listeners import CannotStartError
    from ams_grpc.storage.errors import DatabaseError

    config = load(flags)
    logs.set_up(config.log_format, config.log_level)
    # SQLite's calls hand the interpreter over; the writer waits this long to get it back.
    sys.setswitchinterval(0.0005)
    keep_freed_memory()
    try:
        _run(_serve(config))
    except (DatabaseError, CannotStartError) as error:
        raise click.ClickException(str(error)) from None


@main.command()
@_settings
def migrate(**flags: Any) -> None:
    """Create the database's tables, or bring them up to date."""
    from ams_grpc.storage.errors import DatabaseError
    from ams_grpc.storage.migrate import current
    from ams_grpc.storage.migrate import migrate as upgrade

    url = load(flags).effective_database_url.get_secret_value()
    try:
        make_folder(url)
        upgrade(url)
        click.echo(f"The database is at revision {current(url)}.")
    except DatabaseError as error:
        raise click.ClickException(str(error)) from None


@main.command()
@_settings
@click.argument("folder", type=click.Path(path_type=Path))
def backup(folder: Path, **flags: Any) -> None:
    """Copy the SQLite database, which may be in use, into a new FOLDER."""
    import sqlite3

    from ams_grpc.storage.backup import back_up
    from ams_grpc.storage.errors import DatabaseError

    url = load(flags).effective_database_url.get_secret_value()
    try:
        back_up(url, folder)
    except (DatabaseError, OSError, sqlite3.Error) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"The database is copied to {folder}.")


@main.command("config")
@_settings
def show_config(**flags: Any) -> None:
    """Print the effective settings as TOML, secrets masked."""
    config = load(flags)
    for name, value in sorted(config.shown().items()):
        about = type(config).model_fields[name].description
        if about:
            click.echo(f"# {about}")
        click.echo(f"# {name} is not set" if value is None else f"{name} = {_toml(value)}")


def _toml(value: Any) -> str:
    """A value as TOML has it. A JSON string, number or boolean is one in TOML, too."""
    import json

    if isinstance(value, dict):
        pairs = (f"{json.dumps(key)} = {_toml(part)}" for key, part in value.items())
        return f"{{ {', '.join(pairs)} }}" if value else "{}"
    return json.dumps(value)


def _show_first_admin(name: str, token: str) -> None:
    click.echo(_FIRST_ADMIN.format(name=name, token=token), err=True)


async def _serve(config: Any) -> None:
    from ams_grpc import logs
    from ams_grpc.server import running

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    make_folder(config.effective_database_url.get_secret_value())
    async with running(config, show_first_admin=_show_first_admin) as addresses:
        # What is loaded stays; looking through it for garbage again and again costs a tenth of a
        # publish.
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        operators = f" admin={addresses.admin}" if addresses.admin else ""
        rest = f" google_rest={addresses.google_rest}" if addresses.google_rest else ""
        ams = f" ams={addresses.ams}" if addresses.ams else ""
        click.echo(
            f"ready grpc={addresses.grpc}{operators}{rest}{ams} profile={config.effective_profile}"
        )
        _log.info(
            "ams-grpc %s serves %s with profile %s on %s",
            version("ams-grpc"),
            addresses.grpc,
            config.effective_profile,
            config.shown()["database_url"],
        )
        for_trying = config.effective_profile == "emulator" and not config.has_tls
        if for_trying and logs.for_people(config.log_format):
            click.echo(_EXAMPLE.format(endpoint=addresses.grpc), err=True)
        await stop.wait()
    # All is written and answered. Closing the event loop would cancel calls that came too late, and
    # subscribers give up on CANCELLED; this way their connections end, and they reconnect.
    logging.shutdown()
    os._exit(0)


main.add_command(admin)


def _run(main_task: Any) -> None:
    """Run on uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main_task)
    else:
        uvloop.run(main_task)
