"""Which bucket is where: the settings of the process, as buckets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ams_grpc.exports.buckets import Bucket
from ams_grpc.exports.folders import FolderBucket


@dataclass(frozen=True, slots=True)
class Place:
    """Buckets of an object store: ``url`` with ``{bucket}`` for the name. ``options`` are secret."""

    url: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Destinations:
    """Finds buckets by name: those ``of_their_own`` first, then ``place``, or else in ``root``."""

    root: Path
    place: Place | None = None
    of_their_own: Mapping[str, Place] = field(default_factory=dict)

    def bucket(self, name: str) -> Bucket:
        """``name`` is the name of a bucket, so it is safe in a path. Raises DestinationError."""
        place = self.of_their_own.get(name, self.place)
        if place is None:
            return FolderBucket(self.root, name)
        # Imported late: buckets are often folders.
        from ams_grpc.exports.clouds import CloudBucket, open_store  # noqa: PLC0415

        return CloudBucket(open_store(place.url.replace("{bucket}", name), place.options))
