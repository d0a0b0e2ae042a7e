'use strict';
// Snapshots and seeking.

const assert = require('node:assert/strict');
const {CODES, codeOf, count, publish, receive, shop, spec, texts} = require('../world');

spec('a snapshot is created, listed and deleted', async pubsub => {
  const {orders, warehouse} = await shop(pubsub);

  const [snapshot, metadata] = await warehouse.createSnapshot('before');

  assert.equal(metadata.topic, orders.name);
  const [snapshots] = await pubsub.getSnapshots();
  assert.deepEqual(
    snapshots.map(each => each.name),
    [snapshot.name]
  );
  await snapshot.delete();
  assert.deepEqual((await pubsub.getSnapshots())[0], []);
  assert.equal(await codeOf(snapshot.delete()), CODES.NOT_FOUND);
});

spec('a seek to a snapshot brings back what was acknowledged since', async pubsub => {
  const {orders, warehouse} = await shop(pubsub);
  const [snapshot] = await warehouse.createSnapshot('before');
  await publish(orders, 'hello');
  await receive(warehouse, count(1));

  await snapshot.seek();

  const again = pubsub.subscription('warehouse');
  assert.deepEqual(texts(await receive(again, count(1))), ['hello']);
});

spec('a seek to a moment acknowledges what was published before', async pubsub => {
  const {orders, warehouse} = await shop(pubsub);
  await publish(orders, 'before');

  await warehouse.seek(new Date(Date.now() + 60_000));

  await publish(orders, 'after');
  assert.deepEqual(texts(await receive(warehouse, count(1))), ['after']);
});

spec('a seek to a moment brings back what was retained', async pubsub => {
  const {orders, warehouse} = await shop(pubsub, {subscription: {retainAckedMessages: true}});
  await publish(orders, 'hello');
  const [message] = await receive(warehouse, count(1));

  await warehouse.seek(new Date(message.publishTime.getTime()));

  const again = pubsub.subscription('warehouse');
  assert.deepEqual(texts(await receive(again, count(1))), ['hello']);
});
