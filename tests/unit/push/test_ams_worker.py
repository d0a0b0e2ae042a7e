"""AMS's push on a whole broker: in order, one request at a time, all of it or nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ams_grpc.broker.ams_push import AmsEndpoint, AmsPush
from ams_grpc.broker.catalog import SubscriptionConfig, TopicConfig
from ams_grpc.broker.errors import FailedPrecondition
from ams_grpc.broker.names import SubscriptionName, TopicName
from ams_grpc.broker.policies import DeadLetterPolicy
from ams_grpc.broker.workers import Supervisor
from ams_grpc.push.ams.room import AmsPushRoom
from ams_grpc.push.ams.worker import AmsTools
from ams_grpc.push.budget import Budget
from ams_grpc.push.outcome import Outcome
from tests.unit.broker.fakes import ManualClock, Stored
from tests.unit.broker.world import ORDERS, World, begun, eventually

ENDPOINT = AmsEndpoint("https://example.com/hook?token=hidden", "hash", verified=True)
LINEAR = AmsPush(ENDPOINT, max_messages=3)  # every 3 s
SLOWSTART = replace(LINEAR, period_ms=None)
UNVERIFIED = replace(LINEAR, target=replace(ENDPOINT, verified=False))
ACCEPTED = Outcome(True, "ack")
REFUSED = Outcome(False, "status_5xx", "status 503", "try later: hello")
ACTIVE = f"Subscription /{ORDERS} is currently active"


@dataclass
class Pushed:
    """A request on its way."""

    name: SubscriptionName
    push: AmsPush
    data: list[bytes]
    answer: asyncio.Future[Outcome]


class Endpoint:
    """Takes requests; the test answers, or ``always`` does."""

    def __init__(self) -> None:
        self.pushed: list[Pushed] = []
        self.always: Outcome | None = None

    async def __call__(
        self, name: SubscriptionName, push: AmsPush, messages: list[bytes]
    ) -> Outcome:
        request = Pushed(name, push, messages, asyncio.get_running_loop().create_future())
        self.pushed.append(request)
        return await request.answer if self.always is None else self.always

    @property
    def data(self) -> list[list[bytes]]:
        return [request.data for request in self.pushed]

    @property
    def running(self) -> list[Pushed]:
        return [] if self.always else [each for each in self.pushed if not each.answer.done()]


class Pushing(World):
    """A service with AMS's push, to one endpoint."""

    enabled = True

    def start(self) -> None:
        super().start()
        self.endpoint = Endpoint()
        self.budget = Budget(1000, 1 << 30)
        self.room = AmsPushRoom(
            AmsTools(
                runtimes=self.runtimes,
                push=self.endpoint,
                clock=self.clock,
                budget=self.budget,
                opening=asyncio.Semaphore(1),
                enabled=self.enabled,
            )
        )
        self.supervisor = Supervisor(self.catalog, {"ams_push": self.room.worker}, drain_s=5.0)
        self.subscriptions.workers = self.supervisor

    async def change(self, push: AmsPush | None) -> None:
        await self.subscriptions.update(ORDERS, lambda old: replace(old.config, ams_push=push))
        await settle()

    async def answer(self, outcome: Outcome) -> None:
        [request] = self.endpoint.running
        request.answer.set_result(outcome)
        await settle()

    async def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await settle()

    async def send(self, *messages: bytes) -> None:
        await self.publish(*messages)
        await settle()

    async def acknowledged(self) -> int:
        """How many messages are done, from the first one on."""
        runtime = await self.runtime()
        return runtime.floor - runtime.subscription.start_seq

    async def skip(self, count: int) -> None:
        """Somebody moves the offset."""
        runtime = await self.runtime()
        offset = runtime.subscription.start_seq + count
        runtime.seek(offset, offset)

    async def status(self) -> str:
        return self.room.status(await self.subscriptions.get(ORDERS))

    def let_go(self) -> None:
        for request in self.endpoint.running:
            request.answer.set_result(REFUSED)
        self.endpoint.always = REFUSED


async def settle() -> None:
    """Let everybody do what they can do now."""
    for _ in range(50):
        await asyncio.sleep(0)


async def started(push: AmsPush, **config: object) -> Pushing:
    world = Pushing(ManualClock(), Stored())
    world.start()
    await world.supervisor.__aenter__()
    await world.create(subscription=SubscriptionConfig(ams_push=push, **config))  # type: ignore[arg-type]
    await settle()
    return world


async def stopped(world: Pushing) -> None:
    world.let_go()
    await world.supervisor.__aexit__(None, None, None)


@pytest.fixture
async def pushing() -> AsyncIterator[Pushing]:
    """A verified subscription, linear, with at most three messages at a time."""
    world = await started(LINEAR)
    yield world
    await stopped(world)


