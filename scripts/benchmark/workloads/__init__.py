"""All workloads, in the order in which they run."""

from typing import Final

from scripts.benchmark.trial import Workload
from scripts.benchmark.workloads import (
    backlog,
    drain,
    fanout,
    idle,
    latency,
    mixed,
    official,
    ordered,
    publish,
    start,
)

ALL: Final[tuple[Workload, ...]] = (
    *publish.WORKLOADS,
    *drain.WORKLOADS,
    *ordered.WORKLOADS,
    *mixed.WORKLOADS,
    *latency.WORKLOADS,
    *official.WORKLOADS,
    *fanout.WORKLOADS,
    *backlog.WORKLOADS,
    *idle.WORKLOADS,
    *start.WORKLOADS,
)
