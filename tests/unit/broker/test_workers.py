"""The supervisor: every subscription that nobody pulls has one worker, of the right kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from ams_grpc.broker import workers
from ams_grpc.broker.catalog import Subscription, SubscriptionConfig
from ams_grpc.broker.names import SubscriptionName, TopicName
from ams_grpc.broker.policies import PushConfig, StorageExport
from ams_grpc.broker.workers import Supervisor
from tests.unit.broker.world import World, eventually

PULLED = SubscriptionConfig()
PUSHED = SubscriptionConfig(push=PushConfig("https://example.com/"))
EXPORTED = SubscriptionConfig(export=StorageExport("bucket"))


class Recorder:
    """A worker that notes what it was told."""

    def __init__(self, kind: str, subscription: Subscription) -> None:
        self.kind = kind
        self.told = [subscription]
        self.state = "new"

    def start(self) -> None:
        self.state = "started"

    def changed(self, subscription: Subscription) -> None:
        self.told.append(subscription)

    async def close(self) -> None:
        self.state = "closing"
        await asyncio.sleep(0)
        self.state = "closed"


class Office:
    """A supervisor, and all workers it ever had."""

    def __init__(self, world: World) -> None:
        self.workers: list[Recorder] = []
        self.made = asyncio.Event()
        self.failures = 0  # so many workers cannot be made
        self.supervisor = Supervisor(
            world.catalog, {"push": self._make("push"), "export": self._make("export")}, drain_s=5
        )

    def _make(self, kind: str):  # type: ignore[no-untyped-def]
        def make(subscription: Subscription) -> Recorder:
            if self.failures > 0:
                self.failures -= 1
                raise OSError("not now")
            worker = Recorder(kind, subscription)
            self.workers.append(worker)
            self.made.set()
            return worker

        return make

    @property
    def states(self) -> list[tuple[str, str]]:
        return [(worker.kind, worker.state) for worker in self.workers]


def subscription(config: SubscriptionConfig, version: int = 1) -> Subscription:
    return Subscription(
        id=7,
        name=SubscriptionName("p", "orders"),
        version=version,
        topic_id=1,
        topic_name=TopicName("p", "orders"),
        topic_retention_us=None,
        start_seq=0,
        detached=False,
        config=config,
    )


@pytest.fixture
async def office(empty: World) -> AsyncIterator[Office]:
    office = Office(empty)
    async with office.supervisor:
        yield office


async def test_a_subscription_that_is_pulled_has_no_worker(office: Office) -> None:
    office.supervisor.changed(subscription(PULLED))

    assert office.workers == []


async def test_each_kind_of_subscription_has_its_kind_of_worker(office: Office) -> None:
    office.supervisor.changed(subscription(PUSHED))
    office.supervisor.changed(replace(subscription(EXPORTED), id=8))

    assert office.states == [("push", "started"), ("export", "started")]


async def test_a_worker_hears_of_changes(office: Office) -> None:
    office.supervisor.changed(subscription(PUSHED))
    later = subscription(replace(PUSHED, ack_deadline_s=20), 2)

    office.supervisor.changed(later)

    [worker] = office.workers
    assert worker.told[-1] == later


async def test_news_that_comes_late_is_no_news(office: Office) -> None:
    office.supervisor.changed(subscription(PUSHED, 3))

    office.supervisor.changed(subscription(PULLED, 2))
    for _ in range(10):
        await asyncio.sleep(0)

    assert office.states == [("push", "started")]
    assert len(office.workers[0].told) == 1


@pytest.mark.parametrize("new", [PULLED, EXPORTED])
async def test_when_the_kind_changes_the_worker_is_closed(
    office: Office, new: SubscriptionConfig
) -> None:
    office.supervisor.changed(subscription(PUSHED))

    office.supervisor.changed(subscription(new, 2))

    await eventually(lambda: office.workers[0].state == "closed")
    assert [kind for kind, state in office.states if state == "started"] == (
        [new.worker] if new.worker else []
    )


async def test_a_detached_subscription_has_no_worker(office: Office) -> None:
    office.supervisor.changed(subscription(PUSHED))

    office.supervisor.changed(replace(subscription(PUSHED, 2), detached=True))

    await eventually(lambda: office.states == [("push", "closed")])


async def test_when_a_subscription_is_gone_its_worker_is_closed(office: Office) -> None:
    office.supervisor.changed(subscription(PUSHED))

    office.supervisor.gone(7)
    office.supervisor.gone(7)

    await eventually(lambda: office.states == [("push", "closed")])


async def test_workers_of_stored_subscriptions_are_started(world: World) -> None:
    topic = TopicName("project", "orders")
    for number, config in enumerate((PUSHED, PULLED, EXPORTED)):
        await world.subscriptions.create(SubscriptionName("project", f"s{number}"), topic, config)
    office = Office(world)

    async with office.supervisor:
        await eventually(lambda: len(office.workers) == 2)

    assert office.states == [("push", "closed"), ("export", "closed")]


async def test_what_goes_while_the_stored_ones_are_read_gets_no_worker(world: World) -> None:
    await world.subscriptions.create(
        SubscriptionName("project", "s"), TopicName("project", "orders"), PUSHED
    )
    stored = await world.subscriptions.get(SubscriptionName("project", "s"))
    office = Office(world)

    async with office.supervisor:
        office.supervisor.gone(stored.id)
        await eventually(lambda: "worked" in world.catalog.calls)
        for _ in range(10):
            await asyncio.sleep(0)

        assert office.workers == []


async def test_a_worker_that_cannot_be_made_harms_nobody(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    unknown = Supervisor(office.supervisor._catalog, {}, drain_s=1)

    unknown.changed(subscription(PUSHED))

    assert "cannot start a worker for projects/p/subscriptions/orders" in caplog.text


async def test_a_worker_that_cannot_start_is_started_later(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And with what is known of the subscription by then."""
    monkeypatch.setattr(workers, "_MAX_RETRY_S", 0.001)
    office.failures = 3

    office.supervisor._employ(subscription(PUSHED), "push", 0.001)

    async with asyncio.timeout(20):
        await office.made.wait()
    assert office.states == [("push", "started")]
    assert office.failures == 0
    office.supervisor.changed(subscription(replace(PUSHED, ack_deadline_s=20), 2))
    assert office.workers[0].told[-1].version == 2


