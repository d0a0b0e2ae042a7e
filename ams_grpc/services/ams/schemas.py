"""ams.v1.Schemas, and the schema of a topic."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import orjson
from google.protobuf.empty_pb2 import Empty

from ams_grpc.auth.checks import check_name
from ams_grpc.broker.ams_schemas import AmsSchemas, Change, check_message_size
from ams_grpc.broker.errors import InvalidArgument, NotFound, ams
from ams_grpc.broker.names import SchemaName, TopicName
from ams_grpc.broker.policies import SchemaSettings
from ams_grpc.broker.schemas import MAX_DEFINITION_BYTES, Definition, Schema, SchemaType
from ams_grpc.broker.topics import Topics
from ams_grpc.pb.ams.v1 import schemas_pb2 as pb
from ams_grpc.services.ams.base64 import NotBase64Error, least_size, read_base64
from ams_grpc.services.ams.names import ams_words
from ams_grpc.services.frame import Context

_TYPES: Final = {"json": SchemaType.JSON, "avro": SchemaType.AVRO}
_SHOWN_TYPES: Final = {
    SchemaType.JSON: "json",
    SchemaType.AVRO: "avro",
    SchemaType.PROTOCOL_BUFFER: "protobuf",  # made through Pub/Sub's API
}
_NOTHING: Final = {SchemaType.JSON: "null", SchemaType.AVRO: '"null"'}
"""AMS: what a definition is that is not there."""


class SchemaRoom:
    """Made, shown, listed, changed, deleted; and messages that may follow them."""

    def __init__(self, schemas: AmsSchemas) -> None:
        self._schemas = schemas

    async def CreateSchema(self, request: pb.CreateSchemaRequest, context: Context) -> pb.Schema:
        """Raises AlreadyExists, InvalidArgument."""
        schema_type = _type(request.type)
        text = _NOTHING.get(schema_type, "")
        if request.HasField("schema"):
            text = _object_text(request.schema)
        name = _name(request)
        with ams_words("Schema"):
            return _schema_pb(
                await self._schemas.create(
                    name, Definition(schema_type, text), _rules(request) or ""
                )
            )

    async def GetSchema(self, request: pb.SchemaRequest, context: Context) -> pb.Schema:
        """Raises NotFound."""
        return _schema_pb(await self._get(request))

    async def ListSchemas(self, request: pb.ListSchemasRequest, context: Context) -> pb.SchemaList:
        """Oldest first."""
        return pb.SchemaList(schemas=map(_schema_pb, await self._schemas.list(request.project)))

    async def check_UpdateSchema(self, request: pb.UpdateSchemaRequest, context: Context) -> None:
        """Raises NotFound."""
        await self._get(request)

    async def UpdateSchema(self, request: pb.UpdateSchemaRequest, context: Context) -> pb.Schema:
        """Raises NotFound, InvalidArgument, AlreadyExists."""
        await self.check_UpdateSchema(request, context)
        change = Change(
            name=_new_name(request),
            type=_type(request.type) if request.type else None,
            text=_filled_text(request.schema) or None,
            attributes=_rules(request),
        )
        with ams_words("Schema"):
            return _schema_pb(await self._schemas.update(_name(request), change))

    async def DeleteSchema(self, request: pb.SchemaRequest, context: Context) -> Empty:
        """Raises NotFound."""
        with ams_words("Schema"):
            await self._schemas.delete(_name(request))
        return Empty()

    async def check_ValidateMessage(
        self, request: pb.ValidateMessageRequest, context: Context
    ) -> None:
        """Raises NotFound."""
        await self._get(request)

    async def ValidateMessage(
        self, request: pb.ValidateMessageRequest, context: Context
    ) -> pb.ValidateMessageReply:
        """AMS: the document itself for JSON, and for Avro the body of a message.

        Raises NotFound, InvalidArgument.
        """
        schema = await self._get(request)
        data = request.document
        if schema.type is not SchemaType.JSON:
            data = _data_in(request.document)
        await self._schemas.check_message(schema, data)
        return pb.ValidateMessageReply(message="Message validated successfully")

    async def _get(self, request: Any) -> Schema:
        with ams_words("Schema"):
            return await self._schemas.get(_name(request))


class TopicSchemas:
    """Which schema the messages of a topic follow."""

    def __init__(self, topics: Topics, schemas: AmsSchemas) -> None:
        self._topics = topics
        self._schemas = schemas

    async def find(self, project: str, reference: str) -> SchemaSettings | None:
        """What a topic stores of a schema that a request refers to; None for an empty reference.

        AMS: the project in the reference does not count. Raises InvalidArgument, NotFound.
        """
        if not reference:
            return None
        name = SchemaName(project, _id_in(reference))
        with ams_words("Schema"):
            await self._schemas.get(name)
        return SchemaSettings(name, ams=True)

    async def check_AttachSchema(self, request: Any, context: Context) -> None:
        """Raises NotFound."""
        with ams_words("Topic"):
            await self._topics.get(_topic_name(request))

    async def AttachSchema(self, request: Any, context: Context) -> Empty:
        """AMS: an empty reference detaches. Raises NotFound, InvalidArgument."""
        await self.check_AttachSchema(request, context)
        await self._settle(request, await self.find(request.project, request.schema))
        return Empty()

    async def DetachSchema(self, request: Any, context: Context) -> Empty:
        """Raises NotFound."""
        await self._settle(request, None)
        return Empty()

    async def _settle(self, request: Any, settings: SchemaSettings | None) -> None:
        try:
            await self._topics.update(
                _topic_name(request),
                lambda topic: replace(topic.config, schema_settings=settings),
            )
        except NotFound as error:
            kind = "Schema" if error.field else "Topic"  # deleted just now
            raise NotFound(f"{kind} doesn't exist") from None


def _name(request: Any) -> SchemaName:
    return SchemaName(request.project, request.schema_id)


def _topic_name(request: Any) -> TopicName:
    return TopicName(request.project, request.topic)


def _id_in(reference: str) -> str:
    """The schema of ``projects/{any}/schemas/{schema}``. Raises InvalidArgument."""
    parts = reference.split("/")
    if len(parts) != 4 or parts[0] != "projects" or parts[2] != "schemas":
        raise InvalidArgument("wrong schema name declaration")
    return parts[3]


def _new_name(request: pb.UpdateSchemaRequest) -> SchemaName | None:
    if not request.name:
        return None
    schema_id = _id_in(request.name)
    check_name(schema_id, "schema")  # so that it can be found again
    return SchemaName(request.project, schema_id)


def _type(name: str) -> SchemaType:
    return _TYPES.get(name.lower(), SchemaType.UNSPECIFIED)


def _rules(request: pb.CreateSchemaRequest | pb.UpdateSchemaRequest) -> str | None:
    """Rules for attributes: empty if they are to go, None if nothing is said of them."""
    if not request.HasField("attributes"):
        return None
    return _filled_text(request.attributes)


def _filled_text(text: str) -> str:
    """Empty for nothing, and for an object with nothing in it."""
    found = _object_text(text) if text else "{}"
    return "" if found == "{}" else found


def _object_text(text: str) -> str:
    """An object with sorted keys, as it is stored. Raises InvalidArgument for what is no object."""
    if len(text) > MAX_DEFINITION_BYTES:
        return text  # not worth reading: it is going to be refused
    try:
        value: object = orjson.loads(text)
        if isinstance(value, dict):
            return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):  # none, or nested too deeply
        pass
    raise InvalidArgument("Invalid Schema Arguments")


def _is_object(text: str) -> bool:
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


def _data_in(body: bytes) -> bytes:
    """The data of a message in JSON. Raises InvalidArgument, AmsRefusal."""
    try:
        message: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        message = body
    if message is None:
        message = {}
    if not isinstance(message, dict) or not all(
        isinstance(each, str | None) for each in message.values()
    ):
        raise ams("BAD_REQUEST", "Invalid Request Body")
    if "data" not in message:
        raise InvalidArgument("Invalid Schema Payload Arguments")
    text = (message["data"] or "").encode()
    check_message_size(least_size(text))
    try:
        return read_base64(text)
    except NotBase64Error as error:
        raise InvalidArgument(f"Message 0 {error}") from None


def _schema_pb(schema: Schema) -> pb.Schema:
    shown = pb.Schema(uuid=schema.uuid, name=str(schema.name), type=_SHOWN_TYPES[schema.type])
    for field, text in (
        ("schema", schema.newest.definition.text),
        ("attributes", schema.attributes),
    ):
        if _is_object(text):
            setattr(shown, field, text)
    return shown
