"""Names of the objects that an export writes: ``<prefix><UTC date and time>_<random id><suffix>``.

A format of dates has each of YYYY (or YY), MM, DD, hh, mm and ss once, in any order; between them
may stand ``-``, ``_``, ``:``, ``.``, ``/``, ``T``, ``Z`` and ``+00:00``, as they are.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from ams_grpc.broker.errors import InvalidArgument, invalid_argument
from ams_grpc.broker.policies import SECOND_US, StorageExport

DEFAULT_DATETIME_FORMAT: Final = "YYYY-MM-DDThh:mm:ss+00:00"
MAX_BYTES: Final = 1024
MAX_SEGMENT_BYTES: Final = 255
"""Between two slashes: what a file system takes for one name."""

_DIRECTIVES: Final = {
    "YYYY": "%Y",
    "YY": "%y",
    "MM": "%m",
    "DD": "%d",
    "hh": "%H",
    "mm": "%M",
    "ss": "%S",
}
_MATCHERS: Final = re.compile("|".join(_DIRECTIVES))
_BETWEEN: Final = re.compile(r"(?:[-_:./TZ]|\+00:00)*")
_EACH_ONCE: Final = ["DD", "MM", "YY", "hh", "mm", "ss"]
_LONGEST_ID: Final = "f" * 16


def object_name(export: StorageExport, created_us: int, random_id: str) -> str:
    """The name of an object that is begun at ``created_us`` (since 1970 UTC)."""
    created = datetime.fromtimestamp(created_us // SECOND_US, UTC)
    date = _MATCHERS.sub(
        lambda matcher: created.strftime(_DIRECTIVES[matcher[0]]),
        export.filename_datetime_format or DEFAULT_DATETIME_FORMAT,
    )
    return f"{export.filename_prefix}{date}_{random_id}{export.filename_suffix}"


def check_object_names(export: StorageExport) -> None:
    """Raises InvalidArgument unless each object will have a name that every store takes.

    Pub/Sub: the suffix must not end with a slash. Here, no part between two slashes may be empty,
    ``.`` or ``..``.
    """
    if export.filename_datetime_format:
        _check_datetime_format(export.filename_datetime_format)
    if export.filename_suffix.endswith("/"):
        raise _unfit("filename_suffix", "must not end with '/'")
    name = object_name(export, 0, _LONGEST_ID)
    if not name.isprintable():
        raise _unfit("filename_prefix", "a name must not have control characters")
    if len(name.encode()) > MAX_BYTES:
        raise _unfit("filename_prefix", f"a name would have more than {MAX_BYTES} bytes")
    for segment in name.split("/"):
        if segment in {"", ".", ".."}:
            raise _unfit("filename_prefix", f"a name would have the part '{segment}'")
        if len(segment.encode()) > MAX_SEGMENT_BYTES:
            raise _unfit(
                "filename_prefix",
                f"a part of a name would have more than {MAX_SEGMENT_BYTES} bytes",
            )


def _check_datetime_format(text: str) -> None:
    matchers = sorted(matcher[:2] for matcher in _MATCHERS.findall(text))
    if matchers != _EACH_ONCE:
        raise _unfit(
            "filename_datetime_format", "must have each of YYYY or YY, MM, DD, hh, mm and ss once"
        )
    if not all(_BETWEEN.fullmatch(between) for between in _MATCHERS.split(text)):
        raise _unfit(
            "filename_datetime_format",
            "between its parts may stand '-', '_', ':', '.', '/', 'T', 'Z' and '+00:00' only",
        )


def _unfit(field: str, fault: str) -> InvalidArgument:
    path = f"cloud_storage_config.{field}"
    return invalid_argument(f"{path}: {fault}", field=path)
