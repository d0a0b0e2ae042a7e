'use strict';
// Schemas: their revisions, and topics that take only what follows them.

const assert = require('node:assert/strict');
const {Encodings, Schema, SchemaTypes, SchemaViews} = require('@google-cloud/pubsub');
const {CODES, codeOf, count, publish, receive, spec} = require('../world');

const {Avro, ProtocolBuffer} = SchemaTypes;
const {Binary, Json} = Encodings;

const AVRO = JSON.stringify({
  type: 'record',
  name: 'Order',
  fields: [{name: 'item', type: 'string'}],
});

/** A message whose fields are texts. */
function proto(...fields) {
  const numbered = fields.map((name, i) => `string ${name} = ${i + 1};`);
  return `syntax = "proto3"; message Order { ${numbered.join(' ')} }`;
}
const PROTO = proto('item');

/** Schemas are listed one after the other; this is all of them. */
async function all(stream) {
  const found = [];
  for await (const each of stream) {
    found.push(each);
  }
  return found;
}

for (const [type, definition] of [
  [Avro, AVRO],
  [ProtocolBuffer, PROTO],
]) {
  spec(`a schema of type ${type} is created, read, listed and deleted`, async pubsub => {
    const schema = await pubsub.createSchema('order', type, definition);

    const shown = await schema.get();
    assert.equal(shown.name, await schema.getName());
    assert.deepEqual([shown.type, shown.definition], [type, definition]);
    assert.match(shown.revisionId, /^[0-9a-f]{8}$/);
    assert.equal((await schema.get(SchemaViews.Basic)).definition, '');
    assert.deepEqual(await all(pubsub.listSchemas(SchemaViews.Full)), [shown]);

    await schema.delete();
    assert.equal(await codeOf(schema.get()), CODES.NOT_FOUND);
    assert.deepEqual(await all(pubsub.listSchemas()), []);
  });

  spec(`what is no definition of type ${type} is refused`, async pubsub => {
    const refused = {type, definition: `${definition} nonsense`};

    assert.equal(await codeOf(pubsub.validateSchema(refused)), CODES.INVALID_ARGUMENT);
    assert.equal(
      await codeOf(pubsub.createSchema('order', refused.type, refused.definition)),
      CODES.INVALID_ARGUMENT
    );
    assert.equal(await codeOf(pubsub.validateSchema({type, definition})), null);
  });
}

spec('a schema that exists is not created again', async pubsub => {
  await pubsub.createSchema('order', Avro, AVRO);

  assert.equal(await codeOf(pubsub.createSchema('order', Avro, AVRO)), CODES.ALREADY_EXISTS);
});

// --- topics with a schema -------------------------------------------------------------------------

const AVRO_BYTES = '\x08shoe'; // the length, zigzag-encoded, and the text
const PROTO_BYTES = '\x0a\x04shoe'; // field 1, the length, and the text

for (const [type, definition, encoding, good, bad] of [
  [Avro, AVRO, Json, '{"item": "shoe"}', '{"item": 5}'],
  [Avro, AVRO, Binary, AVRO_BYTES, AVRO_BYTES.slice(0, -1)],
  [ProtocolBuffer, PROTO, Json, '{"item": "shoe"}', '{"thing": "shoe"}'],
  [ProtocolBuffer, PROTO, Binary, PROTO_BYTES, PROTO_BYTES.slice(0, -1)],
]) {
  spec(`a topic takes what follows its schema, ${type} as ${encoding}`, async pubsub => {
    const schema = await pubsub.createSchema('order', type, definition);
    const name = await schema.getName();
    const [orders] = await pubsub.createTopic({
      name: 'orders',
      schemaSettings: {schema: name, encoding},
    });
    const [warehouse] = await orders.createSubscription('warehouse');

    assert.equal(await codeOf(publish(orders, bad)), CODES.INVALID_ARGUMENT);
    await publish(orders, good);

    const [message] = await receive(warehouse, count(1));
    assert.equal(message.data.toString(), good);
    assert.deepEqual(Schema.metadataFromMessage(message.attributes), {
      name,
      revision: (await schema.get()).revisionId,
      encoding,
    });
  });

  spec(`messages are validated without a topic, ${type} as ${encoding}`, async pubsub => {
    const schema = await pubsub.createSchema('order', type, definition);

    assert.equal(await codeOf(schema.validateMessage(Buffer.from(good), encoding)), null);
    assert.equal(
      await codeOf(schema.validateMessage(Buffer.from(bad), encoding)),
      CODES.INVALID_ARGUMENT
    );
  });
}

