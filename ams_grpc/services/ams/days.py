"""Days of the calendar, as requests and replies have them, in UTC: YYYY-MM-DD."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from ams_grpc.broker.errors import InvalidArgument
from ams_grpc.broker.policies import SECOND_US

_FIRST: Final = date(1970, 1, 1)
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
NEVER: Final = "0001-01-01T00:00:00Z"
"""AMS: the time of what never happened."""


@dataclass(frozen=True, slots=True)
class Period:
    """From one day to another, both included; days since 1970-01-01."""

    first_day: int
    last_day: int

    @property
    def days(self) -> int:
        return self.last_day - self.first_day + 1


def period(start_date: str, end_date: str, now_us: int) -> Period:
    """Without a start, from 1970 on; without an end, until today.

    Raises InvalidArgument. AMS: checks of va_metrics and usageReport.
    """
    first = _day(start_date, "Start") if start_date else 0
    last = _day(end_date, "End") if end_date else day_of(now_us)
    if first > last:
        raise InvalidArgument("Start date cannot be after the end date", field="start_date")
    return Period(first, last)


def day_of(time_us: int) -> int:
    return (_moment(time_us).date() - _FIRST).days


def day_text(day: int) -> str:
    return (_FIRST + timedelta(days=day)).isoformat()


def second_text(time_us: int) -> str:
    """A moment in whole seconds: 2024-03-05T10:11:12Z."""
    return _moment(time_us).strftime("%Y-%m-%dT%H:%M:%SZ")


def _day(text: str, which: str) -> int:
    try:
        if not _DAY.fullmatch(text):  # else other forms of ISO 8601 would do, too
            raise ValueError(text)
        return (date.fromisoformat(text) - _FIRST).days
    except ValueError:
        field = f"{which.lower()}_date"
        raise InvalidArgument(f"{which} date is not in valid format", field=field) from None


def _moment(time_us: int) -> datetime:
    return datetime.fromtimestamp(time_us // SECOND_US, UTC)
