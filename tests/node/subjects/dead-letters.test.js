'use strict';
// Dead letters: what fails too often goes to another topic.

const assert = require('node:assert/strict');
const {count, publish, receive, shop, spec} = require('../world');

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
