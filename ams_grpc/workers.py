"""Who delivers the messages of subscriptions that nobody pulls: one worker for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from ams_grpc.broker.catalog import Subscription
from ams_grpc.broker.ports import Catalog


class Worker(Protocol):
    """Delivers the messages of one subscription."""

    def start(self) -> None: ...

    def changed(self, subscription: Subscription) -> None: ...

    async def close(self) -> None:
        """Finish what is begun; cancelled, leave it."""
        ...


class Supervisor:
    """``broker.ports.Workers``: starts a worker for each subscription that needs one."""

    def __init__(self, factories: Mapping[str, Callable[[Subscription], Worker]]) -> None:
        self._factories = factories
        self._workers: dict[int, tuple[str, Worker]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def start(self, catalog: Catalog) -> None:
        for subscription in await catalog.worked():
            self.changed(subscription)

    def changed(self, subscription: Subscription) -> None:
        kind = subscription.config.worker
        known = self._workers.get(subscription.id)
        if known is not None and known[0] == kind:
            known[1].changed(subscription)
            return
        if known is not None:
            self.gone(subscription.id)
        if kind is not None and kind in self._factories and not subscription.detached:
            worker = self._factories[kind](subscription)
            self._workers[subscription.id] = (kind, worker)
            worker.start()

    def gone(self, subscription_id: int) -> None:
        known = self._workers.pop(subscription_id, None)
        if known is not None:
            closing = asyncio.ensure_future(known[1].close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close all workers. Cancelled, it cancels them."""
        for subscription_id in list(self._workers):
            self.gone(subscription_id)
        await asyncio.gather(*self._closing)
