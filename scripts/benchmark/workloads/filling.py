"""Filling subscriptions before they are drained."""

from scripts.benchmark import servers
from scripts.benchmark.publishing import Load
from scripts.benchmark.trial import Trial

_PER_CALL = 1000
_IN_FLIGHT = 8


async def fill(trial: Trial, topic: str, messages: int) -> None:
    """Publish ``messages`` messages of 100 B in batches of 1,000; the floor needs none."""
    if trial.kind != servers.FLOOR:
        await trial.publish(Load(topic, messages // _PER_CALL, _IN_FLIGHT, _PER_CALL))
