"""What topics do to messages before they are stored: implements ``broker.ports.Gate``.

``SchemaGate`` holds messages against the schema of their topic, and stamps those that follow it. It
works on bytes as ``messages`` does: a stamp is three attributes behind a serialized message, and
in protobuf the last value of a key counts, so it also replaces whatever a publisher wrote there.

Which revisions count is cached under the version of the topic, and compiled definitions under the
number of their revision: neither can be out of date (see ``broker.schemas``).

A topic that has its schema as AMS gives it stores messages without stamps, and refuses them in AMS's
words; a JSON Schema, which is AMS's alone, always has these words.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from ams_grpc.broker import ams_schemas
from ams_grpc.broker.catalog import Topic
from ams_grpc.broker.errors import InvalidArgument, NotFound
from ams_grpc.broker.policies import Encoding, SchemaSettings
from ams_grpc.broker.ports import Admitted, Gate
from ams_grpc.broker.schemas import SchemaCatalog, SchemaType
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.schemas.errors import MessageError
from ams_grpc.services.ams.base64 import NotBase64Error, read_base64
from ams_grpc.services.ams.data import data_and_text
from ams_grpc.services.definitions import (
    Compiled,
    CompiledDefinitions,
    error_info,
    misfits,
    work,
)
from ams_grpc.services.messages import attributes_of, bodies, payload_of
from ams_grpc.services.threads import Threads, Turns

if TYPE_CHECKING:
    from ams_grpc.schemas.attributes import AttributeRules

INLINE_BYTES: Final = 32 * 1024
"""Requests that may cost more than so many bytes of plain data are checked in threads."""

PART_BYTES: Final = 256 * 1024
"""How much of a request is checked at a time. A topic has one part at most among those that wait:
others wait for one of each topic that is busy, however much their publishers send."""

THREADS: Final = 2

INLINE_RULES: Final = 256
"""Rules for attributes, times messages: beyond so many, a request's are checked in threads."""

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


@dataclass(frozen=True, slots=True)
class _Known:
    """What a version of a topic asks of messages. ``revisions``: newest first."""

    version: int
    revisions: Sequence[_Revision]
    rules: AttributeRules | None


