"""Schemas: administration, and which one a topic's messages follow.

A schema has 1 to 20 revisions, in the order in which they were made. A revision never changes.
Identity is ``id``, as it is for topics: a schema deleted and created again is another one.

**What publishers must not miss.** Whenever a schema changes, the versions of all topics that use it
are raised in the same transaction. A publish names the version of the topic that its messages were
checked for, so it is either committed before the change, or checked again. And as a topic is always
read before the revisions of its schema, what is cached under a topic's version is never older than
that version. This holds on any number of nodes, and nobody has to be told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Protocol

from ams_grpc.broker.errors import (
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    invalid_argument,
    invalid_name,
    too_large,
)
from ams_grpc.broker.names import DELETED_SCHEMA, SchemaName
from ams_grpc.broker.policies import Encoding, SchemaSettings
from ams_grpc.broker.updates import until_unchanged

MAX_REVISIONS: Final = 20
MAX_DEFINITION_BYTES: Final = 307_200
MAX_ROOT_BYTES: Final = 1_024
MAX_MESSAGE_BYTES: Final = 10_000_000


class SchemaType(StrEnum):
    """The language of a definition."""

    UNSPECIFIED = ""
    PROTOCOL_BUFFER = "PROTOCOL_BUFFER"
    AVRO = "AVRO"
    JSON = "JSON"
    """JSON Schema. Not a part of Pub/Sub."""

    @property
    def encoding(self) -> Encoding:
        """AMS: how messages are written that follow a schema."""
        return Encoding.JSON if self is SchemaType.JSON else Encoding.BINARY


@dataclass(frozen=True, slots=True)
class Definition:
    """What messages look like: as ``text``, or compiled if the text is empty.

    Compiled are Protocol Buffers: ``compiled`` is a FileDescriptorSet, ``root`` the full name of the
    message in it. Once checked, a definition has them also beside its text.
    """

    type: SchemaType
    text: str = ""
    compiled: bytes = b""
    root: str = ""


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision of a schema. ``number`` grows from revision to revision, and is never reused."""

    number: int
    id: str
    created_us: int
    definition: Definition


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema. ``revisions`` are newest first. ``version`` counts changes.

    ``attributes``: rules for messages' attributes (see ``schemas.attributes``); empty: none.
    """

    id: int
    name: SchemaName
    type: SchemaType
    version: int
    revisions: tuple[Revision, ...]
    uuid: str = ""
    attributes: str = ""

    @property
    def newest(self) -> Revision:
        return self.revisions[0]

    def revision(self, revision_id: str) -> Revision | None:
        return next((each for each in self.revisions if each.id == revision_id), None)


@dataclass(frozen=True, slots=True)
class Replacement:
    """What a schema is to become. ``definition`` takes the place of all revisions; None: they stay."""

    name: SchemaName
    definition: Definition | None
    attributes: str


class SchemaCatalog(Protocol):
    """Schemas as stored; see ``ports.Catalog`` for what holds of all of it.

    Each change raises the versions of the topics that use the schema, in the same transaction.
    """

    async def schema(self, name: SchemaName) -> Schema:
        """With all its revisions. Raises NotFound."""
        ...

    async def create_schema(
        self,
        name: SchemaName,
        definition: Definition,
        attributes: str = "",
        *,
        registered: bool = False,
    ) -> Schema:
        """Raises AlreadyExists, ProjectGone."""
        ...

    async def replace_schema(self, schema: Schema, by: Replacement) -> Schema:
        """Its topics follow: they take its new name, and lose bounds that are gone.

        Raises Aborted, AlreadyExists.
        """
        ...

    async def add_revision(self, schema: Schema, definition: Definition) -> Revision:
        """Created later than all others. Raises Aborted."""
        ...

    async def delete_revision(self, schema: Schema, revision: Revision) -> None:
        """Raises Aborted."""
        ...

    async def delete_schema(self, schema: Schema, *, detach: bool = False) -> None:
        """Its topics keep their settings, and show that it is gone; or ``detach`` them.

        Raises Aborted.
        """
        ...

    async def schemas_of(self, project: str) -> Sequence[Schema]:
        """All of a project, oldest first, each with its newest revision only."""
        ...

    async def schemas(
        self, project: str, after: str, limit: int, *, with_definitions: bool
    ) -> Sequence[Schema]:
        """By full name, each with its newest revision only."""
        ...

    async def revision_ids(self, schema_id: int) -> Sequence[tuple[int, str]]:
        """Numbers and ids of a schema's revisions, newest first; none if it is gone."""
        ...

    async def attribute_rules(self, schema_id: int) -> str:
        """Those of a schema; empty if it has none, or is gone."""
        ...

    async def settings_of_topic(self, topic_id: int) -> SchemaSettings | None:
        """Which schema a topic's messages follow; None if there is none."""
        ...

    async def definition(self, revision: int) -> Definition | None:
        """That of the revision of a number; None if it is gone."""
        ...


