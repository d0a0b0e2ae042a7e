"""Update masks: which fields an update may name, and what naming one does.

Masks work on messages as callers see them. The result of ``apply`` goes through ``convert`` and
the rules like a new resource; so a path of a feature that is not supported is refused there when
the update sets it, and clears what is clear anyway when it does not. As ``apply`` returns a new
message, an update happens as a whole or not at all.

Pub/Sub: paths are snake_case; a field that the mask names and the update lacks gets its default;
lists and maps are replaced, not merged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from ams_grpc.broker.errors import InvalidArgument

Resource = TypeVar("Resource", bound=Message)


@dataclass(frozen=True, slots=True)
class _Kind:
    """What can be updated on one kind of resource: all but the ``immutable`` fields.

    Of the fields in ``nested``, parts can be updated too. ``example`` ends the error for an unknown
    path.
    """

    immutable: frozenset[str]
    nested: frozenset[str]
    example: str


_KINDS: Final[Mapping[str, _Kind]] = {
    "Topic": _Kind(
        immutable=frozenset({"name", "satisfies_pzs", "state", "tags"}),
        nested=frozenset({"schema_settings"}),
        example="'schema_settings' rather than 'schemaSetings'",  # sic
    ),
    "Subscription": _Kind(
        immutable=frozenset(
            {
                "name",
                "topic",
                "enable_message_ordering",
                "filter",
                "detached",
                "topic_message_retention_duration",
                "state",
                "analytics_hub_subscription_info",
                "tags",
            }
        ),
        nested=frozenset(
            {
                "expiration_policy",
                "push_config",
                "dead_letter_policy",
                "retry_policy",
                "bigquery_config",
                "cloud_storage_config",
            }
        ),
        example="'push_config' rather than 'pushConfig'",
    ),
    "Snapshot": _Kind(
        immutable=frozenset({"name", "topic"}),
        nested=frozenset(),
        example="'expire_time' rather than 'expireTime'",
    ),
}


def check(update: Message, mask: FieldMask) -> None:
    """Raises InvalidArgument unless all paths of ``mask`` can be updated on such a resource.

    It needs no stored one. Pub/Sub: a bad mask is reported before a missing resource.
    """
    resource = update.DESCRIPTOR.name
    request = f"Update{resource}Request"
    if not mask.paths:
        raise _invalid_mask(
            f"The update_mask in the {request} must be set, and must contain a non-empty paths list."
        )
    kind = _KINDS[resource]
    for path in mask.paths:
        if not _is_known(update, kind, path):
            raise _invalid_mask(
                f"Invalid update_mask provided in the {request}: '{path}' is not a known "
                f"{resource} field. Note that field paths must be of the form {kind.example}."
            )
        if path in kind.immutable:
            raise _invalid_mask(
                f"Invalid update_mask provided in the {request}: the '{path}' field in the "
                f"{resource} is not mutable."
            )


def apply(stored: Resource, update: Resource, mask: FieldMask) -> Resource:
    """What becomes of ``stored`` when the fields that ``mask`` names are taken from ``update``.

    Raises InvalidArgument as ``check`` does.
    """
    check(update, mask)
    result = type(stored)()
    result.CopyFrom(stored)
    mask.MergeMessage(update, result, replace_message_field=True, replace_repeated_field=True)
    for path in mask.paths:
        field, _, part = path.partition(".")
        if part and not update.HasField(field):
            _clear(result, field, part)  # MergeMessage passes over parts of what is not there.
    return result


def names(mask: FieldMask, field: str) -> bool:
    """True if ``mask`` names the field, or a part of it."""
    return any(path.partition(".")[0] == field for path in mask.paths)


def _is_known(update: Message, kind: _Kind, path: str) -> bool:
    field, dot, part = path.partition(".")
    if field not in update.DESCRIPTOR.fields_by_name:
        return False
    if not dot:
        return True
    return field in kind.nested and part in getattr(update, field).DESCRIPTOR.fields_by_name


def _clear(message: Message, field: str, part: str) -> None:
    if message.HasField(field):
        getattr(message, field).ClearField(part)


def _invalid_mask(text: str) -> InvalidArgument:
    return InvalidArgument(text, field="update_mask")
