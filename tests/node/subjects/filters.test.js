'use strict';
// Filters: a subscription that gets some of the messages.

const assert = require('node:assert/strict');
const {CODES, codeOf, count, receive, shop, spec, texts} = require('../world');

/** Messages whose attributes are given; the data says which one it is. */
const publishAll = (topic, ...attributes) =>
  Promise.all(
    attributes.map((each, i) => topic.publishMessage({data: Buffer.from(`${i}`), attributes: each}))
  );

for (const [filter, wanted] of [
  ['attributes:kind', ['0', '1', '2']],
  ['attributes.kind = "book"', ['0']],
  ['attributes.kind != "book"', ['1', '2']],
  ['hasPrefix(attributes.kind, "b")', ['0', '1']],
  ['attributes:kind AND NOT attributes.kind = "bag"', ['0', '2']],
  ['attributes.kind = "shoe" OR attributes.size = "xl"', ['2', '3']],
]) {
  spec(`the filter ${filter} lets ${wanted.join(', ')} through`, async pubsub => {
    const {orders, warehouse} = await shop(pubsub, {subscription: {filter}});

    await publishAll(orders, {kind: 'book'}, {kind: 'bag'}, {kind: 'shoe'}, {size: 'xl'});

    const matching = message => message.data.toString();
    const messages = await receive(warehouse, count(wanted.length));
    assert.deepEqual(messages.map(matching).sort(), wanted);
    assert.equal((await warehouse.getMetadata())[0].filter, filter);
  });
}

spec('each subscription has a filter of its own, or none', async pubsub => {
  const {orders, warehouse} = await shop(pubsub, {subscription: {filter: 'attributes.kind = "a"'}});
  const [other] = await orders.createSubscription('other', {filter: 'attributes.kind = "b"'});
  const [audit] = await orders.createSubscription('audit');

  await publishAll(orders, {kind: 'a'}, {kind: 'b'});

  assert.deepEqual(texts(await receive(warehouse, count(1))), ['0']);
  assert.deepEqual(texts(await receive(other, count(1))), ['1']);
  assert.deepEqual(texts(await receive(audit, count(2))).sort(), ['0', '1']);
});

spec('a filter that cannot be read is refused', async pubsub => {
  const refused = shop(pubsub, {subscription: {filter: 'attributes.kind = book'}});

  assert.equal(await codeOf(refused), CODES.INVALID_ARGUMENT);
});

spec('a filter stays as it is', async pubsub => {
  const {warehouse} = await shop(pubsub, {subscription: {filter: 'attributes:kind'}});

  const change = warehouse.setMetadata({filter: 'attributes:size'});

  assert.equal(await codeOf(change), CODES.INVALID_ARGUMENT);
  assert.equal((await warehouse.getMetadata())[0].filter, 'attributes:kind');
});
