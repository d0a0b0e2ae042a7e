"""Days, averages, and what a node says of itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from google.protobuf.empty_pb2 import Empty

from ams_grpc.auth.principals import Principal
from ams_grpc.broker.errors import InvalidArgument, StorageUnavailable
from ams_grpc.pb.ams.v1 import metrics_pb2 as pb
from ams_grpc.services import callers
from ams_grpc.services.ams.days import Period, day_of, day_text, period, second_text
from ams_grpc.services.ams.node import ThisNode
from ams_grpc.services.ams.reports import _average_in_hundredths
from ams_grpc.services.ams.status import ServiceStatus

NOW_US = 1_709_633_472_999_999  # 2024-03-05T10:11:12.999999Z
TODAY = 19_787


@pytest.mark.parametrize(
    "start, end, expected",
    [
        ("", "", Period(0, TODAY)),
        ("2024-03-05", "", Period(TODAY, TODAY)),
        ("2024-03-04", "2024-03-05", Period(TODAY - 1, TODAY)),
        ("2024-02-29", "2024-02-29", Period(TODAY - 5, TODAY - 5)),
        ("1969-12-31", "1970-01-02", Period(-1, 1)),
        ("0001-01-01", "9999-12-31", Period(-719_162, 2_932_896)),
    ],
)
def test_a_period_has_both_its_days(start: str, end: str, expected: Period) -> None:
    assert period(start, end, NOW_US) == expected


@pytest.mark.parametrize(
    "start, end, text",
    [
        ("2024-3-05", "", "Start date is not in valid format"),
        ("20240305", "", "Start date is not in valid format"),
        ("2024-W10-2", "", "Start date is not in valid format"),
        ("2024-03-05T00:00:00", "", "Start date is not in valid format"),
        (" 2024-03-05", "", "Start date is not in valid format"),
        ("2024-03-05\n", "", "Start date is not in valid format"),
        ("2024-13-01", "x", "Start date is not in valid format"),
        ("٢٠٢٤-٠٣-٠٥", "", "Start date is not in valid format"),
        ("2023-02-29", "", "Start date is not in valid format"),
        ("0000-01-01", "", "Start date is not in valid format"),
        ("2024-03-05", "x", "End date is not in valid format"),
        ("2024-03-06", "", "Start date cannot be after the end date"),
        ("", "1969-12-31", "Start date cannot be after the end date"),
    ],
)
def test_what_is_no_period(start: str, end: str, text: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{text}$"):
        period(start, end, NOW_US)


def test_days_and_seconds_as_texts() -> None:
    assert day_of(NOW_US) == TODAY
    assert [day_text(day) for day in (0, TODAY)] == ["1970-01-01", "2024-03-05"]
    assert second_text(NOW_US) == "2024-03-05T10:11:12Z"


@pytest.mark.parametrize(
    "messages, days, expected",
    [(0, 5, 0), (1432, 20, 7160), (1, 3, 34), (2, 3, 67), (1, 19_787, 1), (100, 1, 10_000)],
)
def test_averages_are_rounded_up(messages: int, days: int, expected: int) -> None:
    """AMS: average_daily_messages."""
    assert _average_in_hundredths(messages, days) == expected


def test_a_node_measures_its_process() -> None:
    node = ThisNode()
    sum(number * number for number in range(2_000_000))
    usage = node.measure()
    assert usage.host
    assert usage.cpu > 0
    assert 0 < usage.memory < 100


async def pushes() -> bool:
    return False


async def pushes_for_nobody() -> bool:
    return True


async def database_is_away() -> bool:
    raise StorageUnavailable("away")


@pytest.mark.parametrize(
    "is_crippled, word",
    [(pushes, "ok"), (pushes_for_nobody, "warning"), (database_is_away, "ok")],
)
async def test_the_status_warns_of_push_without_a_user(
    is_crippled: Callable[[], Awaitable[bool]], word: str
) -> None:
    status = await ServiceStatus(lambda: "push:1", is_crippled).GetStatus(pb.StatusRequest(), None)  # type: ignore[arg-type]
    assert status.status == word
    assert status.push_servers == [pb.PushServer(endpoint="push:1", status="SERVING")]


async def test_push_may_be_disabled() -> None:
    status = await ServiceStatus(None, pushes).GetStatus(pb.StatusRequest(), None)  # type: ignore[arg-type]
    assert status == pb.Status(status="ok", push_functionality="disabled")


@pytest.mark.parametrize(
    "who, is_shown",
    [
        (Principal("u", "x", frozenset({"service_admin"})), True),
        (Principal("u", "x", frozenset({"admin_viewer"})), True),
        (Principal("u", "x", frozenset({"project_admin"})), False),
        (Principal("u", "x", frozenset(), {"P": frozenset({"service_admin"})}), False),
        (Principal("", "", frozenset({"service_admin"})), False),  # no user
    ],
)
async def test_the_release_is_for_administrators(who: Principal, is_shown: bool) -> None:
    callers.set_caller(who)
    service = ServiceStatus(None, pushes, "ams.example.org")
    found = await service.GetVersion(Empty(), None)  # type: ignore[arg-type]
    assert bool(found.release) is is_shown
    assert found.hostname == "ams.example.org"