# --- cycles -----------------------------------------------------------------------------------------


async def test_a_request_has_so_many_messages_in_order_and_one_runs_at_a_time(
    pushing: Pushing,
) -> None:
    await pushing.send(b"0", b"1", b"2", b"3")
    await pushing.advance(60)

    assert pushing.endpoint.data == [[b"0", b"1", b"2"]]


async def test_what_was_accepted_is_acknowledged_as_a_whole(pushing: Pushing) -> None:
    await pushing.send(b"0", b"1", b"2", b"3")

    await pushing.answer(ACCEPTED)
    assert await pushing.acknowledged() == 3
    await pushing.advance(3)

    assert pushing.endpoint.data == [[b"0", b"1", b"2"], [b"3"]]
    assert pushing.runtimes.take_used()


async def test_what_was_refused_is_pushed_again_as_a_whole_before_all_else(
    pushing: Pushing,
) -> None:
    await pushing.send(b"0", b"1")
    await pushing.send(b"2", b"3")

    await pushing.answer(REFUSED)
    assert await pushing.acknowledged() == 0
    await pushing.advance(3)

    assert pushing.endpoint.data == [[b"0", b"1"], [b"0", b"1", b"2"]]


async def test_with_ordering_it_is_the_same() -> None:
    world = await started(LINEAR, ordered=True)
    await world.send(b"k:0", b"k:1", b"1", b"k:2")
    await world.answer(REFUSED)
    await world.advance(3)
    await world.answer(ACCEPTED)
    await world.advance(3)

    assert [sorted(data) for data in world.endpoint.data] == [
        [b"1", b"k:0", b"k:1"],
        [b"1", b"k:0", b"k:1"],
        [b"k:2"],
    ]
    await stopped(world)


async def test_an_answer_after_the_ack_deadline_comes_too_late(pushing: Pushing) -> None:
    """AMS: whole seconds count."""
    await pushing.send(b"0")
    await pushing.advance(10.9)
    await pushing.answer(ACCEPTED)
    assert await pushing.acknowledged() == 1

    await pushing.advance(3)
    await pushing.send(b"1")
    await pushing.advance(11)
    await pushing.answer(ACCEPTED)

    assert await pushing.acknowledged() == 1
    assert (await pushing.status()).endswith(" - Could not acknowledge message, ack timeout")
    await pushing.advance(3)
    assert pushing.endpoint.data[-1] == [b"1"]


async def test_a_seek_while_a_request_runs_is_not_undone_by_its_end(pushing: Pushing) -> None:
    await pushing.send(b"0", b"1", b"2")
    await pushing.skip(3)
    await pushing.answer(REFUSED)
    await pushing.advance(3)
    await pushing.send(b"3")

    assert pushing.endpoint.data[-1] == [b"3"]


async def test_unforeseen_errors_lose_nothing(
    pushing: Pushing, caplog: pytest.LogCaptureFixture
) -> None:
    await pushing.send(b"secret")
    pushing.endpoint.running[0].answer.set_exception(RuntimeError("oh"))
    await settle()
    await pushing.advance(3)

    assert pushing.endpoint.data == [[b"secret"], [b"secret"]]
    assert "cannot push messages of" in caplog.text


async def test_dead_letters_go_where_they_should_after_so_many_failures() -> None:
    world = await started(LINEAR)
    dead = TopicName("p", "dead")
    await world.topics.create(dead, TopicConfig())
    await world.subscriptions.update(
        ORDERS, lambda old: replace(old.config, dead_letter=DeadLetterPolicy(dead))
    )
    await world.send(b"bad")
    for _ in range(5):
        await world.answer(REFUSED)
        await world.advance(3)

    assert world.endpoint.running == []
    await stopped(world)


async def test_the_budget_of_the_service_counts_these_requests_too(pushing: Pushing) -> None:
    def others() -> None: ...

    for _ in range(1000):
        pushing.budget.take(others, 0)
    await pushing.send(b"0")
    assert pushing.endpoint.pushed == []

    pushing.budget.give(others, 0)
    await settle()

    assert pushing.endpoint.data == [[b"0"]]


# --- timing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [ACCEPTED, REFUSED])
async def test_linear_rests_for_the_period_whatever_the_outcome(
    pushing: Pushing, outcome: Outcome
) -> None:
    await pushing.send(*(b"%d" % number for number in range(9)))
    await pushing.advance(5)  # the end of a cycle counts, not its beginning
    await pushing.answer(outcome)

    await pushing.advance(2.9)
    assert len(pushing.endpoint.pushed) == 1
    await pushing.advance(0.1)
    assert len(pushing.endpoint.pushed) == 2


