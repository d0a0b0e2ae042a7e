"""AMS's metrics, one function for each, in its words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ams_grpc.broker.figures import Event, NodeUsage
from ams_grpc.pb.ams.v1 import metrics_pb2 as pb
from ams_grpc.services.ams.days import NEVER, day_text, second_text


def counter(kind: str, what: str, name: str, value: int, now_us: int, text: str) -> pb.Metric:
    """How many there are now. ``kind``: of what resource; ``what``: is counted."""
    points = [pb.Point(timestamp=second_text(now_us), value=value)]
    return _counter(kind, what, name, points, text)


def daily_messages(
    kind: str, name: str, days: Iterable[tuple[int, int]], to_what: str
) -> pb.Metric:
    """A point for each day on which something was published, in their order."""
    points = [pb.Point(timestamp=day_text(day), value=messages) for day, messages in days]
    text = (
        "A collection of counters that represents the total number of messages published each day "
        f"to {to_what}"
    )
    return _counter(kind, "number_of_daily_messages", name, points, text)


def rate(kind: str, what: str, name: str, last: Event | None, done: str) -> pb.Metric:
    """Messages per second, at the time of the last of them."""
    point = pb.Point(timestamp=NEVER, value=0)
    if last is not None:
        point = pb.Point(timestamp=second_text(last.at_us), value=last.per_second)
    deed = "publish" if done == "published" else "consume"
    return pb.Metric(
        metric=f"{kind}.{what}",
        metric_type="rate",
        value_type="float64",
        resource_type=kind,
        resource_name=name,
        timeseries=[point],
        description=(
            f"A rate that displays how many messages were {done} per second between the last two "
            f"{deed} events"
        ),
    )


def node(usage: NodeUsage, now_us: int) -> Sequence[pb.Metric]:
    """Processor first, then memory."""
    return [
        pb.Metric(
            metric=f"ams_node.{what.lower()}_usage",
            metric_type="percentage",
            value_type="float64",
            resource_type="ams_node",
            resource_name=usage.host,
            timeseries=[pb.Point(timestamp=second_text(now_us), value=value)],
            description=(
                f"Percentage value that displays the {what} usage of ams service in the specific"
                " node"
            ),
        )
        for what, value in (("CPU", usage.cpu), ("Memory", usage.memory))
    ]


def _counter(kind: str, what: str, name: str, points: Sequence[pb.Point], text: str) -> pb.Metric:
    return pb.Metric(
        metric=f"{kind}.{what}",
        metric_type="counter",
        value_type="int64",
        resource_type=kind,
        resource_name=name,
        timeseries=points,
        description=text,
    )
