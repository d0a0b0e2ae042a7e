"""Publishes that are done once, however often they are asked for."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from sqlalchemy import Connection, text

from ams_grpc.broker.catalog import Subscription, Topic, TopicConfig
from ams_grpc.broker.errors import Aborted, InvalidArgument, StorageUnavailable
from ams_grpc.broker.ports import Appended, Once, Settled
from ams_grpc.storage import Storage, open_storage, upkeep
from ams_grpc.storage.migrate import migrate
from tests.storage.test_cursors import set_bits
from tests.storage.world import (
    DAY_US,
    PATIENCE_S,
    ManualClock,
    Trouble,
    busy_writer,
    cursor,
    eventually,
    publish,
    stored,
    subscription,
    topic,
)


def once(key: str = "key", digest: bytes = b"digest", keep_us: int = DAY_US) -> Once:
    return Once(key.encode().ljust(16), digest, keep_us)


async def append(
    storage: Storage, to: Topic, payload: bytes, as_: Once, count: int = 1
) -> Appended:
    return await storage.commits.append(to, payload, count, once=as_)


@pytest.fixture
async def orders(storage: Storage) -> Topic:
    return await topic(storage)


async def test_a_repeat_gets_the_first_answer_and_stores_nothing(
    storage: Storage, orders: Topic, clock: ManualClock
) -> None:
    await publish(storage, orders, b"before")
    first = await append(storage, orders, b"abc", once(), 3)
    await publish(storage, orders, b"between")
    clock.advance(DAY_US - 1)

    assert await append(storage, orders, b"abc", once(), 3) == first
    assert first.first_seq == 1
    assert [payload for _, _, payload in await stored(storage, orders)] == [
        b"before",
        b"abc",
        b"between",
    ]


async def test_repeats_in_one_group_share_a_result_and_others_get_their_own(
    storage: Storage, orders: Topic
) -> None:
    """All of them are one row, and each key has its ids."""
    bills = await topic(storage, "bills")
    async with busy_writer(storage.commits):
        answers = [
            storage.commits.append(orders, b"-", 1),
            storage.commits.append(orders, b"ab", 2, once=once("1")),
            storage.commits.append(orders, b"c", 1, once=once("2")),
            storage.commits.append(orders, b"ab", 2, once=once("1")),
            storage.commits.append(orders, b"-", 1),
            storage.commits.append(bills, b"ab", 2, once=once("1")),
        ]
    results = await asyncio.gather(*answers)

    assert [answer.first_seq for answer in results] == [0, 1, 3, 1, 4, 0]
    assert await stored(storage, orders) == [(0, 5, b"-abc-")]
    assert await stored(storage, bills) == [(0, 2, b"ab")]
    for key, seq in ("1", 1), ("2", 3):
        assert (await append(storage, orders, b"again", once(key))).first_seq == seq


async def test_a_group_of_nothing_but_repeats_stores_nothing(
    storage: Storage, orders: Topic
) -> None:
    first = await append(storage, orders, b"a", once())
    async with busy_writer(storage.commits):
        answers = [storage.commits.append(orders, b"a", 1, once=once()) for _ in range(3)]

    assert await asyncio.gather(*answers) == [first] * 3
    assert await storage.log.next_seq(orders.id) == 1


async def test_a_key_of_another_request_is_refused_and_nobody_else(
    storage: Storage, orders: Topic
) -> None:
    other = once(digest=b"another")
    async with busy_writer(storage.commits):
        answers = [
            storage.commits.append(orders, b"a", 1, once=once()),
            storage.commits.append(orders, b"b", 1, once=other),
            storage.commits.append(orders, b"c", 1),
        ]
    first, refused, plain = await asyncio.gather(*answers, return_exceptions=True)
    with pytest.raises(InvalidArgument, match="idempotency key"):
        await append(storage, orders, b"b", other)
    with pytest.raises(InvalidArgument, match="idempotency key"):
        await storage.catalog.published(orders, other)

    assert isinstance(refused, InvalidArgument)
    assert [first.first_seq, plain.first_seq] == [0, 1]  # type: ignore[union-attr]
    assert await storage.log.next_seq(orders.id) == 2


async def test_one_that_fails_is_not_remembered(storage: Storage, orders: Topic) -> None:
    """Neither with a value that does not fit, nor with a topic that is out of date."""
    current = await storage.catalog.update_topic(orders, TopicConfig(labels={"a": "b"}))
    async with busy_writer(storage.commits):
        answers = [
            storage.commits.append(current, b"too many", 1 << 63, once=once("1")),
            storage.commits.append(orders, b"late", 1, once=once("2")),
            storage.commits.append(orders, b"late", 1, once=once("2")),
            storage.commits.append(current, b"late", 1, once=once("2")),
        ]
    too_many, late, later, stored_one = await asyncio.gather(*answers, return_exceptions=True)

    assert isinstance(too_many, Exception)
    assert isinstance(late, Aborted)
    assert isinstance(later, Aborted)
    assert isinstance(stored_one, Appended)
    assert (await append(storage, current, b"a", once("1"))).first_seq == 1


async def test_a_repeat_on_an_outdated_topic_has_to_look_again(
    storage: Storage, orders: Topic
) -> None:
    """It may have been deleted, and then has no answers any more."""
    first = await append(storage, orders, b"a", once())
    current = await storage.catalog.update_topic(orders, TopicConfig(labels={"a": "b"}))
    with pytest.raises(Aborted):
        await append(storage, orders, b"a", once())
    assert await append(storage, current, b"a", once()) == first

    await storage.catalog.delete_topic(current)
    assert await storage.catalog.published(current, once()) is None
    with pytest.raises(Aborted):
        await append(storage, current, b"a", once())


async def test_a_topic_created_again_knows_no_keys(storage: Storage, orders: Topic) -> None:
    await append(storage, orders, b"a", once())
    await storage.catalog.delete_topic(orders)
    new = await topic(storage)

    await append(storage, new, b"b", once(digest=b"another"))

    assert await stored(storage, new) == [(0, 1, b"b")]


@pytest.mark.parametrize("places", [None, (), (1, 2, 5)], ids=["all", "none", "some"])
async def test_what_transforms_left_out_is_remembered(
    storage: Storage, orders: Topic, places: tuple[int, ...] | None
) -> None:
    count = 6 if places is None else len(places)
    first = await storage.commits.append(orders, bytes(count), count, once=once(), places=places)
    again = await storage.commits.append(orders, b"", 0, once=once(), places=(4,))

    known = await storage.catalog.published(orders, once())
    for each in (first, again, known):
        assert each is not None
        assert (each.first_seq, each.publish_time_us) == (0, first.publish_time_us)
        assert (None if each.places is None else tuple(each.places)) == places
    assert await storage.log.next_seq(orders.id) == count


async def test_after_its_window_a_key_is_new(
    storage: Storage, orders: Topic, clock: ManualClock
) -> None:
    await append(storage, orders, b"a", once())
    clock.advance(DAY_US)
    second = once(digest=b"another")

    assert await storage.catalog.published(orders, second) is None
    assert (await append(storage, orders, b"b", second)).first_seq == 1
    assert (await append(storage, orders, b"b", second)).first_seq == 1
    assert await storage.log.next_seq(orders.id) == 2


async def test_upkeep_forgets_in_small_bites_what_has_expired(
    storage: Storage, orders: Topic, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "FORGET_ROWS", 2)
    for n in range(5):
        await append(storage, orders, b"a", once(f"short {n}", keep_us=1_000))
    await append(storage, orders, b"a", once("long"))
    assert await storage.upkeep.forget_answers(clock.us) == 0
    clock.advance(1_000)
    commits = storage.commits.commits

    assert [await storage.upkeep.forget_answers(clock.us) for _ in range(4)] == [2, 2, 1, 0]

    assert storage.commits.commits == commits + 3  # nothing is written for nothing
    assert await keys(storage) == 1


async def test_it_is_known_after_a_restart(address: str, clock: ManualClock) -> None:
    async with open_storage(address, clock) as storage:
        orders = await topic(storage)
        first = await append(storage, orders, b"a", once())
    async with open_storage(address, clock) as storage:
        assert await append(storage, orders, b"a", once()) == first
        assert await stored(storage, orders) == [(0, 1, b"a")]


@pytest.mark.parametrize("committed", [True, False])
async def test_after_a_commit_of_unknown_outcome_the_database_knows(
    trouble: list[Trouble], storage: Storage, *, committed: bool
) -> None:
    orders = await topic(storage)
    trouble[0].after_commit, trouble[0].at_commit = committed, not committed
    with pytest.raises(StorageUnavailable):
        await append(storage, orders, b"a", once())
    trouble[0].after_commit = trouble[0].at_commit = False
    await eventually(lambda: storage.commits.is_available)

    assert (await append(storage, orders, b"a", once())).first_seq == 0
    assert await stored(storage, orders) == [(0, 1, b"a")]


async def test_of_two_nodes_at_once_the_second_gets_the_answer_of_the_first(
    postgres_url: str, clock: ManualClock
) -> None:
    migrate(postgres_url)
    async with open_storage(postgres_url, clock) as one, open_storage(postgres_url, clock) as two:
        orders = await topic(one)
        async with busy_writer(one.commits):
            winner = one.commits.append(orders, b"a", 1, once=once())
            end = hold_open(one)  # the same transaction
            await asyncio.sleep(0)
        loser = two.commits.append(orders, b"a", 1, once=once())
        refused = two.commits.append(orders, b"b", 1, once=once(digest=b"another"))
        try:
            await one.readers.run(until_a_transaction_waits_for_another)
            assert not winner.done()
        finally:
            end.set()

        assert await loser == await winner
        with pytest.raises(InvalidArgument):
            await refused
        assert await stored(two, orders) == [(0, 1, b"a")]


class TestSettledOnce:
    """A message that goes to another topic, once, and is done here."""

    @pytest.fixture
    async def billing(self, storage: Storage, orders: Topic) -> Subscription:
        return await subscription(storage, orders)

    async def test_a_repeat_settles_it_again(
        self, trouble: list[Trouble], storage: Storage, billing: Subscription
    ) -> None:
        """What was written of the cursor meanwhile may have taken it back."""
        dead = await topic(storage, "dead")
        called: list[int] = []
        settled = Settled(billing.id, 0, (3,), lambda: called.append(3))
        mine = await cursor(storage, billing)
        trouble[0].after_commit = True
        with pytest.raises(StorageUnavailable):
            await storage.commits.append(dead, b"m", 1, settled, once=once())
        trouble[0].after_commit = False
        await eventually(lambda: storage.commits.is_available)
        mine.mark_done([5])
        storage.commits.save(mine)
        await storage.commits.flushed()
        assert (called, await done(storage, billing)) == ([], {5})

        await storage.commits.append(dead, b"m", 1, settled, once=once(digest=b"digest"))

        assert (called, await done(storage, billing)) == ([3], {3, 5})
        assert await stored(storage, dead) == [(0, 1, b"m")]


async def done(storage: Storage, of: Subscription) -> set[int]:
    return set_bits((await storage.catalog.cursor(of)).chunks)


async def keys(storage: Storage) -> int:
    """How many are remembered."""
    query = text("SELECT count(*) FROM onces")
    return await storage.readers.run(lambda connection: connection.execute(query).scalar_one())


def hold_open(storage: Storage) -> threading.Event:
    """Let the transaction that is next stay open until the event is set."""
    end = threading.Event()
    holding = asyncio.ensure_future(storage.commits.run(lambda _: end.wait(PATIENCE_S)))
    holding.add_done_callback(lambda task: task.exception())
    return end


def until_a_transaction_waits_for_another(connection: Connection) -> None:
    query = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    deadline = time.monotonic() + PATIENCE_S
    while not connection.execute(query).scalar_one():
        assert time.monotonic() < deadline, "nobody waits"
        time.sleep(0.002)