async def test_slowstart_begins_after_a_second_and_becomes_faster() -> None:
    world = await started(SLOWSTART)
    await world.send(*(b"%d" % number for number in range(30)))
    world.endpoint.always = ACCEPTED

    counts = []
    for step_s in (0.9, 0.1, 0.5, 0.3, 0.3):
        await world.advance(step_s)
        counts.append(len(world.endpoint.pushed))

    assert counts == [0, 1, 2, 3, 4]
    await stopped(world)


async def test_slowstart_rests_longer_after_each_failure() -> None:
    world = await started(SLOWSTART)
    await world.send(b"0")
    world.endpoint.always = REFUSED

    counts = []
    for step_s in (1, 1.9, 0.1, 3.9, 0.1):
        await world.advance(step_s)
        counts.append(len(world.endpoint.pushed))

    assert counts == [1, 1, 2, 2, 3]
    await stopped(world)


async def test_slowstart_is_fast_after_a_while_without_messages() -> None:
    world = await started(SLOWSTART)
    await world.advance(60)
    world.endpoint.always = ACCEPTED
    await world.send(*(b"%d" % number for number in range(6)))

    await world.advance(0.3)

    assert len(world.endpoint.pushed) == 2
    await stopped(world)


async def test_without_messages_nothing_happens_and_no_timer_runs(pushing: Pushing) -> None:
    pushing.endpoint.always = ACCEPTED
    await pushing.send(b"0")
    await pushing.advance(600)
    assert pushing.clock.alarms == 0
    await pushing.send(b"1")

    assert pushing.endpoint.data == [[b"0"], [b"1"]]


# --- what is said of it -----------------------------------------------------------------------------


async def test_an_error_stays_until_messages_are_delivered(
    pushing: Pushing, caplog: pytest.LogCaptureFixture
) -> None:
    assert await pushing.status() == ACTIVE
    await pushing.send(b"hello")
    with caplog.at_level(logging.WARNING):
        await pushing.answer(REFUSED)

    failed = await pushing.status()
    assert failed == "2023-11-14T22:13:20 - Could not send message, try later: hello"
    assert "https://example.com fails: status 503" in caplog.text
    assert "hello" not in caplog.text
    assert "hidden" not in caplog.text
    await pushing.skip(1)
    await pushing.advance(60)
    assert await pushing.status() == failed

    pushing.endpoint.always = ACCEPTED
    await pushing.send(b"1")

    assert await pushing.status() == ACTIVE


async def test_results_are_counted_by_kind(pushing: Pushing) -> None:
    await pushing.send(b"0")
    await pushing.answer(REFUSED)
    await pushing.advance(3)
    await pushing.answer(ACCEPTED)

    assert dict(pushing.room.results()) == {ORDERS: {"status_5xx": 1, "ack": 1}}


async def test_one_that_is_deleted_says_how_it_was(pushing: Pushing) -> None:
    subscription = await pushing.subscriptions.get(ORDERS)
    await pushing.send(b"0")
    await pushing.answer(REFUSED)

    assert pushing.room.farewell(subscription) == f"Subscription /{ORDERS} deactivated"
    await pushing.subscriptions.delete(ORDERS)
    await eventually(lambda: not list(pushing.room.results()))
    assert pushing.room.farewell(subscription) == (f"Error: Subscription /{ORDERS} is not active")


async def test_while_push_is_off_nothing_is_pushed() -> None:
    world = Pushing(ManualClock(), Stored())
    world.enabled = False
    world.start()
    async with world.supervisor:
        await world.create(subscription=SubscriptionConfig(ams_push=LINEAR))
        await world.send(b"0")
        await world.advance(10)

        assert world.endpoint.pushed == []
        assert await world.status() == "Push server is currently unavailable"
        farewell = world.room.farewell(await world.subscriptions.get(ORDERS))
        assert farewell == "Push server is currently unavailable"


# --- changes ----------------------------------------------------------------------------------------


async def test_delivery_starts_with_the_verification_at_the_offset() -> None:
    world = await started(UNVERIFIED)
    await world.send(b"0", b"1")
    await world.advance(60)
    assert world.endpoint.pushed == []
    with pytest.raises(FailedPrecondition):  # it is no subscription that is pulled from, either
        await world.pull()

    await world.change(LINEAR)

    assert world.endpoint.data == [[b"0", b"1"]]
    await stopped(world)


async def test_an_endpoint_that_has_to_be_verified_again_gets_nothing(pushing: Pushing) -> None:
    await pushing.send(b"0", b"1", b"2", b"3")
    await pushing.change(UNVERIFIED)
    await pushing.answer(ACCEPTED)
    await pushing.advance(60)

    assert pushing.endpoint.data == [[b"0", b"1", b"2"]]
    assert await pushing.status() == f"Error: Subscription /{ORDERS} is not active"