class Definitions(Protocol):
    """Knows the languages in which definitions are written."""

    async def check(self, definition: Definition) -> Definition:
        """The definition, compiled if its language needs it. Raises InvalidArgument."""
        ...

    async def check_attributes(self, rules: str) -> None:
        """Raises InvalidArgument unless these are rules for attributes."""
        ...

    async def first_conflict(
        self, new: Definition, others: Sequence[Definition]
    ) -> tuple[int, str] | None:
        """The first of some checked definitions that cannot be of one schema with another, and why.

        It is named by its place; None if there is none.
        """
        ...

    async def check_message(self, definition: Definition, encoding: Encoding, data: bytes) -> None:
        """Raises InvalidArgument unless a message follows a checked definition."""
        ...

    async def misfit(self, definition: Definition, encoding: Encoding, data: bytes) -> str | None:
        """Why a message does not follow a checked definition; None if it does."""
        ...


class Schemas:
    """All schemas of the service."""

    def __init__(self, catalog: SchemaCatalog, definitions: Definitions) -> None:
        self._catalog = catalog
        self._definitions = definitions

    async def create(
        self, name: SchemaName, definition: Definition, *, registered: bool = False
    ) -> Schema:
        """``registered`` as for ``Topics.create``. Raises AlreadyExists, InvalidArgument, ProjectGone."""
        checked = await self.check(definition)
        return await self._catalog.create_schema(name, checked, registered=registered)

    async def get(self, name: SchemaName) -> Schema:
        """Raises NotFound."""
        return await self._catalog.schema(name)

    async def get_revision(self, name: SchemaName, revision_id: str) -> tuple[Schema, Revision]:
        """The newest revision if no id is given. Raises NotFound."""
        schema = await self._catalog.schema(name)
        if not revision_id:
            return schema, schema.newest
        return schema, _existing(schema, revision_id, "Schema revision not found")

    async def list(
        self, project: str, after: str, limit: int, *, with_definitions: bool
    ) -> Sequence[Schema]:
        """Schemas of a project by name, those after the full name ``after``, as they are now."""
        return await self._catalog.schemas(project, after, limit, with_definitions=with_definitions)

    async def commit(self, name: SchemaName, definition: Definition) -> tuple[Schema, Revision]:
        """Add a revision. Raises NotFound, InvalidArgument, ResourceExhausted.

        Pub/Sub: it must fit every revision there is, and each of them must fit it.
        """

        async def attempt() -> tuple[Schema, Revision]:
            schema = await self._catalog.schema(name)
            if definition.type != schema.type:
                raise InvalidArgument("Invalid schema type", field="schema.type")
            checked = await self.check(definition)
            others = [revision.definition for revision in schema.revisions]
            conflict = await self._definitions.first_conflict(checked, others)
            if conflict is not None:
                place, reason = conflict
                raise _incompatible(name, schema.revisions[place], reason)
            return schema, await self._add(schema, checked)

        return await until_unchanged(name, attempt)

    async def roll_back(self, name: SchemaName, revision_id: str) -> tuple[Schema, Revision]:
        """Add a revision that is like an earlier one. Raises NotFound, ResourceExhausted."""
        if not revision_id:
            raise invalid_argument("revision_id", field="revision_id")

        async def attempt() -> tuple[Schema, Revision]:
            schema = await self._catalog.schema(name)
            earlier = _existing(schema, revision_id, "Revision not found")
            return schema, await self._add(schema, earlier.definition)

        return await until_unchanged(name, attempt)

    async def delete_revision(self, name: SchemaName, revision_id: str) -> tuple[Schema, Revision]:
        """The revision that is gone now. Raises NotFound, InvalidArgument for the only one."""
        if not revision_id:
            raise invalid_argument("revision_id", field="revision_id")

        async def attempt() -> tuple[Schema, Revision]:
            schema = await self._catalog.schema(name)
            revision = _existing(schema, revision_id, "Schema revision not found")
            if len(schema.revisions) == 1:
                raise InvalidArgument("Cannot delete last revision. Please use DeleteSchema.")
            await self._catalog.delete_revision(schema, revision)
            return schema, revision

        return await until_unchanged(name, attempt)

    async def delete(self, name: SchemaName) -> None:
        """Allowed while topics use it. Raises NotFound."""

        async def attempt() -> None:
            await self._catalog.delete_schema(await self._catalog.schema(name))

        await until_unchanged(name, attempt)

    async def check(self, definition: Definition) -> Definition:
        """The definition, ready to be stored. Raises InvalidArgument."""
        if definition.type is SchemaType.UNSPECIFIED:
            raise InvalidArgument("Invalid schema type", field="schema.type")
        size = max(len(definition.text.encode()), len(definition.compiled))
        if size > MAX_DEFINITION_BYTES:
            raise too_large("definition", size, MAX_DEFINITION_BYTES)
        size = len(definition.root.encode())
        if size > MAX_ROOT_BYTES:
            raise too_large("root_message", size, MAX_ROOT_BYTES)
        is_compiled = bool(definition.compiled or definition.root)
        if is_compiled and definition.type is not SchemaType.PROTOCOL_BUFFER:
            raise invalid_argument(
                "compiled_proto_schema is for Protocol Buffers",
                field="schema.compiled_proto_schema",
            )
        if definition.text and is_compiled:
            raise invalid_argument(
                "definition and compiled_proto_schema are mutually exclusive",
                field="schema.compiled_proto_schema",
            )
        return await self._definitions.check(definition)

    async def check_message(self, definition: Definition, encoding: Encoding, data: bytes) -> None:
        """Raises InvalidArgument unless a message follows a definition."""
        if encoding is Encoding.UNSPECIFIED:
            raise InvalidArgument("No encoding provided.", field="encoding")
        if len(data) > MAX_MESSAGE_BYTES:
            raise too_large("message", len(data), MAX_MESSAGE_BYTES)
        await self._definitions.check_message(definition, encoding, data)

    async def _add(self, schema: Schema, definition: Definition) -> Revision:
        if len(schema.revisions) >= MAX_REVISIONS:
            raise ResourceExhausted("Already at maximum number of schema revisions")
        return await self._catalog.add_revision(schema, definition)


