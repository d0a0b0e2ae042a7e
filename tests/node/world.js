'use strict';
// What the subjects share: a project of its own for each test, and waiting for messages.

const assert = require('node:assert/strict');
const {test} = require('node:test');
const {randomBytes} = require('node:crypto');
const {setTimeout: sleep} = require('node:timers/promises');
const {PubSub} = require('@google-cloud/pubsub');

const PATIENCE_MS = 30_000;

/**
 * A test with a client whose project is empty at first. PUBSUB_EMULATOR_HOST says where.
 * `body` gets Node's test context, too, for what has to be cleaned up.
 */
function spec(sentence, body) {
  test(sentence, {timeout: 2 * PATIENCE_MS}, async context => {
    const pubsub = new PubSub({projectId: `project-${randomBytes(4).toString('hex')}`});
    try {
      await body(pubsub, context);
    } finally {
      await pubsub.close();
    }
  });
}

/** A topic `orders` with a subscription `warehouse`. */
async function shop(pubsub, {topic = {}, subscription = {}} = {}) {
  const [orders] = await pubsub.createTopic({name: 'orders', ...topic});
  const [warehouse] = await orders.createSubscription('warehouse', subscription);
  return {orders, warehouse};
}

/** Publishes texts one by one; gives their ids. */
async function publish(topic, ...texts) {
  const ids = [];
  for (const text of texts) {
    ids.push(await topic.publishMessage({data: Buffer.from(text)}));
  }
  return ids;
}

/**
 * Listens until `enough(messages)`, and gives all messages that came. `settle` is called with each;
 * by default it acknowledges. The subscription is closed, which sends what was acknowledged.
 */
async function receive(subscription, enough, settle = message => message.ack()) {
  const messages = [];
  let timer;
  try {
    await new Promise((resolve, reject) => {
      timer = setTimeout(
        () => reject(new Error(`only ${messages.length} messages came: ${texts(messages)}`)),
        PATIENCE_MS
      );
      subscription.on('error', reject);
      subscription.on('message', message => {
        messages.push(message);
        settle(message, messages);
        if (enough(messages)) {
          resolve();
        }
      });
    });
  } finally {
    clearTimeout(timer);
    subscription.removeAllListeners('message');
    await subscription.close();
  }
  return messages;
}

/** Waits until `condition()`, or what it promises, is true. */
async function eventually(condition) {
  const end = Date.now() + PATIENCE_MS;
  while (!(await condition())) {
    assert.ok(Date.now() < end, `not within ${PATIENCE_MS} ms: ${condition}`);
    await sleep(10);
  }
}

/** `enough` for a number of messages. */
const count = wanted => messages => messages.length >= wanted;

const texts = messages => messages.map(message => message.data.toString());

/** The code of the error that a promise fails with; null if it does not. */
const codeOf = promise =>
  promise.then(
    () => null,
    error => error.code
  );

const CODES = {
  INVALID_ARGUMENT: 3,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
};

module.exports = {CODES, PATIENCE_MS, codeOf, count, eventually, publish, receive, shop, spec, texts};
