"""google.pubsub.v1.SchemaService: translates, and decides nothing."""

from __future__ import annotations

from typing import Final

from google.protobuf.empty_pb2 import Empty

from ams_grpc.broker.errors import InvalidArgument, invalid_argument
from ams_grpc.broker.names import SchemaName, parse_project
from ams_grpc.broker.schemas import Definition, Revision, Schema, Schemas, SchemaType
from ams_grpc.pb.google.pubsub.v1 import schema_pb2 as pb
from ams_grpc.services.frame import Context
from ams_grpc.services.pages import Page
from ams_grpc.services.policies import encoding
from ams_grpc.services.time import timestamp_pb

MAX_FULL_SCHEMAS: Final = 20
"""Schemas on a page that shows definitions: these may be large. Such pages end early."""

_TYPES: Final = {
    pb.Schema.PROTOCOL_BUFFER: SchemaType.PROTOCOL_BUFFER,
    pb.Schema.AVRO: SchemaType.AVRO,
}
_NUMBERS: Final = {schema_type: number for number, schema_type in _TYPES.items()} | {
    SchemaType.JSON: pb.Schema.TYPE_UNSPECIFIED  # Pub/Sub has no number for it
}


class SchemaService:
    """Schemas, their revisions, and messages that may follow them.

    ``registered``: see ``Publisher``.
    """

    def __init__(self, schemas: Schemas, *, registered: bool = False) -> None:
        self._schemas = schemas
        self._registered = registered

    async def CreateSchema(self, request: pb.CreateSchemaRequest, _context: Context) -> pb.Schema:
        parse_project(request.parent)
        name = SchemaName.parse(f"{request.parent}/schemas/{request.schema_id}")
        schema = await self._schemas.create(
            name, definition(request.schema), registered=self._registered
        )
        return schema_pb(schema, schema.newest)

    async def GetSchema(self, request: pb.GetSchemaRequest, _context: Context) -> pb.Schema:
        name, revision_id = SchemaName.parse_revision(request.name)
        schema, revision = await self._schemas.get_revision(name, revision_id)
        return schema_pb(schema, revision, full=request.view != pb.BASIC)

    async def ListSchemas(
        self, request: pb.ListSchemasRequest, _context: Context
    ) -> pb.ListSchemasResponse:
        project = parse_project(request.parent)
        page = Page.asked_for("schemas", request.parent, request.page_size, request.page_token)
        full = request.view == pb.FULL
        if full:
            page = page.at_most(MAX_FULL_SCHEMAS)
        found = await self._schemas.list(project, page.after, page.limit, with_definitions=full)
        schemas, token = page.cut(found, lambda schema: schema.name)
        return pb.ListSchemasResponse(
            schemas=[schema_pb(schema, schema.newest, full=full) for schema in schemas],
            next_page_token=token,
        )

    async def ListSchemaRevisions(
        self, request: pb.ListSchemaRevisionsRequest, _context: Context
    ) -> pb.ListSchemaRevisionsResponse:
        """Newest first."""
        name, _ = SchemaName.parse_revision(request.name)
        page = Page.asked_for("schema revisions", str(name), request.page_size, request.page_token)
        schema = await self._schemas.get(name)
        left = [each for each in schema.revisions if not page.after or _place(each) < page.after]
        revisions, token = page.cut(left[: page.limit], _place)
        full = request.view == pb.FULL
        return pb.ListSchemaRevisionsResponse(
            schemas=[schema_pb(schema, revision, full=full) for revision in revisions],
            next_page_token=token,
        )

    async def CommitSchema(self, request: pb.CommitSchemaRequest, _context: Context) -> pb.Schema:
        name = SchemaName.parse(request.name)
        if request.schema.name and request.schema.name != request.name:
            raise invalid_argument("schema.name is not name", field="schema.name")
        return schema_pb(*await self._schemas.commit(name, definition(request.schema)))

    async def RollbackSchema(
        self, request: pb.RollbackSchemaRequest, _context: Context
    ) -> pb.Schema:
        name = SchemaName.parse(request.name)
        return schema_pb(*await self._schemas.roll_back(name, request.revision_id))

    async def DeleteSchemaRevision(
        self, request: pb.DeleteSchemaRevisionRequest, _context: Context
    ) -> pb.Schema:
        name, revision_id = SchemaName.parse_revision(request.name)
        return schema_pb(
            *await self._schemas.delete_revision(name, revision_id or request.revision_id)
        )

    async def DeleteSchema(self, request: pb.DeleteSchemaRequest, _context: Context) -> Empty:
        await self._schemas.delete(SchemaName.parse(request.name))
        return Empty()

    async def ValidateSchema(
        self, request: pb.ValidateSchemaRequest, _context: Context
    ) -> pb.ValidateSchemaResponse:
        parse_project(request.parent)
        await self._schemas.check(definition(request.schema))
        return pb.ValidateSchemaResponse()

    async def ValidateMessage(
        self, request: pb.ValidateMessageRequest, _context: Context
    ) -> pb.ValidateMessageResponse:
        parse_project(request.parent)
        await self._schemas.check_message(
            await self._definition(request), encoding(request.encoding), request.message
        )
        return pb.ValidateMessageResponse()

    async def _definition(self, request: pb.ValidateMessageRequest) -> Definition:
        """What a message is to be held against: a schema that is stored, or one in the request."""
        match request.WhichOneof("schema_spec"):
            case "name":
                name, revision_id = SchemaName.parse_revision(request.name)
                _, revision = await self._schemas.get_revision(name, revision_id)
                return revision.definition
            case "schema":
                return await self._schemas.check(definition(request.schema))
            case _:
                raise InvalidArgument("Either name or schema must be set.", field="schema_spec")


def _place(revision: Revision) -> str:
    """Where a revision stands in a list, for page tokens: as text, it sorts like the number."""
    return f"{revision.number:020}"


def definition(schema: pb.Schema) -> Definition:
    """What a caller defines. Its name, and all that is output-only, counts for nothing."""
    compiled = schema.compiled_proto_schema
    return Definition(
        type=_TYPES.get(schema.type, SchemaType.UNSPECIFIED),
        text=schema.definition,
        compiled=compiled.compiled_bytes,
        root=compiled.root_message,
    )


def schema_pb(schema: Schema, revision: Revision, *, full: bool = True) -> pb.Schema:
    """A revision of a schema; its definition only if ``full``, in the form that it was given."""
    defined = revision.definition
    shown = pb.Schema(
        name=str(schema.name),
        type=_NUMBERS[schema.type],
        revision_id=revision.id,
        revision_create_time=timestamp_pb(revision.created_us),
    )
    if full and defined.text:
        shown.definition = defined.text
    elif full:
        shown.compiled_proto_schema.compiled_bytes = defined.compiled
        shown.compiled_proto_schema.root_message = defined.root
    return shown