async def test_news_of_a_subscription_whose_worker_cannot_start_is_a_new_attempt(
    office: Office,
) -> None:
    office.failures = 1
    office.supervisor.changed(subscription(PUSHED, 2))

    office.supervisor.changed(subscription(PULLED, 1))  # this comes late
    assert office.supervisor._vacancies
    office.supervisor.changed(subscription(PUSHED, 3))

    assert office.states == [("push", "started")]
    assert office.supervisor._vacancies == {}


async def test_pauses_between_attempts_grow_and_have_an_end(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, pauses = asyncio.get_running_loop(), []

    def at_once(pause: float, callback: Callable[..., object], *args: object) -> asyncio.Handle:
        pauses.append(pause)
        return loop.call_soon(callback, *args)

    monkeypatch.setattr(loop, "call_later", at_once)
    office.failures = 9
    office.supervisor.changed(subscription(PUSHED))

    await eventually(lambda: office.states == [("push", "started")])

    assert pauses == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.parametrize("end", ["gone", "pulled", "detached", "drained"])
async def test_a_worker_that_nobody_needs_any_more_is_not_tried_again(
    office: Office, end: str
) -> None:
    office.failures = 1
    office.supervisor.changed(subscription(PUSHED))
    [vacancy] = office.supervisor._vacancies.values()

    match end:
        case "gone":
            office.supervisor.gone(7)
        case "pulled":
            office.supervisor.changed(subscription(PULLED, 2))
        case "detached":
            office.supervisor.changed(replace(subscription(PUSHED, 2), detached=True))
        case _:
            office.supervisor.drain()

    assert vacancy.retry.cancelled()
    assert office.supervisor._vacancies == {}
    assert office.workers == []


async def test_at_the_end_all_workers_are_closed_and_none_is_started(empty: World) -> None:
    office = Office(empty)
    async with office.supervisor:
        office.supervisor.changed(subscription(PUSHED))
        office.supervisor.drain()
        office.supervisor.changed(replace(subscription(PUSHED), id=8))

    assert office.states == [("push", "closed")]
