"""Definitions of schemas, between the broker and the languages: implements ``broker.schemas.Definitions``.

Compiling is work for threads. Those who administer schemas share two, where a difficult definition
may take seconds; publishers never wait for these. What publishers need was checked before, and is
compiled in two threads of their own, each revision once, however many wait for it. What was
compiled is kept, up to a number of bytes of definitions.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, Self, TypeVar

from ams_grpc.broker.errors import ErrorInfo, InvalidArgument
from ams_grpc.broker.policies import Encoding
from ams_grpc.broker.schemas import Definition, SchemaType
from ams_grpc.schemas.errors import DefinitionError, IncompatibleError, MessageError
from ams_grpc.services.threads import Threads, Turns

if TYPE_CHECKING:
    from ams_grpc.schemas.attributes import AttributeRules

Key = TypeVar("Key")

THREADS: Final = 2
CACHE_BYTES: Final = 4 * 1024 * 1024
"""Of definitions; compiled they take some ten times as much."""

_OVERHEAD_BYTES: Final = 1024
_LANGUAGES: Final = {
    SchemaType.AVRO: "Avro",
    SchemaType.PROTOCOL_BUFFER: "Protocol Buffer",
    SchemaType.JSON: "JSON Schema",
}
_REASONS: Final = {
    SchemaType.AVRO: "AVRO_",
    SchemaType.PROTOCOL_BUFFER: "PROTO_",
    SchemaType.UNSPECIFIED: "PROTO_",  # no revision was there to tell
    SchemaType.JSON: "SCHEMA_",
}


class Compiled(Protocol):
    """A definition, ready for use, whatever its language. See ``schemas`` for what each raises."""

    @property
    def extra_bytes(self) -> int:
        """What it counts for beside its text, among those that are kept."""
        ...

    def check_binary(self, data: bytes) -> None: ...

    def check_json(self, data: bytes) -> None: ...

    def binary_work(self, size: int) -> int: ...

    def json_work(self, size: int) -> int: ...

    def check_compatible(self, other: Self) -> None: ...


@dataclass(frozen=True, slots=True)
class KnownRevision:
    """A revision that was loaded, and the size of its definition."""

    type: SchemaType
    compiled: Compiled
    byte_size: int


class CompiledDefinitions:
    """The definitions in use, those of revisions by their number."""

    def __init__(self, cache_bytes: int = CACHE_BYTES) -> None:
        self._checks = Threads("definitions", THREADS)
        self._loads = Threads("revisions", THREADS)
        self._turns: Turns[int] = Turns()
        self._cache_bytes = cache_bytes
        self._cached: OrderedDict[int, KnownRevision] = OrderedDict()
        self._cached_bytes = 0

    def close(self) -> None:
        """What waits raises ShuttingDown, as does what is asked later. Waits for nothing."""
        self._checks.close()
        self._loads.close()

    async def check(self, definition: Definition) -> Definition:
        """See ``broker.schemas.Definitions``."""
        return await self._checks.run(lambda: _checked(definition))

    async def check_attributes(self, rules: str) -> None:
        """See ``broker.schemas.Definitions``."""
        try:
            await self._checks.run(lambda: _attribute_rules(rules))
        except DefinitionError as error:
            raise InvalidArgument(str(error), field="attributes") from None

    async def attribute_rules(self, rules: str) -> AttributeRules:
        """Rules that were checked before, ready for use."""
        return await self._loads.run(lambda: _attribute_rules(rules))

    async def first_conflict(
        self, new: Definition, others: Sequence[Definition]
    ) -> tuple[int, str] | None:
        """See ``broker.schemas.Definitions``."""
        return await self._checks.run(lambda: _first_conflict(new, others))

    async def check_message(self, definition: Definition, encoding: Encoding, data: bytes) -> None:
        """See ``broker.schemas.Definitions``."""
        reason = await self.misfit(definition, encoding, data)
        if reason is not None:
            form = "JSON" if encoding is Encoding.JSON else "binary"
            raise InvalidArgument(
                f"Could not parse {form} {_LANGUAGES[definition.type]} message: {reason}",
                field="message",
                info=error_info(definition.type, encoding, reason),
            )

    async def misfit(self, definition: Definition, encoding: Encoding, data: bytes) -> str | None:
        """See ``broker.schemas.Definitions``."""
        found = await self._checks.run(
            lambda: misfits(_compile(definition), encoding, {"message": data})
        )
        return found.get("message")

    async def revision(
        self, number: int, load: Callable[[int], Awaitable[Definition | None]]
    ) -> KnownRevision | None:
        """A revision, loaded if it is not known; None if there is no such any more."""
        known = self._known(number)
        if known is not None:
            return known
        async with self._turns.of(number):
            known = self._known(number)  # somebody else loaded it meanwhile
            if known is not None:
                return known
            definition = await load(number)
            if definition is None:
                return None
            compiled = await self._loads.run(lambda: _compile(definition))
            size = len(definition.text) + len(definition.compiled) + compiled.extra_bytes
            known = KnownRevision(definition.type, compiled, size + _OVERHEAD_BYTES)
            self._keep(number, known)
            return known

    def _known(self, number: int) -> KnownRevision | None:
        known = self._cached.get(number)
        if known is not None:
            self._cached.move_to_end(number)
        return known

    def _keep(self, number: int, known: KnownRevision) -> None:
        self._cached[number] = known
        self._cached_bytes += known.byte_size
        while self._cached_bytes > self._cache_bytes:
            _, oldest = self._cached.popitem(last=False)
            self._cached_bytes -= oldest.byte_size


def misfits(
    compiled: Compiled, encoding: Encoding, messages: Mapping[Key, bytes]
) -> dict[Key, str]:
    """Which messages do not follow a definition, and why."""
    check = compiled.check_json if encoding is Encoding.JSON else compiled.check_binary
    found: dict[Key, str] = {}
    for key, data in messages.items():
        try:
            check(data)
        except MessageError as error:
            found[key] = str(error)
    return found


def work(compiled: Compiled, encoding: Encoding, size: int) -> int:
    """What checking a message of ``size`` bytes may cost, as that of so many bytes of plain data."""
    return compiled.json_work(size) if encoding is Encoding.JSON else compiled.binary_work(size)


def error_info(schema_type: SchemaType, encoding: Encoding, reason: str) -> ErrorInfo:
    """Pub/Sub: what programs are told about a message that does not follow a schema."""
    return ErrorInfo(
        f"INVALID_{encoding}_{_REASONS[schema_type]}MESSAGE",
        {"message": f"Message failed schema validation: {reason}"},
    )


# --- in a thread --------------------------------------------------------------------------------
# The languages are imported when somebody needs one.


def _checked(definition: Definition) -> Definition:
    try:
        if definition.type is SchemaType.PROTOCOL_BUFFER and not definition.compiled:
            from ams_grpc.schemas.protobuf import compile_text  # noqa: PLC0415

            if not definition.text.strip():
                raise DefinitionError("it is empty")
            result = compile_text(definition.text)
            return Definition(definition.type, definition.text, result.descriptors, result.root)
        _compile(definition)
    except DefinitionError as error:
        said = f"Could not parse schema definition: {error}"
        if definition.type is SchemaType.JSON:
            said = str(error)  # AMS: nothing but the text of its library
        raise InvalidArgument(said, field="schema.definition") from None
    return definition


def _compile(definition: Definition) -> Compiled:
    if definition.type is SchemaType.AVRO:
        from ams_grpc.schemas.avro import AvroSchema  # noqa: PLC0415

        return AvroSchema(definition.text)
    if definition.type is SchemaType.JSON:
        from ams_grpc.schemas.json_schema import JsonSchema  # noqa: PLC0415

        return JsonSchema(definition.text)
    from ams_grpc.schemas import protobuf  # noqa: PLC0415

    return protobuf.ProtobufSchema(protobuf.Compiled(definition.compiled, definition.root))


def _attribute_rules(text: str) -> AttributeRules:
    from ams_grpc.schemas.attributes import AttributeRules  # noqa: PLC0415

    return AttributeRules(text)


def _first_conflict(new: Definition, others: Sequence[Definition]) -> tuple[int, str] | None:
    compiled = _compile(new)
    for place, other in enumerate(others):
        try:
            compiled.check_compatible(_compile(other))
        except IncompatibleError as error:
            return place, str(error)
    return None
