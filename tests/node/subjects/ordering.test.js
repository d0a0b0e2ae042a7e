'use strict';
// Ordering keys: messages of one key come in order, and are redelivered in order.

const assert = require('node:assert/strict');
const {CODES, codeOf, count, receive, shop, spec, texts} = require('../world');

const ORDERED = {subscription: {enableMessageOrdering: true}};

async function publishInOrder(pubsub, numbers, key) {
  const orders = pubsub.topic('orders', {messageOrdering: true});
  await Promise.all(
    numbers.map(number => orders.publishMessage({data: Buffer.from(`${number}`), orderingKey: key}))
  );
}

const upTo = length => Array.from({length}, (_, i) => i);

spec('messages of one key come in the order of their publishing', async pubsub => {
  const {warehouse} = await shop(pubsub, ORDERED);
  await publishInOrder(pubsub, upTo(50), 'a');

  const messages = await receive(warehouse, count(50));

  assert.deepEqual(texts(messages).map(Number), upTo(50));
  assert.ok(messages.every(message => message.orderingKey === 'a'));
});

spec('the keys do not wait for one another', async pubsub => {
  const {warehouse} = await shop(pubsub, ORDERED);
  await publishInOrder(pubsub, upTo(10), 'a');
  await publishInOrder(pubsub, upTo(10), 'b');

  const messages = await receive(warehouse, count(20));

  for (const key of ['a', 'b']) {
    const ofKey = messages.filter(message => message.orderingKey === key);
    assert.deepEqual(texts(ofKey).map(Number), upTo(10));
  }
});

spec('what follows a message that is taken back comes again after it', async pubsub => {
  const {warehouse} = await shop(pubsub, ORDERED);
  await publishInOrder(pubsub, upTo(3), 'a');
  const sinceRefusal = [];
  let refused = false;

  await receive(
    warehouse,
    () => sinceRefusal.join('').endsWith('012'),
    message => {
      const text = message.data.toString();
      if (text === '0' && !refused) {
        refused = true;
        message.nack();
        return;
      }
      // What came with the refused message may still be handed out; from its return on all is in order.
      if (text === '0' || sinceRefusal.length) {
        sinceRefusal.push(text);
      }
      message.ack();
    }
  );

  assert.deepEqual(sinceRefusal, ['0', '1', '2']);
});

spec('what waits behind a message that fails is not published', async pubsub => {
  const {warehouse} = await shop(pubsub, ORDERED);
  const orders = pubsub.topic('orders', {messageOrdering: true, batching: {maxMessages: 1}});
  const publishTo = (orderingKey, text) =>
    orders.publishMessage({data: Buffer.from(text), orderingKey});

  const codes = await Promise.all([
    codeOf(publishTo('a', '')),
    codeOf(publishTo('a', 'waits')),
    codeOf(publishTo('b', 'of another key')),
  ]);
  orders.resumePublishing('a');
  await publishTo('a', 'resumed');

  assert.deepEqual(codes, [CODES.INVALID_ARGUMENT, CODES.INVALID_ARGUMENT, null]);
  const messages = await receive(warehouse, count(2));
  assert.deepEqual(texts(messages).sort(), ['of another key', 'resumed']);
});
