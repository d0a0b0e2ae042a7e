"""Publishes that are done once (``ports.Once``): which of a group are new, and what others get.

A key is stored in the transaction of its messages. Whoever looks for one holds its topic's row, so
of two nodes that publish with the same key, the second waits, and finds what the first has stored.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from ams_grpc.broker.errors import InvalidArgument
from ams_grpc.broker.ports import Appended, Once
from ams_grpc.storage import records
from ams_grpc.storage.statements import HotStatements, Parameters

_ANOTHER: Final = (
    "The idempotency key was used before, for a request with other messages; a repeated request "
    "has to be the same, and another one needs a key of its own."
)
_Place = tuple[int, int, bytes]
"""A topic, its version, and a key."""


class Asking(Protocol):
    """``writer.Append``, as far as it matters here."""

    topic_id: int
    version: int
    once: Once | None
    places: Sequence[int] | None
    result: Appended | None
    error: Exception | None


Item = TypeVar("Item", bound=Asking)


def first_answer(once: Once, row: Sequence[Any]) -> Appended:
    """The answer in a row of ``find_once``. Raises InvalidArgument if that was another request."""
    digest, first_seq, publish_time_us, places = row
    if digest != once.digest:
        raise InvalidArgument(_ANOTHER)
    return Appended(first_seq, publish_time_us, None if places is None else records.seqs(places))


@dataclass(frozen=True, slots=True)
class Sorted(Generic[Item]):
    """A group: what is to be stored, which of that is to be remembered, and what repeats those.

    Of the pairs in ``repeats``, the repeat comes first.
    """

    fresh: Sequence[Item]
    firsts: Collection[Item] = ()
    repeats: Sequence[tuple[Item, Item]] = ()


def sort_out(hot: HotStatements, cursor: Any, appends: Sequence[Item], now_us: int) -> Sorted[Item]:
    """What repeats an earlier transaction has its answer when this returns."""
    asking = [append for append in appends if append.once is not None]
    if not asking:
        return Sorted(appends)
    known = _known(hot, cursor, appends, now_us)
    fresh: list[Item] = []
    repeats: list[tuple[Item, Item]] = []
    firsts: dict[_Place, Item] = {}
    for append in appends:
        place = _place(append)
        if place is None:
            fresh.append(append)
        elif (row := known.get(place)) is not None:
            _answer_by(append, row)
        elif place in firsts:
            repeats.append((append, firsts[place]))
        else:
            firsts[place] = append
            fresh.append(append)
    return Sorted(fresh, firsts.values(), repeats)


def answer_repeats(repeats: Sequence[tuple[Item, Item]]) -> None:
    """Those that repeat a publish of the same group get what it got."""
    for repeat, first in repeats:
        repeat.result, repeat.error = first.result, first.error
        if first.error is None and _digest(first) != _digest(repeat):
            repeat.error = InvalidArgument(_ANOTHER)


def rows_of(appends: Collection[Item], now_us: int) -> list[Parameters]:
    """The parameters of ``put_once`` for those that were stored."""
    return [
        (
            append.topic_id,
            append.once.key,
            append.once.digest,
            append.result.first_seq,
            append.result.publish_time_us,
            None if append.places is None else records.seqs_bytes(append.places),
            now_us + append.once.keep_us,
        )
        for append in appends
        if append.once is not None and append.result is not None and append.error is None
    ]


def _known(
    hot: HotStatements, cursor: Any, appends: Sequence[Item], now_us: int
) -> dict[_Place, Any]:
    """What is stored of the keys. A publish to a topic that is out of date has to ask again.

    All topics of the group are held, in the order in which they will be written to.
    """
    versions = sorted({(append.topic_id, append.version) for append in appends})
    held = hot.hold_topics(cursor, versions)
    current = {version for version, row in zip(versions, held, strict=True) if row is not None}
    places = [
        place
        for append in appends
        if (place := _place(append)) is not None and place[:2] in current
    ]
    if not places:
        return {}
    rows = hot.find_onces(cursor, [(topic_id, key, now_us) for topic_id, _, key in places])
    return dict(zip(places, rows, strict=True))


def _place(append: Asking) -> _Place | None:
    once = append.once
    return None if once is None else (append.topic_id, append.version, once.key)


def _digest(append: Asking) -> bytes | None:
    return None if append.once is None else append.once.digest


def _answer_by(append: Asking, row: Sequence[Any]) -> None:
    append.result = append.error = None
    try:
        append.result = None if append.once is None else first_answer(append.once, row)
    except InvalidArgument as error:
        append.error = error
