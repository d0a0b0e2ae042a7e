"""Those who deliver what nobody pulls: one worker for each push or export subscription.

The supervisor starts workers for the subscriptions that are stored, hears of every change from
then on, and closes them. It does not know what workers do: each kind has a factory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from ams_grpc.broker.catalog import Subscription
from ams_grpc.broker.errors import StorageUnavailable
from ams_grpc.broker.ports import Catalog

_RETRY_S: Final = 0.5
_logger = logging.getLogger(__name__)


class Worker(Protocol):
    """Delivers the messages of one subscription."""

    def start(self) -> None:
        """Begin, in the background. Called once, on the event loop."""
        ...

    def changed(self, subscription: Subscription) -> None:
        """The subscription is like this now; its kind of worker is the same."""
        ...

    async def close(self) -> None:
        """Take no more messages, and finish those that are on their way. Cancelling drops them."""
        ...


@dataclass(slots=True)
class _Position:
    """A worker, and what it was told last."""

    worker: Worker
    subscription: Subscription


class Supervisor:
    """Implements ``ports.Workers``. ``kinds``: how to make a worker of each kind.

    At the end of the context workers have ``drain_s`` seconds, counted from ``drain``, to finish.
    """

    def __init__(
        self,
        catalog: Catalog,
        kinds: Mapping[str, Callable[[Subscription], Worker]],
        *,
        drain_s: float,
    ) -> None:
        self._catalog = catalog
        self._kinds = kinds
        self._drain_s = drain_s
        self._positions: dict[int, _Position] = {}
        self._gone: set[int] | None = set()
        """Gone while the stored subscriptions are being read; None afterwards."""
        self._beginning: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._drain_until: float | None = None

    async def __aenter__(self) -> Self:
        self._beginning = asyncio.get_running_loop().create_task(self._begin())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.drain()
        await asyncio.sleep(0)  # what is closing only since now must have begun to be cancelled
        if self._closing and self._drain_until is not None:
            left_s = self._drain_until - asyncio.get_running_loop().time()
            await asyncio.wait(self._closing, timeout=max(0.0, left_s))
        closing = list(self._closing)
        for task in closing:
            task.cancel()
        await asyncio.gather(*closing, return_exceptions=True)

    def drain(self) -> None:
        """Close all workers, and start none any more. Idempotent."""
        if self._drain_until is not None:
            return
        self._drain_until = asyncio.get_running_loop().time() + self._drain_s
        if self._beginning is not None:
            self._beginning.cancel()
        for subscription_id in list(self._positions):
            self._dismiss(subscription_id)

    # --- implements ports.Workers ------------------------------------------------------------

    def changed(self, subscription: Subscription) -> None:
        position = self._positions.get(subscription.id)
        if position is not None:
            known = position.subscription
            if subscription.version < known.version:
                return  # this is not the news any more
            if subscription.config.worker == known.config.worker and not subscription.detached:
                position.subscription = subscription
                position.worker.changed(subscription)
                return
            self._dismiss(subscription.id)
        if subscription.config.worker is not None and not subscription.detached:
            self._employ(subscription, subscription.config.worker)

    def gone(self, subscription_id: int) -> None:
        if self._gone is not None:
            self._gone.add(subscription_id)
        self._dismiss(subscription_id)

    # --- the parts of the above --------------------------------------------------------------

    async def _begin(self) -> None:
        """Start what is stored, as soon as the database says what that is."""
        stored = await self._stored()
        gone, self._gone = self._gone or set(), None
        for subscription in stored:
            if subscription.id not in gone:
                self.changed(subscription)

    async def _stored(self) -> Sequence[Subscription]:
        while True:
            try:
                return await self._catalog.worked()
            except StorageUnavailable:
                pass  # the storage has said so in the log
            except Exception:
                _logger.exception("cannot read which subscriptions need workers")
            await asyncio.sleep(_RETRY_S)

    def _employ(self, subscription: Subscription, kind: str) -> None:
        if self._drain_until is not None:
            return
        try:
            worker = self._kinds[kind](subscription)
            worker.start()
        except Exception:
            _logger.exception("cannot start a worker for %s", subscription.name)
        else:
            self._positions[subscription.id] = _Position(worker, subscription)

    def _dismiss(self, subscription_id: int) -> None:
        position = self._positions.pop(subscription_id, None)
        if position is not None:
            task = asyncio.get_running_loop().create_task(self._close(position))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _close(self, position: _Position) -> None:
        try:
            await position.worker.close()
        except Exception:
            _logger.exception("the worker of %s does not end well", position.subscription.name)
