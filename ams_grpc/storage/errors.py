"""Why a database cannot be used: for whoever starts the service, never for its callers.

While the service runs, trouble with the database is ``broker.errors.StorageUnavailable``.
"""

from __future__ import annotations

from pathlib import Path


class DatabaseError(Exception):
    """The service cannot start with this database. The text says what to do."""


class DatabaseInUseError(DatabaseError):
    """Another process has this SQLite database open; two would overwrite each other's numbers."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"The database {path} is in use by another process. SQLite is for one process: "
            "stop the other one, or use PostgreSQL."
        )
        self.path = path


class OutdatedDatabaseError(DatabaseError):
    """The tables are older than this version of the service, or there are none."""

    def __init__(self, found: str | None, needed: str) -> None:
        state = f"is at revision {found}" if found else "has no tables yet"
        super().__init__(
            f"The database {state}, and this version needs revision {needed}: "
            "make a backup, then run `ams-grpc migrate`."
        )


class NewerDatabaseError(DatabaseError):
    """The tables were made by a later version of the service."""

    def __init__(self, found: str) -> None:
        super().__init__(
            f"The database is at revision {found}, which this version does not know: a later "
            "version has used it. Run that version, or restore a backup."
        )


class UnsupportedDatabaseError(DatabaseError):
    """An address, or a database, that the service does not work with."""


class UnreachableDatabaseError(DatabaseError):
    """The database does not answer at start."""
