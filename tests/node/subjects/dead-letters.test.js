'use strict';
// Dead letters: what fails too often goes to another topic.

const assert = require('node:assert/strict');
const {CODES, codeOf, count, publish, receive, shop, spec, texts} = require('../world');

spec('a message that is refused five times goes to the dead-letter topic', async pubsub => {
  const [dead] = await pubsub.createTopic('dead');
  const [morgue] = await dead.createSubscription('morgue');
  const {orders, warehouse} = await shop(pubsub, {
    subscription: {deadLetterPolicy: {deadLetterTopic: dead.name, maxDeliveryAttempts: 5}},
  });
  await publish(orders, 'hello');

  const attempts = await receive(warehouse, count(5), message => message.nack());
  const [letter] = await receive(morgue, count(1));

  assert.deepEqual(
    attempts.map(message => message.deliveryAttempt),
    [1, 2, 3, 4, 5]
  );
  assert.equal(letter.data.toString(), 'hello');
  assert.equal(letter.attributes.CloudPubSubDeadLetterSourceDeliveryCount, '5');
  assert.equal(letter.attributes.CloudPubSubDeadLetterSourceSubscription, 'warehouse');
});

spec('a dead letter keeps what it was published with', async pubsub => {
  const [dead] = await pubsub.createTopic('dead');
  const [morgue] = await dead.createSubscription('morgue', {enableMessageOrdering: true});
  const {orders, warehouse} = await shop(pubsub, {
    subscription: {deadLetterPolicy: {deadLetterTopic: dead.name, maxDeliveryAttempts: 5}},
  });
  const data = Buffer.from([0, 1, 255]);
  const id = await orders.publishMessage({data, attributes: {a: 'b'}, orderingKey: 'key'});
  await publish(orders, 'good');

  const settle = message => (message.id === id ? message.nack() : message.ack());
  await receive(warehouse, count(6), settle);

  const [letter] = await receive(morgue, count(1));
  assert.deepEqual(letter.data, data);
  assert.equal(letter.attributes.a, 'b');
  assert.equal(letter.orderingKey, 'key');
  assert.equal(letter.attributes.CloudPubSubDeadLetterSourceSubscriptionProject, pubsub.projectId);
  assert.ok(Date.parse(letter.attributes.CloudPubSubDeadLetterSourceTopicPublishTime));
});

spec('without a policy attempts are not counted, and a message comes on and on', async pubsub => {
  const {orders, warehouse} = await shop(pubsub);
  await publish(orders, 'hello');

  const messages = await receive(warehouse, count(7), (message, all) =>
    all.length < 7 ? message.nack() : message.ack()
  );

  assert.deepEqual(texts(messages), Array(7).fill('hello'));
  assert.ok(messages.every(message => message.deliveryAttempt === 0));
});

spec('the number of attempts is between 5 and 100', async pubsub => {
  const [dead] = await pubsub.createTopic('dead');
  const {warehouse} = await shop(pubsub);

  for (const [maxDeliveryAttempts, code] of [
    [4, CODES.OUT_OF_RANGE],
    [5, null],
    [100, null],
    [101, CODES.OUT_OF_RANGE],
  ]) {
    const policy = {deadLetterTopic: dead.name, maxDeliveryAttempts};
    assert.equal(await codeOf(warehouse.setMetadata({deadLetterPolicy: policy})), code);
  }
});
