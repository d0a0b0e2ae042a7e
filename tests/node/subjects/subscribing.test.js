'use strict';
// Subscribing: acknowledging, taking back, flow control.

const assert = require('node:assert/strict');
const {count, publish, receive, shop, spec, texts} = require('../world');

spec('what is acknowledged does not come again', async pubsub => {
  const {orders, warehouse} = await shop(pubsub);
  await publish(orders, 'first');
  assert.deepEqual(texts(await receive(warehouse, count(1))), ['first']);

  await publish(orders, 'second');

  const again = pubsub.subscription('warehouse');
  assert.deepEqual(texts(await receive(again, count(1))), ['second']);
});

spec('what is not acknowledged comes again at once', async pubsub => {
  const {orders, warehouse} = await shop(pubsub, {subscription: {ackDeadlineSeconds: 600}});
  await publish(orders, 'hello');

  const messages = await receive(warehouse, count(3), (message, all) =>
    all.length < 3 ? message.nack() : message.ack()
  );

  assert.deepEqual(texts(messages), ['hello', 'hello', 'hello']);
  assert.equal(new Set(messages.map(message => message.id)).size, 1);
  assert.equal(new Set(messages.map(message => message.ackId)).size, 3);
});

spec('no more messages are out than flow control allows', async pubsub => {
  const {orders} = await shop(pubsub);
  const warehouse = pubsub.subscription('warehouse', {
    flowControl: {maxMessages: 2, allowExcessMessages: false},
  });
  await publish(orders, ...Array.from({length: 8}, (_, i) => `${i}`));
  const held = [];
  let most = 0;

  const messages = await receive(warehouse, count(8), message => {
    held.push(message);
    most = Math.max(most, held.length);
    // With two held none else can come, so they are let go when the event loop turns.
    if (held.length === 2) {
      setImmediate(() => held.splice(0).forEach(each => each.ack()));
    }
  });

  assert.equal(most, 2);
  assert.deepEqual(texts(messages).sort(), [...'01234567']);
});

spec('a subscriber that waits gets what is published later', async pubsub => {
  const {orders, warehouse} = await shop(pubsub);
  const received = receive(warehouse, count(2));

  await publish(orders, '1', '2');

  assert.deepEqual(texts(await received).sort(), ['1', '2']);
});

spec('each subscription gets every message', async pubsub => {
  const {orders, warehouse} = await shop(pubsub);
  const [billing] = await orders.createSubscription('billing');

  await publish(orders, '1', '2');

  for (const subscription of [warehouse, billing]) {
    assert.deepEqual(texts(await receive(subscription, count(2))).sort(), ['1', '2']);
  }
});

spec('two subscribers of a subscription share its messages', async pubsub => {
  const {orders, warehouse} = await shop(pubsub);
  const subscribers = [warehouse, pubsub.subscription('warehouse')];
  const seen = [];
  const done = new Promise((resolve, reject) => {
    for (const subscriber of subscribers) {
      subscriber.on('error', reject);
      subscriber.on('message', message => {
        seen.push(message.data.toString());
        message.ack();
        if (new Set(seen).size === 100) {
          resolve();
        }
      });
    }
  });

  await publish(orders, ...Array.from({length: 100}, (_, i) => `${i}`));
  await done;
  await Promise.all(subscribers.map(subscriber => subscriber.close()));

  assert.equal(seen.length, 100);
});

spec('a subscription that is missing is an error of its subscriber', async pubsub => {
  const missing = pubsub.subscription('missing');

  await assert.rejects(receive(missing, count(1)), {code: 5});
});
