'use strict';
// Topics and subscriptions: creating, reading, changing, listing and deleting them.

const assert = require('node:assert/strict');
const {CODES, codeOf, shop, spec} = require('../world');

const names = resources => resources.map(resource => resource.name.split('/').pop());

spec('a topic is created, read and deleted', async pubsub => {
  const [orders] = await pubsub.createTopic({name: 'orders', labels: {team: 'a'}});

  const [metadata] = await orders.getMetadata();
  assert.equal(metadata.name, orders.name);
  assert.deepEqual(metadata.labels, {team: 'a'});
  assert.deepEqual(await orders.exists(), [true]);

  await orders.delete();
  assert.deepEqual(await orders.exists(), [false]);
  assert.equal(await codeOf(orders.getMetadata()), CODES.NOT_FOUND);
});

spec('a topic that exists is not created again', async pubsub => {
  await pubsub.createTopic('orders');

  assert.equal(await codeOf(pubsub.createTopic('orders')), CODES.ALREADY_EXISTS);
});

spec('a topic is created when it is asked for with autoCreate', async pubsub => {
  const [first] = await pubsub.topic('orders').get({autoCreate: true});
  const [second] = await pubsub.topic('orders').get({autoCreate: true});

  assert.equal(first.name, second.name);
  assert.deepEqual(names((await pubsub.getTopics())[0]), ['orders']);
});

spec('a topic is changed', async pubsub => {
  const [orders] = await pubsub.createTopic('orders');

  await orders.setMetadata({labels: {team: 'b'}, messageRetentionDuration: {seconds: 600}});

  const [metadata] = await orders.getMetadata();
  assert.deepEqual(metadata.labels, {team: 'b'});
  assert.equal(Number(metadata.messageRetentionDuration.seconds), 600);
});

spec('topics are listed page by page', async pubsub => {
  for (const name of ['topic-c', 'topic-a', 'topic-b']) {
    await pubsub.createTopic(name);
  }

  const [all] = await pubsub.getTopics();
  const [first, query] = await pubsub.getTopics({pageSize: 2, autoPaginate: false});
  const [rest] = await pubsub.getTopics(query);

  assert.deepEqual(names(all), ['topic-a', 'topic-b', 'topic-c']);
  assert.deepEqual(names(first), ['topic-a', 'topic-b']);
  assert.deepEqual(names(rest), ['topic-c']);
});

spec('a subscription is created, read and deleted', async pubsub => {
  const {orders, warehouse} = await shop(pubsub, {
    subscription: {ackDeadlineSeconds: 30, labels: {team: 'a'}, messageRetentionDuration: 600},
  });

  const [metadata] = await warehouse.getMetadata();
  assert.equal(metadata.topic, orders.name);
  assert.equal(metadata.ackDeadlineSeconds, 30);
  assert.equal(Number(metadata.messageRetentionDuration.seconds), 600);
  assert.deepEqual(metadata.labels, {team: 'a'});
  assert.deepEqual(names((await pubsub.getSubscriptions())[0]), ['warehouse']);
  assert.deepEqual(names((await orders.getSubscriptions())[0]), ['warehouse']);

  await warehouse.delete();
  assert.deepEqual(await warehouse.exists(), [false]);
  assert.equal(await codeOf(warehouse.delete()), CODES.NOT_FOUND);
});

spec('a subscription is changed', async pubsub => {
  const {warehouse} = await shop(pubsub);

  await warehouse.setMetadata({
    ackDeadlineSeconds: 60,
    retryPolicy: {minimumBackoff: {seconds: 1}, maximumBackoff: {seconds: 60}},
  });

  const [metadata] = await warehouse.getMetadata();
  assert.equal(metadata.ackDeadlineSeconds, 60);
  assert.equal(Number(metadata.retryPolicy.minimumBackoff.seconds), 1);
});

spec('a subscription needs a topic that exists', async pubsub => {
  const missing = pubsub.topic('missing').createSubscription('warehouse');

  assert.equal(await codeOf(missing), CODES.NOT_FOUND);
});

spec('a subscription is detached', async pubsub => {
  const {orders, warehouse} = await shop(pubsub);

  await pubsub.detachSubscription('warehouse');

  assert.deepEqual(await warehouse.detached(), [true]);
  assert.deepEqual((await orders.getSubscriptions())[0], []);
});

spec('a wrong name is refused', async pubsub => {
  assert.equal(await codeOf(pubsub.createTopic('goog-orders')), CODES.INVALID_ARGUMENT);
});
