"""Where objects go: what an export needs of a bucket, and how a bucket says that it cannot.

An object comes into sight when it is complete, and at once as a whole. Whatever happens before, its
bytes are never seen.
"""

from __future__ import annotations

from typing import Final, Protocol

NOT_FOUND: Final = "NOT_FOUND"
PERMISSION_DENIED: Final = "PERMISSION_DENIED"
SCHEMA_MISMATCH: Final = "SCHEMA_MISMATCH"


class DestinationError(Exception):
    """Nothing can be exported to here now, whatever the message.

    ``state`` is how Pub/Sub names the reason (CloudStorageConfig.State); empty if it has no name for
    it and shows none, as when a network is down. The text is for the log: it has no secrets.
    """

    def __init__(self, text: str, state: str = "") -> None:
        super().__init__(text)
        self.state = state


class OpenObject(Protocol):
    """An object that is being written. Its methods raise DestinationError."""

    async def write(self, data: bytes) -> None:
        """Add to it. A slow destination holds this back; the memory it takes is bounded."""
        ...

    async def complete(self) -> None:
        """When this returns the object can be seen, and survives the loss of power."""
        ...

    def abandon(self) -> None:
        """It will not be completed. Never raises; harmless after ``complete``."""
        ...


class Bucket(Protocol):
    """A place for objects. Its methods raise DestinationError."""

    async def check(self) -> None:
        """Find out what can be found out without writing."""
        ...

    async def create(self, name: str) -> OpenObject:
        """Begin an object. Nobody else gives that name to one."""
        ...
