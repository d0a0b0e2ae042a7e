"""When AMS pushes next."""

from __future__ import annotations

import pytest

from ams_grpc.broker.ams_push import AmsMattermost, AmsPush
from ams_grpc.push.ams.pace import Linear, Slowstart, pace_of

OK, BAD = False, True


def intervals(failures: list[bool]) -> list[float]:
    pace = Slowstart()
    return [pace.after(failed=failed) for failed in failures]


@pytest.mark.parametrize(
    "cycles, expected",
    [
        ([OK, OK, OK, OK], [0.5, 0.3, 0.3, 0.3]),
        ([BAD, BAD, BAD], [2.0, 4.0, 8.0]),
        ([BAD, BAD, OK, OK], [2.0, 4.0, 1.0, 0.5]),
        ([OK, OK, BAD, OK], [0.5, 0.3, 0.6, 1.0]),
    ],
)
def test_slowstart_halves_doubles_and_starts_afresh(
    cycles: list[bool], expected: list[float]
) -> None:
    assert intervals(cycles) == expected


def test_slowstart_waits_a_day_at_most() -> None:
    assert intervals([BAD] * 40)[-1] == 86_400


def test_slowstart_begins_after_a_second_and_linear_at_once() -> None:
    assert (Slowstart().first_s, Linear(3).first_s) == (1.0, 0.0)


@pytest.mark.parametrize("idle_s, then", [(0.0, 0.5), (0.1, 0.3), (0.5, 0.3), (3600.0, 0.3)])
def test_slowstart_has_become_faster_while_there_was_nothing_to_push(
    idle_s: float, then: float
) -> None:
    """As if it had asked in vain all the time."""
    pace = Slowstart()
    pace.idle(idle_s)
    assert pace.after(failed=False) == then


def test_slowstart_does_not_recover_while_there_is_nothing_to_push() -> None:
    pace = Slowstart()
    pace.after(failed=True)
    pace.idle(3600)
    assert pace.after(failed=True) == 4.0


def test_linear_is_the_same_whatever_happens() -> None:
    pace = pace_of(AmsPush(AmsMattermost("https://a.b"), period_ms=1500))
    pace.idle(3600)
    assert [pace.after(failed=failed) for failed in (OK, BAD, BAD, OK)] == [1.5] * 4
