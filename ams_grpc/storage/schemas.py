"""Schemas and their revisions: implements ``broker.schemas.SchemaCatalog``.

A change locks the schema's row, then raises the versions of the topics that use it. A topic that is
given the schema holds on to that row meanwhile. So on any number of nodes a topic is either there to
be told of a change, or read after it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from ams_grpc.broker import errors
from ams_grpc.broker.catalog import TopicConfig
from ams_grpc.broker.names import SchemaName
from ams_grpc.broker.policies import SchemaSettings
from ams_grpc.broker.schemas import Definition, Replacement, Revision, Schema, SchemaType
from ams_grpc.storage import houses, records
from ams_grpc.storage.clock import WallClock
from ams_grpc.storage.commit import GroupCommit
from ams_grpc.storage.reading import Readers
from ams_grpc.storage.records import stored_name
from ams_grpc.storage.tables import schema_revisions, schemas, topics

_REVISION_COLUMNS = (
    schema_revisions.c.id.label("number"),
    schema_revisions.c.revision_id,
    schema_revisions.c.created_us.label("revision_created_us"),
)
_DEFINITION_COLUMNS = (
    schemas.c.type,
    schema_revisions.c.root,
    schema_revisions.c.definition,
    schema_revisions.c.compiled,
)


class SqlSchemas:
    def __init__(self, readers: Readers, commits: GroupCommit, clock: WallClock) -> None:
        self._readers = readers
        self._commits = commits
        self._clock = clock

    async def schema(self, name: SchemaName) -> Schema:
        query = (
            select(schemas, *_REVISION_COLUMNS, *_DEFINITION_COLUMNS[1:])
            .select_from(schemas.join(schema_revisions))
            .where(schemas.c.name == str(name))
            .order_by(schema_revisions.c.id.desc())
        )
        rows = await self._readers.run(lambda connection: connection.execute(query).all())
        if not rows:
            raise errors.not_found(name)
        return _schema(rows[0], [_revision(row, _definition(row)) for row in rows])

    async def create_schema(
        self,
        name: SchemaName,
        definition: Definition,
        attributes: str = "",
        *,
        registered: bool = False,
    ) -> Schema:
        now_us = self._clock.now_us()
        row = {
            "name": str(name),
            "project": name.project,
            "type": str(definition.type),
            "version": 1,
            "created_us": now_us,
            "uuid": str(uuid4()),
            "attributes": attributes,
        }

        def create(connection: Connection) -> Schema:
            if registered:
                houses.hold(name.project, connection)
            try:
                schema_id = connection.execute(
                    insert(schemas).returning(schemas.c.id), row
                ).scalar_one()
            except IntegrityError:
                raise errors.already_exists(name) from None
            first = _insert_revision(connection, schema_id, definition, now_us, taken=())
            return Schema(
                schema_id, name, definition.type, 1, (first,), str(row["uuid"]), attributes
            )

        first = houses.first(name.project, registered=registered)
        return await self._commits.run(create, first=first)

    async def replace_schema(self, schema: Schema, by: Replacement) -> Schema:
        created_us = max(self._clock.now_us(), schema.newest.created_us + 1)

        def followed(settings: SchemaSettings) -> SchemaSettings:
            if by.definition is None:
                return replace(settings, schema=by.name)
            of_type = by.definition.type
            follows = settings.ams or of_type is SchemaType.JSON
            encoding = of_type.encoding if follows else settings.encoding
            return SchemaSettings(by.name, encoding, schema_id=settings.schema_id, ams=settings.ams)

        def apply(connection: Connection) -> Schema:
            _begin_change(connection, schema)
            _settle_topics(connection, schema, followed)
            revisions = schema.revisions
            if by.definition is not None:
                connection.execute(
                    delete(schema_revisions).where(schema_revisions.c.schema_id == schema.id)
                )
                taken = [revision.id for revision in revisions]
                revisions = (
                    _insert_revision(connection, schema.id, by.definition, created_us, taken),
                )
            changed = Schema(
                schema.id,
                by.name,
                revisions[0].definition.type,
                schema.version + 1,
                revisions,
                schema.uuid,
                by.attributes,
            )
            try:
                connection.execute(
                    update(schemas)
                    .where(schemas.c.id == schema.id)
                    .values(name=str(by.name), type=str(changed.type), attributes=by.attributes)
                )
            except IntegrityError:
                raise errors.already_exists(by.name) from None
            return changed

        return await self._commits.run(apply)

    async def add_revision(self, schema: Schema, definition: Definition) -> Revision:
        created_us = max(self._clock.now_us(), schema.newest.created_us + 1)
        taken = [revision.id for revision in schema.revisions]

        def add(connection: Connection) -> Revision:
            _begin_change(connection, schema)
            return _insert_revision(connection, schema.id, definition, created_us, taken)

        return await self._commits.run(add)

    async def delete_revision(self, schema: Schema, revision: Revision) -> None:
        def remove(connection: Connection) -> None:
            _begin_change(connection, schema)
            connection.execute(
                delete(schema_revisions).where(schema_revisions.c.id == revision.number)
            )

        await self._commits.run(remove)

    async def delete_schema(self, schema: Schema, *, detach: bool = False) -> None:
        def remove(connection: Connection) -> None:
            _begin_change(connection, schema)
            if detach:
                _settle_topics(connection, schema, lambda _settings: None)
            connection.execute(
                update(topics).where(topics.c.schema_id == schema.id).values(schema_id=None)
            )
            connection.execute(delete(schemas).where(schemas.c.id == schema.id))

        await self._commits.run(remove)

    async def schemas_of(self, project: str) -> Sequence[Schema]:
        query = (
            _with_newest(*_REVISION_COLUMNS, *_DEFINITION_COLUMNS[1:])
            .where(schemas.c.project == project)
            .order_by(schemas.c.id)
        )
        rows = await self._readers.run(lambda connection: connection.execute(query).all())
        return [_schema(row, [_revision(row, _definition(row))]) for row in rows]

    async def schemas(
        self, project: str, after: str, limit: int, *, with_definitions: bool
    ) -> Sequence[Schema]:
        columns = (
            [*_REVISION_COLUMNS, *_DEFINITION_COLUMNS[1:]]
            if with_definitions
            else [*_REVISION_COLUMNS]
        )
        query = (
            _with_newest(*columns)
            .where(schemas.c.project == project, schemas.c.name > after)
            .order_by(schemas.c.name)
            .limit(limit)
        )
        rows = await self._readers.run(lambda connection: connection.execute(query).all())
        return [
            _schema(
                row,
                [
                    _revision(
                        row,
                        _definition(row) if with_definitions else Definition(SchemaType(row.type)),
                    )
                ],
            )
            for row in rows
        ]

    async def revision_ids(self, schema_id: int) -> Sequence[tuple[int, str]]:
        query = (
            select(schema_revisions.c.id, schema_revisions.c.revision_id)
            .where(schema_revisions.c.schema_id == schema_id)
            .order_by(schema_revisions.c.id.desc())
        )
        rows = await self._readers.run(lambda connection: connection.execute(query).all())
        return [(number, revision_id) for number, revision_id in rows]

    async def attribute_rules(self, schema_id: int) -> str:
        query = select(schemas.c.attributes).where(schemas.c.id == schema_id)
        return await self._readers.run(lambda connection: connection.scalar(query)) or ""

    async def settings_of_topic(self, topic_id: int) -> SchemaSettings | None:
        query = select(topics.c.config, topics.c.schema_id).where(topics.c.id == topic_id)
        row = await self._readers.run(lambda connection: connection.execute(query).one_or_none())
        settings = None if row is None else records.topic_config(row.config).schema_settings
        if settings is None or row is None or row.schema_id is not None:
            return settings
        return replace(settings, schema=None)  # it is gone

    async def definition(self, revision: int) -> Definition | None:
        query = (
            select(*_DEFINITION_COLUMNS)
            .select_from(schemas.join(schema_revisions))
            .where(schema_revisions.c.id == revision)
        )
        row = await self._readers.run(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else _definition(row)


# --- what topics need ---------------------------------------------------------------------------


def schema_of(config: TopicConfig) -> int | None:
    """What goes into ``topics.schema_id``."""
    settings = config.schema_settings
    return None if settings is None or settings.schema is None else settings.schema_id


def hold_schema(config: TopicConfig, connection: Connection) -> None:
    """Keep the schema of a topic from being changed until this is committed. Raises NotFound."""
    schema_id = schema_of(config)
    if schema_id is None:
        return
    query = select(schemas.c.id).where(schemas.c.id == schema_id).with_for_update(read=True)
    if connection.scalar(query) is None:
        raise errors.NotFound("Schema could not be found", field="schema_settings.schema")


# --- changes ------------------------------------------------------------------------------------


def _begin_change(connection: Connection, schema: Schema) -> None:
    """Lock a schema, and tell the topics that use it. Raises Aborted if it is out of date."""
    change = (
        update(schemas)
        .where(schemas.c.id == schema.id, schemas.c.version == schema.version)
        .values(version=schema.version + 1)
    )
    if connection.execute(change).rowcount != 1:
        raise errors.Aborted("The schema has changed; read it again and retry.")
    # In order of topics, as publishers on other nodes lock them.
    used_by = select(topics.c.id).where(topics.c.schema_id == schema.id).order_by(topics.c.id)
    connection.execute(used_by.with_for_update())
    connection.execute(
        update(topics).where(topics.c.schema_id == schema.id).values(version=topics.c.version + 1)
    )


def _settle_topics(
    connection: Connection,
    schema: Schema,
    change: Callable[[SchemaSettings], SchemaSettings | None],
) -> None:
    """Give the topics that use a schema other settings, or none. They are told already."""
    used_by = select(topics.c.id, topics.c.config).where(topics.c.schema_id == schema.id)
    for row in connection.execute(used_by).all():
        config = records.topic_config(row.config)
        if config.schema_settings is None:  # impossible while topics.schema_id is set
            continue
        changed = replace(config, schema_settings=change(config.schema_settings))
        values = {"config": records.topic_config_text(changed), "schema_id": schema_of(changed)}
        connection.execute(update(topics).where(topics.c.id == row.id).values(values))


def _insert_revision(
    connection: Connection,
    schema_id: int,
    definition: Definition,
    created_us: int,
    taken: Iterable[str],
) -> Revision:
    revision_id = secrets.token_hex(4)
    while revision_id in taken:
        revision_id = secrets.token_hex(4)
    row = {
        "schema_id": schema_id,
        "revision_id": revision_id,
        "created_us": created_us,
        "root": definition.root,
        "definition": definition.text.encode(),
        "compiled": definition.compiled,
    }
    number = connection.execute(
        insert(schema_revisions).returning(schema_revisions.c.id), row
    ).scalar_one()
    return Revision(number, revision_id, created_us, definition)


def _with_newest(*columns: ColumnElement[Any]) -> Select[Any]:
    """Schemas, each with its newest revision."""
    newest = (
        select(func.max(schema_revisions.c.id))
        .where(schema_revisions.c.schema_id == schemas.c.id)
        .correlate(schemas)
        .scalar_subquery()
    )
    return (
        select(schemas, *columns)
        .select_from(schemas.join(schema_revisions))
        .where(schema_revisions.c.id == newest)
    )


# --- rows to records ----------------------------------------------------------------------------


def _schema(row: Row[Any], revisions: Sequence[Revision]) -> Schema:
    name = stored_name(SchemaName, row.name)
    return Schema(
        row.id,
        name,
        SchemaType(row.type),
        row.version,
        tuple(revisions),
        row.uuid,
        row.attributes,
    )


def _revision(row: Row[Any], definition: Definition) -> Revision:
    return Revision(row.number, row.revision_id, row.revision_created_us, definition)


def _definition(row: Any) -> Definition:
    text = bytes(row.definition).decode()
    return Definition(SchemaType(row.type), text, bytes(row.compiled), row.root)
