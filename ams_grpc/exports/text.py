"""Text. Pub/Sub: the data of the messages, as it is, with a newline between two."""

from __future__ import annotations

from collections.abc import Sequence

from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb


class TextFormat:
    """``records.Format`` for text."""

    head = b""

    def __init__(self) -> None:
        self.overhead = -1
        """The first record of an object loses its newline."""

    async def record(self, message: bytes) -> bytes:
        return b"\n" + pb.PubsubMessage.FromString(message).data

    def block(self, records: Sequence[bytes]) -> bytes:
        block = b"".join(records)
        if self.overhead:
            self.overhead = 0
            return block[1:]
        return block
