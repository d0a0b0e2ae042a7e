"""What can go wrong, in the words of the domain.

The text of an error is for the caller. ``services.status`` maps each class to a gRPC status; a
test walks over all subclasses and fails when one has no code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """What programs read of an error: a constant reason, and facts by name."""

    reason: str
    metadata: Mapping[str, str] = field(default_factory=dict)


class BrokerError(Exception):
    """Base of everything the service refuses or fails to do.

    ``field`` names the request field at fault, if there is one, as a path such as
    ``push_config.push_endpoint``. Callers get it, and ``info``, as error details.
    """

    def __init__(self, message: str, *, field: str = "", info: ErrorInfo | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.info = info


class InvalidArgument(BrokerError):
    """The request is wrong, whatever the state of the service."""


INVALID_ACK_ID = "PERMANENT_FAILURE_INVALID_ACK_ID"
UNORDERED_ACK_ID = "TRANSIENT_FAILURE_UNORDERED_ACK_ID"
"""Pub/Sub: what clients read about single ack ids, and retry by."""


class AckIdsRefused(InvalidArgument):
    """Exactly-once delivery: some ack ids do not count. ``refused`` says why, by id.

    The others of the request were applied.
    """

    def __init__(self, refused: Mapping[str, str]) -> None:
        super().__init__(
            "Some acknowledgement ids in the request were invalid. This could be because the "
            "acknowledgement ids have expired or the acknowledgement ids were malformed.",
            info=ErrorInfo("EXACTLY_ONCE_ACKID_FAILURE", refused),
        )
        self.refused = refused


class OutOfRange(BrokerError):
    """A number lies outside its range (Pub/Sub answers so for a few fields only)."""


class NotFound(BrokerError):
    """A resource that the request names does not exist."""


class ProjectGone(NotFound):
    """What is to be made can only be made in a project that is registered; this one is not."""


class SchemaGone(NotFound):
    """The schema of a topic was deleted, so nobody knows what its messages should be."""


class AlreadyExists(BrokerError):
    """A resource of that name exists already."""


class Conflict(AlreadyExists):
    """What is to be added is there already (AMS tells this apart from a second creation)."""


class Unauthenticated(BrokerError):
    """Nobody knows who calls."""


class PermissionDenied(BrokerError):
    """The caller is known, and may not do this."""


class TooManyAttempts(BrokerError):
    """One peer has guessed too often."""


class FailedPrecondition(BrokerError):
    """The request is right, but not in the present state."""


class Detached(FailedPrecondition):
    """A subscription gets no messages any more."""


class AmsRefusal(FailedPrecondition):
    """What AMS refuses with a code of HTTP that no other class stands for; see ``ams``."""


class ResourceExhausted(BrokerError):
    """There is no room for another one."""


class Unimplemented(BrokerError):
    """A field or method of the API that this version does not honour."""


class Aborted(BrokerError):
    """Another change came first; read again and retry."""


class Unavailable(BrokerError):
    """Cannot be done now; safe to retry."""


class StorageUnavailable(Unavailable):
    """The database does not answer. Nothing was acknowledged."""


class UnreadableMessages(Unavailable):
    """Some stored messages are damaged or missing; all else works. The log says which."""


class ShuttingDown(Unavailable):
    """The service is about to stop."""


UNABLE = "The service was unable to fulfill your request. Please try again."
"""Pub/Sub: text of transient failures."""


def not_authorized() -> PermissionDenied:
    """Pub/Sub: error for what the caller may not do, or may not even know of."""
    return PermissionDenied("User not authorized to perform this action.")


def invalid_name(name: str) -> InvalidArgument:
    """Pub/Sub: error for an illegal resource name, which it shows in full."""
    return InvalidArgument(
        f"Invalid resource name given (name={name}). Refer to "
        "https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names for more information."
    )


def not_found(name: object) -> NotFound:
    """Pub/Sub: error for a missing resource, of which it shows the last segment."""
    return NotFound(f"Resource not found (resource={str(name).rpartition('/')[2]}).")


def project_gone(project: str) -> ProjectGone:
    """As ``not_found``, of a project that was there a moment ago."""
    return ProjectGone(not_found(project).message)


def detached() -> Detached:
    """Pub/Sub: error for what a detached subscription cannot do."""
    return Detached("Subscription is detached.")


def already_exists(name: object) -> AlreadyExists:
    """Pub/Sub: error for a second creation, even of an identical resource."""
    return AlreadyExists(
        f"Resource already exists in the project (resource={str(name).rpartition('/')[2]})."
    )


def invalid_argument(detail: str, *, field: str = "") -> InvalidArgument:
    """Pub/Sub: error for a bad field that has no text of its own."""
    return InvalidArgument(
        f"You have passed an invalid argument to the service (argument={detail}).", field=field
    )


def out_of_bounds(field: str, value: object, low: object, high: object) -> InvalidArgument:
    """Pub/Sub: error for a value outside of a range with two ends."""
    return InvalidArgument(
        f"The value for {field} is out of bounds. You passed {value} in the request, "
        f"but the value must be between {low} and {high}.",
        field=field,
    )


def too_small(field: str, value: object, minimum: object) -> InvalidArgument:
    """Pub/Sub: error for a value below a minimum."""
    return InvalidArgument(
        f"The value for {field} is too small. You passed {value} in the request, "
        f"but the minimum value is {minimum}.",
        field=field,
    )


def too_large(field: str, value: object, maximum: object) -> InvalidArgument:
    """Pub/Sub: error for a value above a maximum."""
    return InvalidArgument(
        f"The value for {field} is too large. You passed {value} in the request, "
        f"but the maximum value is {maximum}.",
        field=field,
    )


def ams(reason: str, text: str) -> AmsRefusal:
    """AMS: an error that programs know by ``reason``, from which the bridge has its HTTP status.

    Reasons: BAD_REQUEST, CONFLICT, ACK_TIMEOUT, NO_ACK_PENDING, WRONG_ACK, TOO_LARGE,
    VERIFICATION_FAILED, INTERNAL.
    """
    return AmsRefusal(text, info=ErrorInfo(reason))
