"""The floor: what gRPC in Python costs when the handlers do nothing.

An asyncio gRPC server with raw-bytes handlers. Publish parses the request with protobuf and returns
a ready-made response with as many ids. StreamingPull sends ready-made responses of 1,000 messages
until it has sent as many as were asked for, then keeps the stream open; it neither keeps leases nor
heeds flow control. Every other unary call, Acknowledge included, answers empty, unparsed.

    python -m scripts.benchmark.floor HOST:PORT [asyncio|uvloop]
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from functools import cache
from typing import Any, Final

import grpc

from scripts.benchmark import loops, wire
from scripts.benchmark.wire import pb

MESSAGES_PER_RESPONSE: Final = 1000
_ACK_ID_BYTES: Final = 60
_FIRST_ID: Final = 10_000_000  # ids as long as those of a topic that has been used for a while


@cache
def _publish_response(count: int) -> bytes:
    ids = [str(_FIRST_ID + i) for i in range(count)]
    return pb.PublishResponse(message_ids=ids).SerializeToString()


@cache
def _pull_response(count: int, byte_size: int) -> bytes:
    response = pb.StreamingPullResponse()
    for i in range(count):
        received = response.received_messages.add(ack_id=f"{i:0{_ACK_ID_BYTES}d}")
        received.message.data = b"x" * byte_size
        received.message.message_id = str(_FIRST_ID + i)
        received.message.publish_time.FromSeconds(1_700_000_000)
    return response.SerializeToString()


async def _publish(request: bytes, _context: Any) -> bytes:
    parsed = pb.PublishRequest.FromString(request)
    return _publish_response(len(parsed.messages))


async def _streaming_pull(requests: AsyncIterator[bytes], context: Any) -> None:
    opening = pb.StreamingPullRequest.FromString(await anext(requests))
    remaining, byte_size = wire.floor_order(opening.client_id)
    while remaining > 0:
        count = min(remaining, MESSAGES_PER_RESPONSE)
        await context.write(_pull_response(count, byte_size))
        remaining -= count
    async for _ in requests:  # acknowledgements on the stream, until the client closes it
        pass


async def _nothing(_request: bytes, _context: Any) -> bytes:
    return b""


class _Handlers(grpc.GenericRpcHandler):
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        match handler_call_details.method:
            case wire.PUBLISH:
                return grpc.unary_unary_rpc_method_handler(_publish)
            case wire.STREAMING_PULL:
                return grpc.stream_stream_rpc_method_handler(_streaming_pull)
            case _:
                return grpc.unary_unary_rpc_method_handler(_nothing)


async def serve(address: str) -> None:
    """Serve on ``address`` (host:port) until cancelled."""
    server = grpc.aio.server(options=wire.CHANNEL_OPTIONS)
    server.add_generic_rpc_handlers((_Handlers(),))
    server.add_insecure_port(address)
    await server.start()
    print(f"ready {address}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    if sys.argv[2:] == ["uvloop"]:
        loops.run(serve(sys.argv[1]))
    else:
        asyncio.run(serve(sys.argv[1]))
