"""A push worker on a whole broker: what goes out, what comes back, and when."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from ams_grpc.broker.catalog import Subscription, SubscriptionConfig, TopicConfig
from ams_grpc.broker.errors import FailedPrecondition, InvalidArgument
from ams_grpc.broker.names import SubscriptionName, TopicName
from ams_grpc.broker.policies import SECOND_US, DeadLetterPolicy, PushConfig, RetryPolicy
from ams_grpc.broker.workers import Supervisor
from ams_grpc.push.budget import Budget
from ams_grpc.push.joining import Complaints
from ams_grpc.push.outcome import Outcome
from ams_grpc.push.worker import PushWorker, Tools
from tests.unit.broker.fakes import ManualClock, Stored
from tests.unit.broker.world import ORDERS, TOPIC, World, begun, eventually

PUSHED = SubscriptionConfig(push=PushConfig("https://example.com/push?token=hidden"))
PULLED = SubscriptionConfig()
ACCEPTED = Outcome(True, "ack")
REFUSED = Outcome(False, "status_5xx", "status 503")


@dataclass
class Pushed:
    """A request on its way."""

    data: bytes
    config: PushConfig
    attempt: int | None
    answer: asyncio.Future[Outcome]

    def end(self, outcome: Outcome) -> None:
        self.answer.set_result(outcome)


class Endpoint:
    """Takes requests, and answers when the test says so, or at once with ``always``."""

    def __init__(self) -> None:
        self.running: list[Pushed] = []
        self.pushed: list[Pushed] = []
        self.always: Outcome | None = None
        self.error: Exception | None = None
        self.came = asyncio.Event()

    async def __call__(
        self, subscription: Subscription, config: PushConfig, message: bytes, attempt: int | None
    ) -> Outcome:
        if self.error is not None:
            raise self.error
        request = Pushed(message, config, attempt, asyncio.get_running_loop().create_future())
        self.pushed.append(request)
        self.came.set()
        if self.always is not None:
            return self.always
        self.running.append(request)
        try:
            return await request.answer
        finally:
            self.running.remove(request)

    @property
    def data(self) -> list[bytes]:
        return [request.data for request in self.pushed]


class Pushing(World):
    """A service that pushes to one endpoint."""

    endpoint: Endpoint
    supervisor: Supervisor
    workers: list[PushWorker]

    def start(self) -> None:
        super().start()
        self.endpoint = Endpoint()
        self.workers = []
        self.budget = Budget(1000, 1 << 30)
        self.tools = Tools(
            runtimes=self.runtimes,
            push=self.endpoint,
            clock=self.clock,
            budget=self.budget,
            max_window=16,
            opening=asyncio.Semaphore(1),
        )
        self.supervisor = Supervisor(self.catalog, {"push": self._worker}, drain_s=5.0)
        self.subscriptions.workers = self.supervisor

    def _worker(self, subscription: Subscription) -> PushWorker:
        workers = self.workers
        worker = PushWorker(subscription, self.tools, lambda: workers.remove(worker))
        workers.append(worker)
        return worker

    def restart(self) -> None:
        self.let_go()
        super().restart()

    def let_go(self) -> None:
        """Nobody waits for this endpoint any more."""
        self.endpoint.always = ACCEPTED
        for request in list(self.endpoint.running):
            request.end(ACCEPTED)

    async def change(self, config: SubscriptionConfig) -> None:
        await self.subscriptions.update(ORDERS, lambda _: config)

    async def running(self, count: int) -> list[Pushed]:
        """The requests that run, once there are so many."""
        await eventually(lambda: len(self.endpoint.running) >= count)
        return list(self.endpoint.running)


@pytest.fixture
async def pushing(clock: ManualClock) -> AsyncIterator[Pushing]:
    """A push subscription."""
    world = Pushing(clock, Stored())
    world.start()
    async with world.supervisor:
        await world.create(subscription=PUSHED)
        yield world
        world.let_go()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def settle() -> None:
    """Let everybody do what they can do now."""
    for _ in range(50):
        await asyncio.sleep(0)


# --- what goes out ----------------------------------------------------------------------------------


async def test_each_message_is_one_request_and_an_accepted_one_is_done(pushing: Pushing) -> None:
    pushing.endpoint.always = ACCEPTED

    await pushing.publish(b"1", b"2", b"3")
    await eventually(lambda: len(pushing.endpoint.pushed) == 3)
    await settle()

    assert sorted(pushing.endpoint.data) == [b"1", b"2", b"3"]
    runtime = await pushing.runtime()
    assert runtime.outstanding == runtime.undelivered == 0
    assert runtime.counters.acked == 3


async def test_without_a_dead_letter_policy_no_attempt_is_told(pushing: Pushing) -> None:
    await pushing.publish(b"1")

    [request] = await pushing.running(1)

    assert request.attempt is None


async def test_it_begins_with_a_few_requests_and_widens_when_all_goes_well(
    pushing: Pushing,
) -> None:
    await pushing.publish(*(b"%d" % number for number in range(100)))
    first = await pushing.running(3)
    await settle()
    assert len(pushing.endpoint.running) == 3

    for request in first:
        request.end(ACCEPTED)
    await pushing.running(6)
    await settle()

    assert len(pushing.endpoint.running) == 6


async def test_no_more_than_the_limit_run_at_once(pushing: Pushing) -> None:
    await pushing.publish(*(b"%d" % number for number in range(200)))

    for _ in range(6):
        for request in await pushing.running(1):
            request.end(ACCEPTED)
        await settle()

    assert len(pushing.endpoint.running) == 16


async def test_the_budget_of_the_service_bounds_all_subscriptions(pushing: Pushing) -> None:
    def others() -> None: ...

    for _ in range(1000 - 125 - 4):  # an eighth is not for all
        pushing.budget.take(others, 0)
    await pushing.publish(b"1", b"2", b"3", b"4")
    await pushing.running(2)
    await settle()
    assert len(pushing.endpoint.running) == 2

    pushing.budget.give(others, 0)
    await settle()
    assert len(pushing.endpoint.running) == 3
    pushing.endpoint.running[0].end(ACCEPTED)
    await settle()

    assert len(pushing.endpoint.pushed) == 4


async def test_large_messages_are_within_the_budget_too(pushing: Pushing) -> None:
    pushing.tools.budget._bytes = 3000
    pushing.tools.budget._kept_bytes = 0
    await pushing.publish(*(b"%d" % number + b"x" * 1000 for number in range(3)))

    await pushing.running(1)
    await settle()

    assert len(pushing.endpoint.running) == 2  # the second goes beyond the half


async def test_an_idle_subscription_has_no_timer(pushing: Pushing, clock: ManualClock) -> None:
    pushing.endpoint.always = ACCEPTED
    await settle()
    assert clock.alarms == 0

    await pushing.publish(b"1")
    await eventually(lambda: pushing.endpoint.pushed)
    await settle()
    clock.advance(20)

    assert clock.alarms == 0


# --- what is not accepted ---------------------------------------------------------------------------


async def test_a_refused_message_rests_longer_each_time_and_is_pushed_again(
    pushing: Pushing, clock: ManualClock
) -> None:
    await pushing.publish(b"1")

    for attempt, rest_s in enumerate((0.1, 0.2, 0.4), start=1):
        [request] = await pushing.running(1)
        request.end(REFUSED)
        await settle()
        clock.advance(rest_s - 0.01)
        await settle()
        assert len(pushing.endpoint.pushed) == attempt
        clock.advance(1)
        await settle()
        assert len(pushing.endpoint.pushed) == attempt + 1


async def test_messages_that_are_never_accepted_keep_no_others_from_going_out(
    pushing: Pushing, clock: ManualClock
) -> None:
    bad = [b"bad-%d" % number for number in range(12)]
    await pushing.publish(*bad, *(b"good-%d" % number for number in range(100)))

    for _ in range(4000):
        for request in list(pushing.endpoint.running):
            request.end(REFUSED if request.data in bad else ACCEPTED)
        await asyncio.sleep(0)
        clock.advance(0.05)
    await settle()

    assert {data for data in pushing.endpoint.data if data not in bad} == {
        b"good-%d" % number for number in range(100)
    }
    assert (await pushing.runtime()).counters.acked == 100


async def test_with_a_retry_policy_a_message_rests_as_long_as_that_says(
    pushing: Pushing, clock: ManualClock
) -> None:
    await pushing.change(replace(PUSHED, retry=RetryPolicy(20 * SECOND_US, 600 * SECOND_US)))
    await pushing.publish(b"1")
    [request] = await pushing.running(1)

    request.end(REFUSED)
    await settle()
    clock.advance(19)
    await settle()
    assert len(pushing.endpoint.pushed) == 1
    clock.advance(2)
    await settle()

    assert len(pushing.endpoint.pushed) == 2


async def test_with_a_dead_letter_policy_attempts_are_told_and_are_not_endless(
    pushing: Pushing, clock: ManualClock
) -> None:
    dead = TopicName("project", "dead")
    await pushing.topics.create(dead, TopicConfig())
    await pushing.change(replace(PUSHED, dead_letter=DeadLetterPolicy(dead)))
    pushing.endpoint.always = REFUSED
    await pushing.publish(b"1")

    for _ in range(20):
        await settle()
        clock.advance(10)

    assert [request.attempt for request in pushing.endpoint.pushed] == [1, 2, 3, 4, 5]
    [batch] = pushing.stored.from_seq((await pushing.topics.get(dead)).id, 0)
    assert b"status 503" in batch.payload


async def test_of_an_ordering_key_one_message_is_out_at_a_time(pushing: Pushing) -> None:
    ordered = SubscriptionName("project", "ordered")
    await pushing.subscriptions.delete(ORDERS)
    await pushing.subscriptions.create(ordered, TOPIC, replace(PUSHED, ordered=True))
    await pushing.publish(b"a:1", b"a:2", b"b:1", b"a:3")

    await pushing.running(2)
    await settle()
    assert pushing.endpoint.data == [b"a:1", b"b:1"]
    for expected in (b"a:2", b"a:3"):
        next(each for each in pushing.endpoint.running if each.data[:1] == b"a").end(ACCEPTED)
        await settle()
        assert pushing.endpoint.data[-1] == expected


async def test_when_all_is_refused_pushing_pauses_longer_and_longer(
    pushing: Pushing, clock: ManualClock
) -> None:
    pushing.endpoint.always = REFUSED
    await pushing.publish(*(b"%d" % number for number in range(1000)))

    for _ in range(1200):
        clock.advance(0.1)
        await settle()

    # Two minutes: 0.1 s, 0.2 s, 0.4 s ... between bursts of three.
    assert 15 <= len(pushing.endpoint.pushed) <= 40


async def test_after_the_pause_an_endpoint_that_works_again_gets_everything(
    pushing: Pushing, clock: ManualClock
) -> None:
    pushing.endpoint.always = REFUSED
    await pushing.publish(*(b"%d" % number for number in range(50)))
    await settle()
    clock.advance(30)
    await settle()

    pushing.endpoint.always = ACCEPTED
    clock.advance(61)
    await settle()
    clock.advance(61)
    await eventually(lambda: len(set(pushing.endpoint.data)) == 50)
    await settle()

    assert (await pushing.runtime()).counters.acked == 50


async def test_an_unforeseen_error_counts_as_refused_and_loses_nothing(
    pushing: Pushing, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    pushing.endpoint.error = ZeroDivisionError("oops")
    await pushing.publish(b"secret payload")
    await settle()
    assert "cannot push a message" in caplog.text
    assert "secret payload" not in caplog.text

    pushing.endpoint.error = None
    clock.advance(2)
    await settle()

    assert pushing.endpoint.data == [b"secret payload"]


def test_the_log_names_an_endpoint_without_its_password(caplog: pytest.LogCaptureFixture) -> None:
    endpoint = "https://user:hidden@example.com:8443/hooks/hidden?key=hidden"
    Complaints().say(ORDERS, endpoint, "status 503", 0.0)
    assert "to https://example.com:8443 fails" in caplog.text
    assert "hidden" not in caplog.text


async def test_failures_are_logged_now_and_then_without_what_is_secret(
    pushing: Pushing, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    pushing.endpoint.always = REFUSED
    await pushing.publish(*(b"payload-%d" % number for number in range(100)))

    for _ in range(59):
        clock.advance(1)
        await settle()
    assert len(caplog.records) == 1
    assert "https://example.com fails: status 503" in caplog.text
    clock.advance(62)
    await settle()
    assert len(caplog.records) == 2
    assert "24 failures since this was said last" in caplog.text
    assert "payload" not in caplog.text
    assert "hidden" not in caplog.text


async def test_results_are_counted_by_kind(pushing: Pushing, clock: ManualClock) -> None:
    [worker] = pushing.workers
    await pushing.publish(b"1", b"2")
    first, second = await pushing.running(2)

    first.end(ACCEPTED)
    second.end(REFUSED)
    await settle()

    assert worker.results == {"ack": 1, "status_5xx": 1}


# --- leases and seeks -------------------------------------------------------------------------------


async def test_the_lease_outlasts_the_request(pushing: Pushing, clock: ManualClock) -> None:
    await pushing.publish(b"1")
    await pushing.running(1)

    clock.advance(PUSHED.ack_deadline_s + 1)
    await settle()

    assert pushing.endpoint.data == [b"1"]
    assert (await pushing.runtime()).counters.expired == 0


async def test_a_seek_while_requests_run_leaves_all_the_credit(pushing: Pushing) -> None:
    await pushing.publish(*(b"%d" % number for number in range(10)))
    first = await pushing.running(3)

    await pushing.snapshots.seek_to_time(ORDERS, pushing.clock.now_us() + 1)
    for request in first:
        request.end(ACCEPTED)
    await pushing.publish(b"new-1", b"new-2", b"new-3")
    await eventually(lambda: len(pushing.endpoint.running) == 3)

    assert {request.data for request in pushing.endpoint.running} == {b"new-1", b"new-2", b"new-3"}


# --- use --------------------------------------------------------------------------------------------


async def test_a_successful_push_is_use_and_a_failed_one_is_not(pushing: Pushing) -> None:
    pushing.runtimes.take_used()
    pushing.endpoint.always = REFUSED
    await pushing.publish(b"1")
    await settle()
    assert pushing.runtimes.take_used() == set()

    pushing.endpoint.always = ACCEPTED
    await pushing.publish(b"2")
    await settle()

    assert len(pushing.runtimes.take_used()) == 1


# --- changes ----------------------------------------------------------------------------------------


async def test_a_new_endpoint_is_for_the_next_request(pushing: Pushing) -> None:
    await pushing.publish(*(b"%d" % number for number in range(4)))
    first = await pushing.running(3)

    new = PushConfig("https://example.com/new")
    await pushing.change(replace(PUSHED, push=new))
    for request in first:
        request.end(ACCEPTED)
    await settle()

    [request] = pushing.endpoint.running
    assert request.config == new


async def test_a_new_endpoint_does_not_wait_for_the_pause_of_the_old_one(
    pushing: Pushing,
) -> None:
    pushing.endpoint.always = REFUSED
    await pushing.publish(*(b"%d" % number for number in range(10)))
    await settle()
    pushing.endpoint.always = ACCEPTED

    await pushing.change(replace(PUSHED, push=PushConfig("https://example.com/new")))
    await settle()

    assert (await pushing.runtime()).counters.acked == 6  # four were refused before it paused


async def test_from_push_to_pull_nothing_is_lost(pushing: Pushing) -> None:
    await pushing.publish(*(b"%d" % number for number in range(5)))
    first = await pushing.running(3)

    await pushing.change(PULLED)
    pulled = await pushing.pull()
    first[0].end(ACCEPTED)
    first[1].end(ACCEPTED)
    first[2].end(REFUSED)
    await settle()

    assert {message.data for message in pulled} == {b"3", b"4"}
    assert not pushing.endpoint.running
    pushing.clock.advance(2)
    assert await pushing.pull_data() == [first[2].data]
    assert pushing.workers == []


async def test_from_pull_to_push_streams_and_pulls_end_and_nothing_is_lost(
    pushing: Pushing,
) -> None:
    await pushing.change(PULLED)
    stream = await pushing.stream(max_messages=1)
    await pushing.publish(b"1", b"2", b"3")
    [held] = stream.messages
    waiting = await begun(pushing.pulls.pull(ORDERS, 1, 60.0))
    pulled = await waiting
    assert pulled is not None
    await pushing.pull()
    waiting = await begun(pushing.pulls.pull(ORDERS, 1, 60.0))
    pushing.endpoint.always = ACCEPTED

    await pushing.change(PUSHED)

    assert isinstance(stream.error, FailedPrecondition)
    assert stream.error.message == "This method is not supported for this subscription type."
    with pytest.raises(FailedPrecondition):
        await waiting
    for call in (pushing.pull(), pushing.ack(held), pushing.extend(10, held)):
        with pytest.raises(FailedPrecondition):
            await call
    await settle()
    pushing.clock.advance(11)
    await settle()
    assert set(pushing.endpoint.data) == {b"1", b"2", b"3"}


async def test_back_and_forth_is_as_if_nothing_had_been(pushing: Pushing) -> None:
    for _ in range(3):
        await pushing.change(PULLED)
        await pushing.change(PUSHED)
    pushing.endpoint.always = ACCEPTED

    await pushing.publish(b"1")
    await settle()

    assert pushing.endpoint.data == [b"1"]
    assert len(pushing.workers) == 1


async def test_a_detached_subscription_is_not_pushed(pushing: Pushing) -> None:
    await pushing.publish(*(b"%d" % number for number in range(5)))
    first = await pushing.running(3)

    await pushing.subscriptions.detach(ORDERS)
    for request in first:
        request.end(ACCEPTED)
    await settle()

    assert len(pushing.endpoint.pushed) == 3
    assert pushing.workers == []


async def test_a_deleted_subscription_is_not_pushed_and_its_namesake_is_another(
    pushing: Pushing,
) -> None:
    await pushing.publish(*(b"%d" % number for number in range(5)))
    first = await pushing.running(3)

    await pushing.subscriptions.delete(ORDERS)
    await pushing.subscriptions.create(ORDERS, TOPIC, PUSHED)
    for request in first:
        request.end(ACCEPTED)
    await settle()
    await pushing.publish(b"new")
    await settle()

    assert pushing.endpoint.data[3:] == [b"new"]
    assert len(pushing.workers) == 1


async def test_an_endpoint_that_was_accepted_once_does_not_block_other_changes(
    pushing: Pushing,
) -> None:
    stored = pushing.stored.subscriptions
    old = replace(PUSHED, push=PushConfig("https://10.0.0.1/"))
    stored[ORDERS] = replace(stored[ORDERS], config=old)

    await pushing.change(replace(old, ack_deadline_s=20))

    with pytest.raises(InvalidArgument):
        await pushing.change(replace(old, push=PushConfig("https://10.0.0.1/other")))


async def test_a_worker_that_starts_too_late_takes_nothing(pushing: Pushing) -> None:
    late = await pushing.subscriptions.get(ORDERS)
    await pushing.change(PULLED)

    worker = pushing._worker(late)
    worker.start()
    await settle()
    await pushing.publish(b"1")
    await settle()

    assert pushing.endpoint.pushed == []
    assert await pushing.pull_data() == [b"1"]
    await worker.close()


async def test_a_worker_takes_nothing_of_another_subscription_of_the_same_name(
    pushing: Pushing,
) -> None:
    old = await pushing.subscriptions.get(ORDERS)
    await pushing.subscriptions.delete(ORDERS)
    await pushing.subscriptions.create(ORDERS, TOPIC, PUSHED)
    [own] = [worker for worker in pushing.workers if worker.subscription.id != old.id]

    worker = pushing._worker(old)
    worker.start()
    pushing.endpoint.always = ACCEPTED
    await pushing.publish(*(b"%d" % number for number in range(50)))
    async with asyncio.timeout(20):
        await pushing.endpoint.came.wait()
    await eventually(lambda: own.results["ack"] == 50)

    assert worker.results == {}
    await worker.close()


# --- start and end ----------------------------------------------------------------------------------


async def test_stored_push_subscriptions_are_pushed_after_a_restart(pushing: Pushing) -> None:
    await pushing.publish(b"1")
    await pushing.running(1)

    pushing.restart()
    pushing.endpoint.always = ACCEPTED
    async with pushing.supervisor:
        await eventually(lambda: pushing.endpoint.data == [b"1"])


async def test_a_database_that_does_not_answer_at_the_start_is_asked_again(
    pushing: Pushing,
) -> None:
    await pushing.publish(b"1")
    pushing.restart()
    pushing.catalog.failures = 1
    pushing.reader.failures = 1
    pushing.endpoint.always = ACCEPTED

    async with asyncio.timeout(20), pushing.supervisor:
        await pushing.endpoint.came.wait()
    assert pushing.endpoint.data == [b"1"]


async def test_the_end_waits_for_requests_that_run_and_begins_no_others(
    pushing: Pushing,
) -> None:
    await pushing.publish(*(b"%d" % number for number in range(5)))
    first = await pushing.running(3)

    pushing.broker.drain()
    pushing.supervisor.drain()
    end = await begun(pushing.supervisor.__aexit__(None, None, None))
    assert not end.done()
    for request in first:
        request.end(ACCEPTED)
    await end

    assert len(pushing.endpoint.pushed) == 3
    await pushing.commits.flushed()
    [cursor] = pushing.stored.cursors.values()
    assert cursor.floor == 4


async def test_the_end_does_not_wait_for_ever(clock: ManualClock) -> None:
    world = Pushing(clock, Stored())
    world.start()
    world.supervisor = Supervisor(world.catalog, {"push": world._worker}, drain_s=0.0)
    world.subscriptions.workers = world.supervisor
    async with world.supervisor:
        await world.create(subscription=PUSHED)
        await world.publish(b"1")
        await world.running(1)

    assert world.endpoint.running == []
    assert world.workers == []