async def look_up(catalog: SchemaCatalog | None, settings: SchemaSettings) -> SchemaSettings:
    """Settings as a caller gave them, with what they refer to.

    Raises InvalidArgument; NotFound for the schema or a revision.
    """
    if settings.schema is None:
        raise invalid_name(DELETED_SCHEMA)
    if settings.encoding is Encoding.UNSPECIFIED and not settings.ams:
        raise _bad_encoding()
    try:
        if catalog is None:
            raise NotFound("there are no schemas here")
        schema = await catalog.schema(settings.schema)
    except NotFound:
        raise NotFound("Schema could not be found", field="schema_settings.schema") from None
    encoding = schema.type.encoding if settings.ams else settings.encoding
    if schema.type is SchemaType.JSON and encoding is not Encoding.JSON:
        raise _bad_encoding()
    first = last = 0
    if settings.first_revision_id:
        text = "First revision could not be found"
        first = _existing(schema, settings.first_revision_id, text).number
    if settings.last_revision_id:
        text = "Last revision could not be found"
        last = _existing(schema, settings.last_revision_id, text).number
    if last and first > last:
        raise InvalidArgument(
            "First revision creation time is after last revision creation time",
            field="schema_settings.first_revision_id",
        )
    return replace(
        settings,
        encoding=encoding,
        schema_id=schema.id,
        first_revision=first,
        last_revision=last,
    )


def _bad_encoding() -> InvalidArgument:
    return InvalidArgument("Invalid schema encoding provided", field="schema_settings.encoding")


def _existing(schema: Schema, revision_id: str, text: str) -> Revision:
    revision = schema.revision(revision_id)
    if revision is None:
        raise NotFound(text)
    return revision


def _incompatible(name: SchemaName, revision: Revision, conflict: str) -> InvalidArgument:
    return InvalidArgument(
        f'Compatibility checking failed to commit a schema revision for (schema="{name}"). '
        f'(reason="Revision is incompatible with previous revision: {revision.id}. Failed with '
        f"error: {conflict}). Refer to https://cloud.google.com/pubsub/docs/schemas for more "
        "information."
    )
