'use strict';
// Transforms: functions and compression that change messages before storage or before delivery.

const assert = require('node:assert/strict');
const {inflateSync} = require('node:zlib');
const {CODES, codeOf, count, publish, receive, shop, spec, texts} = require('../world');

teachCompression();

const zlib = mode => ({compression: {compressionAlgorithm: 'ZLIB', compressionMode: mode}});
const COMPRESS = zlib('COMPRESS');
const DECOMPRESS = zlib('DECOMPRESS');

/** This release of the client leaves out of its requests what its description does not have. */
function teachCompression() {
  const description = require('@google-cloud/pubsub/build/protos/protos.json');
  const {v1} = description.nested.google.nested.pubsub.nested;
  const {oneofs, fields} = v1.nested.MessageTransform;
  assert.ok(!fields.compression, 'the client knows compression by itself: this can go');
  oneofs.transform.oneof.push('compression');
  fields.compression = {type: 'Compression', id: 7};
  v1.nested.Compression = {
    fields: {
      compressionAlgorithm: {type: 'CompressionAlgorithm', id: 1},
      compressionMode: {type: 'CompressionMode', id: 2},
    },
    nested: {
      CompressionAlgorithm: {values: {COMPRESSION_ALGORITHM_UNSPECIFIED: 0, ZLIB: 1}},
      CompressionMode: {values: {COMPRESSION_MODE_UNSPECIFIED: 0, COMPRESS: 1, DECOMPRESS: 2}},
    },
  };
}

function javascript(name, body) {
  const code = `function ${name}(message, metadata) { ${body} }`;
  return {javascriptUdf: {functionName: name, code}};
}

const LABEL = javascript(
  'label',
  `return {data: message.data.toUpperCase(), attributes: {...message.attributes, seen: 'yes'}}`
);
const DROP_TESTS = javascript('drop', `return message.attributes.test ? null : message`);
const FAIL = javascript('fail', `throw new Error('no use')`);

spec('the function of a topic changes messages before they are stored', async pubsub => {
  const {orders, warehouse} = await shop(pubsub, {topic: {messageTransforms: [LABEL]}});

  const id = await orders.publishMessage({data: Buffer.from('hello'), attributes: {a: 'b'}});

  const [message] = await receive(warehouse, count(1));
  assert.equal(message.id, id);
  assert.equal(message.data.toString(), 'HELLO');
  assert.deepEqual({...message.attributes}, {a: 'b', seen: 'yes'});
});

spec('the function of a subscription changes what it delivers, and nothing else', async pubsub => {
  const {orders, warehouse} = await shop(pubsub, {subscription: {messageTransforms: [LABEL]}});
  const [audit] = await orders.createSubscription('audit');

  await publish(orders, 'hello');

  assert.deepEqual(texts(await receive(warehouse, count(1))), ['HELLO']);
  assert.deepEqual(texts(await receive(audit, count(1))), ['hello']);
});

for (const kind of ['topic', 'subscription']) {
  spec(`what the function of a ${kind} drops does not come`, async pubsub => {
    const {orders, warehouse} = await shop(pubsub, {[kind]: {messageTransforms: [DROP_TESTS]}});

    const ids = [
      await orders.publishMessage({data: Buffer.from('dropped'), attributes: {test: 'yes'}}),
      await orders.publishMessage({data: Buffer.from('kept')}),
    ];

    assert.equal(new Set(ids).size, 2);
    assert.deepEqual(texts(await receive(warehouse, count(1))), ['kept']);
  });
}

spec('a function that fails makes the publish fail', async pubsub => {
  const {orders} = await shop(pubsub, {topic: {messageTransforms: [FAIL]}});

  await assert.rejects(publish(orders, 'hello'), {
    code: CODES.INVALID_ARGUMENT,
    message: /Message 1 of the request.*no use/,
  });
});

spec('what the function of a subscription cannot take becomes a dead letter', async pubsub => {
  const [dead] = await pubsub.createTopic('dead');
  const [morgue] = await dead.createSubscription('morgue');
  const {orders} = await shop(pubsub, {
    subscription: {
      messageTransforms: [FAIL],
      deadLetterPolicy: {deadLetterTopic: dead.name, maxDeliveryAttempts: 5},
      retryPolicy: {minimumBackoff: {seconds: 0}, maximumBackoff: {seconds: 0}},
    },
  });
  const subscriber = pubsub.subscription('warehouse').on('message', () => {});

  await publish(orders, 'hello');

  assert.deepEqual(texts(await receive(morgue, count(1))), ['hello']);
  await subscriber.close();
});

spec('the functions of a topic are changed', async pubsub => {
  const {orders, warehouse} = await shop(pubsub);
  await publish(orders, 'before');

  await orders.setMetadata({messageTransforms: [LABEL]});
  await publish(orders, 'after');

  assert.deepEqual(texts(await receive(warehouse, count(2))).sort(), ['AFTER', 'before']);
});

spec('a function that cannot be read is refused', async pubsub => {
  const refused = shop(pubsub, {topic: {messageTransforms: [javascript('broken', 'return (')]}});

  assert.equal(await codeOf(refused), CODES.INVALID_ARGUMENT);
});

// --- compression ------------------------------------------------------------------------------------

for (const kind of ['topic', 'subscription']) {
  spec(`a ${kind} compresses`, async pubsub => {
    const {orders, warehouse} = await shop(pubsub, {[kind]: {messageTransforms: [COMPRESS]}});

    await publish(orders, 'hello');

    const [message] = await receive(warehouse, count(1));
    assert.equal(inflateSync(message.data).toString(), 'hello');
  });
}

spec('what a topic compresses a subscription decompresses', async pubsub => {
  const {orders, warehouse} = await shop(pubsub, {
    topic: {messageTransforms: [COMPRESS]},
    subscription: {messageTransforms: [DECOMPRESS]},
  });
  const [archive] = await orders.createSubscription('archive');

  await publish(orders, 'hello');

  assert.deepEqual(texts(await receive(warehouse, count(1))), ['hello']);
  assert.notDeepEqual(texts(await receive(archive, count(1))), ['hello']);
});

spec('a topic does not take what it cannot decompress', async pubsub => {
  const {orders} = await shop(pubsub, {topic: {messageTransforms: [DECOMPRESS]}});

  assert.equal(await codeOf(publish(orders, 'hello')), CODES.INVALID_ARGUMENT);
});
