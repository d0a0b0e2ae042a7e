"""The audit log: one structured line for each administrative change. Who, what, on what.

It is written whatever the log level, and carries no secrets.
"""

from __future__ import annotations

import logging
from typing import Final

from ams_grpc.auth.principals import Principal

_log: Final = logging.getLogger("ams_grpc.audit")
_log.setLevel(logging.INFO)


def record(caller: Principal, action: str, resource: object) -> None:
    """It has happened."""
    who = caller.name or "(shell)"
    _log.info(
        "%s",
        _visible(f"{who} {action} {resource}"),
        extra={
            "actor": who,
            "actor_uuid": caller.uuid,
            "action": action,
            "resource": str(resource),
        },
    )


def _visible(text: str) -> str:
    """In one line, whatever names have in them."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
