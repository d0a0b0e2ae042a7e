"""Messages, as unary calls get and settle them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from ams_grpc.broker.consumers import Consumer, Delivery
from ams_grpc.broker.errors import (
    INVALID_ACK_ID,
    UNABLE,
    UNORDERED_ACK_ID,
    AckIdsRefused,
    InvalidArgument,
    StorageUnavailable,
)
from ams_grpc.broker.exactly_once import Confirmation
from ams_grpc.broker.names import SubscriptionName
from ams_grpc.broker.picking import MAX_DELIVERY_MESSAGES
from ams_grpc.broker.ports import Commits
from ams_grpc.broker.profiles import Profile
from ams_grpc.broker.rules import check_max_messages, check_modify_ack_deadline
from ams_grpc.broker.runtimes import Runtimes

_LONGEST_READ_S: Final = 5.0
"""How long a pull that does not wait for messages waits for those that are being read."""


class Pulls:
    """Pulling from subscriptions, and acknowledging; streams deal with runtimes themselves."""

    def __init__(self, runtimes: Runtimes, commits: Commits, profile: Profile) -> None:
        self._runtimes = runtimes
        self._commits = commits
        self._profile = profile

    async def pull(
        self, name: SubscriptionName, max_messages: int, wait_s: float
    ) -> Delivery | None:
        """Up to ``max_messages``, as soon as there is one; None after ``wait_s`` without any.

        With ``wait_s`` 0 it answers with what there is. Raises InvalidArgument, NotFound,
        FailedPrecondition.

        Pub/Sub: Pull, PullRequest.return_immediately.
        """
        check_max_messages(max_messages)
        runtime = await self._runtimes.runtime_to_pull(name)
        answer: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()
        consumer = Consumer(
            answer.set_result,
            answer.set_exception,
            # AMS allows deadlines that would be over before the message is there.
            ack_deadline_s=max(
                runtime.subscription.config.ack_deadline_s, self._profile.min_ack_deadline_s
            ),
            max_messages=min(max_messages, MAX_DELIVERY_MESSAGES),
            once=True,
        )
        runtime.add(consumer)
        try:
            if wait_s <= 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LONGEST_READ_S):
                        while not answer.done() and (runtime.busy or runtime.gleaning):
                            await runtime.settled()
            elif not answer.done():
                await asyncio.wait([answer], timeout=wait_s)
            if not answer.done() and runtime.busy and wait_s <= 0:
                raise StorageUnavailable(UNABLE)
            return answer.result() if answer.done() else None
        except asyncio.CancelledError:
            if answer.done() and answer.exception() is None:
                runtime.give_back(answer.result())
            raise
        finally:
            runtime.remove(consumer)

    async def acknowledge(self, name: SubscriptionName, ack_ids: Sequence[str]) -> None:
        """These deliveries are done; when this returns that is on disk.

        Expired and stale ids are skipped; with exactly-once delivery they raise AckIdsRefused, and
        the others count. Raises InvalidArgument for malformed ones (then none is acknowledged),
        NotFound, FailedPrecondition, StorageUnavailable.

        Pub/Sub: Acknowledge.
        """
        if not ack_ids:
            raise _no_ack_ids()
        runtime = await self._runtimes.runtime_to_pull(name)
        if not runtime.exactly_once:
            runtime.acknowledge(ack_ids)
            await self._commits.flushed()
            return
        answer = runtime.acknowledge_exactly(ack_ids)
        await self._commits.flushed()
        _raise_refused(answer)

    async def modify_ack_deadline(
        self, name: SubscriptionName, ack_ids: Sequence[str], ack_deadline_s: int
    ) -> None:
        """Give subscribers more time for messages they hold; with 0, take them back.

        The new deadline is ``ack_deadline_s`` (0 to 600) seconds from now. Stale ids are skipped;
        with exactly-once delivery they raise AckIdsRefused, and the others count. Raises
        InvalidArgument, NotFound, FailedPrecondition.

        Pub/Sub: ModifyAckDeadline.
        """
        check_modify_ack_deadline(ack_deadline_s)
        if not ack_ids:
            raise _no_ack_ids()
        runtime = await self._runtimes.runtime_to_pull(name)
        if not runtime.exactly_once:
            runtime.modify_ack_deadline(ack_ids, ack_deadline_s)
            return
        answer = runtime.modify_ack_deadline_exactly(ack_ids, ack_deadline_s)
        await self._commits.flushed()
        _raise_refused(answer)


def _raise_refused(answer: Confirmation) -> None:
    refused = dict.fromkeys(answer.invalid, INVALID_ACK_ID)
    refused.update(dict.fromkeys(answer.unordered, UNORDERED_ACK_ID))
    if refused:
        raise AckIdsRefused(refused)


def _no_ack_ids() -> InvalidArgument:
    return InvalidArgument("You have not specified an ack ID in the request.", field="ack_ids")
