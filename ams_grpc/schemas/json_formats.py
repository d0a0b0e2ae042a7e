"""The formats of texts that JSON Schemas may ask for. Source: gojsonschema's, which AMS enforces.

All take time in proportion to the text. Other formats are not enforced.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from ams_grpc.schemas.patterns import is_pattern

Format: TypeAlias = Callable[[str], bool]

_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_TIME: Final = (
    r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:[.,][0-9]+)?"
    r"(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
_LOCAL_TIME: Final = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:[.,][0-9]+)?"
_POINTER: Final = r"(?:/(?:[^~/]|~[01])*)*"


def _matching(pattern: str) -> Format:
    compiled = re.compile(pattern, re.DOTALL)
    return lambda text: compiled.fullmatch(text) is not None


def _is_date(text: str) -> bool:
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text) is None:
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


_is_time: Final = _matching(f"{_TIME}|{_LOCAL_TIME}")
_is_zoned_time: Final = _matching(_TIME)


def _is_date_time(text: str) -> bool:
    """gojsonschema: a date or a time alone will do."""
    if _is_date(text) or _is_time(text):
        return True
    return text[10:11] == "T" and _is_date(text[:10]) and _is_zoned_time(text[11:])


def _is_hostname(text: str) -> bool:
    return len(text) < 256 and _is_name(text)


_is_name: Final = _matching(rf"{_LABEL}(?:\.{_LABEL})*")


def _is_ipv4(text: str) -> bool:
    try:
        IPv4Address(text)
    except AddressValueError:
        return False
    return True


def _is_ipv6(text: str) -> bool:
    try:
        return IPv6Address(text).scope_id is None
    except AddressValueError:
        return False


_is_reference_text: Final = _matching(r"(?:[^\x00-\x20\x7f\\%]|%[0-9A-Fa-f]{2})*")


def _is_reference(text: str) -> bool:
    if not _is_reference_text(text):
        return False
    try:
        urlsplit(text).port  # noqa: B018  # it is read to be checked
    except ValueError:
        return False
    return True


_has_scheme: Final = _matching(r"[A-Za-z][A-Za-z0-9+.-]*:.*")


def _is_uri(text: str) -> bool:
    return _has_scheme(text) and _is_reference(text)


_is_email: Final = _matching(r'(?:[^\s@"<>(),:;\\\[\]]+|"[^"\\\r\n]*")@[^\s@"<>(),:;\\\[\]]+')

FORMATS: Final[Mapping[str, Format]] = {
    "date": _is_date,
    "time": _is_time,
    "date-time": _is_date_time,
    "hostname": _is_hostname,
    "email": _is_email,
    "idn-email": _is_email,
    "ipv4": _is_ipv4,
    "ipv6": _is_ipv6,
    "uri": _is_uri,
    "uri-reference": _is_reference,
    "iri": _is_uri,
    "iri-reference": _is_reference,
    "uri-template": _matching(r"[^{}]*(?:\{[^{}]*\}[^{}]*)*"),
    "uuid": _matching(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"),
    "regex": is_pattern,
    "json-pointer": _matching(_POINTER),
    "relative-json-pointer": _matching(rf"(?:0|[1-9][0-9]*)(?:#|{_POINTER})"),
}
