"""Read, change, write: again from the start when somebody else was faster."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from ams_grpc.broker.errors import Aborted
from ams_grpc.broker.names import ResourceName

Result = TypeVar("Result")

_ATTEMPTS: Final = 16


async def until_unchanged(name: ResourceName, attempt: Callable[[], Awaitable[Result]]) -> Result:
    """What the first ``attempt`` returns that does not raise Aborted. Raises Aborted in the end."""
    for _ in range(_ATTEMPTS):
        try:
            return await attempt()
        except Aborted:
            continue
    raise Aborted(f"{name} is being changed by others all the time.")
