"""Dead letters on a database whose commits may have happened or not, as far as anybody can tell."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from ams_grpc.broker.broker import Broker
from ams_grpc.broker.catalog import SubscriptionConfig, TopicConfig
from ams_grpc.broker.clock import SystemClock
from ams_grpc.broker.errors import StorageUnavailable
from ams_grpc.broker.names import SubscriptionName, TopicName
from ams_grpc.broker.policies import DeadLetterPolicy
from ams_grpc.services.messages import payload_of
from ams_grpc.storage import Storage, open_storage
from tests.storage.test_cursors import set_bits
from tests.storage.world import Trouble, broker_on, eventually

ORDERS, DEAD = TopicName("shop", "orders"), TopicName("shop", "dead")
BILLING = SubscriptionName("shop", "billing")
SECOND, THIRD = 1, 2


@pytest.fixture
async def storage(trouble: list[Trouble], address: str) -> AsyncIterator[Storage]:
    assert trouble == []
    async with open_storage(address, SystemClock()) as opened:
        yield opened


@pytest.fixture
async def broker(storage: Storage) -> AsyncIterator[Broker]:
    broker = broker_on(storage)
    storage.commits.on_appended = broker.appended
    storage.commits.on_uncertain = broker.uncertain
    async with broker:
        yield broker


async def pulled(broker: Broker) -> list[str]:
    """The ack ids of all that there is."""
    delivery = await broker.pulls.pull(BILLING, 100, 30)
    assert delivery is not None
    return [f"{delivery.ack_id_head.decode()}{seq:012x}" for seq in delivery.seqs]


@pytest.mark.parametrize("committed", [True, False])
async def test_after_a_commit_of_unknown_outcome_a_message_is_forwarded_once(
    trouble: list[Trouble], storage: Storage, broker: Broker, *, committed: bool
) -> None:
    await broker.topics.create(ORDERS, TopicConfig())
    dead = await broker.topics.create(DEAD, TopicConfig())
    policy = DeadLetterPolicy(DEAD, max_delivery_attempts=5)
    config = SubscriptionConfig(dead_letter=policy)
    billing = await broker.subscriptions.create(BILLING, ORDERS, config)
    await broker.topics.publish(ORDERS, payload_of([b"\x0a\x01x"] * 3), 3)
    for _ in range(4):
        await broker.pulls.modify_ack_deadline(BILLING, await pulled(broker), 0)
    _, second, third = await pulled(broker)

    trouble[0].after_commit, trouble[0].at_commit = committed, not committed
    await broker.pulls.modify_ack_deadline(BILLING, [second], 0)
    failed = storage.commits.failed_commits
    await eventually(lambda: storage.commits.failed_commits > failed)
    with suppress(StorageUnavailable):  # it is in the same chunk, and is written before the retry
        await broker.pulls.acknowledge(BILLING, [third])
    trouble[0].after_commit = trouble[0].at_commit = False

    runtime = await broker.runtimes.runtime(BILLING)
    await eventually(lambda: storage.commits.is_available and not runtime._places.dying)
    await storage.commits.flushed()
    assert await storage.log.next_seq(dead.id) == 1
    assert set_bits((await storage.catalog.cursor(billing)).chunks) == {SECOND, THIRD}
