"""Logs: one event a line on stderr, JSON or for people. Never payloads, never secrets."""

from __future__ import annotations

import logging
import sys
from typing import Literal

from pythonjsonlogger.json import JsonFormatter


def for_people(format_: Literal["auto", "json", "console"]) -> bool:
    """True if the log is read on a terminal."""
    return format_ == "console" or (format_ == "auto" and sys.stderr.isatty())


def set_up(format_: Literal["auto", "json", "console"], level: str) -> None:
    """Send everything that is logged to stderr; ``auto`` is console on a terminal, else JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
        if for_people(format_)
        else JsonFormatter(
            ["levelname", "name", "message"],
            rename_fields={"levelname": "level", "name": "logger", "message": "event"},
            timestamp="time",
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # SQL statements carry parameters; they are nobody's business, whatever the level.
    logging.getLogger("sqlalchemy").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
