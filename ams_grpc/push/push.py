"""The room of push delivery: what its workers share, made when the first of them needs it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from ams_grpc.broker.catalog import Subscription
from ams_grpc.broker.clock import Clock
from ams_grpc.broker.endpoints import EndpointRules
from ams_grpc.broker.errors import StorageUnavailable
from ams_grpc.broker.names import SubscriptionName
from ams_grpc.broker.policies import PushConfig
from ams_grpc.broker.runtimes import Runtimes
from ams_grpc.push.ams.bodies import DataText
from ams_grpc.push.ams.delivery import AmsDelivery
from ams_grpc.push.ams.room import AmsPushRoom
from ams_grpc.push.ams.worker import AmsTools
from ams_grpc.push.budget import Budget
from ams_grpc.push.outcome import Outcome
from ams_grpc.push.requests import push_request
from ams_grpc.push.worker import PushWorker, Tools

if TYPE_CHECKING:
    from ams_grpc.push.sender import Sender
    from ams_grpc.push.tokens import Secrets, Tokens

_OPENING_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class PushSettings:
    """See ``config`` for what they mean."""

    issuer: str
    max_parallel: int = 100
    max_requests: int = 400
    max_bytes: int = 64 * 1024 * 1024
    ca_file: Path | None = None
    verify_tls: bool = True


@dataclass(frozen=True, slots=True)
class AmsPushSettings:
    """Of AMS's push. ``source`` gives HOST:PORT that endpoints see as the sender.

    ``unseal`` opens authorization headers; ``data_text`` is what AMS shows of a message's data.
    """

    source: Callable[[], str]
    unseal: Callable[[str], str]
    data_text: DataText
    enabled: bool = True


class PushRoom:
    """Makes push workers, and ends what they share with the context."""

    def __init__(
        self,
        settings: PushSettings,
        rules: EndpointRules,
        runtimes: Runtimes,
        secrets: Secrets,
        clock: Clock,
        ams: AmsPushSettings,
    ) -> None:
        self._settings = settings
        self._rules = rules
        self._secrets = secrets
        self._clock = clock
        self._tools = Tools(
            runtimes=runtimes,
            push=self._push,
            clock=clock,
            budget=Budget(settings.max_requests, settings.max_bytes),
            max_window=settings.max_parallel,
            opening=asyncio.Semaphore(_OPENING_AT_ONCE),
        )
        self.ams_delivery = AmsDelivery(
            self._http, rules, source=ams.source, unseal=ams.unseal, data_text=ams.data_text
        )
        self.ams = AmsPushRoom(
            AmsTools(
                runtimes=runtimes,
                push=self.ams_delivery.push,
                clock=clock,
                budget=self._tools.budget,
                opening=self._tools.opening,
                enabled=ams.enabled,
            )
        )
        self._workers: set[PushWorker] = set()
        self._sender: Sender | None = None
        self._tokens: Tokens | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._sender is not None:
            await self._sender.__aexit__(kind, error, traceback)

    def worker(self, subscription: Subscription) -> PushWorker:
        """A worker for a push subscription, not started yet."""
        worker = PushWorker(subscription, self._tools, lambda: self._workers.discard(worker))
        self._workers.add(worker)
        return worker

    def results(self) -> Iterator[tuple[SubscriptionName, Mapping[str, int]]]:
        """For each push subscription, how many requests ended how."""
        for worker in self._workers.copy():
            yield worker.subscription.name, worker.results.copy()
        yield from self.ams.results()

    def tokens(self) -> Tokens:
        """Who signs."""
        if self._tokens is None:
            # Imported late: most services push without tokens, and many do not push at all.
            from ams_grpc.push.tokens import Tokens  # noqa: PLC0415

            self._tokens = Tokens(self._settings.issuer, self._secrets, self._clock)
        return self._tokens

    async def _push(
        self, subscription: Subscription, config: PushConfig, message: bytes, attempt: int | None
    ) -> Outcome:
        identity = config.oidc_token
        if identity is not None and not self._rules.lends(identity.service_account_email):
            return Outcome(False, "refused", "tokens are not signed for its account any more")
        try:
            token = None if identity is None else await self.tokens().token(config)
        except StorageUnavailable:
            return Outcome(False, "internal", "the key that signs tokens cannot be read")
        request = push_request(config, subscription.name, message, attempt)
        # AMS allows a deadline of 0, which here would mean to wait for ever.
        timeout_s = max(subscription.config.ack_deadline_s, 1)
        return await self._http().send(config.endpoint, request, token, timeout_s)

    def _http(self) -> Sender:
        if self._sender is None:
            from ams_grpc.push.sender import Sender  # noqa: PLC0415

            self._sender = Sender(
                self._rules,
                ca_file=self._settings.ca_file,
                verify_tls=self._settings.verify_tls,
            )
        return self._sender
