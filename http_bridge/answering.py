"""Whatever happens to a request is answered: alike in both dialects, each in its own words."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from aiohttp import hdrs, web

from http_bridge.serving import Handler

Refusals: TypeAlias = Mapping[type[Exception], Callable[[Any], web.Response]]
"""What is answered in place of a reply, by the type of what was raised. ``Exception`` stands for all
that is not there: faults of our own."""

_log = logging.getLogger(__name__)
_NOBODY_IS_THERE: Final = 499


def answered(handler: Handler, refusals: Refusals) -> Handler:
    """The same, but it raises nothing. Faults of our own are logged."""

    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        try:
            answer = await handler(request)
        except ConnectionError:
            return web.Response(status=_NOBODY_IS_THERE)
        except Exception as fault:  # noqa: BLE001  # it is logged, and every dialect has an answer for it
            refusal = refusals.get(type(fault))
            if refusal is None:
                _log.exception("A request to a REST API failed")
                refusal = refusals[Exception]
            answer = refusal(fault)
        if not request.content.is_eof() and hdrs.EXPECT in request.headers:
            # HTTP: its body may come yet, or not; what comes next cannot be told from it.
            answer.force_close()
        return answer

    return answering