async def test_other_settings_start_it_anew_after_the_request_that_runs(
    pushing: Pushing,
) -> None:
    new = replace(SLOWSTART, max_messages=1)
    await pushing.send(b"0", b"1", b"2", b"3", b"4")
    await pushing.change(new)
    await pushing.advance(0.5)
    await pushing.answer(REFUSED)
    assert await pushing.status() == ACTIVE

    await pushing.advance(0.5)

    assert pushing.endpoint.data == [[b"0", b"1", b"2"], [b"0"]]
    assert pushing.endpoint.pushed[-1].push == new


async def test_it_goes_on_although_the_request_that_ran_has_nothing_any_more(
    pushing: Pushing,
) -> None:
    """It was given other settings, and its messages were taken away by a seek."""
    await pushing.send(b"0", b"1", b"2", b"3")
    await pushing.change(replace(LINEAR, max_messages=1))
    await pushing.skip(3)
    await pushing.answer(ACCEPTED)

    assert pushing.endpoint.data == [[b"0", b"1", b"2"], [b"3"]]


async def test_another_ack_deadline_does_not_start_it_anew(pushing: Pushing) -> None:
    await pushing.send(b"0")
    await pushing.answer(REFUSED)
    await pushing.subscriptions.update(ORDERS, lambda old: replace(old.config, ack_deadline_s=60))
    await pushing.advance(2.9)
    assert len(pushing.endpoint.pushed) == 1
    assert await pushing.status() != ACTIVE


async def test_back_to_pull_nothing_is_lost(pushing: Pushing) -> None:
    await pushing.send(b"0", b"1")
    pushing.endpoint.running[0].answer.set_result(REFUSED)

    await pushing.change(None)

    assert await pushing.pull_data() == [b"0", b"1"]


async def test_after_a_restart_it_goes_on_at_the_offset(pushing: Pushing) -> None:
    await pushing.send(b"0", b"1", b"2", b"3")
    await pushing.answer(ACCEPTED)
    pushing.commits.commit()
    await pushing.advance(3)
    pushing.let_go()

    pushing.restart()
    async with pushing.supervisor:
        await settle()
        assert pushing.endpoint.data == [[b"3"]]
        pushing.let_go()


async def test_the_end_waits_for_the_request_that_runs(pushing: Pushing) -> None:
    await pushing.send(b"0")
    closing = await begun(pushing.supervisor.__aexit__(None, None, None))
    assert not closing.done()

    await pushing.answer(ACCEPTED)
    await closing

    assert await pushing.acknowledged() == 1
    await pushing.send(b"1")
    await pushing.advance(60)
    assert pushing.endpoint.data == [[b"0"]]


# --- whatever happens -------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(1, 5)),
        st.tuples(st.just("answer"), st.sampled_from([ACCEPTED, REFUSED])),
        st.tuples(st.just("skip"), st.integers(0, 20)),
        st.tuples(st.just("advance"), st.sampled_from([0.1, 0.5, 1.0, 3.0, 11.0])),
        st.tuples(
            st.just("change"),
            st.sampled_from([LINEAR, SLOWSTART, UNVERIFIED, replace(LINEAR, max_messages=1)]),
        ),
    ),
    max_size=40,
)


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_every_request_begins_at_the_offset_and_has_no_gap(steps: list[tuple[str, object]]) -> None:
    """And never do two run, nor an unverified one begin; in the end everything is delivered."""
    asyncio.run(_model(steps))


async def _model(steps: list[tuple[str, object]]) -> None:
    world = await started(LINEAR)
    published, checked, push = 0, 0, LINEAR
    for kind, value in steps:
        match kind, value:
            case "publish", int(count):
                await world.send(
                    *(b"%d" % number for number in range(published, published + count))
                )
                published += count
            case "answer", Outcome() if world.endpoint.running:
                await world.answer(value)
            case "skip", int(offset):
                await world.skip(min(offset, published))
                await settle()
            case "advance", float():
                await world.advance(value)
            case "change", AmsPush():
                push = value
                await world.change(push)
            case _:
                pass
        assert len(world.endpoint.running) <= 1
        for request in world.endpoint.pushed[checked:]:
            floor = await world.acknowledged()
            if request in world.endpoint.running:
                assert request.push == push
                assert request.push.verified
                assert len(request.data) <= request.push.max_messages
                expected = range(floor, floor + len(request.data))
                assert request.data == [b"%d" % number for number in expected]
        checked = len(world.endpoint.pushed)
    await world.change(LINEAR)
    while await world.acknowledged() < published:
        if world.endpoint.running:
            await world.answer(ACCEPTED)
        else:
            await world.advance(3)
    await stopped(world)
