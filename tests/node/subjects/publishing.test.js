'use strict';
// Publishing: batches, attributes, ordering keys.

const assert = require('node:assert/strict');
const {CODES, codeOf, count, publish, receive, shop, spec, texts} = require('../world');

const A_MINUTE = 60_000;

spec('a message comes with all that it was published with', async pubsub => {
  const {orders, warehouse} = await shop(pubsub);

  const id = await orders.publishMessage({data: Buffer.from('hello'), attributes: {a: 'b'}});

  const [message] = await receive(warehouse, count(1));
  assert.equal(message.id, id);
  assert.equal(message.data.toString(), 'hello');
  assert.deepEqual({...message.attributes}, {a: 'b'});
  assert.ok(Math.abs(Date.now() - message.publishTime.getTime()) < A_MINUTE);
});

spec('JSON is published and read', async pubsub => {
  const {orders, warehouse} = await shop(pubsub);

  await orders.publishMessage({json: {answer: 42}});

  const [message] = await receive(warehouse, count(1));
  assert.deepEqual(JSON.parse(message.data), {answer: 42});
});

spec('a full batch goes out at once, and its messages get consecutive ids', async pubsub => {
  const {warehouse} = await shop(pubsub);
  const orders = pubsub.topic('orders', {
    batching: {maxMessages: 10, maxMilliseconds: A_MINUTE},
  });

  const ids = await Promise.all(
    Array.from({length: 10}, (_, i) => orders.publishMessage({data: Buffer.from(`${i}`)}))
  );

  const first = Number(ids[0]);
  assert.deepEqual(
    ids.map(Number),
    Array.from({length: 10}, (_, i) => first + i)
  );
  const messages = await receive(warehouse, count(10));
  assert.deepEqual(texts(messages).sort(), [...'0123456789']);
  assert.equal(new Set(messages.map(message => message.publishTime.getTime())).size, 1);
});

spec('a batch that is not full goes out when it is flushed', async pubsub => {
  const {warehouse} = await shop(pubsub);
  const orders = pubsub.topic('orders', {
    batching: {maxMessages: 100, maxMilliseconds: A_MINUTE},
  });

  const published = [orders.publishMessage({data: Buffer.from('1')})];
  published.push(orders.publishMessage({data: Buffer.from('2')}));
  await orders.flush();
  await Promise.all(published);

  assert.deepEqual(texts(await receive(warehouse, count(2))).sort(), ['1', '2']);
});

spec('many messages arrive, each of them', async pubsub => {
  const {warehouse} = await shop(pubsub);
  const orders = pubsub.topic('orders', {batching: {maxMessages: 250, maxMilliseconds: 10}});
  const sent = Array.from({length: 2_000}, (_, i) => `message ${i}`);

  await Promise.all(sent.map(text => orders.publishMessage({data: Buffer.from(text)})));

  const messages = await receive(warehouse, all => new Set(texts(all)).size === sent.length);
  assert.deepEqual(new Set(texts(messages)), new Set(sent));
});

spec('messages with ordering keys are published in order', async pubsub => {
  const {warehouse} = await shop(pubsub);
  const orders = pubsub.topic('orders', {
    messageOrdering: true,
    batching: {maxMessages: 3, maxMilliseconds: 10},
  });

  const ids = await Promise.all(
    Array.from({length: 20}, (_, i) =>
      orders.publishMessage({data: Buffer.from(`${i}`), orderingKey: i % 2 ? 'odd' : 'even'})
    )
  );

  for (const start of [0, 1]) {
    const ofKey = ids.map(Number).filter((_, i) => i % 2 === start);
    assert.deepEqual(ofKey, [...ofKey].sort((a, b) => a - b));
  }
  const messages = await receive(warehouse, count(20));
  for (const message of messages) {
    assert.equal(message.orderingKey, Number(message.data) % 2 ? 'odd' : 'even');
  }
});

spec('publishing to a missing topic is refused', async pubsub => {
  const missing = pubsub.topic('missing').publishMessage({data: Buffer.from('x')});

  assert.equal(await codeOf(missing), CODES.NOT_FOUND);
});

spec('a message without content is refused', async pubsub => {
  const {orders, warehouse} = await shop(pubsub);

  assert.equal(
    await codeOf(orders.publishMessage({data: Buffer.alloc(0)})),
    CODES.INVALID_ARGUMENT
  );

  await publish(orders, 'next');
  assert.deepEqual(texts(await receive(warehouse, count(1))), ['next']);
});
