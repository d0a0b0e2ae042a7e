"""How a worker comes to the runtime of its subscription, and when it gives up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from ams_grpc.broker.catalog import Subscription
from ams_grpc.broker.errors import BrokerError, ShuttingDown, Unavailable
from ams_grpc.broker.runtime import SubscriptionRuntime
from ams_grpc.broker.runtimes import Runtimes

_RETRY_S: Final = 0.5
_REFUSALS: Final = 10  # so often a subscription may seem to be gone before it counts as gone
_logger = logging.getLogger(__name__)


async def open_runtime(
    runtimes: Runtimes,
    subscription: Callable[[], Subscription],
    opening: AbstractAsyncContextManager[object],
    is_closing: Callable[[], bool] = lambda: False,
) -> SubscriptionRuntime | None:
    """The runtime of a worker's subscription; None when there is nothing to deliver any more.

    ``subscription`` as the worker knows it at each moment; ``opening`` is entered for each attempt.
    A database that does not answer is waited for. A worker that gave up starts again when it hears
    of a change.
    """
    refusals = 0
    while refusals < _REFUSALS and not is_closing():
        name = subscription().name
        try:
            async with opening:
                runtime = await runtimes.runtime(name, use=False)
        except ShuttingDown:
            return None
        except Unavailable:
            pass  # who is away has said so in the log; it is tried again
        except BrokerError:
            refusals += 1
        except Exception:
            _logger.exception("cannot open %s to deliver its messages", name)
        else:
            known, found = subscription(), runtime.subscription
            if found.id == known.id:
                return runtime if found.config.worker == known.config.worker else None
            # One of the same name went or came just now: look again.
            refusals += 1
        await asyncio.sleep(_RETRY_S)
    return None