class SchemaGate:
    """Lets messages pass that follow the schema of their topic; all of a request, or none."""

    def __init__(self, catalog: SchemaCatalog, definitions: CompiledDefinitions) -> None:
        self._catalog = catalog
        self._definitions = definitions
        self._threads = Threads("validation", THREADS)
        self._turns: Turns[int] = Turns()
        self._known: OrderedDict[int, _Known] = OrderedDict()

    def close(self) -> None:
        """Messages that wait to be checked raise ShuttingDown. Waits for nothing."""
        self._threads.close()

    async def admit(self, topic: Topic, payload: bytes, count: int) -> Admitted:
        """See ``broker.ports.Gate``. Raises NotFound when the schema is gone."""
        settings = topic.config.schema_settings
        if settings is None:
            return Admitted(payload, count)
        serialized = bodies(payload, count)
        known = await self._look_up(topic, settings)
        # The first message that is wrong in any way is named, so those behind it do not matter.
        data, unreadable = _data(serialized)
        refused = None
        if known.rules is not None:
            refused = await self._first_of_wrong_attributes(topic, known.rules, serialized)
        if refused is not None:
            data = data[: refused[0] + 1]
        stamps = await self._match(topic, settings, known.revisions, data)
        if unreadable is not None and (refused is None or len(stamps) <= refused[0]):
            raise _refusal_in_ams_words(len(stamps), unreadable, "data")
        if refused is not None:
            raise _refusal_in_ams_words(*refused, "attributes")
        if settings.ams:
            return Admitted(payload, count)
        stamped = [body + stamp for body, stamp in zip(serialized, stamps, strict=True)]
        return Admitted(payload_of(stamped), count)

    async def _first_of_wrong_attributes(
        self, topic: Topic, rules: AttributeRules, serialized: Sequence[bytes]
    ) -> tuple[int, str] | None:
        """The place of a message whose attributes break the rules, and how."""
        check = partial(_first_of_wrong_attributes, rules, serialized)
        if len(rules) * len(serialized) <= INLINE_RULES:
            return check()
        async with self._turns.of(topic.id):
            return await self._threads.run(check)

    async def _match(
        self,
        topic: Topic,
        settings: SchemaSettings,
        revisions: Sequence[_Revision],
        messages: Sequence[bytes],
    ) -> Sequence[bytes]:
        """The stamp of each message: that of the newest revision it follows.

        Raises InvalidArgument for a message that follows none.
        """
        stamps = [b""] * len(messages)
        left = dict(enumerate(messages))
        if not left:
            return stamps
        reasons: Mapping[int, str] = {}  # of the newest revision
        newest = ""
        of_type = SchemaType.UNSPECIFIED
        for tried, revision in enumerate(revisions, 1):
            known = await self._definitions.revision(revision.number, self._catalog.definition)
            if known is None:  # deleted just now, as the commit will find out
                continue
            encoding = known.type.encoding if settings.ams else settings.encoding
            failed = await self._misfits(topic, known.compiled, encoding, left, tried)
            for place in left.keys() - failed.keys():
                stamps[place] = revision.stamp
            if not failed:
                return stamps
            if not newest:
                newest, of_type, reasons = revision.id, known.type, failed
            left = {place: left[place] for place in failed}
        place = min(left)
        raise _refusal(settings, of_type, place, newest, reasons.get(place))

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

    async def _look_up(self, topic: Topic, settings: SchemaSettings) -> _Known:
        """What messages have to follow. Raises NotFound."""
        if settings.schema is None:
            raise NotFound("Schema associated with topic deleted.")
        known = self._known.get(topic.id)
        if known is None or known.version != topic.version:
            revisions = [
                _Revision(number, revision_id, _stamp(settings, revision_id))
                for number, revision_id in await self._catalog.revision_ids(settings.schema_id)
                if settings.admits(number)
            ]
            text = await self._catalog.attribute_rules(settings.schema_id)
            rules = await self._definitions.attribute_rules(text) if text else None
            known = self._known[topic.id] = _Known(topic.version, revisions, rules)
            while len(self._known) > _KNOWN_TOPICS:
                self._known.popitem(last=False)
        return known


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


def _data(serialized: Sequence[bytes]) -> tuple[list[bytes], str | None]:
    """The data of messages, up to the first that was to be base64 and is none, and why."""
    found: list[bytes] = []
    for body in serialized:
        data, is_text = data_and_text(body)
        try:
            found.append(read_base64(data) if is_text else data)
        except NotBase64Error as error:
            return found, str(error)
    return found, None


def _first_of_wrong_attributes(
    rules: AttributeRules, serialized: Sequence[bytes]
) -> tuple[int, str] | None:
    for place, body in enumerate(serialized):
        try:
            rules.check(attributes_of(body))
        except MessageError as error:
            return place, str(error)
    return None


def _refusal(
    settings: SchemaSettings,
    schema_type: SchemaType,
    place: int,
    revision_id: str,
    reason: str | None,
) -> InvalidArgument:
    """Without a ``reason``, there is no revision to follow."""
    where = f"messages[{place}]"
    why = "no revision is in range" if reason is None else f"revision {revision_id}: {reason}"
    text = "Invalid data in message: Message failed schema validation."
    if settings.ams or schema_type is SchemaType.JSON:
        text = ams_schemas.refusal(schema_type, place, reason or why)
    return InvalidArgument(
        text,
        field=f"{where}.data",
        info=error_info(schema_type, settings.encoding, f"{where}, {why}"),
    )


def _refusal_in_ams_words(place: int, reason: str, field: str) -> InvalidArgument:
    return InvalidArgument(f"Message {place} {reason}", field=f"messages[{place}].{field}")
