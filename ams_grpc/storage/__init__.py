"""The only SQL: what the broker needs from outside, on SQLite or PostgreSQL."""

from ams_grpc.storage.errors import DatabaseError, DatabaseInUseError
from ams_grpc.storage.storage import Storage, open_storage

__all__ = ["DatabaseError", "DatabaseInUseError", "Storage", "open_storage"]
