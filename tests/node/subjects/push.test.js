'use strict';
// Push subscriptions: what an endpoint gets, and who it is from.

const assert = require('node:assert/strict');
const {createPublicKey, verify} = require('node:crypto');
const {Receiver, dataOf} = require('../receiver');
const {CODES, codeOf, count, publish, receive, shop, spec, texts} = require('../world');

spec('a message comes wrapped in JSON', async (pubsub, context) => {
  const receiver = await Receiver.start(context);
  const {orders, warehouse} = await shop(pubsub, {
    subscription: {pushEndpoint: receiver.url('/push?shop=1')},
  });

  const id = await orders.publishMessage({data: Buffer.from('hello'), attributes: {a: 'b'}});

  const [push] = await receiver.waitFor(1);
  assert.equal(push.path, '/push?shop=1');
  assert.equal(push.headers['content-type'], 'application/json');
  const {message, subscription} = JSON.parse(push.body);
  assert.equal(subscription, warehouse.name);
  assert.equal(message.messageId, id);
  assert.equal(message.data, Buffer.from('hello').toString('base64'));
  assert.deepEqual(message.attributes, {a: 'b'});
  assert.ok(Date.parse(message.publishTime));
});

spec('unwrapped, the body is the data and the headers are the rest', async (pubsub, context) => {
  const receiver = await Receiver.start(context);
  const {orders, warehouse} = await shop(pubsub, {
    subscription: {
      pushConfig: {pushEndpoint: receiver.url(), noWrapper: {writeMetadata: true}},
    },
  });

  const id = await orders.publishMessage({data: Buffer.from([0, 1, 255]), attributes: {a: 'b'}});

  const [{headers, body}] = await receiver.waitFor(1);
  assert.deepEqual(body, Buffer.from([0, 1, 255]));
  assert.equal(headers['x-goog-pubsub-message-id'], id);
  assert.equal(headers['x-goog-pubsub-subscription-name'], warehouse.name);
  assert.equal(headers.a, 'b');
});

spec('a message that is not accepted comes again', async (pubsub, context) => {
  const answers = [503, 404, 200];
  const receiver = await Receiver.start(context, () => answers.shift());
  const {orders} = await shop(pubsub, {subscription: {pushEndpoint: receiver.url()}});

  await publish(orders, 'hello');

  const pushes = await receiver.waitFor(3);
  assert.deepEqual(pushes.map(dataOf), ['hello', 'hello', 'hello']);
});

spec('a token says who pushes to whom, and is signed by the service', async (pubsub, context) => {
  const receiver = await Receiver.start(context);
  const {orders} = await shop(pubsub, {
    subscription: {
      pushEndpoint: receiver.url(),
      oidcToken: {serviceAccountEmail: 'shop@example.com', audience: 'warehouse'},
    },
  });
  await publish(orders, 'hello');

  const [{headers}] = await receiver.waitFor(1);

  const issuer = process.env.TEST_ADMIN_URL;
  const claims = await verified(headers.authorization, issuer);
  assert.equal(claims.iss, issuer);
  assert.equal(claims.aud, 'warehouse');
  assert.equal(claims.email, 'shop@example.com');
  assert.equal(claims.email_verified, true);
  assert.ok(claims.iat * 1000 <= Date.now() && Date.now() < claims.exp * 1000);
});

/** The claims of a bearer token, checked as any receiver of OpenID Connect tokens would do it. */
async function verified(authorization, issuer) {
  const [header, claims, signature] = authorization.match(/^Bearer (.+)$/)[1].split('.');
  const read = part => JSON.parse(Buffer.from(part, 'base64url'));
  const {jwks_uri: uri} = await (await fetch(`${issuer}/.well-known/openid-configuration`)).json();
  const {keys} = await (await fetch(uri)).json();

  const {alg, kid} = read(header);
  assert.equal(alg, 'RS256');
  const key = createPublicKey({key: keys.find(each => each.kid === kid), format: 'jwk'});
  const signed = text => verify('sha256', text, key, Buffer.from(signature, 'base64url'));
  assert.ok(signed(`${header}.${claims}`));
  assert.ok(!signed(`${header}.${claims}x`));
  return read(claims);
}

spec('what was not accepted can be pulled when pushing ends', async (pubsub, context) => {
  const receiver = await Receiver.start(context, push => (dataOf(push) < '3' ? 200 : 500));
  const {orders, warehouse} = await shop(pubsub, {subscription: {pushEndpoint: receiver.url()}});
  await publish(orders, ...'0123456789');
  await receiver.waitFor(5);

  await warehouse.modifyPushConfig({});

  // What was accepted in the last moment may come again; all that was refused has to come.
  const refused = [...'3456789'];
  await receive(warehouse, all => refused.every(text => texts(all).includes(text)));
  assert.deepEqual((await warehouse.getMetadata())[0].pushConfig.pushEndpoint, '');
});

spec('what was not pulled is pushed when pushing begins', async (pubsub, context) => {
  const receiver = await Receiver.start(context);
  const {orders, warehouse} = await shop(pubsub);
  await publish(orders, ...'012');

  await warehouse.modifyPushConfig({pushEndpoint: receiver.url()});

  const pushes = await receiver.waitFor(3);
  assert.deepEqual(pushes.map(dataOf).sort(), [...'012']);
});

spec('nobody pulls from a push subscription', async (pubsub, context) => {
  const receiver = await Receiver.start(context);
  const {warehouse} = await shop(pubsub, {subscription: {pushEndpoint: receiver.url()}});

  assert.equal(await codeOf(receive(warehouse, count(1))), CODES.FAILED_PRECONDITION);
});

spec('an endpoint that is no URL is refused', async pubsub => {
  const refused = shop(pubsub, {subscription: {pushEndpoint: 'nonsense'}});

  assert.equal(await codeOf(refused), CODES.INVALID_ARGUMENT);
});
