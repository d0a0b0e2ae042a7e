"""Durations and moments: protobuf <-> microseconds."""

from __future__ import annotations

from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from ams_grpc.broker.errors import invalid_argument
from ams_grpc.broker.policies import SECOND_US

_MAX_DURATION_S: Final = 315_576_000_000
_MIN_TIMESTAMP_S: Final = -62_135_596_800
_MAX_TIMESTAMP_S: Final = 253_402_300_799
_MAX_NANOS: Final = 999_999_999


def duration_us(duration: Duration, field: str) -> int:
    """A duration in microseconds; finer parts are cut off.

    It may be negative: bounds are the broker's. Raises InvalidArgument, naming ``field``, for what
    google.protobuf.Duration does not allow.
    """
    seconds, nanos = duration.seconds, duration.nanos
    if abs(seconds) > _MAX_DURATION_S or abs(nanos) > _MAX_NANOS or seconds * nanos < 0:
        raise invalid_argument(field, field=field)
    return seconds * SECOND_US + int(nanos / 1_000)


def duration_pb(duration_us: int) -> Duration:
    """``duration_us`` is not negative."""
    seconds, micros = divmod(duration_us, SECOND_US)
    return Duration(seconds=seconds, nanos=micros * 1_000)


def optional_duration_pb(duration_us: int | None) -> Duration | None:
    return None if duration_us is None else duration_pb(duration_us)


def timestamp_us(timestamp: Timestamp, field: str) -> int:
    """A moment in microseconds; finer parts are cut off. Raises InvalidArgument."""
    if not is_moment(timestamp):
        raise invalid_argument(field, field=field)
    return moment_us(timestamp)


def timestamp_pb(time_us: int) -> Timestamp:
    seconds, micros = divmod(time_us, SECOND_US)
    return Timestamp(seconds=seconds, nanos=micros * 1_000)


def is_moment(timestamp: Timestamp) -> bool:
    """google.protobuf.Timestamp: years 1 to 9999, nanoseconds not negative."""
    return (
        _MIN_TIMESTAMP_S <= timestamp.seconds <= _MAX_TIMESTAMP_S
        and 0 <= timestamp.nanos <= _MAX_NANOS
    )


def moment_us(timestamp: Timestamp) -> int:
    return timestamp.seconds * SECOND_US + timestamp.nanos // 1_000
