"""One measurement: a workload on a server, in one round."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from scripts.benchmark import servers
from scripts.benchmark.api import Api, resources
from scripts.benchmark.figures import Result
from scripts.benchmark.process import Usage
from scripts.benchmark.publishing import Load, Published, publish
from scripts.benchmark.wire import subscription_path, topic_path

_QUICK: Final = 5
_SETTLE_S: Final = 0.1
_numbers: Final = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Setting:
    """How all trials of a run are made: a fifth of the load if ``quick``; h2load if ``h2load``."""

    quick: bool
    h2load: bool
    cpus: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """What a workload gets: a server, and how much to do with it.

    ``launch`` starts another server of the same kind, fresh and empty, for the length of a block.
    """

    kind: str
    setting: Setting
    launch: Callable[[], AbstractAsyncContextManager[servers.Running]]
    running: servers.Running | None = None

    @property
    def server(self) -> servers.Running:
        """The server that all rounds of this workload share."""
        if self.running is None:
            raise RuntimeError("this workload starts its own servers")
        return self.running

    def on(self, server: servers.Running) -> "Trial":
        """The same trial on ``server``."""
        return Trial(self.kind, self.setting, self.launch, server)

    def scaled(self, count: int) -> int:
        """``count``, or a fifth of it in a quick run."""
        return count // _QUICK if self.setting.quick else count

    @asynccontextmanager
    async def topic(self, subscriptions: int = 1) -> AsyncIterator[tuple[Api, str, list[str]]]:
        """A new topic with subscriptions, as (api, topic, subscriptions), deleted afterwards."""
        number = next(_numbers)
        topic = topic_path(f"bench-{number}")
        names = [subscription_path(f"bench-{number}-{i}") for i in range(subscriptions)]
        async with resources(self.server.address, topic, names) as api:
            yield api, topic, names

    async def publish(self, load: Load) -> Published:
        """Publish ``load`` to the server; see :func:`publishing.publish`."""
        return await publish(self.server.address, load, h2load=self.setting.h2load)

    async def usage(self) -> Usage:
        """The server's usage, once what it still does for calls already answered is done."""
        await asyncio.sleep(_SETTLE_S)
        return self.server.usage()


@dataclass(frozen=True, slots=True)
class Workload:
    """A kind of load, and the servers on which it makes sense.

    ``shared``: all rounds run on one server of each kind; otherwise the workload starts its own.
    """

    name: str
    about: str
    measure: Callable[[Trial], Awaitable[Result]]
    kinds: tuple[str, ...] = servers.NAMES
    shared: bool = True
