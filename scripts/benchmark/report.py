"""Outcomes as a table for people and as JSON for programs."""

import os
import platform
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import grpc
from google.protobuf import __version__ as protobuf_version

from scripts.benchmark import servers
from scripts.benchmark.figures import METRICS, median
from scripts.benchmark.runner import Outcome
from scripts.benchmark.targets import TARGETS, Of

_HEADINGS: Final = (
    *("workload, metric", "unit", "ours", "floor", "emulator"),
    *("/floor", "/emulator", "target", ""),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One metric of one workload: medians over the rounds by server, and what follows from them.

    Ratios are medians of the ratios within each round. ``passed`` is None without a target, or
    where the floor that the target speaks of was not measured.
    """

    workload: str
    metric: str
    medians: dict[str, float]
    to_floor: float | None
    to_emulator: float | None
    target: str
    passed: bool | None


def heading(found: Collection[str], *, rounds: int, quick: bool, h2load: bool) -> str:
    """What was run, on what; the servers that were left out."""
    load = "h2load" if h2load else "grpcio"
    first = f"{rounds} round{'s' * (rounds > 1)}, publishing with {load}"
    first += "; quick: a fifth of each load" if quick else ""
    second = f"{os.cpu_count()} CPUs, {platform.machine()}, Python {platform.python_version()}"
    second += f", grpcio {grpc.__version__}"
    absent = [name for name in servers.NAMES if name not in found]
    third = [f"left out: {', '.join(absent)}"] if absent else []
    return "\n".join([first, second, *third, ""])


def rows(outcome: Outcome) -> list[Row]:
    """The rows of one workload; none for metrics that no server has."""
    return [row for metric in METRICS if (row := _row(outcome, metric)) is not None]


def _row(outcome: Outcome, metric: str) -> Row | None:
    rounds = {
        kind: [result.figures[metric] for result in results if metric in result.figures]
        for kind, results in outcome.results.items()
    }
    medians = {kind: median(values) for kind, values in rounds.items() if values}
    if not medians:
        return None
    to_floor = _ratio(metric, rounds, servers.FLOOR)
    target = TARGETS.get((outcome.workload.name, metric))
    passed: bool | None = None
    if target is not None:
        value = to_floor if target.of is Of.FLOOR_RATIO else medians.get(servers.OURS)
        passed = None if value is None else target.met(value)
        if servers.OURS in outcome.failures:
            passed = False
    return Row(
        outcome.workload.name,
        metric,
        medians,
        to_floor,
        _ratio(metric, rounds, servers.EMULATOR),
        "" if target is None else str(target),
        passed,
    )


def _ratio(metric: str, rounds: dict[str, list[float]], other: str) -> float | None:
    pairs = zip(rounds.get(servers.OURS, []), rounds.get(other, []), strict=False)
    ratios = [ours / theirs for ours, theirs in pairs if theirs]
    return median(ratios) if ratios and METRICS[metric].ratios else None


def failed_targets(outcomes: Sequence[Outcome]) -> list[str]:
    """The workloads and metrics that miss their targets, and workloads that ours failed."""
    missed = [
        f"{row.workload} {row.metric}"
        for outcome in outcomes
        for row in rows(outcome)
        if row.passed is False
    ]
    return missed + [
        outcome.workload.name for outcome in outcomes if servers.OURS in outcome.failures
    ]


def table(outcomes: Sequence[Outcome]) -> str:
    """The table, with remarks below it."""
    lines: list[tuple[str, ...]] = [_HEADINGS]
    for outcome in outcomes:
        lines.append((outcome.workload.name, *[""] * (len(_HEADINGS) - 1)))
        lines += [_cells(row) for row in rows(outcome)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(_HEADINGS))]
    text = [
        "  ".join(
            cell.ljust(width) if i in (0, 1, 7) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    text.insert(1, "-" * (sum(widths) + 2 * (len(widths) - 1)))
    return "\n".join([*text, "", *_remarks(outcomes)])


def _cells(row: Row) -> tuple[str, ...]:
    marks = {True: "ok", False: "MISSED", None: ""}
    figures = (_number(row.medians.get(kind)) for kind in servers.NAMES)
    ratios = (_ratio_text(value) for value in (row.to_floor, row.to_emulator))
    metric = METRICS[row.metric]
    return ("  " + metric.text, metric.unit, *figures, *ratios, row.target, marks[row.passed])


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _ratio_text(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _remarks(outcomes: Sequence[Outcome]) -> Iterator[str]:
    for outcome in outcomes:
        for kind, text in outcome.failures.items():
            yield f"{outcome.workload.name}: {kind} FAILED: {text}"
        for kind, results in outcome.results.items():
            notes = dict.fromkeys(note for result in results for note in result.notes)
            if notes:
                yield f"{outcome.workload.name}: {kind}: {'; '.join(notes)}"


def as_json(outcomes: Sequence[Outcome], *, rounds: int, quick: bool) -> dict[str, Any]:
    """Everything measured, round by round, with medians, ratios, targets and the machine."""
    return {
        "machine": {
            "cpus": os.cpu_count(),
            "machine": platform.machine(),
            "system": f"{platform.system()} {platform.release()}",
            "python": platform.python_version(),
            "grpcio": grpc.__version__,
            "protobuf": protobuf_version,
        },
        "rounds": rounds,
        "quick": quick,
        "workloads": [
            {
                "name": outcome.workload.name,
                "about": outcome.workload.about,
                "rows": [asdict(row) for row in rows(outcome)],
                "results": {
                    kind: [asdict(result) for result in results]
                    for kind, results in outcome.results.items()
                },
                "failures": outcome.failures,
            }
            for outcome in outcomes
        ],
        "units": {name: metric.unit for name, metric in METRICS.items()},
    }
