'use strict';
// Retry policies: a message that was refused rests, and nothing else does.

const assert = require('node:assert/strict');
const {CODES, codeOf, count, publish, receive, shop, spec, texts} = require('../world');

const resting = (minimum, maximum) => ({
  subscription: {
    retryPolicy: {minimumBackoff: {seconds: minimum}, maximumBackoff: {seconds: maximum}},
  },
});

spec('a refused message comes again when it has rested', async pubsub => {
  const {orders, warehouse} = await shop(pubsub, resting(1, 1));
  await publish(orders, 'hello');
  let refusedAt;

  const [, again] = await receive(warehouse, count(2), (message, all) => {
    if (all.length === 1) {
      refusedAt = Date.now();
      message.nack();
    } else {
      message.ack();
    }
  });

  assert.equal(again.data.toString(), 'hello');
  assert.ok(again.received - refusedAt >= 1_000);
});

spec('while a refused message rests the others flow', async pubsub => {
  const {orders} = await shop(pubsub, resting(600, 600));
  // A refusal is not kept for a batch, so the message could be back before the others are published.
  const warehouse = pubsub.subscription('warehouse', {batching: {maxMessages: 1}});
  const received = receive(warehouse, count(11), message =>
    message.data.toString() === 'bad' ? message.nack() : message.ack()
  );

  await publish(orders, 'bad', ...'0123456789');

  assert.deepEqual(texts(await received).sort(), [...'0123456789', 'bad']);
});

spec('a message rests twice as long each time', async pubsub => {
  const {orders, warehouse} = await shop(pubsub, resting(1, 600));
  await publish(orders, 'hello');

  const messages = await receive(warehouse, count(3), (message, all) =>
    all.length < 3 ? message.nack() : message.ack()
  );

  assert.ok(messages[2].received - messages[1].received >= 2_000);
});

spec('a minimum above the maximum is refused', async pubsub => {
  assert.equal(await codeOf(shop(pubsub, resting(60, 10))), CODES.INVALID_ARGUMENT);
});
