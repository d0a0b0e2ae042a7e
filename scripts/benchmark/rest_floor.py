"""The floor of REST: what aiohttp costs when its handler does nothing.

As the floor of gRPC, it runs on Python's own event loop. It reads each request to its end and gives a ready-made reply: received messages to a pull, ids to a
publish, ``{}`` otherwise.

    python -m scripts.benchmark.rest_floor HOST:PORT MESSAGES
"""

import asyncio
import json
import sys
from typing import Final

from aiohttp import web

_JSON: Final = {"Content-Type": "application/json; charset=utf-8"}


def _replies(messages: int) -> dict[str, bytes]:
    received = [
        {
            "ackId": f"projects/bench/subscriptions/bench:{at}",
            "message": {
                "messageId": str(at),
                "data": "eHh4" * 33,
                "publishTime": "2024-03-05T10:11:12.120345Z",
            },
        }
        for at in range(messages)
    ]
    return {
        "pull": json.dumps({"receivedMessages": received}).encode(),
        "publish": json.dumps({"messageIds": [str(at) for at in range(messages)]}).encode(),
    }


async def serve(address: str, messages: int) -> None:
    """Serve on ``address`` (host:port) until cancelled."""
    replies = _replies(messages)

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        body = replies.get(request.path.rpartition(":")[2], b"{}")
        return web.Response(body=body, headers=_JSON)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    host, port = address.split(":")
    await web.TCPSite(runner, host, int(port)).start()
    print(f"ready {address}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
