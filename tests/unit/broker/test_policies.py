"""Ordering, exactly-once delivery, retries and dead letters, each rule by one example."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ams_grpc.broker import forwarder as forwarder_module
from ams_grpc.broker.catalog import SubscriptionConfig, TopicConfig
from ams_grpc.broker.consumers import Delivery
from ams_grpc.broker.errors import (
    INVALID_ACK_ID,
    UNORDERED_ACK_ID,
    AckIdsRefused,
    ShuttingDown,
    StorageUnavailable,
)
from ams_grpc.broker.names import SubscriptionName, TopicName
from ams_grpc.broker.policies import SECOND_US, DeadLetterPolicy, RetryPolicy
from ams_grpc.broker.retry import backoff_s, own_backoff_s
from tests.unit.broker.world import ORDERS, TOPIC, Stream, World, begun, eventually

DEAD = TopicName("project", "dead")
DEAD_SUB = SubscriptionName("project", "dead-sub")


async def configure(world: World, **fields: Any) -> None:
    """Another subscription in the place of the world's, with this config."""
    await world.subscriptions.delete(ORDERS)
    await world.subscriptions.create(ORDERS, TOPIC, SubscriptionConfig(**fields))


async def change(world: World, **fields: Any) -> None:
    await world.subscriptions.update(ORDERS, lambda sub: replace(sub.config, **fields))


async def refused(work: Any) -> list[str]:
    with pytest.raises(AckIdsRefused) as error:
        await work
    return list(error.value.refused.values())


async def failed(world: World, times: int = 1) -> None:
    """The only message is delivered and nacked so often."""
    for _ in range(times):
        (message,) = await world.pull()
        await world.nack(message)


def forwarded(world: World) -> int:
    return world.stored.next_seq(world.stored.topics[DEAD].id) - 1


