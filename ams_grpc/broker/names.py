"""Resource names: parsed once at the border, then types that cannot be wrong.

Pub/Sub: an id has 3 to 255 characters out of letters, digits and ``-_.~+%``, starts with a
letter, and not with ``goog``. ``%`` is an ordinary character.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Final, Self

from ams_grpc.broker.errors import InvalidArgument, invalid_name

# Any text is a project, short enough for a database's index and without control characters.
_PROJECT_ID: Final = r"(?P<project>[^/\x00-\x1f\x7f]{1,255})"
_NAME: Final = re.compile(
    rf"projects/{_PROJECT_ID}/(?P<kind>[a-z]+)/(?P<id>(?!goog)[A-Za-z][A-Za-z0-9\-_.~+%]{{2,254}})",
    re.ASCII,
)
_PROJECT: Final = re.compile(rf"projects/{_PROJECT_ID}")

DELETED_TOPIC: Final = "_deleted-topic_"
"""Pub/Sub: what a subscription or snapshot shows in place of a topic that is gone."""
DELETED_SCHEMA: Final = "_deleted-schema_"
"""Pub/Sub: what a topic shows in place of a schema that is gone."""


@dataclass(frozen=True, slots=True, order=True)
class ResourceName:
    """``projects/{project}/{kind}/{id}``; ``str()`` gives that form back."""

    project: str
    id: str

    kind: ClassVar[str] = ""

    @classmethod
    @lru_cache(maxsize=4096)  # the same few names come with every call
    def parse(cls, name: str) -> Self:
        """Read a full name. Raises InvalidArgument, showing the name as it was given."""
        match = _NAME.fullmatch(name)
        if match is None or match["kind"] != cls.kind:
            raise invalid_name(name)
        return cls(match["project"], match["id"])

    def __str__(self) -> str:
        return f"projects/{self.project}/{self.kind}/{self.id}"


class TopicName(ResourceName):
    """``projects/{project}/topics/{id}``."""

    __slots__ = ()
    kind = "topics"


class SubscriptionName(ResourceName):
    """``projects/{project}/subscriptions/{id}``."""

    __slots__ = ()
    kind = "subscriptions"


class SnapshotName(ResourceName):
    """``projects/{project}/snapshots/{id}``."""

    __slots__ = ()
    kind = "snapshots"


class SchemaName(ResourceName):
    """``projects/{project}/schemas/{id}``, without a revision."""

    __slots__ = ()
    kind = "schemas"

    @classmethod
    def parse_revision(cls, name: str) -> tuple[SchemaName, str]:
        """A schema's name and the id of a revision: ``…@{id}``; no id, the newest is meant.

        Raises InvalidArgument.
        """
        schema, at, revision_id = name.partition("@")
        if at and not re.fullmatch(r"[A-Za-z0-9]{1,64}", revision_id):
            raise invalid_name(name)
        try:
            return cls.parse(schema), revision_id
        except InvalidArgument:
            raise invalid_name(name) from None


def parse_project(name: str) -> str:
    """The project of ``projects/{project}``. Raises InvalidArgument."""
    match = _PROJECT.fullmatch(name)
    if match is None:
        raise invalid_name(name)
    return match["project"]


_KINDS: Final[dict[str, type[ResourceName]]] = {
    name.kind: name for name in (TopicName, SubscriptionName, SnapshotName, SchemaName)
}


def parse_resource(name: str) -> ResourceName:
    """Read a full name of any kind. Raises InvalidArgument."""
    match = _NAME.fullmatch(name)
    if match is None or match["kind"] not in _KINDS:
        raise invalid_name(name)
    return _KINDS[match["kind"]].parse(name)