spec('a topic needs a schema that exists', async pubsub => {
  const name = await pubsub.schema('missing').getName();
  const missing = pubsub.createTopic({
    name: 'orders',
    schemaSettings: {schema: name, encoding: Json},
  });

  assert.equal(await codeOf(missing), CODES.NOT_FOUND);
});

// --- revisions, for which there are only the calls of the service ----------------------------------

/** A schema with three revisions, the oldest first: each has a field more than the one before. */
async function threeRevisions(pubsub) {
  const schema = await pubsub.createSchema('order', ProtocolBuffer, PROTO);
  const name = await schema.getName();
  const client = await pubsub.getSchemaClient();
  const commit = async definition =>
    (await client.commitSchema({name, schema: {name, type: ProtocolBuffer, definition}}))[0];
  const revisions = [
    await schema.get(),
    await commit(proto('item', 'size')),
    await commit(proto('item', 'size', 'colour')),
  ];
  return {schema, name, client, commit, revisions};
}

const ids = revisions => revisions.map(revision => revision.revisionId);

spec('each commit is a revision, the newest is the schema', async pubsub => {
  const {schema, name, client, revisions} = await threeRevisions(pubsub);

  const [listed] = await client.listSchemaRevisions({name, view: SchemaViews.Full});

  assert.deepEqual(listed, [...revisions].reverse());
  assert.deepEqual(await schema.get(), revisions[2]);
  const [second] = await client.getSchema({name: `${name}@${revisions[1].revisionId}`});
  assert.deepEqual(second, revisions[1]);
});

spec('a revision that does not fit the ones before is refused', async pubsub => {
  const {schema, commit, revisions} = await threeRevisions(pubsub);
  const other = PROTO.replace('string item', 'int64 item');

  assert.equal(await codeOf(commit(other)), CODES.INVALID_ARGUMENT);
  assert.deepEqual(await schema.get(), revisions[2]);
});

spec('a rollback is a new revision with an old definition', async pubsub => {
  const {schema, name, client, revisions} = await threeRevisions(pubsub);

  const [back] = await client.rollbackSchema({name, revisionId: revisions[0].revisionId});

  assert.equal(back.definition, revisions[0].definition);
  assert.ok(!ids(revisions).includes(back.revisionId));
  assert.deepEqual(await schema.get(), back);
});

spec('a revision is deleted', async pubsub => {
  const {schema, name, client, revisions} = await threeRevisions(pubsub);

  await client.deleteSchemaRevision({name: `${name}@${revisions[2].revisionId}`});

  assert.deepEqual(await schema.get(), revisions[1]);
  const [left] = await client.listSchemaRevisions({name});
  assert.deepEqual(ids(left), ids([revisions[1], revisions[0]]));
});

spec('a topic can follow a range of revisions', async pubsub => {
  const {name, revisions} = await threeRevisions(pubsub);
  const [orders] = await pubsub.createTopic({
    name: 'orders',
    schemaSettings: {
      schema: name,
      encoding: Json,
      firstRevisionId: revisions[0].revisionId,
      lastRevisionId: revisions[1].revisionId,
    },
  });
  const [warehouse] = await orders.createSubscription('warehouse');

  assert.equal(await codeOf(publish(orders, '{"colour": "red"}')), CODES.INVALID_ARGUMENT);
  await publish(orders, '{"size": "xl"}');

  const [message] = await receive(warehouse, count(1));
  const {revision} = Schema.metadataFromMessage(message.attributes);
  assert.equal(revision, revisions[1].revisionId);
});
