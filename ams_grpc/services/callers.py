"""Who makes the call that runs."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from ams_grpc.auth.principals import Principal

_CALLER: Final[ContextVar[Principal]] = ContextVar("caller")


def caller() -> Principal:
    """Whoever the guard has let in. Raises LookupError in a call that everybody may make."""
    return _CALLER.get()


def set_caller(principal: Principal) -> None:
    """For the guard: this is who makes the call that runs from here on."""
    _CALLER.set(principal)
