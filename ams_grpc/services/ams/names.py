"""AMS's full names, and its words for what is not there or is there already."""

from __future__ import annotations

from functools import cache

from ams_grpc.auth.checks import no_project
from ams_grpc.broker.errors import (
    AlreadyExists,
    AmsRefusal,
    Detached,
    InvalidArgument,
    NotFound,
    ProjectGone,
    SchemaGone,
    ams,
)
from ams_grpc.broker.names import SubscriptionName, TopicName


class _AmsWords:
    """What ``ams_words`` gives. Not a generator, which would be made anew for each message published."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __enter__(self) -> None:
        """Nothing is to be done yet."""

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if error is None:
            return
        if isinstance(error, SchemaGone):
            raise ams("INTERNAL", "Could not load schema for topic") from None
        if isinstance(error, ProjectGone):
            raise no_project() from None
        if isinstance(error, NotFound):
            raise NotFound(f"{self._kind} doesn't exist") from None
        if isinstance(error, Detached):
            raise no_topic() from None
        if isinstance(error, AlreadyExists):
            raise AlreadyExists(f"{self._kind} already exists") from None


@cache
def ams_words(kind: str) -> _AmsWords:
    """Say of a ``Topic`` or a ``Subscription`` that it is missing, or there already, as AMS does."""
    return _AmsWords(kind)


def no_topic() -> AmsRefusal:
    """AMS: error for what a subscription cannot do whose topic is gone, or which was detached."""
    return ams("CONFLICT", "Subscription's topic doesn't exist")


def full_name(name: TopicName | SubscriptionName) -> str:
    """AMS: names of topics and subscriptions begin with a slash in replies."""
    return f"/{name}"


def read_topic(reference: str, project: str) -> TopicName:
    """A topic as requests name it: ``projects/P/topics/T``, of the project that the path names.

    Raises InvalidArgument; NotFound for a topic of another project.
    """
    parts = reference.split("/")
    if len(parts) != 4 or parts[0] != "projects" or parts[2] != "topics":
        raise InvalidArgument("Invalid Topic name")
    if parts[1] != project:
        raise NotFound("Topic doesn't exist")
    return TopicName(project, parts[3])
