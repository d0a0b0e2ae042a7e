"""Schemas as AMS has them: one definition at a time, replaced in place, and renamed.

They are the schemas of ``schemas``, changed in another way: an update leaves one revision, so that
messages that followed the old definition alone are refused from then on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ams_grpc.broker.errors import InvalidArgument, NotFound, already_exists, ams, too_large
from ams_grpc.broker.names import SchemaName
from ams_grpc.broker.schemas import (
    MAX_DEFINITION_BYTES,
    MAX_MESSAGE_BYTES,
    Definition,
    Definitions,
    Replacement,
    Schema,
    SchemaCatalog,
    Schemas,
    SchemaType,
)
from ams_grpc.broker.updates import until_unchanged

_TYPES: Final = {SchemaType.JSON, SchemaType.AVRO}


@dataclass(frozen=True, slots=True)
class Change:
    """What is to become of a schema. None: it stays as it is. ``type`` UNSPECIFIED: an unknown one."""

    name: SchemaName | None = None
    type: SchemaType | None = None
    text: str | None = None
    attributes: str | None = None


class AmsSchemas:
    def __init__(self, catalog: SchemaCatalog, definitions: Definitions) -> None:
        self._catalog = catalog
        self._definitions = definitions
        self._schemas = Schemas(catalog, definitions)

    async def create(self, name: SchemaName, definition: Definition, attributes: str) -> Schema:
        """AMS: in a project that is registered.

        Raises AlreadyExists, InvalidArgument, ProjectGone, in this order.
        """
        await self._refuse_existing(name)
        _check_type(definition.type)
        checked = await self._schemas.check(definition)
        await self._check_attributes(attributes)
        return await self._catalog.create_schema(name, checked, attributes, registered=True)

    async def get(self, name: SchemaName) -> Schema:
        """Raises NotFound."""
        return await self._catalog.schema(name)

    async def list(self, project: str) -> Sequence[Schema]:
        """All of a project, oldest first."""
        return await self._catalog.schemas_of(project)

    async def update(self, name: SchemaName, change: Change) -> Schema:
        """Raises NotFound, AlreadyExists, InvalidArgument, in this order."""

        async def attempt() -> Schema:
            schema = await self._catalog.schema(name)
            if change.name is not None and change.name != name:
                await self._refuse_existing(change.name)
            replacement = Replacement(
                name if change.name is None else change.name,
                await self._changed(schema.newest.definition, change),
                schema.attributes if change.attributes is None else change.attributes,
            )
            await self._check_attributes(change.attributes or "")
            return await self._catalog.replace_schema(schema, replacement)

        return await until_unchanged(name, attempt)

    async def delete(self, name: SchemaName) -> None:
        """Topics that have it take anything again. Raises NotFound."""

        async def attempt() -> None:
            await self._catalog.delete_schema(await self._catalog.schema(name), detach=True)

        await until_unchanged(name, attempt)

    async def check_message(self, schema: Schema, data: bytes) -> None:
        """Raises InvalidArgument unless a message follows a schema, AmsRefusal if it is too large."""
        check_message_size(len(data))
        definition = schema.newest.definition
        reason = await self._definitions.misfit(definition, schema.type.encoding, data)
        if reason is not None:
            raise InvalidArgument(refusal(schema.type, 0, reason))

    async def _changed(self, old: Definition, change: Change) -> Definition | None:
        """A new definition; None if it stays as it is. Raises InvalidArgument."""
        if change.type is None and change.text is None:
            return None
        new = Definition(
            old.type if change.type is None else change.type,
            old.text if change.text is None else change.text,
        )
        _check_type(new.type)
        checked = await self._schemas.check(new)
        return None if (new.type, new.text) == (old.type, old.text) else checked

    async def _check_attributes(self, rules: str) -> None:
        if len(rules.encode()) > MAX_DEFINITION_BYTES:
            raise too_large("attributes", len(rules.encode()), MAX_DEFINITION_BYTES)
        if rules:
            await self._definitions.check_attributes(rules)

    async def _refuse_existing(self, name: SchemaName) -> None:
        try:
            await self._catalog.schema(name)
        except NotFound:
            return
        raise already_exists(name)


def check_message_size(size: int) -> None:
    """Raises AmsRefusal."""
    if size > MAX_MESSAGE_BYTES:
        raise ams("TOO_LARGE", "Message size is too large")


def refusal(schema_type: SchemaType, place: int, reason: str) -> str:
    """AMS: what is said of a message that does not follow a schema."""
    if schema_type is SchemaType.JSON:  # its reasons say what is not valid
        return f"Message {place} {reason}"
    return f"Message {place} is not valid.{reason}"


def _check_type(schema_type: SchemaType) -> None:
    if schema_type not in _TYPES:
        raise InvalidArgument("Schema type can only be 'json' or 'avro'")
