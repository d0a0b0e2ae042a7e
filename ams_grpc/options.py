"""What commands share: from options to settings. Imported at every start, so it imports little."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click


def load(flags: dict[str, Any]) -> Any:
    """The effective settings. Exits with a message when they are wrong."""
    from pydantic import ValidationError

    from ams_grpc.config import CONFIG_FILE_VARIABLE, Config

    file = flags.pop("config")
    if file is not None:
        os.environ[CONFIG_FILE_VARIABLE] = str(file)
    try:
        return Config(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, problem['loc']))}: "
            f"{problem['msg'].removeprefix('Value error, ')}".removeprefix(": ")
            for problem in error.errors(include_url=False, include_input=False)
        ]
        raise click.ClickException("; ".join(problems)) from None
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from None


def make_folder(url: str) -> None:
    """SQLite makes the file, but not the folder it is to be in."""
    from sqlalchemy import make_url

    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        folder = Path(parsed.database).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise click.ClickException(f"cannot make {folder}: {error.strerror}") from None
