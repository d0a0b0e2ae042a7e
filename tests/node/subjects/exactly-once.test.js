'use strict';
// Exactly-once delivery: acknowledgements that are confirmed, or refused.

const assert = require('node:assert/strict');
const {AckError, AckResponses, Duration} = require('@google-cloud/pubsub');
const {count, publish, receive, shop, spec, texts} = require('../world');

const EXACTLY_ONCE = {subscription: {enableExactlyOnceDelivery: true}};

spec('an acknowledgement is confirmed, and its message does not come again', async pubsub => {
  const {orders, warehouse} = await shop(pubsub, EXACTLY_ONCE);
  await publish(orders, 'first');
  let answer;

  await receive(warehouse, count(1), message => {
    answer = message.ackWithResponse();
  });

  assert.equal(await answer, AckResponses.Success);
  await publish(orders, 'second');
  const again = pubsub.subscription('warehouse');
  assert.deepEqual(texts(await receive(again, count(1))), ['second']);
});

spec('a refusal is confirmed, and its message comes again as another delivery', async pubsub => {
  const {orders, warehouse} = await shop(pubsub, EXACTLY_ONCE);
  await publish(orders, 'hello');
  const answers = [];

  const messages = await receive(warehouse, count(2), (message, all) =>
    answers.push(all.length < 2 ? message.nackWithResponse() : message.ackWithResponse())
  );

  assert.deepEqual(await Promise.all(answers), [AckResponses.Success, AckResponses.Success]);
  assert.equal(messages[0].id, messages[1].id);
  assert.notEqual(messages[0].ackId, messages[1].ackId);
});

spec('an acknowledgement after the lease has expired is refused', async pubsub => {
  const {orders, warehouse} = await shop(pubsub, EXACTLY_ONCE);
  await publish(orders, 'hello');
  const answers = [];
  // Else the client extends a lease by a minute, at a moment that it draws by lot: perhaps this one's.
  warehouse.setOptions({maxExtensionTime: Duration.from({seconds: 0})});

  const messages = await receive(warehouse, count(2), (message, all) => {
    if (all.length === 1) {
      answers.push(message.modAckWithResponse(1));
    } else {
      answers.push(all[0].ackWithResponse());
      message.nack();
    }
  });

  const [shortened, late] = await Promise.allSettled(answers);
  assert.equal(messages[0].id, messages[1].id);
  assert.equal(shortened.value, AckResponses.Success);
  assert.ok(late.reason instanceof AckError);
  assert.equal(late.reason.errorCode, AckResponses.Invalid);
  const again = pubsub.subscription('warehouse');
  assert.deepEqual(texts(await receive(again, count(1))), ['hello']);
});

spec('a subscription tells its subscribers whether delivery is exactly once', async pubsub => {
  const {orders, warehouse} = await shop(pubsub);
  await publish(orders, 'first');
  const [before] = await receive(warehouse, count(1));

  await warehouse.setMetadata({enableExactlyOnceDelivery: true});
  await publish(orders, 'second');
  const [after] = await receive(pubsub.subscription('warehouse'), count(1));

  assert.equal(before.isExactlyOnceDelivery, false);
  assert.equal(after.isExactlyOnceDelivery, true);
});