class TestDeadLetters:
    @pytest.fixture
    async def world(self, empty: World) -> World:
        await empty.create()
        await empty.topics.create(DEAD, TopicConfig())
        await empty.subscriptions.create(DEAD_SUB, DEAD, SubscriptionConfig())
        await configure(empty, dead_letter=DeadLetterPolicy(DEAD, 5))
        return empty

    async def test_after_the_last_attempt_it_is_forwarded_with_where_it_came_from(
        self, world: World
    ) -> None:
        await world.publish(b"key:one")
        attempts: list[int] = []
        runtime = await world.runtime()
        for _ in range(5):
            delivery = await world.pulls.pull(ORDERS, 10, 0)
            assert delivery is not None
            attempts += delivery.attempts
            runtime.fail(delivery.grant, delivery.seqs, "it does not fit")
            world.clock.advance(2)  # what a worker failed rests a little
        await eventually(lambda: runtime.floor == 2)

        assert attempts == [1, 2, 3, 4, 5]
        assert await world.pull() == []
        (forwarded,) = await world.pull(name=DEAD_SUB)
        assert forwarded.data.startswith(b"key:one")
        prefix = "CloudPubSubDeadLetterSource"
        assert json.loads(forwarded.data[len(b"key:one") :]) == {
            f"{prefix}DeliveryCount": "5",
            f"{prefix}Subscription": "orders-sub",
            f"{prefix}SubscriptionProject": "project",
            f"{prefix}TopicPublishTime": "2023-11-14T22:13:20.000+00:00",
            f"{prefix}DeliveryErrorMessage": "it does not fit",
        }

    async def test_an_expiry_is_an_attempt_and_the_end_of_a_stream_is_none(
        self, world: World
    ) -> None:
        await world.publish(b"one")
        await world.pull()
        world.clock.advance(10)
        stream = await world.stream()
        assert stream.data == [b"one"]
        runtime = await world.runtime()
        runtime.remove(stream.consumer)
        world.clock.advance(9)
        assert runtime._places.attempts.failures(1) == 1

    async def test_attempts_outlive_a_restart_and_a_failed_write(self, world: World) -> None:
        await world.publish(b"one")
        await failed(world, 2)
        world.commits.commit_in_vain()
        world.commits.commit()
        world.restart()
        delivery = await world.pulls.pull(ORDERS, 10, 0)
        assert delivery is not None
        assert delivery.attempts == [3]

    async def test_after_a_restart_it_is_forwarded_and_not_delivered(self, world: World) -> None:
        await world.publish(b"one")
        world.commits.failing = True  # no forward succeeds
        await failed(world, 5)
        world.commits.commit()
        world.restart()
        assert await world.pull() == []
        await eventually(lambda: forwarded(world) == 1)
        assert len(await world.pull(name=DEAD_SUB)) == 1

    async def test_without_its_topic_it_is_delivered_again_and_tried_again(
        self, world: World
    ) -> None:
        await world.publish(b"one")
        await world.topics.delete(DEAD)
        await failed(world, 5)
        runtime = await world.runtime()
        await eventually(lambda: not runtime._places.dying)
        assert await world.pull() == []  # it rests
        world.clock.advance(1)
        await world.topics.create(DEAD, TopicConfig())
        await failed(world)
        await eventually(lambda: runtime.floor == 2)
        assert await world.pull() == []

    async def test_while_the_storage_is_away_it_is_neither_forwarded_nor_delivered(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(forwarder_module, "_RETRY_S", 0)
        await world.publish(b"one")
        world.commits.failing = True
        await failed(world, 5)
        runtime = await world.runtime()
        before = world.commits.calls.count("append")
        await eventually(lambda: world.commits.calls.count("append") > before + 2)
        world.clock.advance(100)
        assert await world.pull() == []
        world.commits.failing = False
        await eventually(lambda: runtime.floor == 2)
        assert forwarded(world) == 1

    async def test_a_message_whose_policy_is_removed_before_it_is_forwarded_is_delivered(
        self, world: World
    ) -> None:
        await world.publish(b"one")
        await failed(world, 4)
        (message,) = await world.pull()
        runtime = await world.runtime()
        runtime.modify_ack_deadline([message.ack_id], 0)
        runtime.use(
            replace(
                runtime.subscription, config=replace(runtime.subscription.config, dead_letter=None)
            )
        )
        await eventually(lambda: not runtime._places.dying)
        world.clock.advance(1)
        assert await world.pull_data() == [b"one"]

    async def test_counts_of_before_are_stored_once_there_is_a_policy(self, world: World) -> None:
        await change(world, dead_letter=None)
        await world.publish(b"one")
        await failed(world, 2)
        world.commits.commit()
        assert not any(world.stored.failures.values())
        await change(world, dead_letter=DeadLetterPolicy(DEAD, 5))
        world.commits.commit()
        world.restart()
        delivery = await world.pulls.pull(ORDERS, 10, 0)
        assert delivery is not None
        assert delivery.attempts == [3]

    async def test_a_seek_during_a_forward_brings_it_again(self, world: World) -> None:
        await world.publish(b"one")
        for _ in range(4):
            await failed(world)
        (message,) = await world.pull()
        runtime = await world.runtime()
        runtime.modify_ack_deadline([message.ack_id], 0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        runtime.seek(1, 1)
        await eventually(lambda: forwarded(world) == 1)  # it was on its way
        await eventually(lambda: runtime._forwarder._work is None)
        delivery = await world.pulls.pull(ORDERS, 10, 0)
        assert delivery is not None
        assert delivery.attempts == [1]

    async def test_a_forward_of_before_a_seek_settles_nothing_after_it(self, world: World) -> None:
        """Even if the message is dying again by then."""
        thens: list[Callable[[], None]] = []

        class Slow:
            async def forward(
                self, *_: Any, then: Callable[[], None], **_more: Any
            ) -> bool:  # never answers
                thens.append(then)
                await asyncio.Event().wait()
                return True

        await world.publish(b"one")
        runtime = await world.runtime()
        runtime._forwarder._forwarding = Slow()
        await failed(world, 5)
        await eventually(lambda: thens)
        runtime.seek(1, 1)
        await failed(world, 5)
        assert list(runtime._places.dying) == [1]
        thens[0]()
        assert list(runtime._places.dying) == [1]
        assert runtime.floor == 1
        runtime.close(ShuttingDown("bye"))

    async def test_a_key_goes_on_after_forwarding(self, world: World) -> None:
        await configure(world, dead_letter=DeadLetterPolicy(DEAD, 5), ordered=True)
        await world.publish(b"k:1", b"k:2")
        first = 0
        for _ in range(5):
            messages = await world.pull()
            assert [message.data for message in messages] == [b"k:1", b"k:2"]
            first = messages[0].seq
            await world.nack(messages[0])
        runtime = await world.runtime()
        await eventually(lambda: runtime.floor > first)
        assert await world.pull_data() == [b"k:2"]

    async def test_a_late_ack_of_a_dying_message_does_not_block_its_key(self, world: World) -> None:
        await configure(world, dead_letter=DeadLetterPolicy(DEAD, 5), ordered=True)
        await world.publish(b"k:1", b"k:2")
        for _ in range(4):
            await world.nack((await world.pull())[0])
        messages = await world.pull()
        runtime = await world.runtime()
        world.clock.advance(10)
        runtime.acknowledge([messages[0].ack_id])
        assert runtime.counters.acked == 0
        await eventually(lambda: runtime._forwarder._work is None)
        assert forwarded(world) == 1
        assert await world.pull_data() == [b"k:2"]

    async def test_a_late_ack_counts_once_its_topic_has_not_taken_the_message(
        self, world: World
    ) -> None:
        await world.topics.delete(DEAD)
        await world.publish(b"one")
        await failed(world, 4)
        (one,) = await world.pull()
        world.clock.advance(10)
        runtime = await world.runtime()
        await eventually(lambda: not runtime._places.dying)
        await world.ack(one)
        world.clock.advance(1)
        assert await world.pull() == []

    async def test_what_its_topic_has_not_taken_is_delivered_next_even_if_memory_was_short(
        self, world: World
    ) -> None:
        """It would be read again as one that is to be forwarded."""
        await configure(world, dead_letter=DeadLetterPolicy(DEAD, 5), ordered=True)
        await world.topics.delete(DEAD)
        await world.publish(b"k:0", b"k:1", b"k:2")
        for _ in range(5):
            zero, one, _ = await world.pull()
            await world.nack(one)
            await world.nack(zero)
        runtime = await world.runtime()
        await eventually(lambda: not runtime._places.dying)
        await world.topics.create(DEAD, TopicConfig())
        assert runtime._places.make_room()
        world.clock.advance(1)
        assert await world.pull_data() == [b"k:0", b"k:1"]

    async def test_what_was_nacked_last_before_a_crash_is_forwarded_and_not_delivered_with_its_key(
        self, world: World
    ) -> None:
        """The others of its delivery are still out, and their leases go on."""
        await configure(
            world, dead_letter=DeadLetterPolicy(DEAD, 5), ordered=True, exactly_once=True
        )
        await world.publish(b"k:0", b"k:1", b"k:2")
        for _ in range(4):
            zero, _, two = await world.pull()
            await world.nack(two)
            await world.nack(zero)
        zero, one, two = await world.pull()
        runtime = await world.runtime()
        runtime.modify_ack_deadline_exactly([two.ack_id], 0)
        world.commits.commit()
        world.restart()
        await world.ack(zero)
        await world.nack(one)
        assert await world.pull_data() == [b"k:1"]
        await eventually(lambda: forwarded(world) == 1)
        (dead,) = await world.pull(name=DEAD_SUB)
        assert dead.data.startswith(b"k:2")

    async def test_a_key_goes_on_when_retention_takes_a_dying_message(self, world: World) -> None:
        await configure(world, dead_letter=DeadLetterPolicy(DEAD, 5), ordered=True)
        await world.publish(b"k:1", b"k:2")
        world.commits.failing = True
        for _ in range(5):
            await world.nack((await world.pull())[0])
        runtime = await world.runtime()
        first = min(runtime._places.dying)
        runtime.expire_before(first + 1, runtime.subscription.retention_us)
        world.commits.failing = False
        await eventually(lambda: runtime._forwarder._work is None)
        assert await world.pull_data() == [b"k:2"]


class TestRetries:
    @pytest.mark.parametrize(
        "bounds, expected",
        [
            ((10, 600), [10, 20, 40, 80, 160, 320, 600, 600]),
            ((0, 5), [1, 2, 4, 5]),
            ((0, 0), [0, 0, 0]),
            ((600, 600), [600, 600]),
            ((0.25, 1), [0.25, 0.5, 1, 1]),
        ],
    )
    def test_the_rest_doubles_between_the_bounds(
        self, bounds: tuple[float, float], expected: list[float]
    ) -> None:
        least, most = (int(bound * SECOND_US) for bound in bounds)
        policy = RetryPolicy(least, most)
        assert [backoff_s(policy, n + 1) for n in range(len(expected))] == expected
        assert backoff_s(policy, 10_000) == expected[-1]

    def test_without_a_policy_there_is_no_rest_but_for_faults_of_the_service(self) -> None:
        assert backoff_s(None, 7) == 0
        assert [own_backoff_s(n) for n in (1, 2, 10, 11, 10_000)] == [0.1, 0.2, 51.2, 60, 60]

    async def test_only_the_failed_message_rests_after_a_nack_and_after_an_expiry(
        self, empty: World
    ) -> None:
        retry = RetryPolicy(2 * SECOND_US, 60 * SECOND_US)
        await empty.create(subscription=SubscriptionConfig(retry=retry))
        await empty.publish(b"one", b"two")
        one, two = await empty.pull()
        await empty.nack(one)
        await empty.extend(3, two)
        stream = await empty.stream()
        empty.clock.advance(1.9)
        assert stream.data == []
        empty.clock.advance(0.1)
        assert stream.data == [b"one"]
        empty.clock.advance(1)  # two expires
        await empty.publish(b"three")
        assert stream.data == [b"one", b"three"]
        empty.clock.advance(2)
        assert stream.data == [b"one", b"three", b"two"]


class TestExactlyOnce:
    @pytest.fixture
    async def world(self, empty: World) -> World:
        await empty.create(subscription=SubscriptionConfig(exactly_once=True))
        return empty

    async def test_a_lease_is_written_before_its_message_is_sent(self, world: World) -> None:
        await world.publish(b"one")
        world.commits.answers.clear()
        pull = await begun(world.pulls.pull(ORDERS, 1, 5))
        assert not pull.done()
        world.commits.answers.set()
        await pull
        assert any(world.stored.leases.values())

    async def test_leases_outlive_a_restart(self, world: World) -> None:
        await world.publish(b"one", b"two")
        one, two = await world.pull()
        await world.extend(60, one)
        world.restart()
        world.clock.advance(8)
        assert await world.pull() == []
        world.clock.advance(1)  # the deadline of a delivery is that of its latest message
        assert await world.pull() == []
        await world.ack(one)
        world.clock.advance(60)
        assert await world.pull_data() == [b"two"]
        assert await refused(world.ack(two)) == [INVALID_ACK_ID]

    async def test_what_was_handed_back_before_a_restart_is_not_leased_after_it(
        self, world: World
    ) -> None:
        await change(world, dead_letter=DeadLetterPolicy(TOPIC, 5))
        await world.publish(b"one", b"two")
        one, two = await world.pull()
        await world.nack(one)
        world.restart()
        assert await world.pull_data() == [b"one"]
        runtime = await world.runtime()
        assert runtime._places.attempts.failures(one.seq) == 1
        await world.ack(two)

    async def test_only_the_latest_id_of_a_valid_lease_counts(self, world: World) -> None:
        await world.publish(b"one")
        (old,) = await world.pull()
        await world.nack(old)
        (new,) = await world.pull()
        for stale in (old, old._replace(ack_id="malformed")):
            assert await refused(world.ack(stale)) == [INVALID_ACK_ID]
            assert await refused(world.extend(10, stale)) == [INVALID_ACK_ID]
        await world.extend(5, new)
        world.clock.advance(5)
        assert await refused(world.ack(new)) == [INVALID_ACK_ID]
        assert await world.pull_data() == [b"one"]

    @pytest.mark.parametrize("what", ["ack", "extension"])
    async def test_a_deadline_counts_also_when_nobody_has_looked_yet(
        self, world: World, what: str
    ) -> None:
        await world.publish(b"one")
        (one,) = await world.pull()
        world.clock._go_to(world.clock.monotonic() + 10)  # the alarm is late
        asked = world.ack(one) if what == "ack" else world.extend(10, one)
        assert await refused(asked) == [INVALID_ACK_ID]

    async def test_good_ids_count_beside_bad_ones(self, world: World) -> None:
        await world.publish(b"one")
        (one,) = await world.pull()
        assert await refused(world.ack(one, one._replace(ack_id="malformed"))) == [INVALID_ACK_ID]
        world.restart()
        world.clock.advance(60)
        assert await world.pull() == []

    async def test_an_accepted_ack_repeated_is_accepted_for_a_while(self, world: World) -> None:
        await world.publish(b"one")
        (one,) = await world.pull()
        await world.ack(one, one)
        world.clock.advance(599)
        await world.ack(one)
        world.clock.advance(1)
        assert await refused(world.ack(one)) == [INVALID_ACK_ID]

    async def test_an_ack_that_could_not_be_written_succeeds_when_it_is_repeated(
        self, world: World
    ) -> None:
        await world.publish(b"one")
        (one,) = await world.pull()
        world.commits.failing = True
        with pytest.raises(StorageUnavailable):
            await world.ack(one)
        world.commits.failing = False
        await world.ack(one)
        world.restart()
        world.clock.advance(60)
        assert await world.pull() == []

    async def test_one_that_was_not_written_before_a_crash_comes_again(self, world: World) -> None:
        await world.publish(b"one")
        (one,) = await world.pull()
        world.commits.failing = True
        with pytest.raises(StorageUnavailable):
            await world.ack(one)
        world.restart()
        assert await world.pull() == []
        world.clock.advance(10)
        assert await world.pull_data() == [b"one"]

    async def test_a_pull_whose_lease_could_not_be_written_waits_on(self, world: World) -> None:
        await world.publish(b"one")
        world.commits.answers.clear()
        pull = await begun(world.pulls.pull(ORDERS, 1, 5))
        world.commits.failures = 1
        world.commits.answers.set()
        delivery = await pull
        assert delivery is not None

    async def test_a_delivery_that_expires_before_it_is_sent_is_no_attempt(
        self, world: World
    ) -> None:
        await world.publish(b"one")
        world.commits.answers.clear()
        stream = await begun(world.stream())
        runtime = await world.runtime()
        world.clock.advance(11)
        world.commits.answers.set()
        await stream
        assert runtime._places.attempts.failures(1) == 0
        assert runtime.counters.expired == 0

    async def test_what_came_back_before_a_restart_is_delivered_once_after_it(
        self, world: World
    ) -> None:
        """Also if a lease that goes on ends before its place in the log is read again."""
        await world.publish(b"one", b"two")
        _, two = await world.pull()
        world.restart()
        await world.nack(two)
        assert await world.pull_data() == [b"two"]
        assert await world.pull_data() == []

    async def test_switched_off_it_holds_nothing_back_after_a_restart(self, world: World) -> None:
        await world.publish(b"one")
        await world.pull()
        policy = DeadLetterPolicy(TOPIC, 5)
        await change(world, exactly_once=False, dead_letter=policy)
        world.restart()
        assert await world.pull_data() == [b"one"]

    async def test_switched_off_it_lets_nothing_overtake_what_is_being_written(
        self, world: World
    ) -> None:
        await configure(world, exactly_once=True, ordered=True)
        runtime = await world.runtime()
        stream = Stream()
        runtime.add(stream.consumer)
        world.commits.answers.clear()
        await world.publish(b"k:0")
        assert runtime.busy
        assert stream.data == []
        await change(world, exactly_once=False)
        await world.publish(b"k:1")
        assert stream.data == [b"k:0", b"k:1"]
        world.commits.answers.set()
        await world.ack(*stream.messages)
        assert stream.data == [b"k:0", b"k:1"]
        assert runtime.counters.sent == runtime.counters.acked == 2

    async def test_switched_off_it_lets_no_pull_wait_for_what_is_being_written(
        self, world: World
    ) -> None:
        await world.publish(b"one")
        world.commits.answers.clear()
        pull = await begun(world.pulls.pull(ORDERS, 1, 5))
        assert not pull.done()
        await change(world, exactly_once=False)
        delivery = await pull
        assert isinstance(delivery, Delivery)
        assert delivery.messages == [b"one"]

    @pytest.mark.parametrize("ordered", [False, True])
    async def test_switched_off_it_lets_a_late_ack_count_if_the_next_delivery_was_never_sent(
        self, world: World, ordered: bool
    ) -> None:
        await configure(world, exactly_once=True, ordered=ordered)
        await world.publish(b"k:0")
        (zero,) = await world.pull()
        world.clock.advance(10)
        world.commits.answers.clear()
        pull = await begun(world.pull())
        runtime = await world.runtime()
        assert runtime.busy  # its lease is being written
        pull.cancel()
        world.commits.answers.set()
        await eventually(lambda: not runtime.busy)
        await change(world, exactly_once=False)
        await world.ack(zero)
        assert await world.pull() == []

    async def test_with_ordering_acks_out_of_order_are_refused_for_now(self, world: World) -> None:
        await configure(world, exactly_once=True, ordered=True)
        await world.publish(b"k:0", b"k:1", b"k:2", b"free")
        zero, one, two, free = await world.pull()
        assert await refused(world.ack(two, free)) == [UNORDERED_ACK_ID]
        await world.ack(one, zero)
        await world.ack(two)

    async def test_with_ordering_a_failure_ends_the_leases_behind_it(self, world: World) -> None:
        await configure(world, exactly_once=True, ordered=True)
        await world.publish(b"k:0", b"k:1")
        zero, one = await world.pull()
        await world.nack(zero)
        assert await refused(world.ack(one)) == [INVALID_ACK_ID]
        assert await world.pull_data() == [b"k:0", b"k:1"]

    async def test_with_ordering_deliveries_do_not_keep_each_other_from_being_sent(
        self, world: World
    ) -> None:
        """What came back while they were written is left out; each holds a key's next message."""
        await configure(world, exactly_once=True, ordered=True)
        runtime = await world.runtime()
        stream = await world.stream(max_messages=3)
        await world.publish(b"k:0")
        await eventually(lambda: stream.data == [b"k:0"])
        world.commits.answers.clear()
        await world.publish(b"k:1", b"l:0")
        await world.publish(b"l:1")
        pull = await begun(world.pull())  # it finds l:1, for the stream
        pull.cancel()
        await eventually(pull.done)
        nack = await begun(world.nack(stream.messages[0]))
        leases = runtime._places.book._stored.values()
        assert [list(lease.seqs) for lease in leases] == [[3], [4, 1]]
        world.commits.answers.set()
        await nack
        await eventually(lambda: not runtime.busy)
        assert stream.data == [b"k:0", b"l:0", b"l:1", b"k:0"]
        assert runtime.counters.sent == 4
        await world.ack(*stream.messages[1:])
        await eventually(lambda: stream.data[4:] == [b"k:1"])

    async def test_with_ordering_a_lease_does_not_outlive_an_earlier_one_of_its_key(
        self, world: World
    ) -> None:
        """The earlier ones expire while the service is down; none reads on before the ack."""
        await configure(world, exactly_once=True, ordered=True)
        await world.publish(b"k:0", b"k:1")
        await world.publish(b"k:2")
        stream = await world.stream(ack_deadline_s=10, max_messages=2)
        await eventually(lambda: stream.data == [b"k:0", b"k:1"])
        runtime = await world.runtime()
        stream.consumer._max_messages = 3
        runtime.wake(stream.consumer)
        await eventually(lambda: len(stream.messages) == 3)
        two = stream.messages[2]
        await world.extend(60, two)
        world.clock.advance(9.5)
        world.restart()

        assert await refused(world.ack(two)) == [INVALID_ACK_ID]
        assert await world.pull_data() == [b"k:0", b"k:1", b"k:2"]


class TestOrdering:
    @pytest.fixture
    async def world(self, empty: World) -> World:
        await empty.create(subscription=SubscriptionConfig(ordered=True))
        return empty

    async def test_a_failure_brings_all_later_ones_of_its_key_even_acknowledged(
        self, world: World
    ) -> None:
        await world.publish(*[b"k:%d" % n for n in range(5)])
        messages = await world.pull()
        await world.ack(*messages[1:])
        await world.nack(messages[0])
        assert await world.pull_data() == [b"k:0", b"k:1", b"k:2", b"k:3", b"k:4"]

    async def test_acks_that_are_not_final_are_not_written(self, world: World) -> None:
        await world.publish(b"k:0", b"k:1", b"l:0")
        zero, one, other = await world.pull()
        await world.ack(one, other)
        world.restart()
        assert await world.pull_data() == [b"k:0", b"k:1"]
        assert zero.seq == 1

    async def test_one_consumer_has_all_of_a_key_that_is_out(self, world: World) -> None:
        await world.publish(b"k:0", b"k:1", b"l:0", b"free")
        (zero,) = await world.pull(1)
        assert await world.pull_data() == [b"l:0", b"free"]
        await world.ack(zero)
        assert await world.pull_data() == [b"k:1"]

    async def test_a_late_ack_ends_the_rest_of_its_key(self, world: World) -> None:
        await change(world, retry=RetryPolicy(60 * SECOND_US, 60 * SECOND_US))
        await world.publish(b"k:0", b"k:1")
        (zero,) = await world.pull(1)
        world.clock.advance(10)
        assert await world.pull() == []
        await world.ack(zero)
        assert await world.pull_data() == [b"k:1"]

    async def test_a_late_ack_does_not_count_for_what_is_to_follow_an_earlier_one_again(
        self, world: World
    ) -> None:
        await world.publish(b"k:0", b"k:1")
        zero, one = await world.pull()
        await world.extend(20, zero)
        world.clock.advance(10)  # the second expires
        await world.nack(zero)
        (zero,) = await world.pull(1)
        await world.ack(zero, one)
        assert await world.pull_data() == [b"k:1"]

    @pytest.mark.parametrize("ordered", [False, True])
    async def test_a_late_ack_counts_if_the_next_delivery_did_not_arrive(
        self, world: World, ordered: bool
    ) -> None:
        await configure(world, ordered=ordered)
        await world.publish(b"k:0")
        (zero,) = await world.pull()
        world.clock.advance(10)
        runtime = await world.runtime()
        (again,) = await world.pull()
        (lease, _) = runtime._places.leases._held[again.seq]
        runtime.give_back(Delivery(lease.grant, b"", [again.seq], [again.data]))
        await world.ack(zero)
        assert await world.pull() == []

    async def test_what_retention_takes_from_a_consumer_does_not_block_its_key(
        self, world: World
    ) -> None:
        await world.publish(b"k:0", b"k:1", b"k:2")
        zero, one = await world.pull(2)
        await world.ack(one)
        runtime = await world.runtime()
        runtime.expire_before(zero.seq + 1, runtime.subscription.retention_us)
        await world.ack(zero)
        assert await world.pull_data() == [b"k:2"]
        assert len(runtime._places.keys or ()) == 1

    async def test_of_those_that_expire_together_the_first_of_a_key_has_failed(
        self, world: World
    ) -> None:
        """Whichever lease is the older: the others are only taken back."""
        await world.publish(b"k:0", b"k:1")
        stream = await world.stream(max_messages=1)
        runtime = await world.runtime()
        stream.consumer._max_messages = 2
        runtime.wake(stream.consumer)
        zero, one = stream.messages
        await world.extend(20, one)
        await world.extend(20, zero)
        runtime.remove(stream.consumer)
        world.clock.advance(20)
        assert [runtime._places.attempts.failures(seq) for seq in (1, 2)] == [1, 0]

    async def test_a_delivery_that_did_not_arrive_ends_the_rest_of_a_later_one(
        self, world: World
    ) -> None:
        """The key rests because of its head, and the head is another now."""
        await change(world, retry=RetryPolicy(60 * SECOND_US, 60 * SECOND_US))
        await world.publish(b"k:0", b"k:1")
        runtime = await world.runtime()
        stream = await world.stream(max_messages=1)
        stream.consumer._max_messages = 2
        runtime.wake(stream.consumer)
        zero, one = stream.messages
        await world.nack(one)
        runtime.remove(stream.consumer)
        (lease, _) = runtime._places.leases._held[zero.seq]
        runtime.give_back(Delivery(lease.grant, b"", [zero.seq], [b""]))
        assert await world.pull_data() == [b"k:0", b"k:1"]

    async def test_what_cannot_be_delivered_does_not_overtake_what_can(self, empty: World) -> None:
        """The view fails for the second of a key: it is held back behind the first."""
        await empty.create(subscription=SubscriptionConfig(ordered=True))
        await empty.publish(b"k:0", b"k:1", b"k:2")
        runtime = await empty.runtime()
        plain = runtime._reading.view
        failing = FailingView(plain, {2})
        runtime._reading.view = failing
        stream = await empty.stream()
        assert stream.data == [b"k:0"]
        assert [runtime._places.attempts.failures(seq) for seq in (1, 2, 3)] == [0, 1, 0]
        failing.seqs.clear()
        empty.clock.advance(0.1)
        assert stream.data == [b"k:0", b"k:1", b"k:2"]

    async def test_what_cannot_be_delivered_is_tried_again_while_one_before_it_is_out(
        self, empty: World
    ) -> None:
        """Who holds the key was to get it."""
        await empty.create(subscription=SubscriptionConfig(ordered=True))
        runtime = await empty.runtime()
        failing = FailingView(runtime._reading.view, {2})
        runtime._reading.view = failing
        stream = await empty.stream()
        await empty.publish(b"k:0")
        await empty.publish(b"k:1")
        await eventually(lambda: not runtime.busy)
        assert stream.data == [b"k:0"]
        assert [runtime._places.attempts.failures(seq) for seq in (1, 2)] == [0, 1]
        failing.seqs.clear()
        empty.clock.advance(0.1)
        assert stream.data == [b"k:0", b"k:1"]


class FailingView:
    """``views.View`` of which some messages cannot be delivered."""

    def __init__(self, view: Any, seqs: set[int]) -> None:
        self._view = view
        self.seqs = seqs

    def find(self, seq: int) -> Any:
        found = self._view.find(seq)
        return None if found is None else FailingWindow(found, self.seqs)

    async def load(self, seq: int) -> int | None:
        loaded: int | None = await self._view.load(seq)
        return loaded


class FailingWindow:
    def __init__(self, window: Any, seqs: set[int]) -> None:
        self.first_seq, self.end_seq = window.first_seq, window.end_seq
        self.publish_time_us = window.publish_time_us
        self.messages = window.messages
        self.failures = dict.fromkeys(seqs, "broken")
        self.is_whole = not seqs
