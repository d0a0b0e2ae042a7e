"""What a trial measured, and what can be said about it."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

median = statistics.median


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile (``percent`` 0 to 100) of at least one value."""
    ordered = sorted(values)
    rank = min(len(ordered) - 1, max(0, round(percent / 100 * len(ordered)) - 1))
    return ordered[rank]


@dataclass(frozen=True, slots=True)
class Metric:
    """What a figure says, in which unit; ``ratios`` if comparing servers by it makes sense."""

    text: str
    unit: str
    ratios: bool = True


METRICS: Final[Mapping[str, Metric]] = MappingProxyType(
    {
        "cpu_us": Metric("server CPU per message", "µs"),
        "publish_cpu_us": Metric("server CPU per message published", "µs"),
        "cpu_us_10k": Metric("CPU per message drained, backlog 10k", "µs"),
        "cpu_us_100k": Metric("CPU per message drained, backlog 100k", "µs"),
        "cpu_us_1m": Metric("CPU per message drained, backlog 1M", "µs"),
        "cpu_1m_to_10k": Metric("CPU per message, 1M against 10k", "x", ratios=False),
        "cpu_us_plain": Metric("CPU per message drained, without ordering", "µs"),
        "cpu_us_keys_1": Metric("CPU per message drained, 1 key", "µs"),
        "cpu_us_keys_100": Metric("CPU per message drained, 100 keys", "µs"),
        "cpu_us_keys_100k": Metric("CPU per message drained, 100k keys", "µs"),
        "rate": Metric("throughput", "msg/s"),
        "p50_ms": Metric("latency, p50", "ms"),
        "p99_ms": Metric("latency, p99", "ms"),
        "publish_p50_ms": Metric("publish call, p50", "ms"),
        "publish_p99_ms": Metric("publish call, p99", "ms"),
        "ready_s": Metric("exec to ready", "s"),
        "idle_cpu_percent": Metric("CPU of one core while idle", "%", ratios=False),
        "open_s": Metric("creating and opening all", "s"),
        "rss_mb": Metric("RSS after", "MB"),
        "rss_growth_mb": Metric("RSS, 1M more than 10k", "MB", ratios=False),
        "peak_rss_mb": Metric("RSS, highest so far", "MB"),
    }
)


@dataclass(slots=True)
class Result:
    """The figures of one trial, by name of metric, and remarks that belong beside them."""

    figures: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
