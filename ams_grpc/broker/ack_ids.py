"""Ack ids: each names one delivery of one message.

    <token: 16> <epoch: 6 hex> <grant: 14 hex> <seq: 12 hex>

``token`` belongs to the subscription and cannot be guessed, so an id is worth nothing outside of
it. ``epoch`` counts the seeks, ``grant`` the deliveries of this subscription, also across
restarts. All ids of one delivery share all but the seq: the head is made, and read, once.
"""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from typing import Final, NamedTuple

from ams_grpc.broker.errors import InvalidArgument

_TOKEN_CHARS: Final = 16
_EPOCH_CHARS: Final = 6
_GRANT_CHARS: Final = 14
_SEQ_CHARS: Final = 12
_HEAD_CHARS: Final = _TOKEN_CHARS + _EPOCH_CHARS + _GRANT_CHARS
ACK_ID_CHARS: Final = _HEAD_CHARS + _SEQ_CHARS

# int() alone would let signs, blanks, underscores, "0x" and digits of other scripts pass.
_are_digits: Final = re.compile("[0-9a-f]+").fullmatch


class Delivered(NamedTuple):
    """What an ack id says: the messages ``seqs`` of delivery ``grant`` in ``epoch``."""

    epoch: int
    grant: int
    seqs: list[int]


class AckIds:
    """Makes and reads the ack ids of one subscription."""

    def __init__(self, secret: bytes, subscription_id: int) -> None:
        digest = hashlib.blake2b(
            subscription_id.to_bytes(8, "big"), key=secret, digest_size=_TOKEN_CHARS * 3 // 4
        ).digest()
        self._token = urlsafe_b64encode(digest).decode()

    def head(self, epoch: int, grant: int) -> bytes:
        """What the ack ids of one delivery begin with; ``%012x`` of the seq follows."""
        return f"{self._token}{epoch:0{_EPOCH_CHARS}x}{grant:0{_GRANT_CHARS}x}".encode()

    def parse(self, ack_ids: Iterable[str]) -> list[Delivered]:
        """Read ack ids, gathered by delivery.

        Raises InvalidArgument for one that this subscription cannot have made. One that it made
        but that is out of date is not an error here.
        """
        deliveries: dict[str, Delivered] = {}
        for ack_id in ack_ids:
            head = ack_id[:_HEAD_CHARS]
            delivered = deliveries.get(head)
            if delivered is None:
                delivered = deliveries[head] = self._read_head(head, ack_id)
            tail = ack_id[_HEAD_CHARS:]
            if len(tail) != _SEQ_CHARS or not _are_digits(tail):
                raise _invalid(ack_id)
            delivered.seqs.append(int(tail, 16))
        return list(deliveries.values())

    def parse_valid(self, ack_ids: Iterable[str]) -> list[Delivered]:
        """Like ``parse``, but leave out what is malformed."""
        ack_ids = list(ack_ids)
        try:
            return self.parse(ack_ids)
        except InvalidArgument:
            return self.parse(filter(self._is_valid, ack_ids))

    def read(self, ack_id: str) -> Delivered | None:
        """Read one ack id; None for a malformed one."""
        try:
            return self.parse((ack_id,))[0]
        except InvalidArgument:
            return None

    def _is_valid(self, ack_id: str) -> bool:
        return self.read(ack_id) is not None

    def _read_head(self, head: str, ack_id: str) -> Delivered:
        numbers = head[_TOKEN_CHARS:]
        if len(head) != _HEAD_CHARS or not (head.startswith(self._token) and _are_digits(numbers)):
            raise _invalid(ack_id)
        return Delivered(int(numbers[:_EPOCH_CHARS], 16), int(numbers[_EPOCH_CHARS:], 16), [])


def _invalid(ack_id: str) -> InvalidArgument:
    return InvalidArgument(
        f"You have passed an invalid ack ID to the service (ack_id={ack_id}).", field="ack_ids"
    )
