"""What topics do to messages before they are stored: implements ``broker.ports.Gate``.

``SchemaGate`` holds messages against the schema of their topic, and stamps those that follow it. It
works on bytes as ``messages`` does: a stamp is three attributes behind a serialized message, and
in protobuf the last value of a key counts, so it also replaces whatever a publisher wrote there.

Which revisions count is cached under the version of the topic, and compiled definitions under the
number of their revision: neither can be out of date (see ``broker.schemas``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from ams_grpc.broker.catalog import Topic
from ams_grpc.broker.errors import InvalidArgument, NotFound
from ams_grpc.broker.policies import Encoding, SchemaSettings
from ams_grpc.broker.ports import Admitted, Gate
from ams_grpc.broker.schemas import SchemaCatalog, SchemaType
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.services.definitions import (
    Compiled,
    CompiledDefinitions,
    error_info,
    misfits,
    work,
)
from ams_grpc.services.messages import bodies, data_of, payload_of
from ams_grpc.services.threads import Threads, Turns

INLINE_BYTES: Final = 32 * 1024
"""Requests that may cost more than so many bytes of plain data are checked in threads."""

PART_BYTES: Final = 256 * 1024
"""How much of a request is checked at a time. A topic has one part at most among those that wait:
others wait for one of each topic that is busy, however much their publishers send."""

THREADS: Final = 2

_MESSAGE_BYTES: Final = 64  # what a message costs beside its data
_KNOWN_TOPICS: Final = 4096


def chain(*gates: Gate) -> Gate:
    """One gate after the other; each sees what the one before it lets through."""
    return _Chain(gates)


class _Chain:
    def __init__(self, gates: Sequence[Gate]) -> None:
        self._gates = gates

    async def admit(self, topic: Topic, payload: bytes, count: int) -> Admitted:
        admitted = Admitted(payload, count)
        for gate in self._gates:
            if not admitted.count:
                break
            before = admitted.places
            admitted = await gate.admit(topic, admitted.payload, admitted.count)
            if before is not None:  # positions among those that were left
                places = range(len(before)) if admitted.places is None else admitted.places
                left = [before[place] for place in places]
                admitted = Admitted(admitted.payload, admitted.count, left)
        return admitted


@dataclass(frozen=True, slots=True)
class _Revision:
    """A revision that a topic's messages may follow, and what it leaves on one that does."""

    number: int
    id: str
    stamp: bytes


class SchemaGate:
    """Lets messages pass that follow the schema of their topic; all of a request, or none."""

    def __init__(self, catalog: SchemaCatalog, definitions: CompiledDefinitions) -> None:
        self._catalog = catalog
        self._definitions = definitions
        self._threads = Threads("validation", THREADS)
        self._turns: Turns[int] = Turns()
        self._ranges: OrderedDict[int, tuple[int, Sequence[_Revision]]] = OrderedDict()

    def close(self) -> None:
        """Messages that wait to be checked raise ShuttingDown. Waits for nothing."""
        self._threads.close()

    async def admit(self, topic: Topic, payload: bytes, count: int) -> Admitted:
        """See ``broker.ports.Gate``. Raises NotFound when the schema is gone."""
        settings = topic.config.schema_settings
        if settings is None:
            return Admitted(payload, count)
        serialized = bodies(payload, count)
        revisions = await self._revisions(topic, settings)
        stamps = await self._match(topic, settings, revisions, serialized)
        stamped = [body + stamp for body, stamp in zip(serialized, stamps, strict=True)]
        return Admitted(payload_of(stamped), count)

    async def _match(
        self,
        topic: Topic,
        settings: SchemaSettings,
        revisions: Sequence[_Revision],
        serialized: Sequence[bytes],
    ) -> Sequence[bytes]:
        """The stamp of each message: that of the newest revision it follows.

        Raises InvalidArgument for a message that follows none.
        """
        stamps = [b""] * len(serialized)
        left = {place: data_of(body) for place, body in enumerate(serialized)}
        reasons: dict[int, str] = {}  # of the newest revision
        of_type = SchemaType.UNSPECIFIED
        for tried, revision in enumerate(revisions, 1):
            known = await self._definitions.revision(revision.number, self._catalog.definition)
            if known is None:  # deleted just now, as the commit will find out
                continue
            failed = await self._misfits(topic, known.compiled, settings.encoding, left, tried)
            for place in left.keys() - failed.keys():
                stamps[place] = revision.stamp
            if not failed:
                return stamps
            if of_type is SchemaType.UNSPECIFIED:
                of_type = known.type
                reasons = {
                    place: f"revision {revision.id}: {reason}" for place, reason in failed.items()
                }
            left = {place: left[place] for place in failed}
        place = min(left)
        raise _refusal(settings, of_type, place, reasons.get(place, "no revision is in range"))

    async def _misfits(
        self,
        topic: Topic,
        compiled: Compiled,
        encoding: Encoding,
        messages: Mapping[int, bytes],
        tried: int,
    ) -> Mapping[int, str]:
        """Those that do not follow one revision, with the reason.

        ``tried`` is how many they are held against with this one.
        """
        found: dict[int, str] = {}
        parts = list(_parts(compiled, encoding, messages))
        if len(parts) == 1 and parts[0].work * tried <= INLINE_BYTES:
            return misfits(compiled, encoding, messages)
        for part in parts:
            async with self._turns.of(topic.id):
                check = partial(misfits, compiled, encoding, part.messages)
                found |= await self._threads.run(check)
        return found

    async def _revisions(self, topic: Topic, settings: SchemaSettings) -> Sequence[_Revision]:
        """The revisions that messages may follow, newest first. Raises NotFound."""
        if settings.schema is None:
            raise NotFound("Schema associated with topic deleted.")
        version, revisions = self._ranges.get(topic.id, (0, ()))
        if version != topic.version:
            known = await self._catalog.revision_ids(settings.schema_id)
            revisions = [
                _Revision(number, revision_id, _stamp(settings, revision_id))
                for number, revision_id in known
                if settings.admits(number)
            ]
            self._ranges[topic.id] = topic.version, revisions
            while len(self._ranges) > _KNOWN_TOPICS:
                self._ranges.popitem(last=False)
        return revisions


@dataclass(slots=True)
class _Part:
    """Some messages of a request, and what it may cost to check them."""

    messages: dict[int, bytes]
    work: int


def _parts(
    compiled: Compiled, encoding: Encoding, messages: Mapping[int, bytes]
) -> Iterator[_Part]:
    part = _Part({}, 0)
    for place, data in messages.items():
        of_message = _MESSAGE_BYTES + work(compiled, encoding, len(data))
        if part.messages and part.work + of_message > PART_BYTES:
            yield part
            part = _Part({}, 0)
        part.messages[place] = data
        part.work += of_message
    yield part


def _stamp(settings: SchemaSettings, revision_id: str) -> bytes:
    """Pub/Sub: the attributes that tell subscribers how to read a message."""
    return pb.PubsubMessage(
        attributes={
            "googclient_schemaencoding": str(settings.encoding),
            "googclient_schemaname": str(settings.schema),
            "googclient_schemarevisionid": revision_id,
        }
    ).SerializeToString()


def _refusal(
    settings: SchemaSettings, schema_type: SchemaType, place: int, reason: str
) -> InvalidArgument:
    return InvalidArgument(
        "Invalid data in message: Message failed schema validation.",
        field=f"messages[{place}].data",
        info=error_info(schema_type, settings.encoding, f"messages[{place}], {reason}"),
    )
