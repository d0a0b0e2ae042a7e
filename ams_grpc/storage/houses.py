"""What is named by a project: renamed and removed together with it, in its transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    delete,
    func,
    literal,
    select,
    update,
)

from ams_grpc.broker.errors import project_gone
from ams_grpc.broker.names import SchemaName, TopicName
from ams_grpc.storage import days, records
from ams_grpc.storage.tables import cursors, projects, schemas, snapshots, subscriptions, topics

_NAMED: Final = (topics, subscriptions, snapshots, schemas)


def held(project: str, connection: Connection) -> int | None:
    """The id of a project, which keeps its name until this is committed; None if there is none.

    Whoever renames or deletes it locks its row first. So on any number of nodes what is made
    meanwhile is either there to be moved or cleared, or finds no such project.
    """
    query = select(projects.c.id).where(projects.c.name == project)
    found: int | None = connection.scalar(query.with_for_update(read=True, key_share=True))
    return found


def hold(project: str, connection: Connection) -> None:
    """As ``held``. Raises ProjectGone."""
    if held(project, connection) is None:
        raise project_gone(project)


def first(project: str, *, registered: bool) -> Callable[[Connection], object] | None:
    """What whoever makes something in a project does before all else: see ``GroupCommit.run``."""
    return partial(held, project) if registered else None


def lock(project: str, connection: Connection) -> None:
    """Let nobody else rename a project, delete it, or make anything in it."""
    query = select(projects.c.id).where(projects.c.name == project)
    connection.execute(query.with_for_update())


def is_inhabited(project: str, connection: Connection) -> bool:
    """Whether anything is named by a project, be it registered or not."""
    return any(
        connection.execute(
            select(table.c.id).where(table.c.project == project, table.c.name.is_not(None)).limit(1)
        ).first()
        for table in _NAMED
    )


def move(old: str, new: str, connection: Connection) -> Sequence[int]:
    """Rename all in a project, and what refers to it. Returns the ids of its subscriptions.

    Raises IntegrityError when there is something under the new name already.
    """
    ids = _lock_all(old, connection)
    for table in _NAMED:
        tail = func.substr(table.c.name, len(f"projects/{old}") + 1)
        values: dict[str, Any] = {
            "project": new,
            # NULL, the name of a deleted topic, stays NULL.
            "name": literal(f"projects/{new}").concat(tail),
        }
        if "version" in table.c:
            values["version"] = table.c.version + 1  # so that nobody works with the old name
        connection.execute(update(table).where(table.c.project == old).values(values))
    days.rename(old, new, connection)
    _refer_anew(old, new, connection)
    return ids


def clear(project: str, connection: Connection) -> Sequence[int]:
    """Delete all in a project. Returns the ids of its subscriptions, which are gone."""
    ids = _lock_all(project, connection)
    connection.execute(delete(subscriptions).where(subscriptions.c.project == project))
    connection.execute(delete(snapshots).where(snapshots.c.project == project))
    gone = select(schemas.c.id).where(schemas.c.project == project)
    connection.execute(  # as the deletion of a single schema: topics that use it may be elsewhere
        update(topics)
        .where(topics.c.schema_id.in_(gone))
        .values(schema_id=None, version=topics.c.version + 1)
    )
    connection.execute(delete(schemas).where(schemas.c.project == project))
    connection.execute(
        # As the deletion of a single topic: the rest is left to upkeep.
        update(topics)
        .where(topics.c.project == project, topics.c.name.is_not(None))
        .values(name=None, version=topics.c.version + 1)
    )
    days.forget(project, connection)
    return ids


def _lock_all(project: str, connection: Connection) -> Sequence[int]:
    """Lock what is in a project, and topics that use its schemas, in the order of those who publish.

    Else one of them and this could wait for each other. What locks in another order (changes of a
    subscription and counts of what was pulled, in a group ahead of a publish; a Seek back) still can, and
    is tried again. Returns the ids of its subscriptions.
    """
    of_schemas = list(connection.scalars(_ids(schemas, schemas.c.project == project)))
    using = (topics.c.project == project) | topics.c.schema_id.in_(of_schemas)
    connection.execute(_ids(topics, using)).all()
    ids = list(connection.scalars(_ids(subscriptions, subscriptions.c.project == project)))
    of_cursors = (
        select(cursors.c.subscription_id)
        .join_from(cursors, subscriptions)
        .where(subscriptions.c.project == project)
        .order_by(cursors.c.subscription_id)
    )
    connection.execute(of_cursors.with_for_update(of=cursors)).all()
    return ids


def _ids(table: Table, which: ColumnElement[bool]) -> Select[Any]:
    return select(table.c.id).where(which).order_by(table.c.id).with_for_update()


def _refer_anew(old: str, new: str, connection: Connection) -> None:
    """Dead letters go to a topic by its name, and topics name their schema."""
    for row in _mentioning(subscriptions, old, connection):
        config = records.subscription_config(row.config)
        letters = config.dead_letter
        if letters is not None and letters.topic.project == old:
            topic = TopicName(new, letters.topic.id)
            changed = replace(config, dead_letter=replace(letters, topic=topic))
            _write(subscriptions, row.id, records.subscription_config_text(changed), connection)
    for row in _mentioning(topics, old, connection):
        topic_config = records.topic_config(row.config)
        settings = topic_config.schema_settings
        schema: SchemaName | None = None if settings is None else settings.schema
        if settings is not None and schema is not None and schema.project == old:
            schema = SchemaName(new, schema.id)
            renamed = replace(topic_config, schema_settings=replace(settings, schema=schema))
            _write(topics, row.id, records.topic_config_text(renamed), connection)


def _mentioning(table: Table, project: str, connection: Connection) -> Sequence[Any]:
    mention = f'"project":"{project}"'
    query = select(table.c.id, table.c.config).where(table.c.config.contains(mention))
    return connection.execute(query).all()


def _write(table: Table, row_id: int, config: str, connection: Connection) -> None:
    connection.execute(
        update(table).where(table.c.id == row_id).values(config=config, version=table.c.version + 1)
    )
