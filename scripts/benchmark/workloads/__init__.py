"""All workloads, in the order in which they run."""

from typing import Final

from scripts.benchmark.trial import Workload
from scripts.benchmark.workloads import (
    backlog,
    drain,
    fanout,
    filtered,
    idle,
    latency,
    mixed,
    official,
    ordered,
    publish,
    push,
    rest,
    schemas,
    start,
)

ALL: Final[tuple[Workload, ...]] = (
    *publish.WORKLOADS,
    *schemas.WORKLOADS,
    *drain.WORKLOADS,
    *filtered.WORKLOADS,
    *ordered.WORKLOADS,
    *mixed.WORKLOADS,
    *latency.WORKLOADS,
    *official.WORKLOADS,
    *fanout.WORKLOADS,
    *push.WORKLOADS,
    *rest.WORKLOADS,
    *backlog.WORKLOADS,
    *idle.WORKLOADS,
    *start.WORKLOADS,
)
