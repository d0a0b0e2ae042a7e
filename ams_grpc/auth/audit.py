"""The audit log: one structured line for each administrative change. Who, what, on what, and what for.

It is written whatever the log level, and carries no secrets.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from ams_grpc.auth.principals import Principal

_MOST_GIVEN_CHARS: Final = 2000
_log: Final = logging.getLogger("ams_grpc.audit")
_log.setLevel(logging.INFO)


def record(caller: Principal, action: str, resource: object, given: str = "") -> None:
    """It has happened. ``given``: names, roles and users that came with it; never a token."""
    who = caller.name or "(shell)"
    given = _visible(given[:_MOST_GIVEN_CHARS])
    _log.info(
        "%s",
        _visible(f"{who} {action} {resource}") + (f" ({given})" if given else ""),
        extra={
            "actor": who,
            "actor_uuid": caller.uuid,
            "action": action,
            "resource": str(resource),
            "given": given,
        },
    )


def shown(**given: str | Sequence[str]) -> str:
    """What was given, as text: ``roles=publisher,consumer name=orders``; without what is empty."""
    return " ".join(
        f"{key}={value if isinstance(value, str) else ','.join(value)}"
        for key, value in given.items()
        if value
    )


def _visible(text: str) -> str:
    """In one line, whatever names have in them."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
