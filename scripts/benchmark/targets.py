"""What the service promises itself, as marks beside the figures."""

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Of(Enum):
    """What a target limits: the service's own figure, or its ratio to the floor."""

    FIGURE = "figure"
    FLOOR_RATIO = "ratio to the floor"


@dataclass(frozen=True, slots=True)
class Target:
    """A limit for one metric of one workload; from above, or from below if ``at_least``."""

    limit: float
    of: Of = Of.FIGURE
    at_least: bool = False

    def met(self, value: float) -> bool:
        """Whether ``value`` keeps to the limit."""
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        suffix = " x floor" if self.of is Of.FLOOR_RATIO else ""
        return f"{sign} {self.limit:,.6g}{suffix}"


TARGETS: Final[dict[tuple[str, str], Target]] = {
    ("publish-unary", "cpu_us"): Target(1.25, Of.FLOOR_RATIO),
    ("publish-100x100b", "cpu_us"): Target(1.3, Of.FLOOR_RATIO),
    ("publish-1000x100b", "cpu_us"): Target(1.7, Of.FLOOR_RATIO),
    ("publish-1000x1kb", "cpu_us"): Target(1.6, Of.FLOOR_RATIO),
    ("drain-1-stream", "cpu_us"): Target(10),
    ("drain-1-stream", "rate"): Target(60_000, at_least=True),
    ("drain-4-streams", "cpu_us"): Target(10),
    ("latency-200", "p50_ms"): Target(5),
    ("latency-200", "p99_ms"): Target(15),
    ("official-client", "rate"): Target(8000, at_least=True),
    ("rest-publish-1", "cpu_us"): Target(2, Of.FLOOR_RATIO),
    ("rest-publish-100", "cpu_us"): Target(15),
    ("rest-consume-100", "cpu_us"): Target(15),
    ("backlog", "cpu_1m_to_10k"): Target(1.2),
    ("backlog", "rss_growth_mb"): Target(50),
    ("idle-1000-streams", "idle_cpu_percent"): Target(1),
    ("start", "ready_s"): Target(1.5),
    ("start", "rss_mb"): Target(100),
}
